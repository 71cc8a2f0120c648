// SPDX-License-Identifier: MIT
#include "plan.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "fd.h"

static char *const test_argv[] = {"node", "app.js", "", NULL};
static char *const test_envp[] = {"PATH=/bin", "X=\xff", NULL};
static char *const no_strings[] = {NULL};
static const struct sock_filter test_filter[] = {{.code = 6, .k = 0x7fff0000}, {.code = 6, .k = 1}};

static struct plan plan_sample(void) {
    return (struct plan){.fd_target = {0, 1, 2, -1, -1, PLAN_FD_DIRECTORY, PLAN_FD_PROGRAM}, .group_count = 1, .groups = {100}, .title = "worker 3"};
}

static int seal_sample(void) {
    struct plan plan = plan_sample();
    struct plan_source source = {
        .argv = test_argv, .envp = test_envp, .path = "/usr/bin/node", .directory = "/srv", .filter = test_filter, .filter_count = 2};
    return plan_seal(&plan, &source);
}

static void a_plan_arrives_as_it_was_sealed(void **state) {
    (void)state;
    int fd = seal_sample();
    struct plan *plan;
    char **argv, **envp;
    assert_true(fd >= 0);
    assert_int_equal(plan_map(fd, &plan, &argv, &envp), 0);
    for (int i = 0; i < 3; i++) assert_string_equal(argv[i], test_argv[i]);
    assert_null(argv[3]);
    for (int i = 0; i < 2; i++) assert_string_equal(envp[i], test_envp[i]);
    assert_null(envp[2]);
    assert_string_equal((char *)plan + plan->path, "/usr/bin/node");
    assert_string_equal((char *)plan + plan->directory, "/srv");
    assert_memory_equal((char *)plan + plan->filter, test_filter, sizeof test_filter);
    assert_int_equal(plan->filter_count, 2);
    assert_string_equal(plan->title, "worker 3");
    assert_int_equal(plan->groups[0], 100);
    plan_unmap(plan);
    fd_close(&fd);
}

static void directory_filter_and_environment_may_be_absent(void **state) {
    (void)state;
    struct plan plan = plan_sample(), *mapped;
    struct plan_source source = {.argv = test_argv, .envp = no_strings, .path = "p"};
    char **argv, **envp;
    int fd = plan_seal(&plan, &source);
    assert_int_equal(plan_map(fd, &mapped, &argv, &envp), 0);
    assert_null(envp[0]);
    assert_int_equal(mapped->directory, 0);
    assert_int_equal(mapped->filter, 0);
    plan_unmap(mapped);
    fd_close(&fd);
}

static void arguments_may_be_larger_than_any_packet(void **state) {
    (void)state;
    struct plan plan = plan_sample(), *mapped;
    char *large = malloc(1 << 20);
    memset(large, 'a', (1 << 20) - 1);
    large[(1 << 20) - 1] = '\0';
    char *const long_argv[] = {"x", large, large, NULL};
    struct plan_source source = {.argv = long_argv, .envp = no_strings, .path = "p"};
    char **argv, **envp;
    int fd = plan_seal(&plan, &source);
    assert_int_equal(plan_map(fd, &mapped, &argv, &envp), 0);
    assert_string_equal(argv[2], large);
    plan_unmap(mapped);
    fd_close(&fd);
    free(large);
}

static void a_process_needs_a_name_for_itself(void **state) {
    (void)state;
    struct plan plan = plan_sample(), *mapped;
    struct plan_source source = {.argv = no_strings, .envp = no_strings, .path = "p"};
    char **argv, **envp;
    int fd = plan_seal(&plan, &source);
    assert_int_equal(plan_map(fd, &mapped, &argv, &envp), -EINVAL);
    fd_close(&fd);
}

// A good plan's bytes, to be spoilt.
struct image {
    char *bytes;
    struct plan *plan;
    size_t size;
};

static struct image image_open(void) {
    int fd = seal_sample();
    struct stat info;
    assert_int_equal(fstat(fd, &info), 0);
    struct image image = {.bytes = calloc(1, (size_t)info.st_size + 64), .size = (size_t)info.st_size};
    assert_int_equal(pread(fd, image.bytes, image.size, 0), image.size);
    image.plan = (struct plan *)image.bytes;
    fd_close(&fd);
    return image;
}

static int image_map(const struct image *image) {
    struct plan *plan;
    char **argv, **envp;
    int fd = fd_memfd_sealed("plan", image->bytes, image->size);
    int err = plan_map(fd, &plan, &argv, &envp);
    fd_close(&fd);
    if (err) return err;
    for (char **text = argv; *text; text++) assert_true(strlen(*text) < image->size);
    for (char **text = envp; *text; text++) assert_true(strlen(*text) < image->size);
    assert_true(strlen((char *)plan + plan->path) < image->size);
    plan_unmap(plan);
    return 0;
}

static uint64_t *entry(struct image *image, uint32_t array, int i) { return (uint64_t *)(image->bytes + array) + i; }

static void wrong_magic(struct image *image) { image->plan->magic++; }
static void size_too_large(struct image *image) { image->plan->size++; }
static void size_too_small(struct image *image) { image->plan->size--; }
static void argv_in_the_header(struct image *image) { image->plan->argv = 8; }
static void argv_unaligned(struct image *image) { image->plan->argv += 4; }
static void argv_outside(struct image *image) { image->plan->argv = 0xfffffff8; }
static void argv_at_the_end(struct image *image) { image->plan->argv = (image->plan->size - 1) & ~7U; }
static void argument_outside(struct image *image) { *entry(image, image->plan->argv, 1) = image->plan->size; }
static void argument_far_outside(struct image *image) { *entry(image, image->plan->argv, 0) = UINT64_MAX - 8; }
static void argument_in_the_header(struct image *image) { *entry(image, image->plan->argv, 0) = 1; }
static void envp_outside(struct image *image) { image->plan->envp = image->plan->size; }
static void envp_inside_argv(struct image *image) { image->plan->envp = image->plan->argv; }
static void variable_outside(struct image *image) { *entry(image, image->plan->envp, 1) = image->plan->size + 5; }
static void path_outside(struct image *image) { image->plan->path = image->plan->size; }
static void path_missing(struct image *image) { image->plan->path = 0; }
static void directory_outside(struct image *image) { image->plan->directory = 0xffffffff; }
static void filter_outside(struct image *image) { image->plan->filter = (image->plan->size & ~7U); }
static void filter_too_long(struct image *image) { image->plan->filter_count = 0xffffffff; }
static void filter_longer_than_the_plan(struct image *image) { image->plan->filter_count = 4096; }
static void filter_empty(struct image *image) { image->plan->filter_count = 0; }
static void filter_missing(struct image *image) { image->plan->filter = 0; }
static void filter_unaligned(struct image *image) { image->plan->filter += 1; }
static void too_many_groups(struct image *image) { image->plan->group_count = PLAN_GROUP_MAX + 1; }
static void target_below_nothing(struct image *image) { image->plan->fd_target[4] = PLAN_FD_PROGRAM - 1; }
static void title_without_end(struct image *image) { memset(image->plan->title, 'x', sizeof image->plan->title); }
static void path_without_end(struct image *image) { image->bytes[image->size - 1] = 'x'; }
static void shorter_than_a_header(struct image *image) { image->size = sizeof(struct plan) - 1; }
static void nothing_behind_the_header(struct image *image) { image->plan->size = (uint32_t)(image->size = sizeof(struct plan)); }
static void empty_file(struct image *image) { image->size = 0; }

static void a_hostile_plan_is_refused(void **state) {
    (void)state;
    static void (*const spoil[])(struct image *) = {
        wrong_magic,
        size_too_large,
        size_too_small,
        argv_in_the_header,
        argv_unaligned,
        argv_outside,
        argv_at_the_end,
        argument_outside,
        argument_far_outside,
        argument_in_the_header,
        envp_outside,
        envp_inside_argv,
        variable_outside,
        path_outside,
        path_missing,
        directory_outside,
        filter_outside,
        filter_too_long,
        filter_longer_than_the_plan,
        filter_empty,
        filter_missing,
        filter_unaligned,
        too_many_groups,
        target_below_nothing,
        title_without_end,
        path_without_end,
        shorter_than_a_header,
        nothing_behind_the_header,
        empty_file,
    };
    for (size_t i = 0; i < sizeof spoil / sizeof spoil[0]; i++) {
        struct image image = image_open();
        assert_int_equal(image_map(&image), 0);
        spoil[i](&image);
        if (image_map(&image) != -EINVAL) fail_msg("hostile plan %zu was accepted", i);
        free(image.bytes);
    }
}

static void an_array_without_end_is_refused(void **state) {
    (void)state;
    struct image image = image_open();
    for (size_t at = image.plan->argv; at + 8 <= image.size; at += 8) *(uint64_t *)(image.bytes + at) = image.plan->path;
    image.bytes[image.size - 1] = '\0';
    assert_int_equal(image_map(&image), -EINVAL);
    free(image.bytes);
}

static void no_single_byte_makes_the_keeper_read_outside(void **state) {
    (void)state;
    struct image image = image_open();
    for (size_t at = 0; at < image.size; at++) {
        static const unsigned char values[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
        char good = image.bytes[at];
        for (size_t i = 0; i < sizeof values; i++) {
            image.bytes[at] = (char)values[i];
            image_map(&image);
        }
        image.bytes[at] = good;
    }
    free(image.bytes);
}

static void a_file_that_may_still_change_is_refused(void **state) {
    (void)state;
    struct image image = image_open();
    struct plan *plan;
    char **argv, **envp;
    int fd = memfd_create("plan", MFD_ALLOW_SEALING | MFD_CLOEXEC);
    assert_int_equal(write(fd, image.bytes, image.size), image.size);
    assert_int_equal(plan_map(fd, &plan, &argv, &envp), -EPERM);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
    assert_int_equal(plan_map(fd, &plan, &argv, &envp), -EPERM);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
    assert_int_equal(plan_map(fd, &plan, &argv, &envp), 0);
    plan_unmap(plan);
    fd_close(&fd);
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(plan_map(ends[0], &plan, &argv, &envp), -EINVAL);
    fd_close(&ends[0]);
    fd_close(&ends[1]);
    free(image.bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plan_arrives_as_it_was_sealed),
        cmocka_unit_test(directory_filter_and_environment_may_be_absent),
        cmocka_unit_test(arguments_may_be_larger_than_any_packet),
        cmocka_unit_test(a_process_needs_a_name_for_itself),
        cmocka_unit_test(a_hostile_plan_is_refused),
        cmocka_unit_test(an_array_without_end_is_refused),
        cmocka_unit_test(no_single_byte_makes_the_keeper_read_outside),
        cmocka_unit_test(a_file_that_may_still_change_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
