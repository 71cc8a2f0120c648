// SPDX-License-Identifier: MIT
// A pattern and a path: PATTERN LF PATH. Captures lie in the path, do not overlap, and a pattern that compiles is matched in bounded time.
#include <stdint.h>
#include <stdlib.h>

#include "pattern.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    const uint8_t *line = memchr(data, '\n', len);
    if (!line) return 0;
    char *source = strndup((const char *)data, (size_t)(line - data));
    struct pattern pattern;
    if (!pattern_init(&pattern, source)) {
        struct pando_str path = {(const char *)line + 1, len - (size_t)(line + 1 - data)};
        for (int flags = 0; flags < 8; flags++) {
            pattern.sensitive = flags & 1;
            pattern.strict = flags & 2;
            pattern.prefix = flags & 4;
            struct pattern_capture captures[PATTERN_PARAMS];
            int count = pattern_match(&pattern, path, captures);
            const char *end = path.data;
            for (int i = 0; i < count; i++) {
                if (captures[i].value.data < end || !captures[i].value.len) abort();
                end = captures[i].value.data + captures[i].value.len;
                if (end > path.data + path.len) abort();
            }
        }
        pattern_deinit(&pattern);
    }
    free(source);
    return 0;
}
