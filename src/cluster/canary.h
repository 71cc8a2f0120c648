// SPDX-License-Identifier: MIT
// A canary on trial: the next generation's first workers get a share of new connections for a while, and are judged. It shall neither
// crash (rollout.c sees to that) nor hang, nor be cut off from its connections more often than the old generation.
//
// Who was cut off: where each worker has a socket that is steered, the kernel counts for each. Where a generation shares one, the kernel
// counts resets for the network namespace as a whole. There the canary gets its share in part of the time only, somewhat more of it, and
// none in between: what is more in the one than in the other, beyond chance, is the canary's.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "pool.h"

enum canary_verdict { CANARY_ON_TRIAL, CANARY_PASSED, CANARY_FAILED };

struct canary_reason {
    const struct worker *worker;  // whose fault it is; NULL = nobody's in particular
    char text[200];
};

uint32_t canary_workers(const struct pool *pool);  // how many there shall be
void canary_begin(struct pool *pool);
// To be called again at canary_next. PASSED: `out` says how it did.
enum canary_verdict canary_look(struct pool *pool, struct canary_reason *out);
uint64_t canary_next(const struct pool *pool);
