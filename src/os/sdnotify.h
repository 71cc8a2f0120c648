// SPDX-License-Identifier: MIT
// The protocol of sd_notify(3): datagrams of lines KEY=VALUE to the socket that NOTIFY_SOCKET names. Allocates nothing; safe
// in the keeper.
#pragma once

#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

struct sdnotify {
    int fd;  // owned; -1 = there is no supervisor
    struct sockaddr_un at;
    socklen_t len;
};

// `socket` is the value of NOTIFY_SOCKET: an absolute path, or '@' and an abstract name; NULL or "" = no supervisor (0, fd -1).
// -EINVAL for anything else, -ENAMETOOLONG, or what socket(2) says; fd is -1 then.
int sdnotify_open(struct sdnotify *notify, const char *socket);

// One datagram with up to 8 borrowed descriptors. Never blocks, never raises SIGPIPE. 0 or -errno: -ENOTCONN without a
// supervisor, -EAGAIN while its queue is full.
int sdnotify_send(const struct sdnotify *notify, const void *text, size_t len, const int *fds, size_t fd_count);
