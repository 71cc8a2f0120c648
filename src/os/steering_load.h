// SPDX-License-Identifier: MIT
// Loads the steering program by libbpf. What comes out is descriptors; libbpf keeps nothing.
#pragma once

#include "error.h"
#include "steering.h"

// As many slots as `slots`. Fills out_fds (the caller's; -1 = none). 0 or -errno with the reason.
int steering_load(unsigned slots, int out_fds[static STEERING_FD_COUNT], struct pando_error *error);
