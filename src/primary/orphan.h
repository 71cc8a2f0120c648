// SPDX-License-Identifier: MIT
// The keeper was killed: this process becomes the keeper, with all descriptors and children that it knows of. Where even that
// fails, the workers serve on and nobody can start another: then all there is to do is to say so, to answer `status`, and
// to end the workers when asked.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "primary.h"

void orphan_begin(struct primary *primary);  // returns only when it could not become the keeper
void orphan_stop(struct primary *primary, bool now);
uint64_t orphan_tick(struct primary *primary, uint64_t now_ns);  // like pool_tick: what is due; the next deadline
