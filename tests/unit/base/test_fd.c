// SPDX-License-Identifier: MIT
#include "fd.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

static void closing_forgets_the_number_and_keeps_errno(void **state) {
    (void)state;
    int fd = dup(0);
    int number = fd;
    errno = E2BIG;
    fd_close(&fd);
    assert_int_equal(fd, -1);
    fd_close(&fd);
    assert_int_equal(errno, E2BIG);
    assert_int_equal(fcntl(number, F_GETFD), -1);
}

static void taking_moves_the_descriptor(void **state) {
    (void)state;
    int fd = 42;
    assert_int_equal(fd_take(&fd), 42);
    assert_int_equal(fd, -1);
}

static void flags_go_on_and_off(void **state) {
    (void)state;
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(fd_set_nonblock(ends[0], true), 0);
    assert_true(fcntl(ends[0], F_GETFL) & O_NONBLOCK);
    assert_int_equal(fd_set_nonblock(ends[0], false), 0);
    assert_false(fcntl(ends[0], F_GETFL) & O_NONBLOCK);
    assert_int_equal(fd_set_cloexec(ends[0], false), 0);
    assert_int_equal(fcntl(ends[0], F_GETFD), 0);
    fd_close(&ends[0]);
    fd_close(&ends[1]);
    assert_int_equal(fd_set_nonblock(-1, true), -EBADF);
}

static void a_small_file_is_read_whole_or_refused(void **state) {
    (void)state;
    char large[4096];
    char small[8];
    ssize_t len = fd_read_file("/proc/self/status", large, sizeof large);
    assert_true(len > 100);
    assert_int_equal(strlen(large), len);
    assert_int_equal(fd_read_file("/proc/self/status", small, sizeof small), -EFBIG);
    assert_int_equal(strlen(small), sizeof small - 1);
    assert_int_equal(fd_read_file("/proc/self/no-such-file", small, sizeof small), -ENOENT);
    assert_string_equal(small, "");
    assert_int_equal(fd_read_file("/proc", small, sizeof small), -EISDIR);
}

static void a_file_that_fills_the_buffer_exactly_does_not_fit(void **state) {
    (void)state;
    int fd = fd_memfd_sealed("test", "1234", 4);
    char path[64];
    char out[5];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    assert_int_equal(fd_read_file(path, out, 5), 4);
    assert_string_equal(out, "1234");
    assert_int_equal(fd_read_file(path, out, 4), -EFBIG);
    assert_string_equal(out, "123");
    fd_close(&fd);
}

static void a_sealed_memfd_cannot_change(void **state) {
    (void)state;
    int fd = fd_memfd_sealed("test", "content", 7);
    char out[16] = "";
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, out, sizeof out, 0), 7);
    assert_string_equal(out, "content");
    assert_int_equal(pwrite(fd, "x", 1, 0), -1);
    assert_int_equal(ftruncate(fd, 3), -1);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, 0), -1);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    fd_close(&fd);
}

static void writing_reports_a_broken_pipe(void **state) {
    (void)state;
    int ends[2];
    char out[8] = "";
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(fd_write_all(ends[1], "whole", 5), 0);
    assert_int_equal(read(ends[0], out, sizeof out), 5);
    assert_int_equal(fd_write_all(ends[0], "x", 1), -EBADF);
    fd_close(&ends[0]);
    fd_close(&ends[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(closing_forgets_the_number_and_keeps_errno),
        cmocka_unit_test(taking_moves_the_descriptor),
        cmocka_unit_test(flags_go_on_and_off),
        cmocka_unit_test(a_small_file_is_read_whole_or_refused),
        cmocka_unit_test(a_file_that_fills_the_buffer_exactly_does_not_fit),
        cmocka_unit_test(a_sealed_memfd_cannot_change),
        cmocka_unit_test(writing_reports_a_broken_pipe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
