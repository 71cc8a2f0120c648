// SPDX-License-Identifier: MIT
// What a reload asks for, and what comes of it, as JSON (docs/control.md).
#pragma once

#include <jansson.h>

#include "error.h"
#include "primary.h"

// Begins a roll-out to what `request` says otherwise than the present generation (NULL: nothing, the same anew). 0, -EINVAL when
// the request is wrong, other -errno.
int reload_begin(struct primary *primary, const json_t *request, struct pando_error *error);

json_t *reload_done_json(struct primary *primary);    // the result, of the last roll-out
json_t *reload_failed_json(struct primary *primary);  // the whole answer: code 4, why, and the last output
