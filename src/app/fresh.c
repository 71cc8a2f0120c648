// SPDX-License-Identifier: MIT
// Is what the client has still good? If-None-Match (weakly compared) decides when it is there, else If-Modified-Since.
#include <time.h>

#include "ctx.h"
#include "fresh.h"

// The three date forms of HTTP. -1: none of them.
int64_t fresh_parse_date(const char *text) {
    static const char *const forms[] = {"%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        struct tm tm = {0};
        const char *end = strptime(text, forms[i], &tm);
        if (end && !*end) return timegm(&tm);
    }
    return -1;
}

static const char *opaque(const char *tag) { return tag[0] == 'W' && tag[1] == '/' ? tag + 2 : tag; }

bool fresh_etag_matches(const char *list, const char *etag) {
    etag = opaque(etag);
    size_t len = strlen(etag);
    while (*list) {
        list += strspn(list, " \t,");
        if (*list == '*' && !strcspn(list + 1, ", \t")) return true;
        const char *tag = opaque(list), *end = *tag == '"' ? strchr(tag + 1, '"') : NULL;
        end = end ? end + 1 : tag + strcspn(tag, ", \t");
        if ((size_t)(end - tag) == len && !memcmp(tag, etag, len)) return true;
        list = end;
    }
    return false;
}

bool pando_fresh(pando_ctx *ctx) {
    const char *method = pando_method(ctx);
    int status = pando_status(ctx);
    if ((strcmp(method, "GET") && strcmp(method, "HEAD")) || ((status < 200 || status > 299) && status != 304)) return false;
    const char *none_match = pando_header(ctx, "If-None-Match"), *since = pando_header(ctx, "If-Modified-Since"), *control;
    if (!*none_match && !*since) return false;
    if (*(control = pando_header(ctx, "Cache-Control")) && h1_has_token(control, strlen(control), "no-cache")) return false;
    if (*none_match) {
        if (!strcmp(none_match, "*")) return true;
        const char *etag = pando_sent_header(ctx, "ETag");
        return *etag && fresh_etag_matches(none_match, etag);
    }
    const char *modified = pando_sent_header(ctx, "Last-Modified");
    int64_t ours = *modified ? fresh_parse_date(modified) : -1, theirs = fresh_parse_date(since);
    return ours >= 0 && theirs >= 0 && ours <= theirs;
}
