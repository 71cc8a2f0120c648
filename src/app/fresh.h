// SPDX-License-Identifier: MIT
#pragma once

#include <stdbool.h>
#include <stdint.h>

int64_t fresh_parse_date(const char *text);                   // seconds, -1: no HTTP date
bool fresh_etag_matches(const char *list, const char *etag);  // weakly; list as in If-None-Match
