// SPDX-License-Identifier: MIT
// Looking at the instance until it is as it should be; what it should not be is told as a broken promise.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "torture.h"

typedef bool (*look_fn)(const struct status *status, const void *arg);

double look_ms_since(uint64_t ns);
bool look_interrupted(const struct torture *torture);  // the user has had enough

// Until the condition holds for the status, which is in `out` then. False when it did not within that time, or the user has had enough.
bool look_until(struct torture *torture, struct status *out, uint64_t patience_ns, look_fn holds, const void *arg);
// All workers serve, as before each act. False after a complaint, or when the user has had enough; the same for those below.
bool look_whole(struct torture *torture, struct status *out);
// Another primary than `before` answers.
bool look_primary(struct torture *torture, const struct status *before, struct status *after);

// A condition: all that are wanted serve, and none is one of `before` (arg).
bool look_all_others(const struct status *status, const void *arg);
// Workers that are another process now although nobody touched them (but the one in slot `touched`): they ended by themselves, or Pando
// ended them unasked.
void look_at_untouched(struct torture *torture, const struct status *before, const struct status *after, int touched);
