// SPDX-License-Identifier: MIT
// multipart/form-data from bytes: incremental, pure.
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum { MULTIPART_BOUNDARY_MAX = 70, MULTIPART_HEAD_MAX = 4096, MULTIPART_NAME_MAX = 256 };

enum multipart_event { MULTIPART_MORE, MULTIPART_PART, MULTIPART_DATA, MULTIPART_PART_END, MULTIPART_END, MULTIPART_BAD };

struct multipart {
    int state;
    char delimiter[MULTIPART_BOUNDARY_MAX + 8];  // CR LF "--" boundary
    size_t delimiter_len, matched, head_len, replay;
    char head[MULTIPART_HEAD_MAX];
    // after MULTIPART_PART
    char name[MULTIPART_NAME_MAX], filename[MULTIPART_NAME_MAX], type[MULTIPART_NAME_MAX];
    bool has_filename;
};

// From a Content-Type value. False: no boundary, or not a valid one.
bool multipart_init(struct multipart *parser, const char *content_type);
// One event. *out_used: bytes consumed. MULTIPART_DATA: *out_data, *out_len (a view into the input or the parser).
enum multipart_event multipart_step(struct multipart *parser, const char *data, size_t len, size_t *out_used, const char **out_data,
                                    size_t *out_len);
