// SPDX-License-Identifier: MIT
// Each datagram names its receiver anew: a supervisor that was started again has made a new socket under the old name.
#include "sdnotify.h"

#include <errno.h>
#include <string.h>

enum { SDNOTIFY_FD_MAX = 8 };

int sdnotify_open(struct sdnotify *notify, const char *path) {
    *notify = (struct sdnotify){.fd = -1, .at.sun_family = AF_UNIX};
    if (path == NULL || *path == '\0') return 0;
    size_t len = strlen(path);
    if ((*path != '/' && *path != '@') || len < 2) return -EINVAL;
    if (len >= sizeof notify->at.sun_path) return -ENAMETOOLONG;
    memcpy(notify->at.sun_path, path, len + 1);
    notify->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1);
    if (*path == '@') {
        notify->at.sun_path[0] = '\0';
        notify->len--;  // an abstract name has no end but its length
    }
    notify->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return notify->fd >= 0 ? 0 : -errno;
}

int sdnotify_send(const struct sdnotify *notify, const void *text, size_t len, const int *fds, size_t fd_count) {
    char control[CMSG_SPACE(sizeof(int) * SDNOTIFY_FD_MAX)] = {0};
    struct iovec iov = {(void *)text, len};
    struct msghdr message = {.msg_name = (void *)&notify->at, .msg_namelen = notify->len, .msg_iov = &iov, .msg_iovlen = 1};
    if (notify->fd < 0) return -ENOTCONN;
    if (fd_count > SDNOTIFY_FD_MAX) return -EINVAL;
    if (fd_count > 0) {
        message.msg_control = control;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
        memcpy(CMSG_DATA(header), fds, sizeof(int) * fd_count);
    }
    ssize_t n;
    do n = sendmsg(notify->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : 0;
}
