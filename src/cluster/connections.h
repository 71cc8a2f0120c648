// SPDX-License-Identifier: MIT
// The connections that a worker has open, as the kernel tells: for the decision whether it may be stopped.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "procinfo.h"
#include "record.h"

enum connections {
    CONNECTIONS_NONE,
    CONNECTIONS_IDLE,     // some, but every answer that was asked for has left: keep-alive
    CONNECTIONS_ACTIVE,   // a request is being received or answered
    CONNECTIONS_UNKNOWN,  // the kernel does not tell
};

// Sockets that were seen to be none of the worker's connections: its outgoing ones, say. While it has no others, the kernel
// need not be asked. It never becomes a connection that was accepted: that has a number of its own.
#define CONNECTIONS_OTHERS_MAX 16
struct connections_others {
    uint64_t inode[CONNECTIONS_OTHERS_MAX];
    size_t len;
};

// Of all processes in the group `pgrp` as `groups` has it, on the addresses in `mask`. With CONNECTIONS_IDLE `out_idle_ms` is
// for how long nothing has come on any of them, as far as that is certain. `others` is what an earlier look at the same worker
// left there, or zeroed. `asks_kernel`: what other sockets there are is looked up in its list of connections, which may take
// milliseconds (sock_diag.c); if not, each of them counts as an active connection. Where Pando may not see what sockets there are, it has to ask.
enum connections connections_of(const struct record *record, const struct procinfo_groups *groups, pid_t pgrp, uint64_t mask, bool asks_kernel,
                                struct connections_others *others, uint32_t *out_idle_ms);
