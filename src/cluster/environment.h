// SPDX-License-Identifier: MIT
// The environment of one worker: the user's, without what was meant for Pando itself, with what a copy needs to know.
#pragma once

#include <stdint.h>

#include "launch.h"

struct environment {
    int slot, workers;
    uint32_t generation;
    int cpus_per_worker;
    const char *notify_socket;  // NULL = none
    enum launch_channel channel;
    int channel_fd;  // with a channel: its number in the worker
    uint64_t node_id;  // of a worker of Node's cluster: never used twice; 0 = it is none
    uint64_t channel_inode;
    uint64_t id;             // of a worker that its program forked; 0 = none
    char *const *on_top;     // more entries, which replace those of the same name; NULL = none
};

// A NULL-terminated heap array; free with environment_free. NULL when out of memory.
char **environment_build(char *const *base, const struct environment *with);
void environment_free(char **envp);
// The value of NAME in an environment, or NULL.
const char *environment_get(char *const *envp, const char *name);
