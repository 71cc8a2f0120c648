// SPDX-License-Identifier: MIT
// The last lines of output, in a memfd that the keeper holds: what `pando logs` shows, a killed primary notwithstanding.
#pragma once

#include <stddef.h>

struct ring;

struct ring *ring_create(int *out_memfd);  // NULL on failure
struct ring *ring_map(int memfd);          // NULL when it is not one of ours
void ring_append(struct ring *ring, const char *line, size_t len);  // newline included
// Calls `each` for the last `lines` lines, oldest first, without their newlines. The text is only valid during the call.
void ring_tail(const struct ring *ring, size_t lines, void (*each)(void *arg, const char *line, size_t len), void *arg);
