// SPDX-License-Identifier: MIT
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ring.h"

struct seen {
    size_t count;
    char first[128], last[128];
};

static void see(void *arg, const char *line, size_t len) {
    struct seen *seen = arg;
    char *into = seen->count++ == 0 ? seen->first : seen->last;
    snprintf(into, sizeof seen->first, "%.*s", (int)len, line);
    if (into == seen->first) memcpy(seen->last, seen->first, sizeof seen->last);
}

static struct seen tail(const struct ring *ring, size_t lines) {
    struct seen seen = {0};
    ring_tail(ring, lines, see, &seen);
    return seen;
}

static struct ring *with_lines(int count, int *out_memfd) {
    struct ring *ring = ring_create(out_memfd);
    assert_non_null(ring);
    for (int i = 0; i < count; i++) {
        char line[64];
        ring_append(ring, line, (size_t)snprintf(line, sizeof line, "line %d\n", i));
    }
    return ring;
}

static void an_empty_ring_has_no_lines(void **unused) {
    (void)unused;
    int memfd;
    assert_int_equal(tail(with_lines(0, &memfd), 10).count, 0);
    close(memfd);
}

static void the_tail_is_the_last_lines_in_order(void **unused) {
    (void)unused;
    int memfd;
    struct seen seen = tail(with_lines(20, &memfd), 5);
    assert_int_equal(seen.count, 5);
    assert_string_equal(seen.first, "line 15");
    assert_string_equal(seen.last, "line 19");
    close(memfd);
}

static void asking_for_more_than_there_is_gives_all(void **unused) {
    (void)unused;
    int memfd;
    struct seen seen = tail(with_lines(3, &memfd), 1000);
    assert_int_equal(seen.count, 3);
    assert_string_equal(seen.first, "line 0");
    assert_int_equal(tail(with_lines(3, &memfd), 0).count, 0);
    close(memfd);
}

static void a_line_that_was_overwritten_in_part_is_left_out(void **unused) {
    (void)unused;
    int memfd;
    struct ring *ring = with_lines(300000, &memfd);  // more than the ring holds
    struct seen seen = tail(ring, 10000000);
    int first;
    assert_int_equal(sscanf(seen.first, "line %d", &first), 1);
    assert_int_equal(first + (int)seen.count, 300000);
    assert_string_equal(seen.last, "line 299999");
    close(memfd);
}

static void a_successor_maps_what_the_predecessor_wrote(void **unused) {
    (void)unused;
    int memfd;
    with_lines(4, &memfd);
    struct ring *again = ring_map(memfd);
    assert_non_null(again);
    assert_string_equal(tail(again, 1).last, "line 3");
    close(memfd);
}

static void a_memfd_of_something_else_is_refused(void **unused) {
    (void)unused;
    int memfd = memfd_create("other", MFD_CLOEXEC);
    assert_null(ring_map(memfd));
    assert_int_equal(ftruncate(memfd, 2 * 1024 * 1024), 0);
    assert_null(ring_map(memfd));
    close(memfd);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_ring_has_no_lines),
        cmocka_unit_test(the_tail_is_the_last_lines_in_order),
        cmocka_unit_test(asking_for_more_than_there_is_gives_all),
        cmocka_unit_test(a_line_that_was_overwritten_in_part_is_left_out),
        cmocka_unit_test(a_successor_maps_what_the_predecessor_wrote),
        cmocka_unit_test(a_memfd_of_something_else_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
