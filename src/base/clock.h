// SPDX-License-Identifier: MIT
// Time: CLOCK_MONOTONIC in nanoseconds for all deadlines, wall-clock text for the log.
#pragma once

#include <stddef.h>
#include <stdint.h>

#define CLOCK_US UINT64_C(1000)
#define CLOCK_MS UINT64_C(1000000)
#define CLOCK_S UINT64_C(1000000000)
#define CLOCK_NEVER UINT64_MAX

uint64_t clock_now_ns(void);
// "2026-11-24T16:49:04.123Z" of now. Returns `out` (size >= 25).
const char *clock_text(char *out, size_t size);
