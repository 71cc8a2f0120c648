// SPDX-License-Identifier: MIT
#include "worker_channel.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "fd.h"

enum {
    RECEIVED_FD_MAX = 16,  // come and not taken; the protocols send one at a time
    FDS_A_READ = 253,      // SCM_MAX_FD: what a hostile worker may send at once
    DRAIN_READS = 64,
    QUEUE_SHORT = 64 * 1024,  // a longer one: the worker is not read
    RETRY_MS = 10,
    TRIES_MAX = 2,
};

// A frame that waits for room.
struct outgoing {
    struct outgoing *next;
    size_t len, sent;
    int fd;  // owned; -1 = none, or gone with the first byte
    char data[];
};

struct worker_channel {
    uv_poll_t poll;
    uv_timer_t retry;  // the system is short of something: not the worker's fault, and no event will tell
    int fd;            // owned
    struct worker_channel_memory *memory;  // borrowed; a stream's
    const struct worker_channel_events *events;
    void *arg;
    struct outgoing *first, **last;
    size_t queued;
    int queued_fds;
    int received[RECEIVED_FD_MAX];  // owned
    int received_count;
    bool paused, closed, in_hand;
    int watched;  // events that the loop watches
    int open_handles;
};

struct worker_channel_memory *worker_channel_memory_map(int *memfd) {
    size_t size = sizeof(struct worker_channel_memory) * LAUNCH_WORKERS_MAX;
    struct stat info;
    // That of another version of Pando would be read wrongly: half a message is lost then.
    if (*memfd >= 0 && (fstat(*memfd, &info) != 0 || info.st_size != (off_t)size)) fd_close(memfd);
    if (*memfd < 0) *memfd = memfd_create("pando-channels", MFD_CLOEXEC);
    if (*memfd < 0 || ftruncate(*memfd, (off_t)size) != 0) return NULL;
    void *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, *memfd, 0);
    return map == MAP_FAILED ? NULL : map;
}

// Bytes of a read that was not noted any more lie in front of the zeroes.
static void find_end(struct worker_channel_memory *memory) {
    if (memory->len > sizeof memory->data || memory->start > memory->len) memory->start = memory->len = 0;
    while (memory->len < sizeof memory->data && memory->data[memory->len] != '\0') memory->len++;
}

static void begin_memory(struct worker_channel_memory *memory, uint64_t token) {
    find_end(memory);
    if (memory->token == token) return;
    memset(memory->data, 0, memory->len);
    memory->start = memory->len = memory->tries = 0;
    memory->skipping = false;
    memory->state = 0;
    memory->token = token;
}

// ---- what the loop watches

static void on_poll(uv_poll_t *poll, int status, int events);

static void watch(struct worker_channel *channel) {
    bool read = !channel->paused && channel->queued <= QUEUE_SHORT;
    int wanted = (read ? UV_READABLE : 0) | (channel->first != NULL && !uv_is_active((uv_handle_t *)&channel->retry) ? UV_WRITABLE : 0);
    if (channel->closed || wanted == channel->watched) return;
    channel->watched = wanted;
    if (wanted == 0)
        uv_poll_stop(&channel->poll);
    else
        uv_poll_start(&channel->poll, wanted, on_poll);
}

static void end(struct worker_channel *channel) {
    worker_channel_pause(channel, true);
    if (!channel->closed && channel->events != NULL && channel->events->on_end != NULL) channel->events->on_end(channel->arg);
}

// ---- descriptors that come

static void keep_received(struct worker_channel *channel, struct msghdr *message) {
    for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header != NULL; header = CMSG_NXTHDR(message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
        for (size_t at = 0; CMSG_LEN(at + sizeof(int)) <= header->cmsg_len; at += sizeof(int)) {
            int fd;
            memcpy(&fd, CMSG_DATA(header) + at, sizeof fd);
            if (channel->received_count < RECEIVED_FD_MAX)
                channel->received[channel->received_count++] = fd;
            else
                close(fd);
        }
    }
}

int worker_channel_take_fd(struct worker_channel *channel) {
    if (channel->received_count == 0) return -1;
    int fd = channel->received[0];
    memmove(channel->received, channel->received + 1, sizeof(int) * (size_t)--channel->received_count);
    return fd;
}

static void close_received(struct worker_channel *channel) {
    for (int fd; (fd = worker_channel_take_fd(channel)) >= 0;) close(fd);
}

static ssize_t receive(struct worker_channel *channel, void *data, size_t size) {
    union {
        char bytes[CMSG_SPACE(sizeof(int) * FDS_A_READ)];
        struct cmsghdr align;
    } control;
    struct iovec iov = {data, size};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    ssize_t n = recvmsg(channel->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0) return -errno;
    keep_received(channel, &message);
    return n;
}

// ---- frames that come

static void give(struct worker_channel *channel, char *data, size_t len) {
    const struct worker_channel_events *events = channel->events;
    if (events == NULL) return;
    if (len > WORKER_CHANNEL_FRAME_MAX) {
        if (events->on_too_long != NULL) events->on_too_long(channel->arg, data, len);
    } else if (events->on_frame != NULL) {
        events->on_frame(channel->arg, data, len);
    }
}

static void consume(struct worker_channel_memory *memory, size_t end) {
    memory->start = (uint32_t)end;
    memory->tries = 0;
}

// Leaves zeroes behind what is kept.
static void compact(struct worker_channel_memory *memory) {
    size_t kept = memory->len - memory->start, before = memory->len;
    memmove(memory->data, memory->data + memory->start, kept);
    memory->len = (uint32_t)kept;
    memory->start = 0;
    memset(memory->data + kept, 0, before - kept);
}

// A line without end fills the buffer: whatever follows up to its newline belongs to it and is dropped.
static void skip_long_line(struct worker_channel *channel) {
    struct worker_channel_memory *memory = channel->memory;
    size_t len = memory->len - memory->start;
    if (!memory->skipping && len <= WORKER_CHANNEL_FRAME_MAX) return;
    if (!memory->skipping) give(channel, memory->data + memory->start, len);
    if (channel->closed) return;
    memory->skipping = true;
    consume(memory, memory->len);
}

static void take_line(struct worker_channel *channel, size_t len) {
    struct worker_channel_memory *memory = channel->memory;
    bool skip = memory->skipping || memory->tries > TRIES_MAX;
    size_t end = memory->start + len + 1;
    memory->tries++;
    if (!skip) give(channel, memory->data + memory->start, len);
    if (channel->closed) return;
    memory->skipping = false;
    consume(memory, end);
}

static void take_lines(struct worker_channel *channel) {
    struct worker_channel_memory *memory = channel->memory;
    char *newline;
    while (!channel->closed && (newline = memchr(memory->data + memory->start, '\n', memory->len - memory->start)) != NULL)
        take_line(channel, (size_t)(newline - memory->data) - memory->start);
    if (!channel->closed) skip_long_line(channel);
    if (!channel->closed && memory->start > 0) compact(memory);
}

// 1 = there may be more, 0 = nothing there, -1 = the end.
static int read_stream(struct worker_channel *channel) {
    struct worker_channel_memory *memory = channel->memory;
    ssize_t n = receive(channel, memory->data + memory->len, sizeof memory->data - memory->len);
    if (n == -EAGAIN || n == -EINTR) return 0;
    if (n <= 0) return -1;
    memory->len += (uint32_t)n;
    take_lines(channel);
    return 1;
}

void worker_channel_resume(struct worker_channel *channel) {
    channel->in_hand = true;
    take_lines(channel);
    channel->in_hand = false;
    if (channel->closed) worker_channel_close(channel);
}

// ---- frames that go

static void outgoing_free(struct worker_channel *channel, struct outgoing *frame) {
    channel->first = frame->next;
    if (channel->first == NULL) channel->last = &channel->first;
    channel->queued -= frame->len;
    channel->queued_fds -= frame->fd >= 0;
    fd_close(&frame->fd);
    free(frame);
}

static ssize_t transmit(const struct worker_channel *channel, const void *data, size_t len, int fd) {
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec iov[2] = {{(void *)data, len}, {(char[]){"\n"}, 1}};
    struct msghdr message = {.msg_iov = iov, .msg_iovlen = 2};
    if (fd >= 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof control.bytes;
        control.align = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof fd)};
        memcpy(CMSG_DATA(&control.align), &fd, sizeof fd);
    }
    ssize_t n;
    do n = sendmsg(channel->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static void on_retry(uv_timer_t *timer) { watch(timer->data); }

// Out of socket memory, or of descriptors in flight: no event will tell when that is over.
static bool is_shortage(ssize_t r) { return r == -ENOBUFS || r == -ENOMEM || r == -ETOOMANYREFS; }

static void flush(struct worker_channel *channel) {
    while (channel->first != NULL) {
        struct outgoing *frame = channel->first;
        ssize_t n = transmit(channel, frame->data + frame->sent, frame->len - frame->sent, frame->fd);
        if (is_shortage(n)) uv_timer_start(&channel->retry, on_retry, RETRY_MS, 0);
        if (is_shortage(n) || n == -EAGAIN) break;
        if (n < 0) {
            while (channel->first != NULL) outgoing_free(channel, channel->first);
            break;
        }
        channel->queued_fds -= frame->fd >= 0;
        fd_close(&frame->fd);
        frame->sent += (size_t)n;
        if (frame->sent >= frame->len + 1) outgoing_free(channel, frame);
    }
    if (channel->first == NULL && channel->events != NULL && channel->events->on_room != NULL) channel->events->on_room(channel->arg);
}

static int enqueue(struct worker_channel *channel, const void *data, size_t len, int fd, size_t sent) {
    bool full = channel->queued + len > WORKER_CHANNEL_QUEUE_MAX || (fd >= 0 && channel->queued_fds >= WORKER_CHANNEL_QUEUED_FD_MAX);
    if (full && sent == 0) return -EAGAIN;
    struct outgoing *frame = malloc(sizeof *frame + len);
    if (frame == NULL) return -ENOMEM;
    *frame = (struct outgoing){.len = len, .sent = sent, .fd = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0)};
    if (fd >= 0 && frame->fd < 0) {
        int error = errno;
        free(frame);
        return -error;
    }
    memcpy(frame->data, data, len);
    *channel->last = frame;
    channel->last = &frame->next;
    channel->queued += len;
    channel->queued_fds += fd >= 0;
    watch(channel);
    return 0;
}

int worker_channel_send(struct worker_channel *channel, const void *data, size_t len, int fd) {
    if (channel->closed) return -EPIPE;
    if (len > WORKER_CHANNEL_FRAME_MAX) return -EMSGSIZE;
    if (channel->first != NULL) return enqueue(channel, data, len, fd, 0);
    ssize_t n = transmit(channel, data, len, fd);
    if (is_shortage(n)) uv_timer_start(&channel->retry, on_retry, RETRY_MS, 0);
    if (is_shortage(n) || n == -EAGAIN) return enqueue(channel, data, len, fd, 0);
    if (n < 0) return n == -ECONNRESET ? -EPIPE : (int)n;
    size_t whole = len + 1;  // the newline
    return (size_t)n >= whole ? 0 : enqueue(channel, data, len, -1, (size_t)n);
}

size_t worker_channel_queued(const struct worker_channel *channel) { return channel->queued; }

// ---- life

static void on_poll(uv_poll_t *poll, int status, int events) {
    struct worker_channel *channel = poll->data;
    channel->in_hand = true;
    // An error shows as an event without a name: reading tells what it is.
    if (status == 0 && (events & UV_WRITABLE) != 0) flush(channel);
    if (!channel->closed && (status != 0 || (events & UV_READABLE) != 0) && read_stream(channel) < 0) end(channel);
    channel->in_hand = false;
    if (channel->closed)
        worker_channel_close(channel);
    else
        watch(channel);
}

struct worker_channel *worker_channel_open(uv_loop_t *loop, int fd_take, uint64_t token,
                                           struct worker_channel_memory *memory, const struct worker_channel_events *events, void *arg) {
    struct worker_channel *channel = memory == NULL ? NULL : calloc(1, sizeof *channel);
    if (channel == NULL || uv_poll_init(loop, &channel->poll, fd_take) != 0) {
        fd_close(&fd_take);
        free(channel);
        return NULL;
    }
    begin_memory(memory, token);
    channel->fd = fd_take;
    channel->memory = memory;
    channel->events = events;
    channel->arg = arg;
    channel->last = &channel->first;
    channel->open_handles = 2;
    uv_timer_init(loop, &channel->retry);
    channel->poll.data = channel->retry.data = channel;
    watch(channel);
    return channel;
}

void worker_channel_drain(struct worker_channel *channel) {
    if (channel == NULL) return;
    int r = 1;
    channel->in_hand = true;
    for (int i = 0; i < DRAIN_READS && r == 1 && !channel->closed; i++) r = read_stream(channel);
    channel->in_hand = false;
    if (channel->closed) worker_channel_close(channel);
}

void worker_channel_pause(struct worker_channel *channel, bool pause) {
    channel->paused = pause;
    watch(channel);
}

uint64_t *worker_channel_state(struct worker_channel *channel) { return &channel->memory->state; }

static void on_closed(uv_handle_t *handle) {
    struct worker_channel *channel = handle->data;
    if (--channel->open_handles == 0) free(channel);
}

// From inside one of its own functions it is only marked; the outermost call comes here again.
void worker_channel_close(struct worker_channel *channel) {
    if (channel == NULL) return;
    channel->closed = true;
    if (channel->in_hand || uv_is_closing((uv_handle_t *)&channel->poll)) return;
    while (channel->first != NULL) outgoing_free(channel, channel->first);
    close_received(channel);
    uv_poll_stop(&channel->poll);
    uv_close((uv_handle_t *)&channel->poll, on_closed);
    uv_close((uv_handle_t *)&channel->retry, on_closed);
    fd_close(&channel->fd);
}
