// SPDX-License-Identifier: MIT
// Sockets that our supervisor passed on when it started us (sd_listen_fds(3)): those of its socket units, and those that an
// earlier instance had stored (store.h). They become rows before any worker runs; a worker that binds the same address gets
// its connections from there.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "listener.h"

struct given {
    int fd;            // owned; -1 once taken
    const char *name;  // borrowed: of LISTEN_FDNAMES
};

// Takes them all; `uid` is the workers'. What cannot be served is logged and closed. How many slots have a socket of their own: so many
// workers are needed to serve all queues.
int given_take(struct listeners *listeners, struct given *given, size_t count, uid_t uid);

// All workers are up, and listen on the addresses whose bits are set: what came back for another address has nobody to accept
// from it. A socket of an earlier instance is closed, one of a socket unit is complained of.
void given_end_unserved(struct listeners *listeners, uint64_t served);
