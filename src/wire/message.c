// SPDX-License-Identifier: MIT
#include "message.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fd.h"

enum {
    PACKET_BYTES = 64 * 1024,
    BUFFER_OVERHEAD = 4096,  // of a packet in a socket's buffer
    CONTROL_LEN_MAX = 256,   // of frames that are no user's message
    PACKETS_A_TURN = 16,
    LEAVING_FD_MAX = 64,
    SCM_FD_MAX = 253,  // what a hostile peer may send at once
};

enum { FLAG_HAS_FD = 1 };

struct header {
    uint32_t len;
    uint8_t kind, flags;
    uint16_t number;
};

struct leaving_fd {
    size_t at;  // where its frame begins in `out`
    int fd;     // owned
};

struct message_channel {
    int fd;  // owned
    struct message_channel_options options;
    //   in:  0 <= in_from <= in_len: the packet in hand, from the next frame on
    char *in;       // owned
    char *retired;  // owned: the packet that the outermost on_message looks at, when reading went on inside of it
    size_t in_from, in_len;
    int arrived;  // owned: what came with the packet, for its first frame; -1
    //   out: 0 <= out_from <= out_len <= out_cap: queued, not written yet
    char *out;  // owned
    size_t out_from, out_len, out_cap;
    struct leaving_fd leaving[LEAVING_FD_MAX];
    size_t leaving_len;
    size_t packet_bytes;  // so much is sent together; a longer frame goes alone
    bool broken;          // writing is over: the peer is gone
    bool closed;
    int depth;  // of on_message
};

static size_t packet_max(const struct message_channel *channel) {
    size_t one = sizeof(struct header) + channel->options.message_max;
    return one > PACKET_BYTES ? one : PACKET_BYTES;
}

// unix(7): a packet has to fit into the sender's buffer. Where the system keeps that small, so are the messages.
static void fit_buffer(struct message_channel *channel) {
    int size = 0, wanted = (int)packet_max(channel) + BUFFER_OVERHEAD;
    socklen_t len = sizeof size;
    if (getsockopt(channel->fd, SOL_SOCKET, SO_SNDBUF, &size, &len) == 0 && size < wanted)
        setsockopt(channel->fd, SOL_SOCKET, SO_SNDBUF, &wanted, sizeof wanted);
    if (getsockopt(channel->fd, SOL_SOCKET, SO_SNDBUF, &size, &len) != 0 || size >= wanted || size <= BUFFER_OVERHEAD) return;
    channel->packet_bytes = (size_t)size - BUFFER_OVERHEAD;
    size_t fits = channel->packet_bytes - sizeof(struct header);
    if (channel->options.message_max > fits) channel->options.message_max = fits;
}

struct message_channel *message_channel_open(int fd_take, const struct message_channel_options *options) {
    struct message_channel *channel = calloc(1, sizeof *channel);
    if (channel == NULL || fd_set_nonblock(fd_take, true) != 0 || fd_set_cloexec(fd_take, true) != 0) {
        free(channel);
        fd_close(&fd_take);
        return NULL;
    }
    channel->fd = fd_take;
    channel->arrived = -1;
    channel->options = *options;
    if (channel->options.message_max == 0) channel->options.message_max = MESSAGE_BYTES_DEFAULT;
    if (channel->options.queue_max == 0) channel->options.queue_max = MESSAGE_QUEUE_DEFAULT;
    channel->packet_bytes = PACKET_BYTES;
    fit_buffer(channel);
    return channel;
}

void message_channel_close(struct message_channel *channel) {
    if (channel == NULL) return;
    channel->closed = true;
    if (channel->depth > 0) return;
    for (size_t i = 0; i < channel->leaving_len; i++) fd_close(&channel->leaving[i].fd);
    fd_close(&channel->arrived);
    fd_close(&channel->fd);
    free(channel->in);
    free(channel->retired);
    free(channel->out);
    free(channel);
}

int message_channel_fd(const struct message_channel *channel) { return channel->fd; }

static size_t len_max(const struct message_channel *channel, unsigned kind) {
    return kind == MESSAGE_BYTES || kind == MESSAGE_JSON ? channel->options.message_max : CONTROL_LEN_MAX;
}

// ---- writing

size_t message_channel_queued(const struct message_channel *channel) { return channel->out_len - channel->out_from; }

static void out_compact(struct message_channel *channel) {
    size_t gone = channel->out_from;
    memmove(channel->out, channel->out + gone, channel->out_len - gone);
    channel->out_len -= gone;
    channel->out_from = 0;
    for (size_t i = 0; i < channel->leaving_len; i++) channel->leaving[i].at -= gone;
}

static int out_reserve(struct message_channel *channel, size_t more) {
    if (channel->out_cap - channel->out_len >= more) return 0;
    if (channel->out_from > 0) out_compact(channel);
    if (channel->out_cap - channel->out_len >= more) return 0;
    size_t cap = (channel->out_len + more) * 2;
    char *grown = realloc(channel->out, cap);
    if (grown == NULL) return -ENOMEM;
    channel->out = grown;
    channel->out_cap = cap;
    return 0;
}

static int leave_fd(struct message_channel *channel, int fd) {
    if (channel->leaving_len == LEAVING_FD_MAX) return -EAGAIN;
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (copy < 0) return -errno;
    channel->leaving[channel->leaving_len++] = (struct leaving_fd){channel->out_len, copy};
    return 0;
}

int message_channel_put(struct message_channel *channel, enum message_kind kind, uint16_t number, const void *data, size_t len, int fd) {
    struct header header = {.len = (uint32_t)len, .kind = (uint8_t)kind, .flags = fd >= 0 ? FLAG_HAS_FD : 0, .number = number};
    size_t whole = sizeof header + len;
    if (channel->broken || channel->closed) return -EPIPE;
    if (len > len_max(channel, kind)) return -EMSGSIZE;
    if (message_channel_queued(channel) + whole > channel->options.queue_max) return -EAGAIN;
    int r = out_reserve(channel, whole);
    if (r == 0 && fd >= 0) r = leave_fd(channel, fd);
    if (r != 0) return r;
    memcpy(channel->out + channel->out_len, &header, sizeof header);
    if (len > 0) memcpy(channel->out + channel->out_len + sizeof header, data, len);
    channel->out_len += whole;
    return message_channel_queued(channel) > MESSAGE_HIGH_WATER;
}

// Whole frames from `out_from` on, up to the next one with a descriptor.
static size_t next_packet(const struct message_channel *channel, bool with_fd) {
    size_t stop = channel->leaving_len > (size_t)with_fd ? channel->leaving[with_fd].at : channel->out_len, end = channel->out_from;
    while (end < stop) {
        struct header header;
        memcpy(&header, channel->out + end, sizeof header);
        size_t after = end + sizeof header + header.len;
        if (end > channel->out_from && after - channel->out_from > channel->packet_bytes) break;
        end = after;
    }
    return end - channel->out_from;
}

static ssize_t send_packet(struct message_channel *channel) {
    bool with_fd = channel->leaving_len > 0 && channel->leaving[0].at == channel->out_from;
    struct iovec part = {channel->out + channel->out_from, next_packet(channel, with_fd)};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    union {
        struct cmsghdr align;
        char data[CMSG_SPACE(sizeof(int))];
    } control = {0};
    if (with_fd) {
        message.msg_control = &control;
        message.msg_controllen = sizeof control;
        control.align = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(&control.align), &channel->leaving[0].fd, sizeof(int));
    }
    ssize_t n = sendmsg(channel->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 || !with_fd) return n;
    fd_close(&channel->leaving[0].fd);
    memmove(channel->leaving, channel->leaving + 1, --channel->leaving_len * sizeof *channel->leaving);
    return n;
}

// ETOOMANYREFS: too many descriptors are under way already; the peer has to take some first.
static bool has_to_wait(int error) { return error == EAGAIN || error == ETOOMANYREFS || error == ENOBUFS || error == ENOMEM; }

int message_channel_flush(struct message_channel *channel) {
    while (!channel->broken && channel->out_from < channel->out_len) {
        ssize_t n = send_packet(channel);
        if (n > 0) channel->out_from += (size_t)n;
        if (n < 0 && has_to_wait(errno)) return 1;
        if (n < 0 && errno != EINTR) channel->broken = true;
    }
    if (channel->broken) return -EPIPE;
    channel->out_from = channel->out_len = 0;
    return 0;
}

// ---- reading

// One descriptor a packet is what an honest peer sends; all others are closed.
static void take_fds(struct message_channel *channel, struct msghdr *message) {
    for (struct cmsghdr *item = CMSG_FIRSTHDR(message); item != NULL; item = CMSG_NXTHDR(message, item)) {
        if (item->cmsg_level != SOL_SOCKET || item->cmsg_type != SCM_RIGHTS) continue;
        size_t count = (item->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(item) + i * sizeof fd, sizeof fd);
            if (channel->arrived < 0)
                channel->arrived = fd;
            else
                close(fd);
        }
    }
}

// Inside on_message the packet in hand stays where it is.
static int in_prepare(struct message_channel *channel) {
    bool in_use = channel->depth > 0 && channel->retired == NULL;
    if (channel->in != NULL && !in_use) return 0;
    char *bytes = malloc(packet_max(channel));
    if (bytes == NULL) return -ENOMEM;
    if (in_use) channel->retired = channel->in;
    channel->in = bytes;
    return 0;
}

// The length of the packet that came (0: end of file), or -errno.
static ssize_t receive(struct message_channel *channel) {
    union {
        struct cmsghdr align;
        char data[CMSG_SPACE(sizeof(int) * SCM_FD_MAX)];
    } control;
    int r = in_prepare(channel);
    if (r != 0) return r;
    fd_close(&channel->arrived);  // of a frame that did not announce it
    struct iovec part = {channel->in, packet_max(channel)};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    ssize_t n;
    do {  // a peer that dies with unread messages makes one call fail, in front of what it had still sent
        message.msg_control = &control;
        message.msg_controllen = sizeof control;
        n = recvmsg(channel->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    } while (n < 0 && (errno == EINTR || errno == ECONNRESET));
    if (n < 0) return -errno;
    take_fds(channel, &message);
    channel->in_from = 0;
    channel->in_len = (size_t)n;
    return (message.msg_flags & MSG_TRUNC) != 0 ? -EPROTO : n;
}

// 1: delivered; 0: the packet has no more; -EPROTO; -EAGAIN: the receiver wants no more for now.
static int deliver_one(struct message_channel *channel) {
    struct header header;
    size_t left = channel->in_len - channel->in_from;
    bool is_first = channel->in_from == 0;
    if (left == 0) return 0;
    if (left < sizeof header) return -EPROTO;
    memcpy(&header, channel->in + channel->in_from, sizeof header);
    if (header.kind == 0 || header.kind >= MESSAGE_KIND_END || header.len > len_max(channel, header.kind)) return -EPROTO;
    if (header.len > left - sizeof header || (header.flags & ~(is_first ? FLAG_HAS_FD : 0)) != 0) return -EPROTO;
    struct message message = {.kind = (enum message_kind)header.kind,
                              .number = header.number,
                              .has_fd = (header.flags & FLAG_HAS_FD) != 0,
                              .fd = -1,
                              .data = channel->in + channel->in_from + sizeof header,
                              .len = header.len};
    if (message.has_fd) message.fd = fd_take(&channel->arrived);
    channel->in_from += sizeof header + header.len;
    bool more = channel->options.on_message(channel->options.arg, &message);
    fd_close(&message.fd);
    return more ? 1 : -EAGAIN;
}

// 0: all of the packet is delivered; -EAGAIN: the receiver wants no more for now; -EPROTO; -ECANCELED.
static int deliver(struct message_channel *channel) {
    int r = 1;
    channel->depth++;
    while (r == 1 && !channel->closed) r = deliver_one(channel);
    if (--channel->depth == 0) {
        free(channel->retired);
        channel->retired = NULL;
    }
    if (channel->closed) {
        message_channel_close(channel);
        return -ECANCELED;
    }
    return r;
}

int message_channel_resume(struct message_channel *channel) {
    int r = deliver(channel);
    return r == 0 || r == -EAGAIN ? 1 : r;
}

bool message_channel_has_more(const struct message_channel *channel) { return channel->in_from < channel->in_len; }

int message_channel_on_readable(struct message_channel *channel) {
    for (int i = 0; i < PACKETS_A_TURN; i++) {
        if (message_channel_has_more(channel)) return 1;  // the receiver wants no more for now
        ssize_t n = receive(channel);
        if (n == -EAGAIN) return 1;
        if (n <= 0) return (int)n;
        int r = deliver(channel);
        if (r != 0) return r == -EAGAIN ? 1 : r;
    }
    return 1;
}
