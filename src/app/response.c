// SPDX-License-Identifier: MIT
// Koa's response: status and body inference, and the answer's fields. The fields are the exchange's own array, so that nothing
// is copied when the answer leaves.
#include <sys/types.h>
#include "ctx.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mime.h"
#include "url.h"

static bool is_empty_status(int status) { return status == 204 || status == 205 || status == 304; }
static bool is_content_length(struct pando_str name) { return name.len == 14 && !strncasecmp(name.data, "content-length", 14); }

// ---- fields

struct exchange_field *response_find(const struct pando_ctx *ctx, struct pando_str name) {
    pando_exchange *exchange = ctx->exchange;
    for (unsigned i = 0; i < exchange->field_count; i++) {
        struct exchange_field *field = &exchange->fields[i];
        if (field->name.len == name.len && (field->name.data == name.data || !strncasecmp(field->name.data, name.data, name.len)))
            return field;
    }
    return NULL;
}

static int add(struct pando_ctx *ctx, struct pando_str name, struct pando_str value) {
    pando_exchange *exchange = ctx->exchange;
    if (exchange->field_count == exchange->field_cap) {
        unsigned cap = exchange->field_cap * 2u;
        struct exchange_field *fields = cap <= EXCHANGE_FIELDS_MAX ? arena_take(ctx_arena(ctx), cap * sizeof *fields) : NULL;
        if (!fields) return -E2BIG;
        memcpy(fields, exchange->fields, exchange->field_count * sizeof *fields);
        exchange->fields = fields;
        exchange->field_cap = (uint16_t)cap;
    }
    exchange->fields[exchange->field_count++] = (struct exchange_field){name, value};
    return 0;
}

static void remove_all(struct pando_ctx *ctx, struct pando_str name) {
    pando_exchange *exchange = ctx->exchange;
    unsigned to = 0;
    for (unsigned i = 0; i < exchange->field_count; i++) {
        struct exchange_field field = exchange->fields[i];
        if (field.name.len != name.len || strncasecmp(field.name.data, name.data, name.len)) exchange->fields[to++] = field;
    }
    exchange->field_count = (uint16_t)to;
}

void response_set_static(struct pando_ctx *ctx, struct pando_str name, struct pando_str value) {
    struct exchange_field *field = response_find(ctx, name);
    if (field)
        field->value = value;
    else
        add(ctx, name, value);
}

static int set_length_text(struct pando_ctx *ctx, struct pando_str value) {
    uint64_t number = 0;
    if (!value.len || value.len > 18) return -EINVAL;
    for (size_t i = 0; i < value.len; i++) {
        if (value.data[i] < '0' || value.data[i] > '9') return -EINVAL;
        number = number * 10 + (uint64_t)(value.data[i] - '0');
    }
    ctx->length = number;
    ctx->has_length = true;
    return 0;
}

static int check(struct pando_str name, struct pando_str value) {
    return h1_is_token(name.data, name.len) && h1_is_field_value(value.data, value.len) ? 0 : -EINVAL;
}

int response_set(struct pando_ctx *ctx, struct pando_str name, struct pando_str value) {
    int result = check(name, value);
    if (result || ctx->exchange->head_sent) return result;
    if (is_content_length(name)) return set_length_text(ctx, value);
    if (name.len == 17 && !strncasecmp(name.data, "transfer-encoding", 17)) return -EINVAL;  // framing is the server's
    if (name.len == 10 && !strncasecmp(name.data, "connection", 10)) return pando_exchange_add_header(ctx->exchange, name, value);
    struct exchange_field *field = response_find(ctx, name);
    if (!field) return add(ctx, name, value);
    remove_all(ctx, name);
    return add(ctx, name, value);
}

int pando_set(pando_ctx *ctx, const char *name, const char *format, ...) {
    struct pando_str value = {0};
    va_list args;
    va_start(args, format);
    value.data = arena_vprintf(ctx_arena(ctx), &value.len, format, args);
    va_end(args);
    if (!value.data) return -ENOMEM;
    if (strlen(value.data) != value.len) return -EINVAL;
    char *copy = arena_copy(ctx_arena(ctx), name, strlen(name));
    return copy ? response_set(ctx, pando_str_of(copy), value) : -ENOMEM;
}

int pando_append(pando_ctx *ctx, const char *name, const char *value) {
    struct pando_str n = pando_str_of(ctx_copy(ctx, name, strlen(name))), v = pando_str_of(ctx_copy(ctx, value, strlen(value)));
    int result = check(n, v);
    return result || ctx->exchange->head_sent ? result : add(ctx, n, v);
}

void pando_remove(pando_ctx *ctx, const char *name) {
    if (ctx->exchange->head_sent) return;
    if (is_content_length(pando_str_of(name))) ctx->has_length = false;
    remove_all(ctx, pando_str_of(name));
}

void response_wipe(struct pando_ctx *ctx) {
    ctx->exchange->field_count = 0;
    ctx->has_length = false;
    ctx->message = NULL;
}

const char *pando_sent_header(pando_ctx *ctx, const char *name) {
    if (is_content_length(pando_str_of(name))) return ctx->has_length ? pando_printf(ctx, "%llu", (unsigned long long)ctx->length) : "";
    const struct exchange_field *field = response_find(ctx, pando_str_of(name));
    return field ? ctx_copy(ctx, field->value.data, field->value.len) : "";
}

bool pando_has(pando_ctx *ctx, const char *name) {
    return is_content_length(pando_str_of(name)) ? ctx->has_length : response_find(ctx, pando_str_of(name)) != NULL;
}

int pando_vary(pando_ctx *ctx, const char *field) {
    if (ctx->exchange->head_sent) return 0;
    const char *old = pando_sent_header(ctx, "Vary");
    if (!strcmp(old, "*")) return 0;
    char *text = ctx_copy(ctx, field, strlen(field)), *save = NULL;
    const char *value = old;
    for (char *item = strtok_r(text, ", ", &save); item; item = strtok_r(NULL, ", ", &save)) {
        if (!h1_is_token(item, strlen(item))) return -EINVAL;
        if (!strcmp(item, "*")) return pando_set(ctx, "Vary", "*");
        if (!h1_has_token(value, strlen(value), ctx_lower(ctx, item))) value = *value ? pando_printf(ctx, "%s, %s", value, item) : item;
    }
    return *value ? pando_set(ctx, "Vary", "%s", value) : 0;
}

// ---- status, type, length

int pando_status(const pando_ctx *ctx) { return ctx->status; }

int pando_set_status(pando_ctx *ctx, int status) {
    if (ctx->exchange->head_sent) return 0;
    if (status < 100 || status > 999) return -EINVAL;
    ctx->explicit_status = true;
    ctx->status = status;
    ctx->message = NULL;
    if (is_empty_status(status) && ctx->body_kind > BODY_NULL) pando_body_null(ctx);
    return 0;
}

int pando_set_message(pando_ctx *ctx, const char *reason) {
    if (!h1_is_field_value(reason, strlen(reason))) return -EINVAL;
    ctx->message = ctx_copy(ctx, reason, strlen(reason));
    return 0;
}

static const struct pando_str content_type = {"Content-Type", 12};

int pando_set_type(pando_ctx *ctx, const char *type) {
    struct pando_str value = mime_content_type(ctx, type);
    if (!value.data) return pando_remove(ctx, "Content-Type"), 0;
    return response_set(ctx, content_type, value);
}

const char *pando_type(pando_ctx *ctx) {
    const struct exchange_field *field = response_find(ctx, content_type);
    if (!field) return "";
    size_t len = field->value.len;
    const char *semicolon = memchr(field->value.data, ';', len);
    return ctx_copy(ctx, field->value.data, semicolon ? (size_t)(semicolon - field->value.data) : len);
}

int pando_set_length(pando_ctx *ctx, uint64_t length) {
    ctx->length = length;
    ctx->has_length = true;
    return 0;
}

int64_t pando_length(pando_ctx *ctx) {
    if (ctx->has_length) return (int64_t)ctx->length;
    if (ctx->body_kind == BODY_TEXT || ctx->body_kind == BODY_BYTES) return (int64_t)ctx->body.len;
    if (ctx->body_kind == BODY_FILE) return (int64_t)ctx->file_len;
    if (ctx->body_kind == BODY_JSON) return (int64_t)json_dumpb(ctx->json, NULL, 0, JSON_COMPACT | JSON_ENCODE_ANY);
    return -1;
}

int pando_set_etag(pando_ctx *ctx, const char *etag) {
    bool quoted = *etag == '"' || !strncmp(etag, "W/\"", 3);
    return pando_set(ctx, "ETag", quoted ? "%s" : "\"%s\"", etag);
}

int pando_set_last_modified(pando_ctx *ctx, int64_t second) {
    char date[32];
    return pando_set(ctx, "Last-Modified", "%s", h1_date_text(second, date));
}

// ---- body

static void drop_body(struct pando_ctx *ctx) {
    if (ctx->json) json_decref(ctx->json);
    ctx->json = NULL;
}

// What every body that is not null does first.
static void begin_body(struct pando_ctx *ctx, enum body_kind kind) {
    drop_body(ctx);
    ctx->body_kind = kind;
    ctx->has_length = false;
    if (!ctx->explicit_status) ctx->status = 200;
}

static void set_type_once(struct pando_ctx *ctx, struct pando_str type) {
    if (!response_find(ctx, content_type)) add(ctx, content_type, type);
}

static bool looks_like_html(struct pando_str text) {
    size_t i = 0;
    while (i < text.len && (text.data[i] == ' ' || (text.data[i] >= '\t' && text.data[i] <= '\r'))) i++;
    return i < text.len && text.data[i] == '<';
}

void pando_body_static(pando_ctx *ctx, struct pando_str text) {
    begin_body(ctx, BODY_TEXT);
    set_type_once(ctx, looks_like_html(text) ? PANDO_STR("text/html; charset=utf-8") : PANDO_STR("text/plain; charset=utf-8"));
    ctx->body = text;
}

void pando_body_text(pando_ctx *ctx, const char *text) {
    size_t len = strlen(text);
    pando_body_static(ctx, (struct pando_str){ctx_copy(ctx, text, len), len});
}

void pando_body_printf(pando_ctx *ctx, const char *format, ...) {
    struct pando_str text = {0};
    va_list args;
    va_start(args, format);
    text.data = arena_vprintf(ctx_arena(ctx), &text.len, format, args);
    va_end(args);
    if (!text.data) pando_throw(ctx, 503, "out of memory");
    pando_body_static(ctx, text);
}

void pando_body_buffer(pando_ctx *ctx, const void *data, size_t len) {
    const char *copy = ctx_copy(ctx, data, len);
    begin_body(ctx, BODY_BYTES);
    set_type_once(ctx, PANDO_STR("application/octet-stream"));
    ctx->body = (struct pando_str){copy, len};
}

void pando_body_json_take(pando_ctx *ctx, json_t *value) {
    if (!value) pando_throw(ctx, 500, "the JSON value of the answer could not be built");
    begin_body(ctx, BODY_JSON);
    ctx->json = value;
    const char *type = pando_type(ctx);
    if (!strcasestr(type, "json")) response_set_static(ctx, content_type, PANDO_STR("application/json; charset=utf-8"));
}

void pando_body_json(pando_ctx *ctx, const char *format, ...) {
    json_error_t error;
    va_list args;
    va_start(args, format);
    json_t *value = json_vpack_ex(&error, 0, format, args);
    va_end(args);
    pando_body_json_take(ctx, value);
}

void pando_body_stream(pando_ctx *ctx, pando_handler producer, void *arg) {
    bool keep_length = ctx->body_kind == BODY_NONE && ctx->has_length;
    begin_body(ctx, BODY_STREAM);
    ctx->has_length = keep_length;
    set_type_once(ctx, PANDO_STR("application/octet-stream"));
    ctx->producer = producer;
    ctx->producer_arg = arg;
}

void response_body_file(struct pando_ctx *ctx, int fd, uint64_t at, uint64_t len) {
    begin_body(ctx, BODY_FILE);
    set_type_once(ctx, PANDO_STR("application/octet-stream"));
    ctx->file_fd = fd;
    ctx->file_at = at;
    ctx->file_len = len;
}

static void close_fd(void *fd) { close((int)(intptr_t)fd); }

int pando_body_file(pando_ctx *ctx, const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat status;
    if (fd < 0) return -errno;
    int result = fstat(fd, &status) ? -errno : S_ISREG(status.st_mode) ? 0 : -EISDIR;
    if (result) return close(fd), result;
    pando_defer(ctx, close_fd, (void *)(intptr_t)fd);
    struct pando_str type = mime_of_name(path);
    if (type.data) set_type_once(ctx, type);
    response_body_file(ctx, fd, 0, (uint64_t)status.st_size);
    return 0;
}

void pando_body_null(pando_ctx *ctx) {
    drop_body(ctx);
    if (!is_empty_status(ctx->status) && !strcmp(pando_type(ctx), "application/json")) {
        ctx->body_kind = BODY_TEXT;  // JSON's own null
        ctx->body = PANDO_STR("null");
        ctx->has_length = false;
        return;
    }
    if (!is_empty_status(ctx->status)) ctx->status = 204, ctx->explicit_status = true, ctx->message = NULL;
    ctx->body_kind = BODY_NULL;
    ctx->explicit_null = true;
    ctx->has_length = false;
    remove_all(ctx, content_type);
}

bool pando_has_body(const pando_ctx *ctx) { return ctx->body_kind > BODY_NULL; }
struct pando_str pando_body(const pando_ctx *ctx) {
    return ctx->body_kind == BODY_TEXT || ctx->body_kind == BODY_BYTES ? ctx->body : (struct pando_str){0};
}

// ---- streaming

bool pando_head_sent(const pando_ctx *ctx) { return ctx->exchange->head_sent; }
bool pando_writable(const pando_ctx *ctx) { return ctx->exchange->conn && !ctx->exchange->ended; }

static void ready_head(struct pando_ctx *ctx) {
    pando_exchange *exchange = ctx->exchange;
    if (exchange->head_sent || !pando_writable(ctx)) return;
    if (ctx->status == 404 && !ctx->explicit_status) ctx->status = 200;
    exchange->status = (uint16_t)ctx->status;
    exchange->reason = ctx->message ? pando_str_of(ctx->message) : (struct pando_str){0};
    if (ctx->has_length) exchange->declared = ctx->length;
}

int pando_write(pando_ctx *ctx, const void *data, size_t len) {
    const char *at = data;
    ready_head(ctx);
    while (len) {
        ssize_t taken = pando_exchange_write(ctx->exchange, at, len);
        if (taken < 0) return (int)taken;
        at += taken;
        len -= (size_t)taken;
        if (!len) break;
        ctx_suspend(ctx, WAIT_WRITABLE);
        if (ctx->cancelled) return -ECANCELED;
    }
    // HEAD, 204, 304: the head was the whole answer. Nobody slows down a handler that streams on, so it is told.
    if (ctx->exchange->bodyless && pando_writable(ctx)) pando_exchange_end(ctx->exchange, NULL, 0);
    return 0;
}

void pando_flush_headers(pando_ctx *ctx) {
    ready_head(ctx);
    if (pando_exchange_write(ctx->exchange, "", 0) >= 0) pando_exchange_flush(ctx->exchange);
}

// ---- redirect, back, attachment

// An http URL is normalised, so that what a browser makes of it is what we meant: host in lower case, '/' for an empty path.
static const char *normalise(struct pando_ctx *ctx, const char *url) {
    struct pando_str scheme, host, rest;
    if (strncasecmp(url, "http://", 7) && strncasecmp(url, "https://", 8)) return url;
    if (!url_split(url, &scheme, &host, &rest)) return NULL;
    char *out = pando_alloc(ctx, strlen(url) + 2), *to = out;
    for (size_t i = 0; i < (size_t)(rest.data - url); i++) *to++ = (char)(url[i] >= 'A' && url[i] <= 'Z' ? url[i] | 0x20 : url[i]);
    if (!rest.len || (*rest.data != '/' && *rest.data != '\\')) *to++ = '/';
    bool in_path = true;
    for (size_t i = 0; i < rest.len; i++) {
        if (rest.data[i] == '?' || rest.data[i] == '#') in_path = false;
        *to++ = in_path && rest.data[i] == '\\' ? '/' : rest.data[i];
    }
    *to = '\0';
    char *encoded = pando_alloc(ctx, 3 * (size_t)(to - out) + 1);
    url_encode(out, (size_t)(to - out), encoded);
    return encoded;
}

int pando_redirect(pando_ctx *ctx, const char *url) {
    if (!(url = normalise(ctx, url))) return -EINVAL;
    size_t len = strlen(url);
    char *encoded = pando_alloc(ctx, 3 * len + 1);
    size_t encoded_len = url_encode(url, len, encoded);
    int result = response_set(ctx, PANDO_STR("Location"), (struct pando_str){encoded, encoded_len});
    if (result) return result;
    static const int kept[] = {300, 301, 302, 303, 305, 307, 308};
    bool keep = false;
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) keep |= ctx->status == kept[i];
    if (!keep) pando_set_status(ctx, 302);
    bool html = pando_accepts(ctx, "html");
    if (html) {
        char *escaped = pando_alloc(ctx, 6 * len + 1);
        url_escape_html(url, len, escaped);
        url = escaped;
    }
    response_set_static(ctx, content_type, html ? PANDO_STR("text/html; charset=utf-8") : PANDO_STR("text/plain; charset=utf-8"));
    pando_body_printf(ctx, "Redirecting to %s.", url);
    return 0;
}

int pando_back(pando_ctx *ctx, const char *alternative) {
    const char *referrer = pando_header(ctx, "Referrer"), *host = pando_host(ctx);
    struct pando_str scheme, from, rest;
    if (*referrer) {
        bool relative = *referrer == '/' && referrer[1] != '/' && referrer[1] != '\\';
        bool same = url_split(referrer, &scheme, &from, &rest) && from.len == strlen(host) && !strncasecmp(from.data, host, from.len);
        if (relative || same) return pando_redirect(ctx, referrer);
    }
    return pando_redirect(ctx, alternative ? alternative : "/");
}

// RFC 6266: a quoted ASCII name, and filename* when that is not the whole truth.
int pando_attachment(pando_ctx *ctx, const char *filename, const char *type) {
    if (!type) type = "attachment";
    if (!filename) return pando_set(ctx, "Content-Disposition", "%s", type);
    if (!response_find(ctx, content_type)) {
        struct pando_str mime = mime_of_name(filename);
        if (mime.data) response_set(ctx, content_type, mime);
    }
    const char *slash = strrchr(filename, '/');
    if (slash) filename = slash + 1;
    size_t len = strlen(filename);
    if (h1_is_token(filename, len) && !strpbrk(filename, "%'*"))
        return pando_set(ctx, "Content-Disposition", "%s; filename=\"%s\"", type, filename);
    char *quoted = pando_alloc(ctx, 2 * len + 1), *to = quoted;
    bool exact = true;
    const char *latin;
    for (latin = filename; *latin; latin++) {
        unsigned char c = (unsigned char)*latin;
        if (c < 0x20 || c == 0x7f) return -EINVAL;
        if (c >= 0x80) {
            exact = false;
            if ((c & 0xc0) != 0x80) *to++ = '?';  // one for each character, not for each byte
            continue;
        }
        if (c == '"' || c == '\\') *to++ = '\\';
        if (c == '%' && latin[1] && latin[2] && strspn(latin + 1, "0123456789abcdefABCDEF") >= 2) exact = false;
        *to++ = (char)c;
    }
    *to = '\0';
    if (exact) return pando_set(ctx, "Content-Disposition", "%s; filename=\"%s\"", type, quoted);
    char *encoded = pando_alloc(ctx, 3 * len + 1), *tight = pando_alloc(ctx, 9 * len + 1);
    url_encode_component(filename, len, encoded);
    for (to = tight; *encoded; encoded++) {
        const char *with = *encoded == '\'' ? "%27" : *encoded == '(' ? "%28" : *encoded == ')' ? "%29" : *encoded == '*' ? "%2A" : NULL;
        if (with)
            to = stpcpy(to, with);
        else
            *to++ = *encoded;
    }
    *to = '\0';
    return pando_set(ctx, "Content-Disposition", "%s; filename=\"%s\"; filename*=UTF-8''%s", type, quoted, tight);
}
