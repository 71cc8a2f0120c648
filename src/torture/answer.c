// SPDX-License-Identifier: MIT
#include "answer.h"

#include <string.h>
#include <strings.h>

void answer_init(struct answer *answer) { *answer = (struct answer){.part = ANSWER_STATUS}; }

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

// "HTTP/1.x NNN"; HTTP/1.0 closes unless it says otherwise.
static enum answer_next read_status(struct answer *answer) {
    const char *line = answer->line;
    if (strncmp(line, "HTTP/1.", 7) != 0 || !is_digit(line[7]) || line[8] != ' ') return ANSWER_BAD;
    if (!is_digit(line[9]) || !is_digit(line[10]) || !is_digit(line[11])) return ANSWER_BAD;
    answer->status = (line[9] - '0') * 100 + (line[10] - '0') * 10 + (line[11] - '0');
    answer->closes = line[7] == '0';
    answer->part = ANSWER_FIELDS;
    return ANSWER_MORE;
}

// The value when the line is that field.
static const char *field_value(const char *line, const char *name) {
    size_t len = strlen(name);
    if (strncasecmp(line, name, len) != 0 || line[len] != ':') return NULL;
    return line + len + 1 + strspn(line + len + 1, " \t");
}

static enum answer_next read_length(struct answer *answer, const char *value) {
    uint64_t length = 0;
    if (!is_digit(*value)) return ANSWER_BAD;
    for (; is_digit(*value); value++) {
        if (length > UINT64_MAX / 10 - 9) return ANSWER_BAD;
        length = length * 10 + (uint64_t)(*value - '0');
    }
    answer->has_length = true;
    answer->left = length;
    return ANSWER_MORE;
}

// Transfer-Encoding outweighs Content-Length; without either the body goes on until the connection ends.
static enum answer_next begin_body(struct answer *answer) {
    if (answer->status >= 100 && answer->status < 200) {
        answer_init(answer);  // an interim response: the answer comes behind it
        return ANSWER_MORE;
    }
    bool has_none = answer->status == 204 || answer->status == 304;
    if (has_none || (!answer->is_chunked && answer->has_length && answer->left == 0)) {
        answer->part = ANSWER_OVER;
        return ANSWER_DONE;
    }
    answer->part = answer->is_chunked ? ANSWER_CHUNK_SIZE : answer->has_length ? ANSWER_LENGTH : ANSWER_UNTIL_CLOSE;
    if (answer->part == ANSWER_UNTIL_CLOSE) answer->closes = true;
    return ANSWER_MORE;
}

static enum answer_next read_field(struct answer *answer) {
    const char *value;
    if (answer->line_len == 0) return begin_body(answer);
    if ((value = field_value(answer->line, "Content-Length"))) return read_length(answer, value);
    if ((value = field_value(answer->line, "Transfer-Encoding"))) answer->is_chunked = strcasestr(value, "chunked") != NULL;
    if ((value = field_value(answer->line, "Connection"))) {
        if (strcasestr(value, "close")) answer->closes = true;
        if (strcasestr(value, "keep-alive")) answer->closes = false;
    }
    return ANSWER_MORE;
}

static int hex_of(char c) {
    if (is_digit(c)) return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

static enum answer_next read_chunk_size(struct answer *answer) {
    uint64_t size = 0;
    const char *at = answer->line;
    if (hex_of(*at) < 0) return ANSWER_BAD;
    for (; hex_of(*at) >= 0; at++) {
        if (size >> 58) return ANSWER_BAD;
        size = size << 4 | (uint64_t)hex_of(*at);
    }
    answer->left = size;
    answer->part = size > 0 ? ANSWER_CHUNK : ANSWER_TRAILER;
    return ANSWER_MORE;
}

static enum answer_next read_line(struct answer *answer) {
    switch (answer->part) {
        case ANSWER_STATUS: return read_status(answer);
        case ANSWER_FIELDS: return read_field(answer);
        case ANSWER_CHUNK_SIZE: return read_chunk_size(answer);
        case ANSWER_CHUNK_END: answer->part = ANSWER_CHUNK_SIZE; return answer->line_len == 0 ? ANSWER_MORE : ANSWER_BAD;
        case ANSWER_TRAILER:
            if (answer->line_len > 0) return ANSWER_MORE;
            answer->part = ANSWER_OVER;
            return ANSWER_DONE;
        case ANSWER_LENGTH:
        case ANSWER_UNTIL_CLOSE:
        case ANSWER_CHUNK:
        case ANSWER_OVER: break;
    }
    return ANSWER_BAD;
}

// Takes bytes up to the end of a line; what is longer than the line's room is dropped. Bytes taken.
static size_t take_line(struct answer *answer, const char *data, size_t len, enum answer_next *out) {
    const char *end = memchr(data, '\n', len);
    size_t part = end ? (size_t)(end - data) : len;
    size_t room = ANSWER_LINE_MAX - 1 - answer->line_len;
    size_t kept = part < room ? part : room;
    memcpy(answer->line + answer->line_len, data, kept);
    answer->line_len += kept;
    answer->line[answer->line_len] = '\0';
    if (!end) {
        // Something that is no HTTP need never send a line's end.
        size_t prefix = answer->line_len < 5 ? answer->line_len : 5;
        bool foreign = answer->part == ANSWER_STATUS && memcmp(answer->line, "HTTP/", prefix) != 0;
        *out = foreign ? ANSWER_BAD : ANSWER_MORE;
        return len;
    }
    if (answer->line_len > 0 && answer->line[answer->line_len - 1] == '\r') answer->line[--answer->line_len] = '\0';
    *out = read_line(answer);
    answer->line_len = 0;
    return part + 1;
}

static size_t take_body(struct answer *answer, size_t len, enum answer_next *out) {
    *out = ANSWER_MORE;
    if (answer->part == ANSWER_UNTIL_CLOSE) return len;
    size_t part = answer->left < len ? (size_t)answer->left : len;
    answer->left -= part;
    if (answer->left == 0 && answer->part == ANSWER_LENGTH) {
        answer->part = ANSWER_OVER;
        *out = ANSWER_DONE;
    } else if (answer->left == 0) {
        answer->part = ANSWER_CHUNK_END;
    }
    return part;
}

static bool is_in_body(const struct answer *answer) {
    return answer->part == ANSWER_LENGTH || answer->part == ANSWER_UNTIL_CLOSE || answer->part == ANSWER_CHUNK;
}

enum answer_next answer_feed(struct answer *answer, const char *data, size_t len) {
    enum answer_next next = ANSWER_MORE;
    while (len > 0 && next == ANSWER_MORE) {
        size_t taken = is_in_body(answer) ? take_body(answer, len, &next) : take_line(answer, data, len, &next);
        data += taken;
        len -= taken;
    }
    return next;
}

bool answer_ends_here(const struct answer *answer) { return answer->part == ANSWER_UNTIL_CLOSE || answer->part == ANSWER_OVER; }
