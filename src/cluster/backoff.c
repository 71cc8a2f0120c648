// SPDX-License-Identifier: MIT
#include "backoff.h"

#include "clock.h"

#define BACKOFF_FIRST_NS (50 * CLOCK_MS)
#define BACKOFF_LAST_NS (30 * CLOCK_S)

enum { JITTER_PERCENT = 20 };

uint64_t backoff_ns(uint32_t failures, uint32_t random) {
    if (failures <= 1) return 0;
    uint64_t wait = BACKOFF_FIRST_NS;
    for (uint32_t i = 2; i < failures && wait < BACKOFF_LAST_NS; i++) wait *= 2;
    if (wait > BACKOFF_LAST_NS) wait = BACKOFF_LAST_NS;
    uint64_t percent = 100 - JITTER_PERCENT + random % (2 * JITTER_PERCENT + 1);
    return wait / 100 * percent;
}
