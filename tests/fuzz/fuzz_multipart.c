// SPDX-License-Identifier: MIT
// A multipart body: the same events and bytes whether it comes at once or byte by byte.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "multipart_parse.h"

struct seen {
    unsigned parts, ends;
    bool over, bad;
    size_t len;
    unsigned hash;
};

static struct seen feed(const uint8_t *data, size_t len, size_t step) {
    struct seen seen = {0};
    struct multipart *parser = malloc(sizeof *parser);
    if (!multipart_init(parser, "multipart/form-data; boundary=b")) abort();
    for (size_t at = 0; at < len && !seen.bad; at += step) {
        size_t have = len - at < step ? len - at : step;
        char *copy = malloc(have), *from = copy;
        memcpy(copy, data + at, have);
        while ((have || parser->replay) && !seen.bad) {
            size_t used, out_len;
            const char *out;
            switch (multipart_step(parser, from, have, &used, &out, &out_len)) {
                case MULTIPART_PART: seen.parts++; break;
                case MULTIPART_PART_END: seen.ends++; break;
                case MULTIPART_END: seen.over = true; break;
                case MULTIPART_BAD: seen.bad = true; break;
                case MULTIPART_DATA:
                    for (size_t i = 0; i < out_len; i++) seen.hash = seen.hash * 31 + (unsigned char)out[i];
                    seen.len += out_len;
                    break;
                case MULTIPART_MORE: break;
            }
            if (used > have) abort();
            from += used;
            have -= used;
        }
        free(copy);
    }
    free(parser);
    return seen;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    struct multipart *any = malloc(sizeof *any);
    char *type = malloc(len + 1);
    memcpy(type, data, len);
    type[len] = '\0';
    multipart_init(any, type);
    free(type);
    free(any);
    struct seen whole = feed(data, len, len ? len : 1), cut = feed(data, len, 1), three = feed(data, len, 3);
    if (whole.parts != cut.parts || whole.ends != cut.ends || whole.over != cut.over || whole.bad != cut.bad) abort();
    if (!whole.bad && (whole.len != cut.len || whole.hash != cut.hash || three.hash != cut.hash)) abort();
    return 0;
}
