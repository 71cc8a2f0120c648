// SPDX-License-Identifier: MIT
// What a child writes, read by a thread so that it never blocks; the end of it is kept.
#pragma once

#include <stddef.h>

struct output;

struct output *output_start_take(int fd);  // a pipe's end, taken; NULL when there is no memory or thread
// The last whole lines that fit into `out` (size > 0).
void output_tail(struct output *output, char *out, size_t size);
void output_stop(struct output *output);  // NULL is fine
