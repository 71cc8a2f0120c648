// SPDX-License-Identifier: MIT
// A worker that has a channel asks for its socket instead of making one: it is given that of its slot or of its generation,
// bound here and listening already. What its `listen` would have shown, its channel shows (pool_on_listening).
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "pool.h"

struct ask {
    struct record_address key;  // port 0: the system chooses
    uint32_t pair;              // with port 0: the first such wish of every worker gets the same port, and so the second. From 1
    bool pass;                  // if the kernel cannot take exact turns there, its connections are to be passed by the primary
    bool reuse_address;         // SO_REUSEADDR for UDP; TCP always has it
    mode_t path_mode;           // of a unix socket's path: rights added to what the umask left
};

// The row of the socket that this worker accepts from, or -errno: what bind(2) said, -EADDRINUSE also for a worker that has it
// already. `out_address` is set with it.
int ask_socket(struct pool *pool, struct worker *worker, const struct ask *ask, int *out_address);
// It has been sent to the worker. Not before: a primary that dies in between is followed by one that is asked again.
void ask_given(struct pool *pool, struct worker *worker, int address, int row);
// The worker has closed it, and lives.
void ask_closed(struct pool *pool, struct worker *worker, int address);
