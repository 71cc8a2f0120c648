// SPDX-License-Identifier: MIT
// Paths of static files, percent-decoding and ranges: what comes out never leaves the folder, never has a NUL or an absolute part.
#include <sys/types.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "range.h"
#include "static_path.h"
#include "url.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    char *text = malloc(len + 1), *out = malloc(len + 2), *wide = malloc(6 * len + 1);
    memcpy(text, data, len);
    text[len] = '\0';
    bool folder;
    for (int hidden = 0; hidden < 2; hidden++) {
        if (static_path(text, len, hidden, out, &folder)) continue;
        if (!*out || *out == '/' || strchr(out, '\\') || !url_is_utf8(out, strlen(out))) abort();
        for (const char *at = out; at; at = strchr(at, '/') ? strchr(at, '/') + 1 : NULL) {
            size_t segment = strcspn(at, "/");
            if (!segment || (segment == 2 && at[0] == '.' && at[1] == '.')) abort();
            if (!hidden && *at == '.' && strcmp(out, ".")) abort();
        }
    }
    ssize_t n = url_decode(text, len, true, out);
    if (n >= 0 && (strlen(out) != (size_t)n || !url_is_utf8(out, (size_t)n))) abort();
    url_encode(text, len, wide);
    url_encode_component(text, len, wide);
    if (url_decode(wide, strlen(wide), false, out) >= 0 && (strlen(out) != len || memcmp(out, text, len))) abort();
    url_escape_html(text, len, wide);
    if (strpbrk(wide, "<>\"'")) abort();
    uint64_t at, size = len * 7 + 3, got;
    if (range_parse(text, size, &at, &got) == RANGE_ONE && (!got || at >= size || got > size - at)) abort();
    char *ranged = malloc(len + 7);
    memcpy(ranged, "bytes=", 6);
    memcpy(ranged + 6, text, len + 1);
    if (range_parse(ranged, size, &at, &got) == RANGE_ONE && (!got || at >= size || got > size - at)) abort();
    free(ranged);
    free(text);
    free(out);
    free(wide);
    return 0;
}
