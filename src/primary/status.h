// SPDX-License-Identifier: MIT
// What `pando status --json` and `pando info -n` show.
#pragma once

#include <jansson.h>

#include "primary.h"

json_t *status_json(struct primary *primary);  // new reference; NULL when out of memory
json_t *info_json(struct primary *primary);
