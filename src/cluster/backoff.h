// SPDX-License-Identifier: MIT
// How long to wait before the next start: at once, then 50 ms doubling to 30 s with +-20 % jitter. It never gives up.
#pragma once

#include <stdint.h>

// `failures` in a row so far, the present one included (0 and 1: no wait). `random` is any 32 random bits.
uint64_t backoff_ns(uint32_t failures, uint32_t random);
