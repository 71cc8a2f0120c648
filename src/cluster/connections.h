// SPDX-License-Identifier: MIT
// The connections that a worker has open, as the kernel tells: for the decision whether it may be stopped.
#pragma once

#include <stdbool.h>

#include "procinfo.h"
#include "record.h"

enum connections {
    CONNECTIONS_NONE,
    CONNECTIONS_IDLE,     // some, but every answer that was asked for has left: keep-alive
    CONNECTIONS_ACTIVE,   // a request is being received or answered
    CONNECTIONS_UNKNOWN,  // the kernel does not tell
};

// Of all processes in the group `pgrp` as `groups` has it, on the addresses in `mask`. With CONNECTIONS_IDLE `out_idle_ms` is
// for how long nothing has come on any of them, as far as that is certain.
enum connections connections_of(const struct record *record, const struct procinfo_groups *groups, pid_t pgrp, uint64_t mask,
                                uint32_t *out_idle_ms);
