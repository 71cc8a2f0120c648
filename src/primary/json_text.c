// SPDX-License-Identifier: MIT
#include "json_text.h"

#include <stdlib.h>

#include "log.h"

enum { ESCAPED_MAX = 6 };  // "\u00ff" for one byte

json_t *json_text(const char *bytes, size_t len) {
    json_t *text = json_stringn(bytes, len);  // refuses what is not UTF-8
    if (text != NULL) return text;
    char *escaped = malloc(len * ESCAPED_MAX + 1);
    size_t size = escaped == NULL ? 0 : log_json_escape(bytes, len, escaped, len * ESCAPED_MAX + 1);
    if (escaped != NULL) text = json_stringn(escaped, size);
    free(escaped);
    return text;
}
