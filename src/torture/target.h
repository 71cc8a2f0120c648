// SPDX-License-Identifier: MIT
// Which of the command's addresses to ask, and how it speaks.
#pragma once

#include "load.h"
#include "status.h"

// The first TCP address (of `port` unless that is 0) that gives an answer: target, target_len and http in `out`, and its text. 0, or -errno
// with a sentence on what is there instead.
int target_find(const struct status *status, uint16_t port, struct load_options *out, char *text, size_t size, struct pando_error *error);
