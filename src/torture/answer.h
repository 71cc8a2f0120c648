// SPDX-License-Identifier: MIT
// Is this answer over? A reader of HTTP/1.x responses (RFC 9112, section 6) that keeps nothing of them but the framing; pure: bytes in,
// verdict out. What it reads is hostile.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ANSWER_LINE_MAX 128  // of each line so many bytes are looked at: enough for the fields that frame a message

enum answer_next {
    ANSWER_MORE,  // not over yet
    ANSWER_DONE,
    ANSWER_BAD,  // this is no HTTP response
};

enum answer_part {
    ANSWER_STATUS,
    ANSWER_FIELDS,
    ANSWER_LENGTH,
    ANSWER_UNTIL_CLOSE,
    ANSWER_CHUNK_SIZE,
    ANSWER_CHUNK,
    ANSWER_CHUNK_END,
    ANSWER_TRAILER,
    ANSWER_OVER
};

struct answer {
    enum answer_part part;
    int status;   // 0 until the status line was read
    bool closes;  // the connection cannot be used again
    bool has_length, is_chunked;
    uint64_t left;  // bytes of the body, or of the chunk
    size_t line_len;
    char line[ANSWER_LINE_MAX];
};

void answer_init(struct answer *answer);
// Takes the next bytes. Bytes behind the end are ignored. Not to be called again after ANSWER_DONE or ANSWER_BAD.
enum answer_next answer_feed(struct answer *answer, const char *data, size_t len);
// The server has closed: was that the end? (RFC 9112, section 6.3, item 8.)
bool answer_ends_here(const struct answer *answer);
