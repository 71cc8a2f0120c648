// SPDX-License-Identifier: MIT
#include "bind.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

int bind_set_reuseport(int fd, int on) { return setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) == 0 ? 0 : -errno; }

static int bind_here(int fd, const struct record_address *key) { return bind(fd, &key->at.any, key->len) == 0 ? 0 : -errno; }

static int bind_first(int fd, const struct record_address *key) {
    int r = bind_set_reuseport(fd, 0);
    if (r == 0) r = bind_here(fd, key);
    return r != 0 ? r : bind_set_reuseport(fd, 1);
}

// Members of a group need one owner: a worker that changed its user before it made the socket would be refused.
static void take_owner(const struct listeners *listeners, int fd, int address) {
    struct stat info;
    int row = listeners_any_row(listeners, address);
    if (row >= 0 && fstat(listeners->fd[row], &info) == 0) fchown(fd, info.st_uid, (gid_t)-1);
}

static int bind_joining(int fd, const struct record_address *key) {
    int r = bind_set_reuseport(fd, 1);
    return r != 0 ? r : bind_here(fd, key);
}

int bind_in_group(const struct listeners *listeners, int fd, const struct record_address *key) {
    int known = listeners_find_address(listeners, key);
    if (known >= 0 && listeners_any_row(listeners, known) >= 0) {
        take_owner(listeners, fd, known);
        return bind_joining(fd, key);
    }
    int r = bind_first(fd, key);
    return r == -EADDRINUSE && known >= 0 ? bind_joining(fd, key) : r;
}
