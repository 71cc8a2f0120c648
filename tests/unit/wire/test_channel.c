// SPDX-License-Identifier: MIT
#include "channel.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "fd.h"

struct pair {
    int ends[2];
};

static int setup(void **state) {
    static struct pair pair;
    *state = &pair;
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair.ends);
}

static int teardown(void **state) {
    struct pair *pair = *state;
    fd_close(&pair->ends[0]);
    fd_close(&pair->ends[1]);
    return 0;
}

static int open_fd_count(void) {
    int count = 0;
    for (int fd = 0; fd < 256; fd++) count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static void a_message_arrives_with_its_descriptors(void **state) {
    struct pair *pair = *state;
    struct keeper_message sent = {.verb = KEEPER_SPAWN, .key = 7, .data = "data"}, got;
    int pipe_ends[2], fds[CHANNEL_FD_MAX];
    size_t count;
    assert_int_equal(pipe2(pipe_ends, O_CLOEXEC), 0);
    assert_int_equal(channel_send(pair->ends[0], &sent, pipe_ends, 2), 0);
    assert_int_equal(channel_receive(pair->ends[1], &got, fds, CHANNEL_FD_MAX, &count), 1);
    assert_memory_equal(&got, &sent, sizeof got);
    assert_int_equal(count, 2);
    assert_int_equal(write(fds[1], "x", 1), 1);
    assert_true(fcntl(fds[0], F_GETFD) & FD_CLOEXEC);
    for (int i = 0; i < 2; i++) fd_close(&fds[i]), fd_close(&pipe_ends[i]);
}

static void descriptors_beyond_what_was_asked_for_are_closed(void **state) {
    struct pair *pair = *state;
    struct keeper_message message = {.verb = KEEPER_REPLY};
    int sent[CHANNEL_FD_MAX] = {0, 1, 2, 0, 1, 2, 0, 1};
    int fd = -1;
    size_t count;
    int before = open_fd_count();
    assert_int_equal(channel_send(pair->ends[0], &message, sent, CHANNEL_FD_MAX), 0);
    assert_int_equal(channel_receive(pair->ends[1], &message, &fd, 1, &count), 1);
    assert_int_equal(count, 1);
    assert_int_equal(open_fd_count(), before + 1);
    fd_close(&fd);
    assert_int_equal(channel_send(pair->ends[0], &message, sent, 3), 0);
    assert_int_equal(channel_receive(pair->ends[1], &message, NULL, 0, &count), 1);
    assert_int_equal(count, 0);
    assert_int_equal(open_fd_count(), before);
}

static void an_empty_channel_says_try_again(void **state) {
    struct pair *pair = *state;
    struct keeper_message message;
    size_t count = 99;
    assert_int_equal(channel_receive(pair->ends[1], &message, NULL, 0, &count), -EAGAIN);
    assert_int_equal(count, 99);
}

static void a_full_channel_says_try_again(void **state) {
    struct pair *pair = *state;
    struct keeper_message message = {.verb = KEEPER_EXITED};
    int err = 0;
    for (int i = 0; i < 100000 && !err; i++) err = channel_send(pair->ends[0], &message, NULL, 0);
    assert_int_equal(err, -EAGAIN);
}

static void a_message_of_the_wrong_size_is_refused_and_its_descriptors_closed(void **state) {
    struct pair *pair = *state;
    char large[sizeof(struct keeper_message) + 1] = {0};
    struct keeper_message message;
    size_t count;
    assert_int_equal(send(pair->ends[0], large, sizeof large, 0), sizeof large);
    assert_int_equal(channel_receive(pair->ends[1], &message, NULL, 0, &count), -EPROTO);
    assert_int_equal(send(pair->ends[0], large, 3, 0), 3);
    assert_int_equal(channel_receive(pair->ends[1], &message, NULL, 0, &count), -EPROTO);
}

// More than the channel's own sender would ever put into one message.
static void send_many_fds(int channel, size_t fd_count, size_t len) {
    union {
        struct cmsghdr align;
        char data[CMSG_SPACE(32 * sizeof(int))];
    } control = {0};
    struct keeper_message message = {.verb = KEEPER_REPLY};
    struct iovec part = {.iov_base = &message, .iov_len = len};
    struct msghdr header = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = CMSG_SPACE(fd_count * sizeof(int))};
    *CMSG_FIRSTHDR(&header) =
        (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(fd_count * sizeof(int))};
    assert_int_equal(sendmsg(channel, &header, 0), len);
}

static void too_many_descriptors_are_refused_and_none_leaks(void **state) {
    struct pair *pair = *state;
    struct keeper_message message;
    int fds[CHANNEL_FD_MAX];
    size_t count;
    int before = open_fd_count();
    send_many_fds(pair->ends[0], CHANNEL_FD_MAX + 1, sizeof message);
    assert_int_equal(channel_receive(pair->ends[1], &message, fds, CHANNEL_FD_MAX, &count), -EPROTO);
    send_many_fds(pair->ends[0], 1, 0);
    assert_int_equal(channel_receive(pair->ends[1], &message, fds, CHANNEL_FD_MAX, &count), -EPROTO);
    assert_int_equal(open_fd_count(), before);
}

static void a_message_whose_descriptors_find_no_room_arrives_without_them(void **state) {
    struct pair *pair = *state;
    struct keeper_message message = {0};
    struct rlimit limit, before;
    int fds[CHANNEL_FD_MAX];
    size_t count = 1;
    send_many_fds(pair->ends[0], 2, sizeof message);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    limit = before;
    limit.rlim_cur = 3;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    int r = channel_receive(pair->ends[1], &message, fds, CHANNEL_FD_MAX, &count);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(r, -EMFILE);
    assert_int_equal(message.verb, KEEPER_REPLY);
    assert_int_equal(count, 0);
}

static void the_end_of_the_other_process_is_seen_after_its_last_words(void **state) {
    struct pair *pair = *state;
    struct keeper_message message = {.verb = KEEPER_QUIT};
    size_t count;
    assert_int_equal(channel_send(pair->ends[1], &message, NULL, 0), 0);  // never read: the reader is told ECONNRESET first
    assert_int_equal(channel_send(pair->ends[0], &message, NULL, 0), 0);
    fd_close(&pair->ends[0]);
    assert_int_equal(channel_receive(pair->ends[1], &message, NULL, 0, &count), 1);
    assert_int_equal(message.verb, KEEPER_QUIT);
    assert_int_equal(channel_receive(pair->ends[1], &message, NULL, 0, &count), 0);
    assert_int_equal(channel_send(pair->ends[1], &message, NULL, 0), -EPIPE);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_message_arrives_with_its_descriptors),
        TEST(descriptors_beyond_what_was_asked_for_are_closed),
        TEST(an_empty_channel_says_try_again),
        TEST(a_full_channel_says_try_again),
        TEST(a_message_of_the_wrong_size_is_refused_and_its_descriptors_closed),
        TEST(too_many_descriptors_are_refused_and_none_leaks),
        TEST(a_message_whose_descriptors_find_no_room_arrives_without_them),
        TEST(the_end_of_the_other_process_is_seen_after_its_last_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
