// SPDX-License-Identifier: MIT
// JSON, form and text bodies.
#include <sys/types.h>
#include "ctx.h"

#include <jansson.h>

#include "url.h"

enum { JSON_DEPTH_MAX = 128 };  // jansson recurses: a hostile body must not overflow the handler's stack

static bool is_too_deep(struct pando_str text) {
    int depth = 0;
    bool quoted = false;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.data[i];
        if (quoted) {
            if (c == '\\')
                i++;
            else
                quoted = c != '"';
        } else if (c == '"') {
            quoted = true;
        } else if (c == '[' || c == '{') {
            if (++depth > JSON_DEPTH_MAX) return true;
        } else if (c == ']' || c == '}') {
            depth--;
        }
    }
    return false;
}

json_t *pando_request_json(pando_ctx *ctx, size_t limit) {
    if (ctx->request_json) return ctx->request_json;
    const char *is = pando_is(ctx, "json, +json");
    if (!is) pando_throw(ctx, 400, "a JSON body is missing");
    if (!*is) pando_throw(ctx, 415, "the body is not JSON");
    struct pando_str text = pando_read_all(ctx, limit);
    if (is_too_deep(text)) pando_throw(ctx, 400, "the JSON is nested too deeply");
    json_error_t error;
    ctx->request_json = json_loadb(text.data, text.len, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &error);
    if (!ctx->request_json && !*error.text) pando_throw(ctx, 503, "out of memory");  // nothing is wrong with the text
    if (!ctx->request_json) pando_throw(ctx, 400, "invalid JSON at byte %d: %s", error.position, error.text);
    return ctx->request_json;
}

const char *pando_request_text(pando_ctx *ctx, size_t limit) {
    struct pando_str text = pando_read_all(ctx, limit);
    if (memchr(text.data, '\0', text.len) || !url_is_utf8(text.data, text.len)) pando_throw(ctx, 400, "the body is not UTF-8 text");
    return text.data;
}

static struct pair_list *form_of(pando_ctx *ctx) {
    if (ctx->form) return ctx->form;
    const char *is = pando_is(ctx, "urlencoded, multipart");
    if (!is) pando_throw(ctx, 400, "a form body is missing");
    if (!*is) pando_throw(ctx, 415, "the body is not a form");
    const struct pando_file *files;
    if (strcmp(is, "urlencoded"))
        pando_request_multipart(ctx, NULL, &files);
    else
        ctx->form = parse_urlencoded(ctx, pando_read_all(ctx, 0));
    return ctx->form;
}

const char *pando_form_at(pando_ctx *ctx, const char *name, size_t index) {
    struct pair_list *form = form_of(ctx);
    for (size_t i = 0; i < form->count; i++)
        if (!strcmp(form->items[i].name, name) && !index--) return form->items[i].value;
    return NULL;
}

const char *pando_form(pando_ctx *ctx, const char *name) { return pando_form_at(ctx, name, 0); }
