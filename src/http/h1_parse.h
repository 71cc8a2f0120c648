// SPDX-License-Identifier: MIT
// HTTP/1 requests from bytes: strict, incremental, pure. No allocation, no descriptor, no callback.
//
// A head is parsed line by line as lines arrive; slices are 16-bit offsets from the first byte of the head, so the buffer may
// move between calls. A body is parsed in place: data is returned as views into the input.
// What is refused, and with which status, is the table of docs/http.md, tested row by row.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "http_limits.h"

enum h1_result { H1_DONE, H1_MORE, H1_BAD };

enum h1_method { H1_GET, H1_HEAD, H1_POST, H1_PUT, H1_DELETE, H1_PATCH, H1_OPTIONS, H1_CONNECT, H1_TRACE, H1_OTHER, H1_METHOD_COUNT };
extern const char *const h1_method_name[H1_METHOD_COUNT];
enum h1_method h1_method_of(const char *name, size_t len);  // H1_OTHER when unknown

enum h1_framing { H1_NO_BODY, H1_LENGTH, H1_CHUNKED };

struct h1_slice {
    uint16_t at, len;
};
struct h1_field {
    struct h1_slice name, value;
};

struct h1_head {
    // result, valid after H1_DONE
    uint16_t size;    // bytes of the head, blank line included
    uint16_t status;  // after H1_BAD: what to answer
    const char *why;  // after H1_BAD: a static sentence
    enum h1_method method;
    enum h1_framing framing;
    uint64_t length;                                                       // of H1_LENGTH
    struct h1_slice method_text, target, authority, path, query, upgrade;  // query: without '?'
    uint8_t minor;                                                         // 0 or 1
    bool close, expect_continue, expect_other, has_query;
    uint16_t field_count;
    // limits, set by h1_head_init
    uint16_t max_bytes, max_fields;
    // progress
    uint16_t line, scanned;  // start of the current line, first byte of it not yet looked at
    uint8_t empty_lines;
    bool have_request_line, seen_length, seen_host, seen_coding, coded_chunked, coded_other;
    bool token_close, token_keep_alive, token_upgrade;
    struct h1_slice host;
    struct h1_field fields[LIMIT_HEADER_COUNT_MAX];
};

void h1_head_init(struct h1_head *head, size_t max_bytes, size_t max_fields);
// `data` is all of the head so far, from its first byte. H1_MORE: call again with more. Never reads past `len`.
enum h1_result h1_head_parse(struct h1_head *head, const char *data, size_t len);

struct h1_body {
    enum h1_framing framing;
    uint8_t state;  // of chunked: private
    uint8_t digits;
    uint16_t status;  // after H1_BAD
    const char *why;
    uint64_t left;  // of the body or the chunk
    uint32_t extension_bytes, trailer_bytes;
    uint16_t trailer_count;
};

void h1_body_init(struct h1_body *body, const struct h1_head *head);

struct h1_piece {
    size_t used;       // bytes of input consumed
    const char *data;  // inside those bytes; NULL when the step gave none
    size_t len;
    const char *trailer;  // H1_MORE with a trailer line: its name; view into the input
    size_t trailer_name_len, trailer_value_len;
    const char *trailer_value;
};
// One step: at most one run of data or one trailer field. H1_MORE with used == 0: needs more input.
enum h1_result h1_body_step(struct h1_body *body, const char *data, size_t len, struct h1_piece *out);

// Grammar that the other side needs too
bool h1_is_token(const char *text, size_t len);                      // not empty
bool h1_is_field_value(const char *text, size_t len);                // no CR, LF, NUL or other control character but HTAB
bool h1_has_token(const char *list, size_t len, const char *token);  // in a comma-separated list, case-insensitive
static inline bool h1_same(const char *a, size_t a_len, const char *lower, size_t len) {  // `lower` is lower-case, letters and '-'
    if (a_len != len) return false;
    for (size_t i = 0; i < len; i++)
        if ((a[i] | 0x20) != lower[i] && a[i] != lower[i]) return false;
    return true;
}
