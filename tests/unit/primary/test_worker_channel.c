// SPDX-License-Identifier: MIT
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "worker_channel.h"

// One channel whose far end is the test's, and what it has said.
struct side {
    uv_loop_t loop;
    struct worker_channel *channel;
    struct worker_channel_memory *memory;
    int far;
    char said[4096];
    int frames, too_long, ends, rooms, fds;
    size_t last_len;
    bool close_in_frame;
};

static void on_frame(void *arg, char *data, size_t len) {
    struct side *side = arg;
    side->frames++;
    side->last_len = len;
    if (len < 100) {
        size_t at = strlen(side->said);
        snprintf(side->said + at, sizeof side->said - at, "%.*s|", (int)len, data);
    }
    for (int fd; (fd = worker_channel_take_fd(side->channel)) >= 0; close(fd)) side->fds++;
    if (!side->close_in_frame) return;
    worker_channel_close(side->channel);
    side->channel = NULL;
}

static void on_too_long(void *arg, const char *data, size_t len) {
    struct side *side = arg;
    (void)data;
    assert_true(len > WORKER_CHANNEL_FRAME_MAX);
    side->too_long++;
}

static void on_room(void *arg) { ((struct side *)arg)->rooms++; }
static void on_end(void *arg) { ((struct side *)arg)->ends++; }

static const struct worker_channel_events events = {on_frame, on_too_long, on_room, on_end};

static void attach(struct side *side, uint64_t token) {
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    side->far = pair[1];
    side->channel = worker_channel_open(&side->loop, pair[0], token, side->memory, &events, side);
    assert_non_null(side->channel);
}

static struct side *make(void) {
    struct side *side = calloc(1, sizeof *side);
    int memfd = -1;
    assert_int_equal(uv_loop_init(&side->loop), 0);
    side->memory = worker_channel_memory_map(&memfd);
    assert_non_null(side->memory);
    close(memfd);
    attach(side, 7);
    return side;
}

static void turn(struct side *side) {
    for (int i = 0; i < 200; i++) uv_run(&side->loop, UV_RUN_NOWAIT);
}

static void finish(struct side *side) {
    worker_channel_close(side->channel);
    turn(side);
    if (side->far >= 0) close(side->far);
    assert_int_equal(uv_loop_close(&side->loop), 0);
    munmap(side->memory, sizeof *side->memory * LAUNCH_WORKERS_MAX);
    free(side);
}

static void put(struct side *side, const char *text) { assert_int_equal(write(side->far, text, strlen(text)), (ssize_t)strlen(text)); }

static void lines_split_and_merged_come_whole(void **unused) {
    (void)unused;
    struct side *side = make();
    put(side, "a");
    turn(side);
    assert_int_equal(side->frames, 0);
    put(side, "b\nc\n\nd");
    turn(side);
    assert_string_equal(side->said, "ab|c||");
    put(side, "\n");
    turn(side);
    assert_string_equal(side->said, "ab|c||d|");
    finish(side);
}

static void send_fd(int to, const char *text, int fd, int count) {
    union {
        char bytes[CMSG_SPACE(sizeof(int) * 64)];
        struct cmsghdr align;
    } control = {0};
    struct iovec iov = {(void *)text, strlen(text)};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control};
    message.msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)count);
    control.align = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int) * (size_t)count)};
    for (int i = 0; i < count; i++) memcpy(CMSG_DATA(&control.align) + sizeof(int) * (size_t)i, &fd, sizeof fd);
    assert_int_equal(sendmsg(to, &message, 0), (ssize_t)strlen(text));
}

static void a_descriptor_comes_with_its_line(void **unused) {
    (void)unused;
    struct side *side = make();
    send_fd(side->far, "handle\n", STDIN_FILENO, 1);
    turn(side);
    assert_string_equal(side->said, "handle|");
    assert_int_equal(side->fds, 1);
    finish(side);
}

static int open_descriptors(void) {
    int count = 0;
    for (int fd = 0; fd < 1024; fd++) count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static void many_descriptors_are_bounded_and_closed(void **unused) {
    (void)unused;
    struct side *side = make();
    int before = open_descriptors();
    send_fd(side->far, "x", STDIN_FILENO, 60);
    turn(side);
    assert_true(open_descriptors() - before <= 16);
    put(side, "\n");
    turn(side);
    assert_int_equal(open_descriptors(), before);
    finish(side);
}

static void write_bytes(struct side *side, char byte, size_t len) {
    char chunk[8192];
    memset(chunk, byte, sizeof chunk);
    while (len > 0) {
        ssize_t n = send(side->far, chunk, len < sizeof chunk ? len : sizeof chunk, MSG_DONTWAIT);
        if (n < 0) assert_int_equal(errno, EAGAIN);
        if (n > 0) len -= (size_t)n;
        uv_run(&side->loop, UV_RUN_NOWAIT);
    }
}

static void a_line_at_the_limit_comes_and_a_longer_one_is_skipped_whole(void **unused) {
    (void)unused;
    struct side *side = make();
    write_bytes(side, 'x', WORKER_CHANNEL_FRAME_MAX);
    put(side, "\n");
    turn(side);
    assert_int_equal(side->frames, 1);
    assert_int_equal(side->last_len, WORKER_CHANNEL_FRAME_MAX);
    for (size_t len = WORKER_CHANNEL_FRAME_MAX + 1; len < 20 * WORKER_CHANNEL_FRAME_MAX; len *= 5) {
        int frames = side->frames, too_long = side->too_long;
        write_bytes(side, 'y', len);
        put(side, "\nafter\n");
        turn(side);
        assert_int_equal(side->too_long, too_long + 1);
        assert_int_equal(side->frames, frames + 1);
    }
    assert_string_equal(side->said, "after|after|");
    finish(side);
}

static void a_full_queue_says_so_and_flows_again(void **unused) {
    (void)unused;
    struct side *side = make();
    static char frame[32 * 1024], sink[256 * 1024];
    int sent = 0, r;
    size_t got = 0;
    memset(frame, 'f', sizeof frame);
    while ((r = worker_channel_send(side->channel, frame, sizeof frame, -1)) == 0) assert_true(++sent < 1000);
    assert_int_equal(r, -EAGAIN);
    assert_true(worker_channel_queued(side->channel) <= WORKER_CHANNEL_QUEUE_MAX);
    put(side, "unread\n");
    turn(side);
    assert_int_equal(side->frames, 0);  // who does not read is not read
    for (ssize_t n; got < (size_t)sent * (sizeof frame + 1);) {
        n = recv(side->far, sink, sizeof sink, MSG_DONTWAIT);
        for (ssize_t i = 0; i < n; i++) assert_int_equal(sink[i], (got + (size_t)i) % (sizeof frame + 1) == sizeof frame ? '\n' : 'f');
        if (n > 0) got += (size_t)n;
        turn(side);
    }
    assert_int_equal(side->rooms, 1);
    assert_int_equal(worker_channel_queued(side->channel), 0);
    assert_string_equal(side->said, "unread|");
    finish(side);
}

static void the_end_is_told_once(void **unused) {
    (void)unused;
    struct side *side = make();
    put(side, "last\n");
    close(side->far);
    side->far = -1;
    turn(side);
    assert_string_equal(side->said, "last|");
    assert_int_equal(side->ends, 1);
    assert_int_equal(worker_channel_send(side->channel, "x", 1, -1), -EPIPE);
    finish(side);
}

static void it_may_be_closed_from_its_own_function(void **unused) {
    (void)unused;
    struct side *side = make();
    side->close_in_frame = true;
    put(side, "one\ntwo\n");
    turn(side);
    assert_string_equal(side->said, "one|");
    finish(side);
}

// The first primary dies with half a line read, and between a read and its note.
static void half_a_line_outlives_the_primary(void **unused) {
    (void)unused;
    struct side *side = make();
    put(side, "done\nhal");
    turn(side);
    worker_channel_close(side->channel);
    close(side->far);
    turn(side);
    memcpy(side->memory->data + side->memory->len, "f\nsec", 5);
    attach(side, 7);
    worker_channel_resume(side->channel);
    assert_string_equal(side->said, "done|half|");
    put(side, "ond\n");
    turn(side);
    assert_string_equal(side->said, "done|half|second|");
    finish(side);
}

static void what_an_earlier_worker_left_is_not_the_next_ones(void **unused) {
    (void)unused;
    struct side *side = make();
    put(side, "rest of the dead");
    turn(side);
    worker_channel_close(side->channel);
    close(side->far);
    turn(side);
    attach(side, 8);
    put(side, "mine\n");
    turn(side);
    assert_string_equal(side->said, "mine|");
    finish(side);
}

static void a_line_that_kills_primaries_is_given_up(void **unused) {
    (void)unused;
    struct side *side = make();
    worker_channel_close(side->channel);
    close(side->far);
    turn(side);
    memcpy(side->memory->data, "poison\nfine\n", 12);
    side->memory->tries = 3;
    attach(side, 7);
    worker_channel_resume(side->channel);
    assert_string_equal(side->said, "fine|");
    finish(side);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_split_and_merged_come_whole),
        cmocka_unit_test(a_descriptor_comes_with_its_line),
        cmocka_unit_test(many_descriptors_are_bounded_and_closed),
        cmocka_unit_test(a_line_at_the_limit_comes_and_a_longer_one_is_skipped_whole),
        cmocka_unit_test(a_full_queue_says_so_and_flows_again),
        cmocka_unit_test(the_end_is_told_once),
        cmocka_unit_test(it_may_be_closed_from_its_own_function),
        cmocka_unit_test(half_a_line_outlives_the_primary),
        cmocka_unit_test(what_an_earlier_worker_left_is_not_the_next_ones),
        cmocka_unit_test(a_line_that_kills_primaries_is_given_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
