// SPDX-License-Identifier: MIT
// Koa's request: everything is made when it is asked for, from views of the exchange, and kept in the ctx.
#include <sys/types.h>
#include "ctx.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <strings.h>

#include "mime.h"
#include "url.h"

static char *copy(pando_ctx *ctx, struct pando_str text) { return ctx_copy(ctx, text.data, text.len); }

const char *ctx_lower(struct pando_ctx *ctx, const char *text) {
    char *out = ctx_copy(ctx, text, strlen(text));
    for (char *at = out; *at; at++)
        if (*at >= 'A' && *at <= 'Z') *at |= 0x20;
    return out;
}

// ---- method and URL

const char *pando_method(const pando_ctx *ctx) {
    if (ctx->method) return ctx->method;
    if (ctx->exchange->head.method != H1_OTHER) return h1_method_name[ctx->exchange->head.method];
    return copy((pando_ctx *)(uintptr_t)ctx, pando_exchange_method(ctx->exchange));
}

const char *pando_original_url(pando_ctx *ctx) {
    if (!ctx->original_url) ctx->original_url = copy(ctx, pando_exchange_target(ctx->exchange));
    return ctx->original_url;
}

const char *pando_url(pando_ctx *ctx) { return ctx->url ? ctx->url : pando_original_url(ctx); }

const char *pando_path(pando_ctx *ctx) {
    if (!ctx->path) {
        struct pando_str path = pando_exchange_path(ctx->exchange);
        ctx->path = path.len ? copy(ctx, path) : "/";
    }
    return ctx->path;
}

const char *pando_querystring(pando_ctx *ctx) {
    if (!ctx->querystring) ctx->querystring = copy(ctx, pando_exchange_query(ctx->exchange));
    return ctx->querystring;
}

const char *pando_search(pando_ctx *ctx) {
    const char *query = pando_querystring(ctx);
    return *query ? pando_printf(ctx, "?%s", query) : "";
}

void pando_set_method(pando_ctx *ctx, const char *method) { ctx->method = ctx_copy(ctx, method, strlen(method)); }

static void rebuild_url(pando_ctx *ctx) {
    const char *query = pando_querystring(ctx);
    ctx->url = pando_printf(ctx, *query ? "%s?%s" : "%s%s", pando_path(ctx), query);
}

void pando_set_url(pando_ctx *ctx, const char *url) {
    pando_original_url(ctx);
    const char *mark = strchr(url, '?');
    ctx->url = ctx_copy(ctx, url, strlen(url));
    ctx->path = ctx_copy(ctx, url, mark ? (size_t)(mark - url) : strlen(url));
    ctx->querystring = mark ? ctx_copy(ctx, mark + 1, strlen(mark + 1)) : "";
    ctx->query = NULL;
}

void pando_set_path(pando_ctx *ctx, const char *path) {
    pando_original_url(ctx);
    pando_querystring(ctx);
    ctx->path = ctx_copy(ctx, path, strlen(path));
    rebuild_url(ctx);
}

void pando_set_querystring(pando_ctx *ctx, const char *query) {
    pando_original_url(ctx);
    pando_path(ctx);
    if (*query == '?') query++;
    ctx->querystring = ctx_copy(ctx, query, strlen(query));
    ctx->query = NULL;
    rebuild_url(ctx);
}

// ---- query

enum { PAIRS_MAX = 1024 };

bool pair_add(struct pando_ctx *ctx, struct pair_list *list, const char *name, const char *value) {
    if (list->count == PAIRS_MAX) return false;
    if (list->count == list->cap) {
        size_t cap = list->cap ? list->cap * 2 : 8;
        struct pair *items = pando_alloc(ctx, cap * sizeof *items);
        if (list->count) memcpy(items, list->items, list->count * sizeof *items);
        list->items = items;
        list->cap = cap;
    }
    list->items[list->count++] = (struct pair){name, value};
    return true;
}

static const char *decoded(struct pando_ctx *ctx, const char *text, size_t len) {
    char *out = pando_alloc(ctx, len + 1);
    return url_decode(text, len, true, out) >= 0 ? out : ctx_copy(ctx, text, len);  // what cannot be decoded stays as it is
}

struct pair_list *parse_urlencoded(struct pando_ctx *ctx, struct pando_str text) {
    struct pair_list *list = pando_alloc(ctx, sizeof *list);
    *list = (struct pair_list){0};
    for (const char *at = text.data, *end = at + text.len; at < end;) {
        const char *stop = memchr(at, '&', (size_t)(end - at));
        if (!stop) stop = end;
        const char *equals = memchr(at, '=', (size_t)(stop - at)), *name_end = equals ? equals : stop;
        if (stop > at) {
            const char *value = equals ? decoded(ctx, equals + 1, (size_t)(stop - equals - 1)) : "";
            if (!pair_add(ctx, list, decoded(ctx, at, (size_t)(name_end - at)), value)) break;
        }
        at = stop + 1;
    }
    return list;
}

static struct pair_list *query_of(pando_ctx *ctx) {
    if (!ctx->query) ctx->query = parse_urlencoded(ctx, pando_str_of(pando_querystring(ctx)));
    return ctx->query;
}

const char *pando_query_at(pando_ctx *ctx, const char *name, size_t index) {
    struct pair_list *list = query_of(ctx);
    for (size_t i = 0; i < list->count; i++)
        if (!strcmp(list->items[i].name, name) && !index--) return list->items[i].value;
    return NULL;
}

const char *pando_query(pando_ctx *ctx, const char *name) { return pando_query_at(ctx, name, 0); }

bool pando_query_each(pando_ctx *ctx, size_t index, const char **out_name, const char **out_value) {
    struct pair_list *list = query_of(ctx);
    if (index >= list->count) return false;
    *out_name = list->items[index].name;
    *out_value = list->items[index].value;
    return true;
}

// ---- headers

// Of these Node keeps the first; all others are joined.
static bool is_single(const char *name) {
    static const char *const names[] = {"age",           "authorization", "content-length", "content-type",        "etag",
                                        "expires",       "from",          "host",           "if-modified-since",   "if-unmodified-since",
                                        "last-modified", "location",      "max-forwards",   "proxy-authorization", "referer",
                                        "retry-after",   "server",        "user-agent"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcasecmp(name, names[i])) return true;
    return false;
}

static const char *get_header(pando_ctx *ctx, const char *name) {
    const char *found = NULL;
    struct pando_str n, v;
    size_t len = strlen(name);
    for (size_t i = 0; pando_exchange_header_at(ctx->exchange, i, &n, &v); i++) {
        if (n.len != len || strncasecmp(n.data, name, len)) continue;
        if (!found)
            found = copy(ctx, v);
        else
            found = pando_printf(ctx, strcasecmp(name, "cookie") ? "%s, %.*s" : "%s; %.*s", found, (int)v.len, v.data);
        if (is_single(name)) break;
    }
    return found;
}

const char *pando_header(pando_ctx *ctx, const char *name) {
    const char *value = NULL;
    if (!strcasecmp(name, "referer") || !strcasecmp(name, "referrer")) {
        if (!(value = get_header(ctx, "referrer"))) value = get_header(ctx, "referer");
    } else {
        value = get_header(ctx, name);
    }
    return value ? value : "";
}

// ---- who and where

static const char *first_item(pando_ctx *ctx, const char *list) {
    list += strspn(list, " \t");
    size_t len = strcspn(list, ",");
    while (len && (list[len - 1] == ' ' || list[len - 1] == '\t')) len--;
    return ctx_copy(ctx, list, len);
}

const char *pando_host(pando_ctx *ctx) {
    if (ctx->app->options.proxy) {
        const char *forwarded = pando_header(ctx, "X-Forwarded-Host");
        if (*forwarded) {
            const char *host = first_item(ctx, forwarded), *at = strrchr(host, '@');
            return at ? at + 1 : host;  // user info is nobody's host
        }
    }
    return copy(ctx, pando_exchange_authority(ctx->exchange));
}

const char *pando_hostname(pando_ctx *ctx) {
    const char *host = pando_host(ctx), *bracket;
    if (*host == '[' && (bracket = strchr(host, ']'))) return ctx_copy(ctx, host, (size_t)(bracket + 1 - host));
    return ctx_copy(ctx, host, strcspn(host, ":"));
}

const char *pando_protocol(pando_ctx *ctx) {
    if (!ctx->app->options.proxy) return "http";
    const char *forwarded = pando_header(ctx, "X-Forwarded-Proto");
    return *forwarded ? first_item(ctx, forwarded) : "http";
}

bool pando_secure(pando_ctx *ctx) { return !strcmp(pando_protocol(ctx), "https"); }
const char *pando_origin(pando_ctx *ctx) { return pando_header(ctx, "Origin"); }

const char *pando_href(pando_ctx *ctx) {
    const char *url = pando_original_url(ctx);
    if (!strncasecmp(url, "http://", 7) || !strncasecmp(url, "https://", 8)) return url;
    return pando_printf(ctx, "%s://%s%s", pando_protocol(ctx), pando_host(ctx), url);
}

static size_t split_list(pando_ctx *ctx, const char *text, const char *separators, const char *const **out) {
    size_t count = 1, at = 0;
    for (const char *c = text; *c; c++) count += strchr(separators, *c) != NULL;
    const char **items = pando_alloc(ctx, count * sizeof *items);
    for (size_t i = 0; i < count; i++) {
        size_t len = strcspn(text, separators);
        const char *start = text + strspn(text, " "), *end = text + len;
        while (end > start && end[-1] == ' ') end--;
        items[at++] = ctx_copy(ctx, start, end > start ? (size_t)(end - start) : 0);
        text += len + 1;
    }
    *out = items;
    return count;
}

size_t pando_ips(pando_ctx *ctx, const char *const **out) {
    const char *value = ctx->app->options.proxy ? pando_header(ctx, ctx->app->options.proxy_ip_header) : "";
    *out = NULL;
    if (!*value) return 0;
    size_t count = split_list(ctx, value, ",", out), most = ctx->app->options.max_ips;
    if (!most || count <= most) return count;
    *out += count - most;
    return most;
}

const char *pando_ip(pando_ctx *ctx) {
    if (ctx->ip) return ctx->ip;
    const char *const *ips;
    if (pando_ips(ctx, &ips) && *ips[0]) return ctx->ip = ips[0];
    char *address = pando_alloc(ctx, INET6_ADDRSTRLEN);
    pando_exchange_peer(ctx->exchange, address, INET6_ADDRSTRLEN);
    return ctx->ip = address;
}

size_t pando_subdomains(pando_ctx *ctx, const char *const **out) {
    const char *host = pando_hostname(ctx);
    struct in_addr four;
    *out = NULL;
    if (*host == '[' || inet_pton(AF_INET, host, &four) == 1) return 0;
    const char *const *parts;
    size_t count = split_list(ctx, host, ".", &parts), skip = ctx->app->options.subdomain_offset;
    if (count <= skip) return 0;
    const char **reversed = pando_alloc(ctx, (count - skip) * sizeof *reversed);
    for (size_t i = 0; i < count - skip; i++) reversed[i] = parts[count - skip - 1 - i];
    *out = reversed;
    return count - skip;
}

bool pando_idempotent(const pando_ctx *ctx) {
    const char *method = pando_method(ctx);
    static const char *const names[] = {"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(method, names[i])) return true;
    return false;
}

const char *pando_request_type(pando_ctx *ctx) {
    const char *type = pando_header(ctx, "Content-Type");
    return ctx_copy(ctx, type, strcspn(type, ";"));
}

const char *pando_request_charset(pando_ctx *ctx) {
    const char *type = pando_header(ctx, "Content-Type"), *at = strcasestr(type, "charset=");
    if (!at) return "";
    at += 8;
    if (*at == '"') return ctx_copy(ctx, at + 1, strcspn(at + 1, "\""));
    return ctx_copy(ctx, at, strcspn(at, "; \t"));
}

int64_t pando_request_length(const pando_ctx *ctx) {
    const struct h1_head *head = &ctx->exchange->head;
    return head->framing == H1_CHUNKED || !head->seen_length ? -1 : (int64_t)head->length;
}

// ---- body

static __attribute__((noreturn)) void throw_body(pando_ctx *ctx) {
    int status = pando_exchange_body_status(ctx->exchange);
    pando_throw(ctx, status ? status : 400,
                status == 413 ? "the body is too large"
                : status      ? "the body is malformed"
                              : "the body ended early");
}

bool pando_read(pando_ctx *ctx, struct pando_str *out) {
    for (;;) {
        if (ctx->cancelled) pando_throw(ctx, 400, "the client is gone");
        switch (pando_exchange_read(ctx->exchange, out)) {
            case PANDO_READ_DATA: return true;
            case PANDO_READ_END: return false;
            case PANDO_READ_FAILED: throw_body(ctx);
            case PANDO_READ_WAIT: ctx_suspend(ctx, WAIT_READABLE);
        }
    }
}

struct pando_str pando_read_all(pando_ctx *ctx, size_t limit) {
    if (ctx->body_read) return ctx->whole_body;
    if (limit) pando_exchange_limit_body(ctx->exchange, limit);
    int64_t known = pando_exchange_body_length(ctx->exchange);
    size_t cap = known >= 0 && (uint64_t)known <= ctx->exchange->body_limit ? (size_t)known : 4096, len = 0;
    char *data = pando_alloc(ctx, cap + 1);
    struct pando_str piece;
    while (pando_read(ctx, &piece)) {
        if (piece.len > cap - len) {
            cap = (len + piece.len) * 2;
            char *larger = pando_alloc(ctx, cap + 1);
            memcpy(larger, data, len);
            data = larger;
        }
        memcpy(data + len, piece.data, piece.len);
        len += piece.len;
    }
    data[len] = '\0';
    ctx->body_read = true;
    return ctx->whole_body = (struct pando_str){data, len};
}

const char *pando_trailer(pando_ctx *ctx, const char *name) {
    struct pando_str n, v;
    for (size_t i = 0; pando_exchange_trailer_at(ctx->exchange, i, &n, &v); i++)
        if (n.len == strlen(name) && !strncasecmp(n.data, name, n.len)) return copy(ctx, v);
    return "";
}
