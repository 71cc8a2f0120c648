// SPDX-License-Identifier: MIT
// Times of any length in little memory, log-linear: 32 buckets for each power of two, so a percentile is off by 3 % at most.
#pragma once

#include <stdint.h>

#define HISTOGRAM_BITS 5
#define HISTOGRAM_BUCKETS ((65 - HISTOGRAM_BITS) << HISTOGRAM_BITS)

struct histogram {
    uint64_t count, max_ns;
    uint64_t bucket[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *histogram, uint64_t ns);
// The time that `fraction` (0 to 1) of them did not exceed; 0 when there are none.
uint64_t histogram_percentile_ns(const struct histogram *histogram, double fraction);
