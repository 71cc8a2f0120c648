// SPDX-License-Identifier: MIT
// What this kernel, container and user allow, found by doing and never by a version number.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define FEATURE_DETAIL_SIZE 128
#define FEATURE_MAX 24

struct feature {
    const char *name;  // static
    const char *cost;  // static: what it costs not to have it
    bool present;
    char detail[FEATURE_DETAIL_SIZE];  // what was seen: a value or the reason of a refusal; "" = nothing to add
};

// Fills `out` with one entry a feature, always the same ones in the same order. Returns how many. Forks a short-lived child.
size_t probe_features(struct feature out[static FEATURE_MAX]);
