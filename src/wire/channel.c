// SPDX-License-Identifier: MIT
// No allocation, no jansson: the keeper links this file.
#include "channel.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "fd.h"

union channel_control {
    struct cmsghdr align;
    char data[CMSG_SPACE(sizeof(int) * CHANNEL_FD_MAX)];
};

static void channel_put_fds(struct msghdr *header, union channel_control *control, const int *fds, size_t fd_count) {
    memset(control, 0, sizeof *control);
    header->msg_control = control;
    header->msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
    struct cmsghdr *rights = CMSG_FIRSTHDR(header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
    memcpy(CMSG_DATA(rights), fds, sizeof(int) * fd_count);
}

int channel_send(int channel, const struct keeper_message *message, const int *fds, size_t fd_count) {
    assert(fd_count <= CHANNEL_FD_MAX);
    struct iovec part = {.iov_base = (void *)message, .iov_len = sizeof *message};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
    union channel_control control;
    if (fd_count > 0) channel_put_fds(&header, &control, fds, fd_count);
    ssize_t sent;
    do sent = sendmsg(channel, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : 0;
}

// All descriptors that arrived, at most CHANNEL_FD_MAX: the control buffer has no room for more.
static size_t channel_get_fds(struct msghdr *header, int fds[static CHANNEL_FD_MAX]) {
    size_t count = 0;
    for (struct cmsghdr *item = CMSG_FIRSTHDR(header); item; item = CMSG_NXTHDR(header, item)) {
        if (item->cmsg_level != SOL_SOCKET || item->cmsg_type != SCM_RIGHTS) continue;
        size_t arrived = (item->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        assert(count + arrived <= CHANNEL_FD_MAX);
        memcpy(fds + count, CMSG_DATA(item), arrived * sizeof(int));
        count += arrived;
    }
    return count;
}

static void channel_close_fds(int *fds, size_t from, size_t to) {
    for (size_t i = from; i < to; i++) fd_close(&fds[i]);
}

// A peer that dies with unread messages makes the next call fail once with ECONNRESET, in front of what it had still
// sent. Asking again yields those messages, then end of file.
static ssize_t channel_recvmsg(int channel, struct msghdr *header) {
    size_t control_size = header->msg_controllen;
    ssize_t got;
    do {
        header->msg_controllen = control_size;
        got = recvmsg(channel, header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    } while (got < 0 && (errno == EINTR || errno == ECONNRESET));
    return got < 0 ? -errno : got;
}

int channel_receive(int channel, struct keeper_message *out_message, int *out_fds, size_t fd_max, size_t *out_fd_count) {
    struct keeper_message message;
    struct iovec part = {.iov_base = &message, .iov_len = sizeof message};
    union channel_control control;
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t got = channel_recvmsg(channel, &header);
    if (got < 0) return (int)got;
    int fds[CHANNEL_FD_MAX];
    size_t count = channel_get_fds(&header, fds);
    if (got == 0 && count == 0) return 0;
    bool cut = (header.msg_flags & MSG_CTRUNC) != 0, starved = cut && count < CHANNEL_FD_MAX;
    if (got != sizeof message || header.msg_flags & MSG_TRUNC || cut) channel_close_fds(fds, 0, count);
    if (got != sizeof message || header.msg_flags & MSG_TRUNC || (cut && !starved)) return -EPROTO;
    if (starved) {
        *out_fd_count = 0;
        *out_message = message;
        return -EMFILE;
    }
    size_t kept = count < fd_max ? count : fd_max;
    channel_close_fds(fds, kept, count);
    if (kept > 0) memcpy(out_fds, fds, kept * sizeof(int));
    *out_fd_count = kept;
    *out_message = message;
    return 1;
}
