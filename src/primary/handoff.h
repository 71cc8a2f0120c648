// SPDX-License-Identifier: MIT
// Connections that the primary accepts and passes to Node's workers, in exact turns, where the kernel cannot take them: up to
// NODE_FLIGHT_MAX at a time to each, not one as Node does. Nothing is accepted that cannot be passed on at once: what has to wait waits
// in the kernel's queue, which no primary's death can empty.
#pragma once

#include "primary.h"

void handoff_look(struct primary *primary);  // sockets and workers have come or gone
void handoff_run(struct primary *primary);   // workers have room
void handoff_rest(struct primary *primary);  // before the loop waits: perhaps not yet, at most a millisecond
void handoff_answered(struct primary_worker *seen, uint64_t seq, bool accepted);
void handoff_return(struct primary_worker *seen);  // the worker is gone: what it had not answered goes to others
