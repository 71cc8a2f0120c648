// SPDX-License-Identifier: MIT
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "fd.h"
#include "sdnotify.h"

// A receiver bound to `name`, '@' standing for an abstract one.
static int receiver(const char *name) {
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    strncpy(at.sun_path, name, sizeof at.sun_path - 1);
    socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name) + (name[0] != '@'));
    if (name[0] == '@') at.sun_path[0] = '\0';
    assert_int_equal(bind(fd, (struct sockaddr *)&at, len), 0);
    return fd;
}

static void fresh_name(char *out, size_t size, const char *prefix) {
    static int serial;
    snprintf(out, size, "%spando-sdnotify-%d-%d", prefix, (int)getpid(), serial++);
}

static void a_message_arrives(const char *name) {
    struct sdnotify notify;
    char got[64] = "";
    scoped_fd there = receiver(name);
    assert_int_equal(sdnotify_open(&notify, name), 0);
    assert_int_equal(sdnotify_send(&notify, "READY=1", 7, NULL, 0), 0);
    assert_int_equal(recv(there, got, sizeof got, 0), 7);
    assert_string_equal(got, "READY=1");
    fd_close(&notify.fd);
}

static void a_message_arrives_at_a_path(void **unused) {
    (void)unused;
    char name[100];
    fresh_name(name, sizeof name, "/tmp/");
    a_message_arrives(name);
    unlink(name);
}

static void a_message_arrives_at_an_abstract_name(void **unused) {
    (void)unused;
    char name[100];
    fresh_name(name, sizeof name, "@");
    a_message_arrives(name);
}

static void the_longest_name_fits_and_a_longer_one_is_refused(void **unused) {
    (void)unused;
    struct sdnotify notify;
    char name[sizeof notify.at.sun_path + 1];
    memset(name, 'x', sizeof name);
    snprintf(name, sizeof name, "@pando-%d", (int)getpid());
    name[strlen(name)] = '-';
    name[sizeof name - 2] = '\0';
    a_message_arrives(name);
    name[sizeof name - 2] = 'x';
    name[sizeof name - 1] = '\0';
    assert_int_equal(sdnotify_open(&notify, name), -ENAMETOOLONG);
    assert_int_equal(notify.fd, -1);
}

static void what_names_no_unix_socket_is_refused(void **unused) {
    (void)unused;
    static const char *const names[] = {"relative", "vsock:2:1", "@", "/", "tcp:1"};
    struct sdnotify notify;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_int_equal(sdnotify_open(&notify, names[i]), -EINVAL);
        assert_int_equal(sdnotify_send(&notify, "READY=1", 7, NULL, 0), -ENOTCONN);
    }
}

static void without_a_supervisor_nothing_is_sent(void **unused) {
    (void)unused;
    struct sdnotify notify;
    assert_int_equal(sdnotify_open(&notify, NULL), 0);
    assert_int_equal(sdnotify_send(&notify, "READY=1", 7, NULL, 0), -ENOTCONN);
    assert_int_equal(sdnotify_open(&notify, ""), 0);
    assert_int_equal(sdnotify_send(&notify, "READY=1", 7, NULL, 0), -ENOTCONN);
}

static void a_full_queue_is_told_and_never_waited_for(void **unused) {
    (void)unused;
    struct sdnotify notify;
    char name[100];
    int r = 0;
    fresh_name(name, sizeof name, "@");
    scoped_fd there = receiver(name);
    assert_int_equal(sdnotify_open(&notify, name), 0);
    for (int i = 0; r == 0 && i < 1000000; i++) r = sdnotify_send(&notify, "WATCHDOG=1", 10, NULL, 0);
    assert_int_equal(r, -EAGAIN);
    char got[64];
    assert_int_equal(recv(there, got, sizeof got, 0), 10);
    assert_int_equal(sdnotify_send(&notify, "WATCHDOG=1", 10, NULL, 0), 0);
    fd_close(&notify.fd);
}

static void a_supervisor_that_was_restarted_is_found_again(void **unused) {
    (void)unused;
    struct sdnotify notify;
    char name[100], got[64];
    fresh_name(name, sizeof name, "@");
    int there = receiver(name);
    assert_int_equal(sdnotify_open(&notify, name), 0);
    close(there);
    assert_int_equal(sdnotify_send(&notify, "A=1", 3, NULL, 0), -ECONNREFUSED);
    there = receiver(name);
    assert_int_equal(sdnotify_send(&notify, "A=1", 3, NULL, 0), 0);
    assert_int_equal(recv(there, got, sizeof got, 0), 3);
    close(there);
    fd_close(&notify.fd);
}

static void a_descriptor_crosses(void **unused) {
    (void)unused;
    struct sdnotify notify;
    char name[100], got[64], control[CMSG_SPACE(sizeof(int) * 4)];
    fresh_name(name, sizeof name, "@");
    scoped_fd there = receiver(name);
    scoped_fd sent = open("/dev/null", O_RDWR | O_CLOEXEC);
    struct iovec iov = {got, sizeof got};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    assert_int_equal(sdnotify_open(&notify, name), 0);
    assert_int_equal(sdnotify_send(&notify, "FDSTORE=1", 9, &sent, 1), 0);
    assert_int_equal(recvmsg(there, &message, MSG_CMSG_CLOEXEC), 9);
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    assert_non_null(header);
    assert_int_equal(header->cmsg_type, SCM_RIGHTS);
    assert_int_equal(header->cmsg_len, CMSG_LEN(sizeof(int)));
    int fd;
    struct stat one, other;
    memcpy(&fd, CMSG_DATA(header), sizeof fd);
    assert_int_equal(fstat(fd, &one), 0);
    assert_int_equal(fstat(sent, &other), 0);
    assert_int_equal(one.st_rdev, other.st_rdev);
    close(fd);
    int many[9] = {sent, sent, sent, sent, sent, sent, sent, sent, sent};
    assert_int_equal(sdnotify_send(&notify, "FDSTORE=1", 9, many, 9), -EINVAL);
    fd_close(&notify.fd);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_arrives_at_a_path),
        cmocka_unit_test(a_message_arrives_at_an_abstract_name),
        cmocka_unit_test(the_longest_name_fits_and_a_longer_one_is_refused),
        cmocka_unit_test(what_names_no_unix_socket_is_refused),
        cmocka_unit_test(without_a_supervisor_nothing_is_sent),
        cmocka_unit_test(a_full_queue_is_told_and_never_waited_for),
        cmocka_unit_test(a_supervisor_that_was_restarted_is_found_again),
        cmocka_unit_test(a_descriptor_crosses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
