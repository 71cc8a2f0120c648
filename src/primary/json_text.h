// SPDX-License-Identifier: MIT
// Bytes of a program's output as a JSON string: what is not UTF-8 comes escaped.
#pragma once

#include <jansson.h>
#include <stddef.h>

json_t *json_text(const char *bytes, size_t len);  // NULL when out of memory
