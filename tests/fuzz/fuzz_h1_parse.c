// SPDX-License-Identifier: MIT
// h1_parse against llhttp: whatever Pando accepts, llhttp (strict) accepts with the same method, target, fields and body. And the
// result must not depend on how the bytes are cut. Where llhttp 6 to 9 is stricter than the RFC or than us on purpose:
//   * it knows only its own method names: unknown methods are not compared
//   * HTTP/1.2 and higher minor versions: Pando serves them as 1.1 (RFC 9110 2.5)
//   * llhttp 8.1 refuses a chunk extension with a value when another follows ("1;a=b;c"), which RFC 9112 7.1.1 allows; 9 does not
//   * CONNECT, and upgrades: llhttp stops at the head; their framing is not compared
#include <llhttp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "h1_parse.h"

struct seen {
    char url[70000], body[70000];
    size_t url_len, body_len;
    unsigned fields, messages;
    uint64_t length;
    bool chunked, head_done, in_trailer;
};

static int on_url(llhttp_t *p, const char *at, size_t len) {
    struct seen *s = p->data;
    memcpy(s->url + s->url_len, at, len);
    s->url_len += len;
    return 0;
}
static int on_body(llhttp_t *p, const char *at, size_t len) {
    struct seen *s = p->data;
    memcpy(s->body + s->body_len, at, len);
    s->body_len += len;
    return 0;
}
static int on_field_end(llhttp_t *p) {
    struct seen *s = p->data;
    if (!s->head_done) s->fields++;
    return 0;
}
static int on_head(llhttp_t *p) {
    struct seen *s = p->data;
    s->head_done = true;
    s->chunked = (p->flags & F_CHUNKED) != 0;
    s->length = (p->flags & F_CONTENT_LENGTH) ? p->content_length : 0;
    return 0;
}
static int on_message(llhttp_t *p) {
    struct seen *s = p->data;
    s->messages++;
    return HPE_PAUSED;
}

static struct seen seen;

static size_t ask_llhttp(const char *data, size_t len, bool *ok) {
    llhttp_settings_t settings;
    llhttp_settings_init(&settings);
    settings.on_url = on_url;
    settings.on_body = on_body;
    settings.on_header_field_complete = on_field_end;
    settings.on_headers_complete = on_head;
    settings.on_message_complete = on_message;
    llhttp_t parser;
    llhttp_init(&parser, HTTP_REQUEST, &settings);
    memset(&seen, 0, sizeof seen);
    parser.data = &seen;
    llhttp_errno_t e = llhttp_execute(&parser, data, len);
    *ok = e == HPE_OK || e == HPE_PAUSED || e == HPE_PAUSED_UPGRADE;
    const char *at = llhttp_get_error_pos(&parser);
    if (e == HPE_INVALID_CHUNK_SIZE && at > data && (at[-1] == ';' || (at < data + len && *at == ';'))) return SIZE_MAX;
    if (!*ok) fprintf(stderr, "llhttp: %s %s\n", llhttp_errno_name(e), llhttp_get_error_reason(&parser));
    return llhttp_get_error_pos(&parser) ? (size_t)(llhttp_get_error_pos(&parser) - data) : len;
}

struct result {
    enum h1_result head, body;
    size_t used, body_len;
    int status;
    char body_bytes[70000];
};

// Feeds `step` bytes at a time (0: all at once).
static void ask_pando(struct h1_head *head, const char *data, size_t len, size_t step, struct result *out) {
    out->body = H1_MORE;
    out->used = out->body_len = 0;
    out->status = 0;
    h1_head_init(head, LIMIT_HEADER_BYTES, LIMIT_HEADER_COUNT);
    size_t have = step ? 0 : len;
    do {
        if (step) have = have + step < len ? have + step : len;
        char *copy = malloc(have ? have : 1);  // exactly so long: reading past it is found, and the buffer moves
        memcpy(copy, data, have);
        out->head = h1_head_parse(head, copy, have);
        free(copy);
    } while (out->head == H1_MORE && have < len);
    if (out->head == H1_BAD) out->status = head->status;
    if (out->head != H1_DONE) return;
    struct h1_body body;
    h1_body_init(&body, head);
    size_t at = head->size;
    if (have < at) have = at;
    for (;;) {
        struct h1_piece piece;
        char *copy = malloc(have - at + 1);
        memcpy(copy, data + at, have - at);
        out->body = h1_body_step(&body, copy, have - at, &piece);
        if (piece.len) memcpy(out->body_bytes + out->body_len, piece.data, piece.len);
        out->body_len += piece.len;
        free(copy);
        at += piece.used;
        if (out->body == H1_BAD) out->status = body.status;
        if (out->body != H1_MORE) break;
        if (piece.used) continue;
        if (have == len) break;
        have = step && have + step < len ? have + step : len;
    }
    out->used = at;
}

#define MUST(condition)                                  \
    do {                                                 \
        if (!(condition)) {                              \
            fprintf(stderr, "not so: %s\n", #condition); \
            abort();                                     \
        }                                                \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
    static struct h1_head head, again;
    static struct result result, cut;
    const char *data = (const char *)bytes;
    if (len > 65000) return 0;
    ask_pando(&head, data, len, 0, &result);
    for (size_t step = 1; step < 8; step += 3) {
        ask_pando(&again, data, len, step, &cut);
        MUST(cut.head == result.head);  // its status may differ: the first of two faults to be complete is named
        if (result.head != H1_DONE) continue;
        MUST(again.size == head.size && again.field_count == head.field_count && again.framing == head.framing &&
             again.length == head.length);
        MUST(cut.body == result.body && (cut.body == H1_BAD || cut.used == result.used) && cut.body_len == result.body_len &&
             !memcmp(cut.body_bytes, result.body_bytes, cut.body_len));
    }
    if (result.head != H1_DONE || head.method == H1_OTHER || head.method == H1_CONNECT || head.upgrade.len || head.token_upgrade ||
        result.body == H1_BAD)
        return 0;
    const char *version = data + head.target.at + head.target.len + 6;
    if (*version == '1' && version[2] > '1') return 0;
    // Only the bytes of this one message, as far as we have them.
    bool ok;
    size_t empty = head.method_text.at;
    if (ask_llhttp(data + empty, result.used - empty, &ok) == SIZE_MAX) return 0;
    MUST(ok);
    MUST(seen.head_done && seen.url_len == head.target.len && !memcmp(seen.url, data + head.target.at, seen.url_len));
    MUST(seen.fields == head.field_count);
    MUST(seen.chunked == (head.framing == H1_CHUNKED) && (head.framing != H1_LENGTH || seen.length == head.length));
    MUST(seen.body_len == result.body_len && !memcmp(seen.body, result.body_bytes, seen.body_len));
    MUST((result.body == H1_DONE) == (seen.messages == 1));
    return 0;
}
