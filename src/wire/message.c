// SPDX-License-Identifier: MIT
// A descriptor rides on the first byte of its frame. The kernel never lets a read go on past bytes that carry one, so the
// n-th descriptor that arrives belongs to the n-th frame that announces one; one that was lost (limit reached) takes its
// place in that order too.
#include "message.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fd.h"

enum { READ_CHUNK = 64 * 1024, READS_A_TURN = 4, CONTROL_LEN_MAX = 256, ARRIVED_MAX = 64, SCM_FD_MAX = 253 };

struct header {
    uint32_t len;
    uint8_t kind, flags;
    uint16_t number;
};

struct leaving_fd {
    size_t at;  // where its frame begins in out, as in out_base
    int fd;     // owned
};

struct message_stream {
    int fd;  // owned
    struct message_stream_options options;
    //   in:  0 <= in_from <= in_len <= in_cap: read, not delivered yet
    char *in;       // owned
    char *retired;  // owned: the buffer that the outermost on_message looks at, when reading went on inside of it
    size_t in_from, in_len, in_cap;
    int arrived[ARRIVED_MAX];  // owned; -1: lost on the way
    size_t arrived_len;
    //   out: 0 <= out_from <= out_len <= out_cap: queued, not written yet
    char *out;  // owned
    size_t out_from, out_len, out_cap;
    struct leaving_fd leaving[MESSAGE_FD_QUEUE_MAX];
    size_t leaving_from, leaving_len;
    bool broken;  // writing is over: the peer is gone
    bool closed;
    int depth;  // of on_message
};

struct message_stream *message_stream_open(int fd_take, const struct message_stream_options *options) {
    struct message_stream *stream = calloc(1, sizeof *stream);
    if (stream == NULL || fd_set_nonblock(fd_take, true) != 0 || fd_set_cloexec(fd_take, true) != 0) {
        free(stream);
        fd_close(&fd_take);
        return NULL;
    }
    stream->fd = fd_take;
    stream->options = *options;
    if (stream->options.message_max == 0) stream->options.message_max = MESSAGE_BYTES_MAX;
    if (stream->options.queue_max == 0) stream->options.queue_max = MESSAGE_QUEUE_MAX;
    return stream;
}

void message_stream_close(struct message_stream *stream) {
    if (stream == NULL) return;
    stream->closed = true;
    if (stream->depth > 0) return;
    for (size_t i = 0; i < stream->arrived_len; i++) fd_close(&stream->arrived[i]);
    for (size_t i = stream->leaving_from; i < stream->leaving_len; i++) fd_close(&stream->leaving[i].fd);
    fd_close(&stream->fd);
    free(stream->in);
    free(stream->retired);
    free(stream->out);
    free(stream);
}

int message_stream_fd(const struct message_stream *stream) { return stream->fd; }

// ---- writing

static size_t len_max(const struct message_stream *stream, unsigned kind) {
    return kind == MESSAGE_BYTES || kind == MESSAGE_JSON ? stream->options.message_max : CONTROL_LEN_MAX;
}

size_t message_stream_queued(const struct message_stream *stream) { return stream->out_len - stream->out_from; }

static void out_compact(struct message_stream *stream) {
    size_t gone = stream->out_from;
    memmove(stream->out, stream->out + gone, stream->out_len - gone);
    stream->out_len -= gone;
    stream->out_from = 0;
    for (size_t i = stream->leaving_from; i < stream->leaving_len; i++) {
        stream->leaving[i - stream->leaving_from] = (struct leaving_fd){stream->leaving[i].at - gone, stream->leaving[i].fd};
    }
    stream->leaving_len -= stream->leaving_from;
    stream->leaving_from = 0;
}

static int out_reserve(struct message_stream *stream, size_t more) {
    if (stream->out_cap - stream->out_len >= more) return 0;
    if (stream->out_from > 0) out_compact(stream);
    if (stream->out_cap - stream->out_len >= more) return 0;
    size_t cap = (stream->out_len + more) * 2;
    char *grown = realloc(stream->out, cap);
    if (grown == NULL) return -ENOMEM;
    stream->out = grown;
    stream->out_cap = cap;
    return 0;
}

static int leave_fd(struct message_stream *stream, int fd) {
    if (stream->leaving_len == MESSAGE_FD_QUEUE_MAX && stream->leaving_from > 0) out_compact(stream);
    if (stream->leaving_len == MESSAGE_FD_QUEUE_MAX) return -EAGAIN;
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (copy < 0) return -errno;
    stream->leaving[stream->leaving_len++] = (struct leaving_fd){stream->out_len, copy};
    return 0;
}

int message_stream_put(struct message_stream *stream, enum message_kind kind, uint16_t number, const void *data, size_t len, int fd) {
    struct header header = {.len = (uint32_t)len, .kind = (uint8_t)kind, .flags = fd >= 0 ? MESSAGE_HAS_FD : 0, .number = number};
    size_t whole = sizeof header + len;
    if (stream->broken || stream->closed) return -EPIPE;
    if (len > len_max(stream, kind)) return -EMSGSIZE;
    if (message_stream_queued(stream) + whole > stream->options.queue_max) return -EAGAIN;
    int r = out_reserve(stream, whole);
    if (r == 0 && fd >= 0) r = leave_fd(stream, fd);
    if (r != 0) return r;
    memcpy(stream->out + stream->out_len, &header, sizeof header);
    if (len > 0) memcpy(stream->out + stream->out_len + sizeof header, data, len);
    stream->out_len += whole;
    return message_stream_queued(stream) > MESSAGE_HIGH_WATER;
}

static ssize_t send_some(struct message_stream *stream) {
    bool with_fd = stream->leaving_from < stream->leaving_len && stream->leaving[stream->leaving_from].at == stream->out_from;
    size_t next = stream->leaving_from + with_fd;
    size_t end = next < stream->leaving_len ? stream->leaving[next].at : stream->out_len;
    struct iovec part = {stream->out + stream->out_from, end - stream->out_from};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
    union {
        struct cmsghdr align;
        char data[CMSG_SPACE(sizeof(int))];
    } control = {0};
    if (with_fd) {
        header.msg_control = &control;
        header.msg_controllen = sizeof control;
        control.align = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(&control.align), &stream->leaving[stream->leaving_from].fd, sizeof(int));
    }
    ssize_t n = sendmsg(stream->fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n > 0 && with_fd) fd_close(&stream->leaving[stream->leaving_from++].fd);
    return n;
}

// ETOOMANYREFS: too many descriptors are under way already; they have to arrive first.
int message_stream_flush(struct message_stream *stream) {
    while (!stream->broken && stream->out_from < stream->out_len) {
        ssize_t n = send_some(stream);
        if (n > 0) stream->out_from += (size_t)n;
        if (n < 0 && (errno == EAGAIN || errno == ETOOMANYREFS || errno == ENOBUFS || errno == ENOMEM)) return 1;
        if (n < 0 && errno != EINTR) stream->broken = true;
    }
    if (stream->broken) return -EPIPE;
    stream->out_from = stream->out_len = stream->leaving_from = stream->leaving_len = 0;
    return 0;
}

// ---- reading

static bool keep_arrived(struct message_stream *stream, int fd) {
    if (stream->arrived_len == ARRIVED_MAX) return false;
    stream->arrived[stream->arrived_len++] = fd;
    return true;
}

// One descriptor a read is what an honest peer sends; all others are closed.
static bool take_fds(struct message_stream *stream, struct msghdr *header) {
    bool first = true, room = true;
    for (struct cmsghdr *item = CMSG_FIRSTHDR(header); item != NULL; item = CMSG_NXTHDR(header, item)) {
        if (item->cmsg_level != SOL_SOCKET || item->cmsg_type != SCM_RIGHTS) continue;
        size_t count = (item->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(item) + i * sizeof fd, sizeof fd);
            if (first && keep_arrived(stream, fd))
                first = false;
            else
                room = !first, fd_close(&fd);
        }
    }
    if (first && (header->msg_flags & MSG_CTRUNC) != 0) room = keep_arrived(stream, -1);
    return room;
}

static size_t frame_max(const struct message_stream *stream) {
    size_t message_max = stream->options.message_max;
    return sizeof(struct header) + (message_max > CONTROL_LEN_MAX ? message_max : CONTROL_LEN_MAX);
}

// Inside on_message its bytes stay where they are.
static int in_move(struct message_stream *stream, size_t size) {
    size_t len = stream->in_len - stream->in_from;
    char *bytes = malloc(size);
    if (bytes == NULL) return -ENOMEM;
    if (len > 0) memcpy(bytes, stream->in + stream->in_from, len);
    if (stream->depth > 0 && stream->retired == NULL)
        stream->retired = stream->in;
    else
        free(stream->in);
    stream->in = bytes;
    stream->in_cap = size;
    stream->in_from = 0;
    stream->in_len = len;
    return 0;
}

static int in_reserve(struct message_stream *stream) {
    size_t need = frame_max(stream) + READ_CHUNK;
    if (stream->in_cap < need || (stream->depth > 0 && stream->retired == NULL)) return in_move(stream, need);
    if (stream->in_from == 0) return 0;
    memmove(stream->in, stream->in + stream->in_from, stream->in_len - stream->in_from);
    stream->in_len -= stream->in_from;
    stream->in_from = 0;
    return 0;
}

// The bytes that came (0: end of file), or -errno.
static ssize_t receive(struct message_stream *stream) {
    union {
        struct cmsghdr align;
        char data[CMSG_SPACE(sizeof(int) * SCM_FD_MAX)];
    } control;
    int r = in_reserve(stream);
    if (r != 0) return r;
    struct iovec part = {stream->in + stream->in_len, stream->in_cap - stream->in_len};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t n = recvmsg(stream->fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0) return errno == ECONNRESET ? 0 : -errno;
    if (!take_fds(stream, &header)) return -EPROTO;
    stream->in_len += (size_t)n;
    return n;
}

static void take_arrived(struct message_stream *stream, struct message *message) {
    message->fd = -1;
    if (!message->has_fd || stream->arrived_len == 0) return;
    message->fd = stream->arrived[0];
    memmove(stream->arrived, stream->arrived + 1, --stream->arrived_len * sizeof *stream->arrived);
}

// 1: delivered; 0: more bytes are needed; -EPROTO; -EAGAIN: the receiver wants no more for now.
static int deliver_one(struct message_stream *stream) {
    struct header header;
    size_t have = stream->in_len - stream->in_from;
    if (have < sizeof header) return 0;
    memcpy(&header, stream->in + stream->in_from, sizeof header);
    if (header.kind == 0 || header.kind >= MESSAGE_KIND_END || header.len > len_max(stream, header.kind)) return -EPROTO;
    if ((header.flags & ~MESSAGE_HAS_FD) != 0) return -EPROTO;
    if (have < sizeof header + header.len) return 0;
    struct message message = {.kind = (enum message_kind)header.kind,
                              .number = header.number,
                              .has_fd = (header.flags & MESSAGE_HAS_FD) != 0,
                              .data = stream->in + stream->in_from + sizeof header,
                              .len = header.len};
    take_arrived(stream, &message);
    stream->in_from += sizeof header + header.len;
    bool more = stream->options.on_message(stream->options.arg, &message);
    fd_close(&message.fd);
    return more || stream->closed ? 1 : -EAGAIN;
}

// 1: all is delivered, or the receiver has stopped it; -EPROTO; -ECANCELED: the stream was closed, and is gone.
static int deliver(struct message_stream *stream) {
    int r = 1;
    stream->depth++;
    while (r == 1 && !stream->closed) r = deliver_one(stream);
    if (--stream->depth == 0) {
        free(stream->retired);
        stream->retired = NULL;
    }
    // A descriptor that came with bytes whose frames did not announce it.
    if (!stream->closed && r == 0 && stream->in_from == stream->in_len && stream->arrived_len > 0) r = -EPROTO;
    if (stream->closed) {
        message_stream_close(stream);
        return -ECANCELED;
    }
    return r == -EPROTO ? r : 1;
}

int message_stream_resume(struct message_stream *stream) { return deliver(stream); }

int message_stream_on_readable(struct message_stream *stream) {
    for (int i = 0; i < READS_A_TURN; i++) {
        // Undelivered frames of a stopped receiver fill the buffer; the rest stays in the kernel, and the peer waits.
        if (stream->in_len - stream->in_from > frame_max(stream)) return 1;
        ssize_t n = receive(stream);
        if (n == -EAGAIN || n == -EINTR) return 1;
        if (n <= 0) return (int)n;
        bool was_all = stream->in_len < stream->in_cap;
        int r = deliver(stream);
        if (r != 1 || was_all) return r;  // if it was not, the descriptor is still readable
    }
    return 1;
}
