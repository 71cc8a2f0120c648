// SPDX-License-Identifier: MIT
// Asking a worker by HTTP whether it is ready. One at a time: steering can single out one socket.
#pragma once

#include <stdbool.h>

#include "primary.h"

bool health_begin(void *primary, struct worker *worker, int row);  // the pool's hook
