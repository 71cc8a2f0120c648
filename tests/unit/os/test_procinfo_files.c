// SPDX-License-Identifier: MIT
// Descriptors and sockets of real processes, and who holds a port.
#include "procinfo.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "fd.h"

#define NOBODY 65534

struct seen {
    int numbers[64];
    uint64_t inodes[64];
    int count, limit;  // limit 0: no end
};

static bool note_socket(int fd, uint64_t inode, void *arg) {
    struct seen *seen = arg;
    if (seen->count < 64) {
        seen->inodes[seen->count] = inode;
        seen->numbers[seen->count++] = fd;
    }
    return seen->count != seen->limit;
}

static bool has_number(const struct seen *seen, int number) {
    for (int i = 0; i < seen->count; i++)
        if (seen->numbers[i] == number) return true;
    return false;
}

static void sockets_are_listed_with_number_and_inode(void **state) {
    (void)state;
    struct seen before = {0}, after = {0};
    assert_int_equal(procinfo_socket_each(getpid(), note_socket, &before), 0);
    int pair[2], pipes[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_int_equal(pipe(pipes), 0);
    assert_int_equal(procinfo_socket_each(getpid(), note_socket, &after), 0);
    assert_int_equal(after.count, before.count + 2);
    assert_true(has_number(&after, pair[0]) && has_number(&after, pair[1]));
    struct stat status;
    assert_int_equal(fstat(pair[1], &status), 0);
    for (int i = 0; i < after.count; i++)
        if (after.numbers[i] == pair[1]) assert_true(after.inodes[i] == status.st_ino);
    after = (struct seen){.limit = 1};
    assert_int_equal(procinfo_socket_each(getpid(), note_socket, &after), 0);
    assert_int_equal(after.count, 1);
    for (int i = 0; i < 2; i++) close(pair[i]), close(pipes[i]);
}

static void another_users_sockets_are_refused(void **state) {
    (void)state;
    if (geteuid() != 0) skip();
    pid_t pid = getpid();
    pid_t asker = fork();
    if (asker == 0) {
        struct seen seen = {0};
        bool became = setgid(NOBODY) == 0 && setuid(NOBODY) == 0;
        _exit(became && procinfo_socket_each(pid, note_socket, &seen) == -EACCES && seen.count == 0 ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(asker, &status, 0), asker);
    assert_int_equal(status, 0);
}

static void open_descriptors_are_counted(void **state) {
    (void)state;
    int before = procinfo_fd_count(getpid());
    assert_true(before > 0);
    scoped_fd fd = open("/dev/null", O_RDONLY);
    assert_int_equal(procinfo_fd_count(getpid()), before + 1);
    assert_true(fd >= 0);
}

static void flags_of_a_descriptor_include_cloexec(void **state) {
    (void)state;
    scoped_fd with = open("/dev/null", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    scoped_fd without = open("/dev/null", O_WRONLY | O_APPEND);
    int flags = procinfo_fd_flags(getpid(), with);
    assert_int_equal(flags & (O_ACCMODE | O_CLOEXEC | O_NONBLOCK), O_RDWR | O_CLOEXEC | O_NONBLOCK);
    flags = procinfo_fd_flags(getpid(), without);
    assert_int_equal(flags & (O_ACCMODE | O_CLOEXEC | O_APPEND), O_WRONLY | O_APPEND);
    assert_true(procinfo_fd_flags(getpid(), 999) < 0);
}

static int listen_somewhere(int *out_port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, len), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    *out_port = ntohs(address.sin_port);
    return fd;
}

static void the_holder_of_a_port_is_named(void **state) {
    (void)state;
    char text[128] = "x", expected[128], name[16];
    int port;
    scoped_fd fd = listen_somewhere(&port);
    assert_true(fd >= 0);
    prctl(PR_GET_NAME, name);
    prctl(PR_SET_NAME, "a\n)\033[1m");
    procinfo_port_holder(port, text, sizeof text);
    prctl(PR_SET_NAME, name);
    snprintf(expected, sizeof expected, "a?)?[1m (pid %d)", getpid());
    assert_string_equal(text, expected);
    char small[8];
    procinfo_port_holder(port, small, sizeof small);
    assert_true(strlen(small) < sizeof small);
}

static void a_port_without_holder_gives_an_empty_text(void **state) {
    (void)state;
    char text[128] = "x";
    int port;
    int fd = listen_somewhere(&port);
    close(fd);
    procinfo_port_holder(port, text, sizeof text);
    assert_string_equal(text, "");
    procinfo_port_holder(0, text, sizeof text);
    procinfo_port_holder(65536 + port, text, sizeof text);
    assert_string_equal(text, "");
}

static void a_holder_that_is_not_visible_is_told_by_its_user(void **state) {
    (void)state;
    if (geteuid() != 0) skip();
    int port;
    scoped_fd fd = listen_somewhere(&port);
    pid_t asker = fork();
    if (asker == 0) {
        char text[128];
        close(fd);
        if (setgid(NOBODY) || setuid(NOBODY)) _exit(2);
        procinfo_port_holder(port, text, sizeof text);
        _exit(strcmp(text, "a process that is not visible from here (uid 0)") == 0 ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(asker, &status, 0), asker);
    assert_int_equal(status, 0);
}

static int pressure_of(const char *text) {
    char path[] = "/tmp/pando-pressure-XXXXXX";
    scoped_fd fd = mkstemp(path);
    assert_true(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    int percent = procinfo_cpu_pressure(path);
    unlink(path);
    return percent;
}

static void the_pressure_on_processors_is_read_or_unknown(void **state) {
    (void)state;
    assert_int_equal(pressure_of("some avg10=17.20 avg60=13.42 avg300=20.36 total=6845863950\nfull avg10=0.00 avg60=0.00\n"), 17);
    assert_int_equal(pressure_of("some avg10=100.00 avg60=1.00 avg300=0.00 total=1\n"), 100);
    assert_int_equal(pressure_of("some avg10=101.00\n"), -1);
    assert_int_equal(pressure_of("full avg10=3.00\n"), -1);
    assert_int_equal(pressure_of(""), -1);
    assert_int_equal(procinfo_cpu_pressure("/no/such/file"), -1);
    assert_in_range(procinfo_cpu_pressure(NULL) + 1, 0, 101);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sockets_are_listed_with_number_and_inode),
        cmocka_unit_test(another_users_sockets_are_refused),
        cmocka_unit_test(open_descriptors_are_counted),
        cmocka_unit_test(flags_of_a_descriptor_include_cloexec),
        cmocka_unit_test(the_holder_of_a_port_is_named),
        cmocka_unit_test(a_port_without_holder_gives_an_empty_text),
        cmocka_unit_test(a_holder_that_is_not_visible_is_told_by_its_user),
        cmocka_unit_test(the_pressure_on_processors_is_read_or_unknown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
