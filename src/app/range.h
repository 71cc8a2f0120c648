// SPDX-License-Identifier: MIT
// The Range header of a request for `size` bytes. Pure.
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum range_result { RANGE_NONE, RANGE_ONE, RANGE_UNSATISFIABLE };
// RANGE_NONE: no range, not understood, or several: the whole is sent, as is allowed.
enum range_result range_parse(const char *header, uint64_t size, uint64_t *out_at, uint64_t *out_len);
