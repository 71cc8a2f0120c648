// SPDX-License-Identifier: MIT
#include "clock.h"

#include <assert.h>
#include <stdio.h>
#include <time.h>

#define CLOCK_TEXT_SIZE 25

uint64_t clock_now_ns(void) {
    struct timespec now;
    int failed = clock_gettime(CLOCK_MONOTONIC, &now);
    assert(!failed);
    return (uint64_t)now.tv_sec * CLOCK_S + (uint64_t)now.tv_nsec;
}

const char *clock_text(char *out, size_t size) {
    assert(size >= CLOCK_TEXT_SIZE);
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t len = strftime(out, size, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(out + len, size - len, ".%03uZ", (unsigned)(now.tv_nsec / 1000000) % 1000U);
    return out;
}
