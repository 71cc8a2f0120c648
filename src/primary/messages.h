// SPDX-License-Identifier: MIT
// What workers send: the last of it is kept for `pando messages`, those who follow get it as it comes, and with --relay the
// other workers too.
#pragma once

#include <jansson.h>

#include "primary.h"

#define MESSAGES_KEPT 256
#define MESSAGES_KEPT_BYTES (256 * 1024)

// `text` is one JSON value.
void messages_take(struct primary_worker *from, const char *text, size_t len);
void messages_room(struct primary_worker *to);                       // this worker has taken all that was queued for it
json_t *messages_json(const struct primary *primary, size_t count);  // array of the last ones, oldest first
