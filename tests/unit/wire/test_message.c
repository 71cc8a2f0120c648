// SPDX-License-Identifier: MIT
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "message.h"

struct end {
    struct message_channel *channel;
    int raw;       // of the other end, for what an honest one never sends
    char got[64];  // kinds, or first bytes
    size_t len, bytes;
    int fd;
    bool lost, stop, close_inside, read_inside;
    int depth_seen;
};

static bool on_message(void *arg, struct message *message) {
    struct end *end = arg;
    if (end->len < sizeof end->got - 1) end->got[end->len++] = message->len > 0 ? message->data[0] : '-';
    end->bytes += message->len;
    if (message->fd >= 0) {
        if (end->fd >= 0) close(end->fd);
        end->fd = message->fd;
        message->fd = -1;
    }
    end->lost = end->lost || (message->has_fd && end->fd < 0);
    if (end->close_inside) message_channel_close(end->channel);
    if (end->read_inside && end->depth_seen++ == 0) {
        char first = message->data[0];
        assert_int_equal(message_channel_resume(end->channel), 1);
        assert_int_equal(message_channel_on_readable(end->channel), 1);
        assert_int_equal(message->data[0], first);  // stayed where it is
    }
    return !end->stop;
}

static void open_pair(struct end *near, struct end *far, size_t message_max, size_t queue_max) {
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    *near = (struct end){.fd = -1, .raw = -1};
    *far = (struct end){.fd = -1, .raw = -1};
    struct message_channel_options options = {.message_max = message_max, .queue_max = queue_max, .on_message = on_message};
    options.arg = near;
    near->channel = message_channel_open(pair[0], &options);
    options.arg = far;
    far->channel = message_channel_open(pair[1], &options);
    assert_non_null(near->channel);
    assert_non_null(far->channel);
}

// A channel whose other end is a bare socket.
static void open_raw(struct end *end) {
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    *end = (struct end){.fd = -1, .raw = pair[1]};
    end->channel = message_channel_open(pair[0], &(struct message_channel_options){.on_message = on_message, .arg = end});
}

static void close_end(struct end *end) {
    message_channel_close(end->channel);
    if (end->raw >= 0) close(end->raw);
    if (end->fd >= 0) close(end->fd);
}

static int put(struct end *end, const char *text, int fd) {
    return message_channel_put(end->channel, MESSAGE_BYTES, 0, text, strlen(text), fd);
}

static void many_small_messages_arrive_in_order(void **state) {
    struct end near, far;
    (void)state;
    open_pair(&near, &far, 0, 0);
    for (char c = 'a'; c <= 'z'; c++) assert_int_equal(put(&near, (char[]){c, 0}, -1), 0);
    assert_int_equal(message_channel_flush(near.channel), 0);
    assert_int_equal(message_channel_on_readable(far.channel), 1);
    assert_string_equal(far.got, "abcdefghijklmnopqrstuvwxyz");
    close_end(&near);
    assert_int_equal(message_channel_on_readable(far.channel), 0);
    close_end(&far);
}

static void each_descriptor_comes_with_its_own_message(void **state) {
    struct end near, far;
    struct stat sent, came;
    (void)state;
    open_pair(&near, &far, 0, 0);
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC), zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    far.stop = true;  // one at a time
    assert_int_equal(put(&near, "a", -1), 0);
    assert_int_equal(put(&near, "b", null), 0);
    assert_int_equal(put(&near, "c", -1), 0);
    assert_int_equal(put(&near, "d", zero), 0);
    close(null);
    assert_int_equal(message_channel_flush(near.channel), 0);
    const int with_fd[] = {0, 1, 0, 1};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(message_channel_resume(far.channel), 1);
        if (far.len == (size_t)i) assert_int_equal(message_channel_on_readable(far.channel), 1);
        assert_int_equal(far.len, i + 1);
        assert_int_equal(far.fd >= 0, with_fd[i]);
        if (i == 3) {
            assert_int_equal(fstat(zero, &sent), 0);
            assert_int_equal(fstat(far.fd, &came), 0);
            assert_int_equal(sent.st_rdev, came.st_rdev);
            assert_true((fcntl(far.fd, F_GETFD) & FD_CLOEXEC) != 0);
        }
        if (far.fd >= 0) close(far.fd);
        far.fd = -1;
    }
    assert_string_equal(far.got, "abcd");
    close(zero);
    close_end(&near);
    close_end(&far);
}

static void the_largest_message_fits_and_a_larger_one_is_refused(void **state) {
    struct end near, far;
    static char data[MESSAGE_BYTES_MAX + 1];
    (void)state;
    open_pair(&near, &far, MESSAGE_BYTES_MAX, 0);
    assert_int_equal(message_channel_put(near.channel, MESSAGE_BYTES, 0, data, sizeof data, -1), -EMSGSIZE);
    assert_true(message_channel_put(near.channel, MESSAGE_JSON, 0, data, MESSAGE_BYTES_MAX, -1) >= 0);
    assert_int_equal(message_channel_flush(near.channel), 0);
    assert_int_equal(message_channel_on_readable(far.channel), 1);
    assert_int_equal(far.bytes, MESSAGE_BYTES_MAX);
    // Our own frames have a limit of their own, which no option lowers.
    assert_int_equal(message_channel_put(near.channel, MESSAGE_LISTEN, 0, data, sizeof(struct message_listen), -1), 0);
    assert_int_equal(message_channel_put(near.channel, MESSAGE_LISTEN, 0, data, 1024, -1), -EMSGSIZE);
    close_end(&near);
    close_end(&far);
}

static void the_queue_has_a_ceiling_and_says_when_to_hold_back(void **state) {
    struct end near, far;
    static char chunk[1024];
    int held_back = 0, r;
    (void)state;
    open_pair(&near, &far, 0, 200 * 1024);
    while ((r = message_channel_put(near.channel, MESSAGE_BYTES, 0, chunk, sizeof chunk, -1)) >= 0) held_back += r == 1;
    assert_int_equal(r, -EAGAIN);
    assert_true(held_back > 50);
    assert_true(message_channel_queued(near.channel) <= 200 * 1024);
    size_t all = message_channel_queued(near.channel) / (sizeof chunk + 8) * sizeof chunk;
    for (int i = 0; i < 1000 && far.bytes < all; i++) {
        message_channel_flush(near.channel);
        assert_int_equal(message_channel_on_readable(far.channel), 1);
    }
    assert_int_equal(far.bytes, all);
    assert_int_equal(message_channel_queued(near.channel), 0);
    close_end(&near);
    close_end(&far);
}

static void who_wants_no_more_gets_the_rest_later(void **state) {
    struct end near, far;
    (void)state;
    open_pair(&near, &far, 0, 0);
    far.stop = true;
    for (int i = 0; i < 3; i++) put(&near, (char[]){(char)('a' + i), 0}, -1);
    message_channel_flush(near.channel);
    assert_int_equal(message_channel_on_readable(far.channel), 1);
    assert_string_equal(far.got, "a");
    assert_true(message_channel_has_more(far.channel));
    assert_int_equal(message_channel_on_readable(far.channel), 1);
    assert_string_equal(far.got, "a");
    far.stop = false;
    assert_int_equal(message_channel_resume(far.channel), 1);
    assert_string_equal(far.got, "abc");
    close_end(&near);
    close_end(&far);
}

static void reading_goes_on_inside_a_message(void **state) {
    struct end near, far;
    (void)state;
    open_pair(&near, &far, 0, 0);
    far.read_inside = true;
    put(&near, "a", -1);
    put(&near, "b", -1);
    message_channel_flush(near.channel);
    put(&near, "c", -1);
    message_channel_flush(near.channel);
    assert_int_equal(message_channel_on_readable(far.channel), 1);
    assert_string_equal(far.got, "abc");
    close_end(&near);
    close_end(&far);
}

static void it_may_be_closed_inside_a_message(void **state) {
    struct end near, far;
    (void)state;
    open_pair(&near, &far, 0, 0);
    far.close_inside = true;
    put(&near, "a", -1);
    put(&near, "b", -1);
    message_channel_flush(near.channel);
    assert_int_equal(message_channel_on_readable(far.channel), -ECANCELED);
    assert_string_equal(far.got, "a");
    put(&near, "c", -1);
    assert_int_equal(message_channel_flush(near.channel), -EPIPE);
    assert_int_equal(put(&near, "d", -1), -EPIPE);
    close_end(&near);
}

// Every packet that is no sequence of whole frames ends the channel, whatever it says.
static void what_is_no_frame_is_refused(void **state) {
    static const struct {
        const char *bytes;
        size_t len;
    } cases[] = {
        {"\x01\0\0\0\x09\0\0", 7},                          // less than a header
        {"\x04\0\0\0\x09\0\0\0abc", 11},                    // shorter than it says
        {"\xff\xff\xff\xff\x09\0\0\0", 8},                  // longer than anything may be
        {"\0\0\x02\0\x09\0\0\0", 8},                        // longer than a message may be
        {"\0\0\0\0\0\0\0\0", 8},                            // of no kind
        {"\0\0\0\0\x63\0\0\0", 8},                          // of an unknown kind
        {"\0\0\0\0\x09\x02\0\0", 8},                        // with an unknown flag
        {"\x01\0\0\0\x09\0\0\0x\0\0\0\0\x09\x01\0\0", 17},  // a descriptor that is not the first frame's
        {"\x01\0\0\0\x09\0\0\0x?", 10},                     // something behind the last frame
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct end end;
        open_raw(&end);
        assert_int_equal(send(end.raw, cases[i].bytes, cases[i].len, 0), cases[i].len);
        assert_int_equal(message_channel_on_readable(end.channel), -EPROTO);
        close_end(&end);
    }
}

static void a_packet_that_is_too_long_is_refused(void **state) {
    static char data[MESSAGE_BYTES_DEFAULT + 4096];
    struct end end;
    (void)state;
    open_raw(&end);
    assert_int_equal(send(end.raw, data, sizeof data, 0), sizeof data);
    assert_int_equal(message_channel_on_readable(end.channel), -EPROTO);
    close_end(&end);
}

static int count_fds(void) {
    int count = 0;
    for (int fd = 0; fd < 256; fd++) count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static void descriptors_that_nobody_announced_are_closed(void **state) {
    static const char plain[] = "\x01\0\0\0\x09\0\0\0x";
    struct end end;
    char control[CMSG_SPACE(sizeof(int) * 3)] = {0};
    struct iovec part = {(void *)(uintptr_t)plain, 9};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    (void)state;
    open_raw(&end);
    *header = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int) * 3), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(header), (int[]){0, 1, 2}, sizeof(int) * 3);
    int before = count_fds();
    for (int i = 0; i < 10; i++) {
        assert_int_equal(sendmsg(end.raw, &message, 0), 9);
        assert_int_equal(message_channel_on_readable(end.channel), 1);
    }
    assert_int_equal(end.len, 10);
    assert_int_equal(end.fd, -1);
    assert_true(count_fds() <= before + 1);  // the last packet's, until the next one comes
    close_end(&end);
}

static void an_announced_descriptor_that_does_not_come_is_told(void **state) {
    struct end end;
    (void)state;
    open_raw(&end);
    assert_int_equal(send(end.raw, "\x01\0\0\0\x09\x01\0\0x", 9, 0), 9);
    assert_int_equal(message_channel_on_readable(end.channel), 1);
    assert_true(end.lost);
    assert_int_equal(end.len, 1);
    close_end(&end);
}

static void a_message_with_a_descriptor_waits_for_room_like_any_other(void **state) {
    struct end near, far;
    static char chunk[16 * 1024];
    int sent = 0, came = 0;
    (void)state;
    open_pair(&near, &far, 0, 0);
    for (; sent < 40; sent++) assert_true(message_channel_put(near.channel, MESSAGE_BYTES, 0, chunk, sizeof chunk, 0) >= 0);
    for (int i = 0; i < 1000 && came < sent; i++) {
        message_channel_flush(near.channel);
        far.fd = -1;
        far.stop = true;
        size_t before = far.len;
        message_channel_resume(far.channel);
        if (far.len == before) message_channel_on_readable(far.channel);
        if (far.len == before) continue;
        assert_true(far.fd >= 0);
        close(far.fd);
        far.fd = -1;
        came++;
    }
    assert_int_equal(came, sent);
    close_end(&near);
    close_end(&far);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_small_messages_arrive_in_order),
        cmocka_unit_test(each_descriptor_comes_with_its_own_message),
        cmocka_unit_test(the_largest_message_fits_and_a_larger_one_is_refused),
        cmocka_unit_test(the_queue_has_a_ceiling_and_says_when_to_hold_back),
        cmocka_unit_test(who_wants_no_more_gets_the_rest_later),
        cmocka_unit_test(reading_goes_on_inside_a_message),
        cmocka_unit_test(it_may_be_closed_inside_a_message),
        cmocka_unit_test(what_is_no_frame_is_refused),
        cmocka_unit_test(a_packet_that_is_too_long_is_refused),
        cmocka_unit_test(descriptors_that_nobody_announced_are_closed),
        cmocka_unit_test(an_announced_descriptor_that_does_not_come_is_told),
        cmocka_unit_test(a_message_with_a_descriptor_waits_for_room_like_any_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
