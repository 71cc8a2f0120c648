// SPDX-License-Identifier: MIT
#include "home.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "fd.h"

static char root[64];
static char home[128];

static int setup(void **state) {
    (void)state;
    snprintf(root, sizeof root, "/tmp/pando-test-XXXXXX");
    if (!mkdtemp(root)) return -1;
    snprintf(home, sizeof home, "%s/home", root);
    setenv("PANDO_DIR", home, 1);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", root);
    return system(command);
}

static mode_t mode_of(const char *path) {
    struct stat info;
    assert_int_equal(lstat(path, &info), 0);
    return info.st_mode & 07777;
}

static void the_folder_comes_from_the_environment(void **state) {
    (void)state;
    char path[HOME_PATH_MAX], cwd[2048], expected[2100];
    assert_int_equal(home_path(path, sizeof path, NULL), 0);
    assert_string_equal(path, home);
    setenv("PANDO_DIR", "relative", 1);
    assert_int_equal(home_path(path, sizeof path, NULL), 0);
    snprintf(expected, sizeof expected, "%s/relative", getcwd(cwd, sizeof cwd));
    assert_string_equal(path, expected);
    setenv("PANDO_DIR", "/a/long/path", 1);
    assert_int_equal(home_path(path, 8, NULL), -ENAMETOOLONG);
    setenv("PANDO_DIR", "", 1);
    assert_int_equal(home_path(path, sizeof path, NULL), 0);
    if (geteuid() == 0) assert_string_equal(path, "/run/pando");
}

static void the_folder_is_made_with_its_mode_whatever_the_umask(void **state) {
    (void)state;
    mode_t mask = umask(077);
    scoped_fd first = home_open(home, NULL);
    scoped_fd again = home_open(home, NULL);
    umask(mask);
    assert_true(first >= 0 && again >= 0);
    assert_int_equal(mode_of(home), 0711);
}

static void a_folder_that_others_may_write_to_is_refused(void **state) {
    (void)state;
    struct pando_error error;
    assert_int_equal(mkdir(home, 0700), 0);
    assert_int_equal(chmod(home, 0777), 0);
    assert_int_equal(home_open(home, &error), -EPERM);
    assert_non_null(strstr(error.text, "others may write"));
}

static void a_link_or_a_file_in_place_of_the_folder_is_refused(void **state) {
    (void)state;
    assert_int_equal(symlink("/tmp", home), 0);
    assert_true(home_open(home, NULL) < 0);
    assert_int_equal(unlink(home), 0);
    scoped_fd file = open(home, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(home_open(home, NULL) < 0);
}

static void another_users_folder_is_refused(void **state) {
    (void)state;
    if (geteuid() != 0) skip();
    assert_int_equal(chmod(root, 0755), 0);
    scoped_fd folder = home_open(home, NULL);
    assert_true(folder >= 0);
    pid_t child = fork();
    if (child == 0) _exit(setuid(65534) == 0 && home_open(home, NULL) == -EPERM ? 0 : 1);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(chown(home, 65534, 65534), 0);
    scoped_fd as_root = home_open(home, NULL);
    assert_true(as_root >= 0);
}

static void a_control_socket_is_private_and_reached_by_name(void **state) {
    (void)state;
    char path[160];
    mode_t mask = umask(0);
    scoped_fd folder = home_open(home, NULL);
    scoped_fd listener = home_listen(folder, "app", NULL);
    umask(mask);
    assert_true(listener >= 0);
    snprintf(path, sizeof path, "%s/app.sock", home);
    assert_int_equal(mode_of(path), 0600);
    scoped_fd client = home_connect(folder, "app");
    scoped_fd server = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    assert_true(client >= 0 && server >= 0);
    assert_int_equal(write(client, "x", 1), 1);
}

static void a_dead_instance_refuses_and_is_replaced(void **state) {
    (void)state;
    scoped_fd folder = home_open(home, NULL);
    assert_int_equal(home_connect(folder, "app"), -ENOENT);
    int listener = home_listen(folder, "app", NULL);
    fd_close(&listener);
    assert_int_equal(home_connect(folder, "app"), -ECONNREFUSED);
    scoped_fd next = home_listen(folder, "app", NULL);
    scoped_fd client = home_connect(folder, "app");
    assert_true(next >= 0 && client >= 0);
}

static void a_path_longer_than_a_socket_address_works(void **state) {
    (void)state;
    char path[HOME_PATH_MAX];
    char part[201];
    memset(part, 'd', 200);
    part[200] = '\0';
    snprintf(path, sizeof path, "%s/%s", root, part);
    scoped_fd folder = home_open(path, NULL);
    scoped_fd listener = home_listen(folder, "app", NULL);
    scoped_fd client = home_connect(folder, "app");
    assert_true(folder >= 0 && listener >= 0 && client >= 0);
}

static void a_held_lock_names_its_holder(void **state) {
    (void)state;
    scoped_fd folder = home_open(home, NULL);
    pid_t holder = -1;
    int lock = home_lock(folder, "app", &holder, NULL);
    assert_true(lock >= 0);
    scoped_fd unknown = home_lock(folder, "app", &holder, NULL);
    assert_int_equal(unknown, -EWOULDBLOCK);
    assert_int_equal(holder, 0);
    assert_int_equal(home_lock_write_pid(lock, 1234567), 0);
    assert_int_equal(home_lock_write_pid(lock, 4711), 0);
    assert_int_equal(home_lock(folder, "app", &holder, NULL), -EWOULDBLOCK);
    assert_int_equal(holder, 4711);
    scoped_fd other = home_lock(folder, "other", &holder, NULL);
    assert_true(other >= 0);
    fd_close(&lock);
    scoped_fd again = home_lock(folder, "app", &holder, NULL);
    assert_true(again >= 0);
}

static void the_list_has_control_sockets_only_in_order(void **state) {
    (void)state;
    scoped_fd folder = home_open(home, NULL);
    char **names;
    assert_int_equal(home_list(folder, &names), 0);
    assert_null(names[0]);
    home_list_free(names);
    scoped_fd web = home_listen(folder, "web", NULL);
    scoped_fd api = home_listen(folder, "api.v2", NULL);
    scoped_fd file = openat(folder, "plain.sock", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    scoped_fd hidden = openat(folder, ".sock", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    pid_t holder;
    scoped_fd lock = home_lock(folder, "web", &holder, NULL);
    assert_int_equal(home_list(folder, &names), 2);
    assert_string_equal(names[0], "api.v2");
    assert_string_equal(names[1], "web");
    assert_null(names[2]);
    home_list_free(names);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(the_folder_comes_from_the_environment),
        TEST(the_folder_is_made_with_its_mode_whatever_the_umask),
        TEST(a_folder_that_others_may_write_to_is_refused),
        TEST(a_link_or_a_file_in_place_of_the_folder_is_refused),
        TEST(another_users_folder_is_refused),
        TEST(a_control_socket_is_private_and_reached_by_name),
        TEST(a_dead_instance_refuses_and_is_replaced),
        TEST(a_path_longer_than_a_socket_address_works),
        TEST(a_held_lock_names_its_holder),
        TEST(the_list_has_control_sockets_only_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
