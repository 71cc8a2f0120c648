// SPDX-License-Identifier: MIT
// Sockets that Pando made for workers whose memory and descriptors it may not read. Our duplicate of each is kept until
// the program listens on it, or until it turns out to be an outgoing connection: then it must go at once, or the program's
// close would not be seen by its peer.
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "record.h"

struct handed_socket {
    uint64_t token;  // the worker; 0 = free row
    pid_t tgid;
    int fd_there, fd_here;  // fd_here owned
    uint64_t since_ns;
};

struct handed {
    struct handed_socket socket[RECORD_HANDED_MAX];
    int epoll;  // owned; readable when handed_on_events has something to do
};

int handed_init(struct handed *handed);  // 0 or -errno
void handed_deinit(struct handed *handed);
void handed_add(struct handed *handed, uint64_t token, pid_t tgid, int fd_there, int fd_take);
// Our duplicate (borrowed) of the worker's descriptor; the same process is preferred, a forked child has the number too. -1.
int handed_find(const struct handed *handed, uint64_t token, pid_t tgid, int fd_there);
void handed_forget(struct handed *handed, uint64_t token);  // that worker has ended
void handed_on_events(struct handed *handed);               // lets go of what has connected
void handed_sweep(struct handed *handed, uint64_t now_ns);  // lets go of what was never used
