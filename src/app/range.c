// SPDX-License-Identifier: MIT
#include "range.h"

#include <string.h>
#include <strings.h>

// Digits only, no sign. False: none, or too many.
static bool number(const char **at, uint64_t *out) {
    const char *start = *at;
    uint64_t value = 0;
    for (; **at >= '0' && **at <= '9'; (*at)++) {
        if (*at - start == 18) return false;
        value = value * 10 + (uint64_t)(**at - '0');
    }
    *out = value;
    return *at > start;
}

enum range_result range_parse(const char *header, uint64_t size, uint64_t *out_at, uint64_t *out_len) {
    if (strncasecmp(header, "bytes=", 6)) return RANGE_NONE;
    const char *at = header + 6;
    uint64_t first, last;
    at += strspn(at, " \t");
    if (*at == '-') {  // the last N bytes
        at++;
        if (!number(&at, &last) || at[strspn(at, " \t")]) return RANGE_NONE;
        if (!last || !size) return RANGE_UNSATISFIABLE;
        *out_len = last < size ? last : size;
        *out_at = size - *out_len;
        return RANGE_ONE;
    }
    if (!number(&at, &first) || *at++ != '-') return RANGE_NONE;
    bool open = !number(&at, &last);
    if (at[strspn(at, " \t")] || (!open && last < first)) return RANGE_NONE;
    if (first >= size) return RANGE_UNSATISFIABLE;
    if (open || last >= size) last = size - 1;
    *out_at = first;
    *out_len = last - first + 1;
    return RANGE_ONE;
}
