// SPDX-License-Identifier: MIT
// Processes of a keeper that was killed. They are somebody else's children now: their pidfds say that they have ended, how
// can be read for a while, and their numbers are theirs only until then.
#pragma once

#include <stdbool.h>

#include "keeper_state.h"

bool foreign_has_ended(const struct keeper_child *child);
// Its status as from waitpid(2): from /proc while it is a zombie, from the pidfd once it was reaped (PIDFD_GET_INFO, Linux
// 6.15), else KEEPER_STATUS_UNKNOWN.
int foreign_status(const struct keeper_child *child);
int foreign_kill(const struct keeper_child *child, int signo, bool group);  // 0 or -errno
