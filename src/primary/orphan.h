// SPDX-License-Identifier: MIT
// Life after the keeper was killed: the workers serve on, and nobody can start another. What is left to do is to say so,
// to answer `status`, and to end the workers when asked.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "primary.h"

void orphan_begin(struct primary *primary);
void orphan_stop(struct primary *primary, bool now);
uint64_t orphan_tick(struct primary *primary, uint64_t now_ns);  // like pool_tick: what is due; the next deadline
