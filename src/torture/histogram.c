// SPDX-License-Identifier: MIT
// Below 2^BITS a bucket is one nanosecond wide; each power of two above has 2^BITS buckets, twice as wide as those below:
//
//   index = (shift << BITS) + (ns >> shift),   2^BITS <= ns >> shift < 2^(BITS+1)   for shift > 0
#include "histogram.h"

#include <stddef.h>

static unsigned shift_of(uint64_t ns) {
    unsigned magnitude = 63 - (unsigned)__builtin_clzll(ns | 1);
    return magnitude > HISTOGRAM_BITS ? magnitude - HISTOGRAM_BITS : 0;
}

static size_t index_of(uint64_t ns) {
    unsigned shift = shift_of(ns);
    return ((size_t)shift << HISTOGRAM_BITS) + (size_t)(ns >> shift);
}

// The middle of a bucket.
static uint64_t middle_of(size_t index) {
    size_t shift = index >> HISTOGRAM_BITS;
    if (shift > 0) shift--;
    uint64_t low = (uint64_t)(index - (shift << HISTOGRAM_BITS)) << shift;
    return low + (UINT64_C(1) << shift) / 2;
}

void histogram_add(struct histogram *histogram, uint64_t ns) {
    histogram->bucket[index_of(ns)]++;
    histogram->count++;
    if (ns > histogram->max_ns) histogram->max_ns = ns;
}

uint64_t histogram_percentile_ns(const struct histogram *histogram, double fraction) {
    double wanted = fraction * (double)histogram->count;
    uint64_t seen = 0;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += histogram->bucket[i];
        if (histogram->bucket[i] == 0 || (double)seen < wanted) continue;
        uint64_t middle = middle_of(i);
        return middle < histogram->max_ns ? middle : histogram->max_ns;
    }
    return 0;
}
