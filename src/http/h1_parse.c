// SPDX-License-Identifier: MIT
// A head:   [empty lines] method SP target SP HTTP/1.x CRLF *( name ":" OWS value OWS CRLF ) CRLF
//
//      0            line       scanned        len
//      |  done lines | this line | not looked at |         line <= scanned <= len
//
// Every byte is looked at once: an incomplete line is validated as far as it goes, so that a bad byte is refused when it
// arrives, not when its line ends. Facts about framing are collected field by field and judged once, in `judge`.
#include "h1_parse.h"

#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

const char *const h1_method_name[H1_METHOD_COUNT] = {
    [H1_GET] = "GET",     [H1_HEAD] = "HEAD",       [H1_POST] = "POST",       [H1_PUT] = "PUT",     [H1_DELETE] = "DELETE",
    [H1_PATCH] = "PATCH", [H1_OPTIONS] = "OPTIONS", [H1_CONNECT] = "CONNECT", [H1_TRACE] = "TRACE", [H1_OTHER] = "OTHER",
};

enum { TOKEN = 1, TARGET = 2, VALUE = 4, HEX = 8, REG_NAME = 16 };

#define T (TOKEN | TARGET | VALUE)
static const uint8_t class_of[256] = {
    ['\t'] = VALUE,
    [' '] = VALUE,
    ['!'] = T | REG_NAME,
    ['"'] = VALUE,
    ['#'] = TOKEN | VALUE,
    ['$'] = T | REG_NAME,
    ['%'] = T | REG_NAME,
    ['&'] = T | REG_NAME,
    ['\''] = T | REG_NAME,
    ['('] = TARGET | VALUE | REG_NAME,
    [')'] = TARGET | VALUE | REG_NAME,
    ['*'] = T | REG_NAME,
    ['+'] = T | REG_NAME,
    [','] = TARGET | VALUE,
    ['-'] = T | REG_NAME,
    ['.'] = T | REG_NAME,
    ['/'] = TARGET | VALUE,
    ['0' ... '9'] = T | HEX | REG_NAME,
    [':'] = TARGET | VALUE,
    [';'] = TARGET | VALUE | REG_NAME,
    ['<'] = VALUE,
    ['='] = TARGET | VALUE | REG_NAME,
    ['>'] = VALUE,
    ['?'] = TARGET | VALUE,
    ['@'] = TARGET | VALUE,
    ['A' ... 'F'] = T | HEX | REG_NAME,
    ['G' ... 'Z'] = T | REG_NAME,
    ['['] = TARGET | VALUE,
    ['\\'] = VALUE,
    [']'] = TARGET | VALUE,
    ['^'] = T,
    ['_'] = T | REG_NAME,
    ['`'] = T,
    ['a' ... 'f'] = T | HEX | REG_NAME,
    ['g' ... 'z'] = T | REG_NAME,
    ['{'] = TARGET | VALUE,
    ['|'] = T,
    ['}'] = TARGET | VALUE,
    ['~'] = T | REG_NAME,
    [0x80 ... 0xff] = VALUE,
};
#undef T

static bool is(unsigned char c, unsigned mask) { return class_of[c] & mask; }
static char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c; }

// From `at`, past every byte that a field value may have.
static size_t skip_value(const char *data, size_t at, size_t len) {
#ifdef __SSE2__
    const __m128i tab = _mm_set1_epi8('\t'), del = _mm_set1_epi8(0x7f), highest_control = _mm_set1_epi8(0x1f);
    while (len - at >= 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)(data + at));
        __m128i control = _mm_cmpeq_epi8(_mm_min_epu8(bytes, highest_control), bytes);
        __m128i stop = _mm_or_si128(_mm_andnot_si128(_mm_cmpeq_epi8(bytes, tab), control), _mm_cmpeq_epi8(bytes, del));
        unsigned found = (unsigned)_mm_movemask_epi8(stop);
        if (found) return at + (unsigned)__builtin_ctz(found);
        at += 16;
    }
#endif
    while (at < len && is((unsigned char)data[at], VALUE)) at++;
    return at;
}

static bool all(const char *text, size_t len, unsigned mask) {
    for (size_t i = 0; i < len; i++)
        if (!is((unsigned char)text[i], mask)) return false;
    return true;
}

bool h1_is_token(const char *text, size_t len) { return len && all(text, len, TOKEN); }
bool h1_is_field_value(const char *text, size_t len) { return all(text, len, VALUE); }

static bool same(const char *a, size_t len, const char *b_lower) {
    if (strlen(b_lower) != len) return false;
    for (size_t i = 0; i < len; i++)
        if (lower(a[i]) != b_lower[i]) return false;
    return true;
}

// The next item of a comma-separated list, OWS trimmed. False at the end. *at starts at 0.
static bool next_item(const char *list, size_t len, size_t *at, const char **out, size_t *out_len) {
    if (*at > len) return false;
    const char *start = list + *at, *comma = memchr(start, ',', len - *at);
    const char *end = comma ? comma : list + len;
    *at = (size_t)(end - list) + 1;
    while (start < end && (*start == ' ' || *start == '\t')) start++;
    while (end > start && (end[-1] == ' ' || end[-1] == '\t')) end--;
    *out = start;
    *out_len = (size_t)(end - start);
    return true;
}

bool h1_has_token(const char *list, size_t len, const char *token) {
    size_t at = 0, item_len;
    const char *item;
    while (next_item(list, len, &at, &item, &item_len))
        if (same(item, item_len, token)) return true;
    return false;
}

enum h1_method h1_method_of(const char *name, size_t len) {
    for (int i = 0; i < H1_OTHER; i++)
        if (strlen(h1_method_name[i]) == len && !memcmp(h1_method_name[i], name, len)) return (enum h1_method)i;
    return H1_OTHER;
}

void h1_head_init(struct h1_head *head, size_t max_bytes, size_t max_fields) {
    memset(head, 0, offsetof(struct h1_head, fields));
    head->max_bytes = (uint16_t)max_bytes;
    head->max_fields = (uint16_t)max_fields;
}

static enum h1_result bad(struct h1_head *head, int status, const char *why) {
    head->status = (uint16_t)status;
    head->why = why;
    return H1_BAD;
}

// ---- request line

static struct h1_slice slice(size_t at, size_t len) { return (struct h1_slice){(uint16_t)at, (uint16_t)len}; }

// host[:port] as in a URI. IPv6 in brackets. Empty is allowed (a server without a name); user info, path and commas are not.
static bool is_authority(const char *text, size_t len) {
    size_t i = 0;
    if (len && text[0] == '[') {
        while (++i < len && text[i] != ']')
            if (!is((unsigned char)text[i], HEX) && text[i] != ':' && text[i] != '.') return false;
        if (i >= len || i < 3) return false;
        i++;
    } else {
        while (i < len && is((unsigned char)text[i], REG_NAME)) i++;
    }
    if (i == len) return true;
    if (text[i++] != ':') return false;
    if (len - i > 5) return false;
    for (; i < len; i++)
        if (text[i] < '0' || text[i] > '9') return false;
    return true;
}

static enum h1_result split_target(struct h1_head *head, const char *data) {
    size_t at = head->target.at, end = at + head->target.len;
    if (head->method == H1_CONNECT) {
        const char *colon = memrchr(data + at, ':', end - at);
        if (!colon || colon + 1 == data + end || !is_authority(data + at, end - at)) return bad(head, 400, "CONNECT needs host:port");
        head->authority = head->target;
        return H1_DONE;
    }
    if (data[at] == '*') {
        if (end - at != 1 || head->method != H1_OPTIONS) return bad(head, 400, "'*' as target is for OPTIONS");
        head->path = head->target;
        return H1_DONE;
    }
    if (data[at] != '/') {  // absolute-form: its authority counts, not Host's
        size_t prefix = end - at > 7 && same(data + at, 7, "http://") ? 7 : end - at > 8 && same(data + at, 8, "https://") ? 8 : 0;
        if (!prefix) return bad(head, 400, "the target is neither a path nor an http URL");
        size_t host = at + prefix, host_end = host;
        while (host_end < end && data[host_end] != '/' && data[host_end] != '?') host_end++;
        if (host_end == host || !is_authority(data + host, host_end - host)) return bad(head, 400, "the target's host is invalid");
        head->authority = slice(host, host_end - host);
        at = host_end;
    }
    const char *mark = memchr(data + at, '?', end - at);
    size_t path_end = mark ? (size_t)(mark - data) : end;
    head->path = slice(at, path_end - at);
    if (mark) head->has_query = true, head->query = slice(path_end + 1, end - path_end - 1);
    return H1_DONE;
}

// `line` without CRLF
static enum h1_result parse_request_line(struct h1_head *head, const char *data, size_t at, size_t len) {
    const char *line = data + at, *end = line + len, *p = line;
    while (p < end && is((unsigned char)*p, TOKEN)) p++;
    size_t method_len = (size_t)(p - line);
    if (p == end || *p != ' ' || !method_len)
        return bad(head, 400, "the request line is not: method, one space, target, one space, version");
    const char *target = ++p;
    while (p < end && is((unsigned char)*p, TARGET)) p++;
    size_t target_len = (size_t)(p - target);
    if (p == end || *p != ' ' || !target_len)
        return bad(head, 400, "the request line is not: method, one space, target, one space, version");
    p++;
    if (end - p != 8 || memcmp(p, "HTTP/", 5) || p[5] < '0' || p[5] > '9' || p[6] != '.' || p[7] < '0' || p[7] > '9')
        return bad(head, 400, "the version is not HTTP/1.1");
    if (p[5] != '1') return bad(head, 505, "only HTTP/1 is spoken here");
    if (target_len > LIMIT_TARGET_BYTES) return bad(head, 414, "the target is too long");
    if (method_len > LIMIT_METHOD_BYTES) return bad(head, 501, "no such method");
    head->minor = p[7] == '0' ? 0 : 1;
    head->method = h1_method_of(line, method_len);
    head->method_text = slice(at, method_len);
    head->target = slice((size_t)(target - data), target_len);
    return split_target(head, data);
}

// ---- fields

// Judges a Transfer-Encoding line. Only "chunked" alone is served; a valid list of tokens that ends in chunked is 501.
static enum h1_result add_coding(struct h1_head *head, const char *value, size_t len) {
    size_t at = 0, item_len;
    const char *item;
    while (next_item(value, len, &at, &item, &item_len)) {
        if (!h1_is_token(item, item_len) || head->coded_chunked)
            return bad(head, 400, "Transfer-Encoding is not a list of codings that ends in chunked");
        if (same(item, item_len, "chunked"))
            head->coded_chunked = true;
        else if (same(item, item_len, "identity"))
            return bad(head, 400, "Transfer-Encoding: identity is no coding");
        else
            head->coded_other = true;
    }
    head->seen_coding = true;
    return H1_DONE;
}

static enum h1_result add_length(struct h1_head *head, const char *value, size_t len) {
    if (head->seen_length) return bad(head, 400, "more than one Content-Length");
    if (!len || len > 18) return bad(head, 400, "Content-Length is not a number");
    uint64_t number = 0;
    for (size_t i = 0; i < len; i++) {
        if (value[i] < '0' || value[i] > '9') return bad(head, 400, "Content-Length is not a number");
        number = number * 10 + (uint64_t)(value[i] - '0');
    }
    head->seen_length = true;
    head->length = number;
    return H1_DONE;
}

static enum h1_result add_host(struct h1_head *head, const char *data, struct h1_slice value) {
    if (head->seen_host) return bad(head, 400, "more than one Host");
    if (!is_authority(data + value.at, value.len)) return bad(head, 400, "Host is not a host name with an optional port");
    head->seen_host = true;
    head->host = value;
    return H1_DONE;
}

static void add_connection(struct h1_head *head, const char *value, size_t len) {
    if (h1_has_token(value, len, "close")) head->token_close = true;
    if (h1_has_token(value, len, "keep-alive")) head->token_keep_alive = true;
    if (h1_has_token(value, len, "upgrade")) head->token_upgrade = true;
}

// The two fields that frame a body are taken only in the form that everybody reads alike: some peers do not trim tabs.
static bool has_tab_around(const char *value, size_t len) {
    const char *before = value, *after = value + len;
    while (before[-1] == ' ') before--;
    while (*after == ' ') after++;
    return before[-1] == '\t' || *after == '\t';
}

// The fields that decide framing and the connection. All others are only stored.
static enum h1_result add_field(struct h1_head *head, const char *data, struct h1_field field) {
    const char *name = data + field.name.at, *value = data + field.value.at;
    size_t len = field.value.len;
    switch (field.name.len) {
        case 4: return same(name, 4, "host") ? add_host(head, data, field.value) : H1_DONE;
        case 6:
            if (same(name, 6, "expect")) {
                if (same(value, len, "100-continue"))
                    head->expect_continue = true;
                else
                    head->expect_other = true;
            }
            return H1_DONE;
        case 7:
            if (same(name, 7, "upgrade")) head->upgrade = field.value;
            return H1_DONE;
        case 10:
            if (same(name, 10, "connection")) add_connection(head, value, len);
            return H1_DONE;
        case 14:
            if (!same(name, 14, "content-length")) return H1_DONE;
            return has_tab_around(value, len) ? bad(head, 400, "a tab beside Content-Length") : add_length(head, value, len);
        case 17:
            if (!same(name, 17, "transfer-encoding")) return H1_DONE;
            return has_tab_around(value, len) ? bad(head, 400, "a tab beside Transfer-Encoding") : add_coding(head, value, len);
        default: return H1_DONE;
    }
}

// `line` without CRLF. Offsets in *out are from `data`.
static const char *split_field(const char *data, size_t at, size_t len, struct h1_field *out) {
    const char *line = data + at, *end = line + len, *p = line;
    if (*p == ' ' || *p == '\t') return "a field line begins with white space";
    while (p < end && is((unsigned char)*p, TOKEN)) p++;
    if (p == line || p == end || *p != ':') return "a field line is not: name, colon, value";
    out->name = slice(at, (size_t)(p - line));
    p++;
    while (p < end && (*p == ' ' || *p == '\t')) p++;
    while (end > p && (end[-1] == ' ' || end[-1] == '\t')) end--;
    out->value = slice((size_t)(p - data), (size_t)(end - p));
    return NULL;
}

static enum h1_result judge(struct h1_head *head, const char *data) {
    if (!head->seen_host && head->minor) return bad(head, 400, "HTTP/1.1 needs a Host");
    if (head->authority.len && head->method != H1_CONNECT) {
        struct h1_slice a = head->authority, b = head->host;
        if (head->seen_host && (a.len != b.len || strncasecmp(data + a.at, data + b.at, a.len)))
            return bad(head, 400, "the target's host is not Host");
    } else if (!head->authority.len) {
        head->authority = head->host;
    }
    if (head->seen_coding) {
        if (!head->minor) return bad(head, 400, "Transfer-Encoding in HTTP/1.0");
        if (head->seen_length) return bad(head, 400, "Transfer-Encoding together with Content-Length");
        if (!head->coded_chunked) return bad(head, 400, "Transfer-Encoding does not end in chunked");
        if (head->coded_other) return bad(head, 501, "no such transfer coding");
        head->framing = H1_CHUNKED;
    } else if (head->seen_length && head->length) {
        head->framing = H1_LENGTH;
    }
    if (!head->minor) head->expect_continue = head->expect_other = false;
    if (head->expect_other) return bad(head, 417, "no such expectation");
    head->close = head->token_close || (!head->minor && !head->token_keep_alive);
    bool may_upgrade = head->minor && head->framing == H1_NO_BODY && (head->method == H1_GET || head->method == H1_CONNECT);
    if (!head->token_upgrade || !may_upgrade) head->upgrade = slice(0, 0);
    return H1_DONE;
}

// ---- lines

static const char preface[] = "PRI * HTTP/2.0";

static enum h1_result on_line(struct h1_head *head, const char *data, size_t at, size_t len) {
    if (!head->have_request_line) {
        if (!len) return ++head->empty_lines > LIMIT_EMPTY_LINES ? bad(head, 400, "too many empty lines") : H1_MORE;
        if (len == sizeof preface - 1 && !memcmp(data + at, preface, len)) return bad(head, 400, "HTTP/2 is not spoken here");
        if (parse_request_line(head, data, at, len) == H1_BAD) return H1_BAD;
        head->have_request_line = true;
        return H1_MORE;
    }
    if (!len) return judge(head, data) == H1_BAD ? H1_BAD : H1_DONE;
    if (head->field_count == head->max_fields) return bad(head, 431, "too many fields");
    struct h1_field *field = &head->fields[head->field_count];
    const char *why = split_field(data, at, len, field);
    if (why) return bad(head, 400, why);
    head->field_count++;
    return add_field(head, data, *field) == H1_BAD ? H1_BAD : H1_MORE;
}

// An unfinished request line can be wrong already: a client that never ends it must not wait for a time-out.
static enum h1_result judge_unfinished(struct h1_head *head, const char *data, size_t len) {
    if (head->have_request_line) {
        if (len > head->line && (data[head->line] == ' ' || data[head->line] == '\t'))
            return bad(head, 400, "a field line begins with white space");
        return H1_MORE;
    }
    const char *line = data + head->line, *end = data + len, *p = line;
    while (p < end && is((unsigned char)*p, TOKEN)) p++;
    if (p - line > LIMIT_METHOD_BYTES) return bad(head, 501, "no such method");
    if (p == end || (p == line && *p == '\r')) return H1_MORE;
    if (*p != ' ' || p == line) return bad(head, 400, "the request line does not begin with a method and a space");
    if (end - p > LIMIT_TARGET_BYTES + 16) return bad(head, 414, "the target is too long");
    return H1_MORE;
}

static enum h1_result too_large(struct h1_head *head) {
    if (!head->have_request_line) return bad(head, 414, "the target is too long");
    return bad(head, 431, "the head is too large");
}

enum h1_result h1_head_parse(struct h1_head *head, const char *data, size_t len) {
    bool capped = len > head->max_bytes;
    if (capped) len = head->max_bytes;
    size_t at = head->scanned;
    for (;;) {
        // The first byte that no line may contain: in a complete line that is its CR.
        at = skip_value(data, at, len);
        if (at == len || (data[at] == '\r' && at + 1 == len)) break;
        if (data[at] != '\r' || data[at + 1] != '\n')
            return bad(head, 400, data[at] == '\n' ? "a line ends in LF alone" : "a control character in the head");
        enum h1_result result = on_line(head, data, head->line, at - head->line);
        at += 2;
        head->line = (uint16_t)at;
        if (result == H1_DONE) head->size = (uint16_t)at;
        if (result != H1_MORE) return result;
    }
    head->scanned = (uint16_t)at;
    if (judge_unfinished(head, data, len) == H1_BAD) return H1_BAD;
    return capped ? too_large(head) : H1_MORE;
}

// ---- bodies

//   SIZE --[;NAME[=VALUE or QUOTED]]*--CRLF--> DATA --CRLF--> SIZE ...       size 0 --> TRAILER --> END
enum { SIZE, NAME, VALUE_OF, QUOTED, PAIR, AFTER_QUOTED, SIZE_LF, DATA, DATA_CR, DATA_LF, TRAILER, END };

void h1_body_init(struct h1_body *body, const struct h1_head *head) {
    *body = (struct h1_body){.framing = head->framing, .left = head->framing == H1_LENGTH ? head->length : 0};
}

static enum h1_result bad_body(struct h1_body *body, int status, const char *why) {
    body->status = (uint16_t)status;
    body->why = why;
    return H1_BAD;
}

static enum h1_result take_data(struct h1_body *body, const char *data, size_t len, struct h1_piece *out) {
    size_t take = len < body->left ? len : (size_t)body->left;
    body->left -= take;
    *out = (struct h1_piece){.used = take, .data = take ? data : NULL, .len = take};
    return H1_MORE;
}

static bool is_forbidden_trailer(const char *name, size_t len) {
    static const char *const names[] = {"authorization",
                                        "set-cookie",
                                        "cookie",
                                        "te",
                                        "trailer",
                                        "connection",
                                        "keep-alive",
                                        "upgrade",
                                        "expect",
                                        "cache-control",
                                        "max-forwards",
                                        "range",
                                        "if-match",
                                        "if-none-match",
                                        "if-modified-since",
                                        "if-unmodified-since",
                                        "if-range",
                                        "www-authenticate",
                                        "proxy-authenticate",
                                        "proxy-authorization",
                                        "age",
                                        "date",
                                        "expires",
                                        "location",
                                        "retry-after",
                                        "vary",
                                        "warning",
                                        "forwarded"};
    if (len > 8 && same(name, 8, "content-")) return true;
    if (len > 12 && same(name, 12, "x-forwarded-")) return true;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (same(name, len, names[i])) return true;
    return false;
}

// One trailer line, or the blank line that ends the body. Needs the whole line in `data`.
static enum h1_result step_trailer(struct h1_body *body, const char *data, size_t len, struct h1_piece *out) {
    size_t at = 0;
    while (at < len && is((unsigned char)data[at], VALUE)) at++;
    if (at + body->trailer_bytes > LIMIT_TRAILER_BYTES) return bad_body(body, 431, "the trailer is too large");
    if (at == len || (data[at] == '\r' && at + 1 == len)) return *out = (struct h1_piece){0}, H1_MORE;
    if (data[at] != '\r' || data[at + 1] != '\n') return bad_body(body, 400, "a control character in the trailer");
    *out = (struct h1_piece){.used = at + 2};
    if (!at) return body->state = END, H1_DONE;
    struct h1_field field;
    const char *why = split_field(data, 0, at, &field);
    if (why) return bad_body(body, 400, why);
    const char *name = data + field.name.at;
    size_t name_len = field.name.len;
    if (same(name, name_len, "content-length") || same(name, name_len, "transfer-encoding") || same(name, name_len, "host"))
        return bad_body(body, 400, "a field that frames or routes in the trailer");
    body->trailer_bytes += (uint32_t)at + 2;
    if (++body->trailer_count > LIMIT_HEADER_COUNT) return bad_body(body, 431, "too many trailer fields");
    if (is_forbidden_trailer(name, name_len)) return H1_MORE;
    out->trailer = name;
    out->trailer_name_len = name_len;
    out->trailer_value = data + field.value.at;
    out->trailer_value_len = field.value.len;
    return H1_MORE;
}

static int hex(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// One byte of a chunk's extensions: where it leads, -1: nowhere. `digits` says whether the name or value has begun.
static int next_in_extension(struct h1_body *body, char c) {
    bool begun = body->digits, token = is((unsigned char)c, TOKEN), ends = c == ';' || c == '\r';
    int after = c == ';' ? NAME : SIZE_LF;
    body->digits = !ends;
    switch (body->state) {
        case NAME:
            if (token) return NAME;
            if (c == '=' && begun) return body->digits = 0, VALUE_OF;
            return ends && begun ? after : -1;
        case VALUE_OF:
            if (token) return VALUE_OF;
            if (c == '"' && !begun) return QUOTED;
            return ends && begun ? after : -1;
        case QUOTED:
            body->digits = 1;
            if (c == '"' || c == '\\') return c == '"' ? AFTER_QUOTED : PAIR;
            return is((unsigned char)c, VALUE) ? QUOTED : -1;
        case PAIR: return is((unsigned char)c, VALUE) ? QUOTED : -1;
        default: return ends ? after : -1;
    }
}

// The size line and the CRLF after data, byte by byte.
static enum h1_result step_framing(struct h1_body *body, const char *data, size_t len, struct h1_piece *out) {
    size_t at = 0;
    for (; at < len && body->state != DATA && body->state != TRAILER; at++) {
        char c = data[at];
        switch (body->state) {
            case SIZE: {
                int digit = hex(c);
                if (digit >= 0) {
                    if (++body->digits > LIMIT_CHUNK_SIZE_DIGITS) return bad_body(body, 400, "a chunk size is too large");
                    body->left = body->left * 16 + (uint64_t)digit;
                } else if (!body->digits || (c != ';' && c != '\r')) {
                    return bad_body(body, 400, "a chunk size is not a hexadecimal number");
                } else {
                    body->state = c == ';' ? NAME : SIZE_LF;
                    body->digits = 0;
                }
                break;
            }
            case NAME:
            case VALUE_OF:
            case QUOTED:
            case PAIR:
            case AFTER_QUOTED: {
                int next = next_in_extension(body, c);
                if (next < 0) return bad_body(body, 400, "a chunk extension is invalid");
                if (++body->extension_bytes > LIMIT_CHUNK_EXTENSION_BYTES) return bad_body(body, 413, "chunk extensions are too large");
                body->state = (uint8_t)next;
                break;
            }
            case SIZE_LF:
                if (c != '\n') return bad_body(body, 400, "a chunk size line does not end in CR LF");
                body->digits = 0;
                body->state = body->left ? DATA : TRAILER;
                break;
            case DATA_CR:
                if (c != '\r') return bad_body(body, 400, "a chunk is longer than its size");
                body->state = DATA_LF;
                break;
            case DATA_LF:
                if (c != '\n') return bad_body(body, 400, "a chunk does not end in CR LF");
                body->state = SIZE;
                break;
            default: break;
        }
    }
    *out = (struct h1_piece){.used = at};
    return H1_MORE;
}

enum h1_result h1_body_step(struct h1_body *body, const char *data, size_t len, struct h1_piece *out) {
    *out = (struct h1_piece){0};
    switch (body->framing) {
        case H1_NO_BODY: return H1_DONE;
        case H1_LENGTH: return body->left ? take_data(body, data, len, out) : H1_DONE;
        case H1_CHUNKED: break;
    }
    switch (body->state) {
        case END: return H1_DONE;
        case TRAILER: return step_trailer(body, data, len, out);
        case DATA:
            take_data(body, data, len, out);
            if (!body->left) body->state = DATA_CR;
            return H1_MORE;
        default: return step_framing(body, data, len, out);
    }
}
