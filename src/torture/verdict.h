// SPDX-License-Identifier: MIT
// Who is to blame for what failed. Pure: what was counted in, judgement out.
//
// Known for certain: which requests were inside processes that were killed; and that an orderly end, or half an answer, can only come from
// a process that had accepted the connection. A reset before any answer can be both: a queue that was lost, or a process that closed
// without reading. The kernel counts the latter (network_aborts), so what its count does not explain was lost in a queue.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "load.h"

struct verdict_case {
    const struct load_result *load;
    long aborts;                  // network_aborts over the time of the load; -1: not known, then no reset is explained
    bool calm[LOAD_PHASE_MAX];    // nothing was done to the workers in that phase
    bool drains[LOAD_PHASE_MAX];  // Pando stopped workers in that phase, which must cost no request
    bool used[LOAD_PHASE_MAX];    // the phase occurred
    unsigned crashes;             // workers that ended by themselves
};

struct verdict {
    uint64_t requests, answered, server_errors, repeated;
    uint64_t inside;  // in processes that were killed: nobody can save them
    // Promises, each of which must be 0:
    uint64_t lost_in_queue;  // reset although no process had accepted them
    uint64_t refused;
    uint64_t stranded;  // in a queue that nobody served, for as long as the patience lasted
    uint64_t cut_off;   // accepted by a worker that Pando then stopped, or that fell silent while others were killed
    // Not Pando's:
    uint64_t own_failures;  // accepted and not answered by a process that nobody had killed or stopped
    uint64_t not_asked;     // no descriptor or port on the client's side
};

struct verdict verdict_of(const struct verdict_case *facts);
bool verdict_kept(const struct verdict *verdict);
