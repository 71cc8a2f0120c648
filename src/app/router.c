// SPDX-License-Identifier: MIT
// A router is a list of layers in the order they were added. For a request the layers that match are put into a chain on its
// arena, which runs with the router's own place as what comes after; so a router is middleware like any other.
#include <sys/types.h>
#include "router.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "url.h"

enum { MATCHES_MAX = 64 };

struct layer {
    struct pattern pattern;
    char *method;          // owned; NULL: middleware of the router; "*": every method
    enum h1_method known;  // of `method`
    char *route_name;      // owned; NULL
    char *redirect;        // owned; NULL
    int redirect_status;
    bool everywhere;  // a use without a pattern
    struct middleware item;
};

struct param_handler {
    char *param;  // owned
    struct middleware item;
};

struct pando_router {
    struct pando_router_options options;
    char *prefix, *host;   // owned
    struct layer *layers;  // owned
    unsigned count, cap;
    struct param_handler *params;  // owned
    unsigned param_count;
};

static __attribute__((noreturn)) void give_up(const char *pattern, const char *why) {
    fprintf(stderr, "pando: route \"%s\": %s\n", pattern, why);
    abort();  // a mistake in the program, found when it starts
}

static void *need(void *memory) {
    if (!memory) give_up("", "out of memory");
    return memory;
}

pando_router *pando_router_new(const struct pando_router_options *options) {
    pando_router *router = calloc(1, sizeof *router);
    if (!router) return NULL;
    if (options) router->options = *options;
    router->prefix = need(strdup(router->options.prefix ? router->options.prefix : ""));
    size_t len = strlen(router->prefix);
    if (len && router->prefix[len - 1] == '/') router->prefix[len - 1] = '\0';
    if (router->options.host) router->host = need(strdup(router->options.host));
    return router;
}

static void layer_deinit(struct layer *layer) {
    pattern_deinit(&layer->pattern);
    free(layer->method);
    free(layer->route_name);
    free(layer->redirect);
}

void pando_router_free(pando_router *router) {
    if (!router) return;
    for (unsigned i = 0; i < router->count; i++) layer_deinit(&router->layers[i]);
    for (unsigned i = 0; i < router->param_count; i++) free(router->params[i].param);
    free(router->layers);
    free(router->params);
    free(router->prefix);
    free(router->host);
    free(router);
}

void router_free_owned(void *router) { pando_router_free(router); }

static struct layer *add_layer(pando_router *router, const char *prefix, const char *pattern, bool is_use) {
    if (router->count == router->cap) {
        router->cap = router->cap ? router->cap * 2 : 16;
        router->layers = need(realloc(router->layers, router->cap * sizeof *router->layers));
    }
    struct layer *layer = &router->layers[router->count++];
    *layer = (struct layer){0};
    char *whole;
    if (asprintf(&whole, "%s%s", prefix, pattern && !(*prefix && !strcmp(pattern, "/")) ? pattern : "") < 0)
        give_up(pattern, "out of memory");
    int result = pattern_init(&layer->pattern, *whole ? whole : is_use ? "" : "/");
    if (result) give_up(whole, result == -EINVAL ? "not a pattern (see pando/router.h)" : "too many parts");
    layer->everywhere = is_use && !*whole;
    free(whole);
    layer->pattern.sensitive = router->options.sensitive;
    layer->pattern.strict = router->options.strict;
    layer->pattern.prefix = is_use;
    return layer;
}

void pando_route_named(pando_router *router, const char *method, const char *pattern, const char *name, pando_handler fn, void *arg) {
    struct layer *layer = add_layer(router, router->prefix, pattern, false);
    layer->method = need(strdup(method));
    layer->known = h1_method_of(method, strlen(method));
    layer->item = (struct middleware){fn, arg, name};
}

void pando_router_use_named(pando_router *router, const char *pattern, const char *name, pando_handler fn, void *arg) {
    add_layer(router, router->prefix, pattern, true)->item = (struct middleware){fn, arg, name};
}

void pando_router_param_named(pando_router *router, const char *param, const char *name, pando_handler fn, void *arg) {
    router->params = need(realloc(router->params, (router->param_count + 1) * sizeof *router->params));
    router->params[router->param_count++] = (struct param_handler){need(strdup(param)), {fn, arg, name}};
}

void pando_route_name(pando_router *router, const char *name) {
    if (!router->count) give_up(name, "a name before any route");
    free(router->layers[router->count - 1].route_name);
    router->layers[router->count - 1].route_name = need(strdup(name));
}

static void redirect(pando_ctx *ctx) {
    const struct layer *layer = pando_arg(ctx);
    pando_redirect(ctx, layer->redirect);
    pando_set_status(ctx, layer->redirect_status);
}

void pando_router_redirect(pando_router *router, const char *from, const char *to, int status) {
    pando_route_named(router, "*", from, "redirect", redirect, NULL);
    struct layer *layer = &router->layers[router->count - 1];
    layer->redirect = need(strdup(to));
    layer->redirect_status = status ? status : 301;
}

// The inner router's layers become the outer's, behind both prefixes.
void pando_router_nest_take(pando_router *outer, const char *prefix, pando_router *inner) {
    char *whole;
    if (asprintf(&whole, "%s%s", outer->prefix, prefix ? prefix : "") < 0) give_up(prefix, "out of memory");
    size_t len = strlen(whole);
    if (len && whole[len - 1] == '/') whole[len - 1] = '\0';
    for (unsigned i = 0; i < inner->count; i++) {
        struct layer *from = &inner->layers[i], *to = add_layer(outer, whole, from->pattern.source, !from->method);
        struct pattern pattern = to->pattern;
        pattern.sensitive = inner->options.sensitive;
        pattern.strict = inner->options.strict;
        pattern_deinit(&from->pattern);
        *to = *from;
        to->pattern = pattern;
        to->everywhere = from->everywhere && !*whole;
    }
    for (unsigned i = 0; i < inner->param_count; i++) {
        struct param_handler *handler = &inner->params[i];
        pando_router_param_named(outer, handler->param, handler->item.name, handler->item.fn, handler->item.arg);
    }
    inner->count = 0;
    free(whole);
    pando_router_free(inner);
}

// ---- serving

static bool method_fits(const struct layer *layer, enum h1_method method, const char *text) {
    if (!strcmp(layer->method, "*")) return true;
    if (method == H1_OTHER) return !strcmp(layer->method, text);
    return layer->known == method || (method == H1_HEAD && layer->known == H1_GET);
}

static const char *decode_param(pando_ctx *ctx, struct pando_str value) {
    char *out = pando_alloc(ctx, value.len + 1);
    if (url_decode(value.data, value.len, false, out) < 0) pando_throw(ctx, 400, "a part of the path cannot be decoded");
    return out;
}

static void keep_params(pando_ctx *ctx, struct route_match *match, const struct pattern_capture *captures, int count) {
    for (int i = 0; i < count && match->count < PATTERN_PARAMS * 2; i++)
        match->params[match->count++] =
            (struct pair){ctx_copy(ctx, captures[i].name.data, captures[i].name.len), decode_param(ctx, captures[i].value)};
}

static void run_param_handlers(const pando_router *router, const struct route_match *match, struct chain *chain) {
    for (unsigned i = 0; i < router->param_count; i++)
        for (int k = 0; k < match->count; k++) {
            if (strcmp(match->params[k].name, router->params[i].param)) continue;
            if (chain->count < chain->cap) chain->items[chain->count++] = router->params[i].item;
            break;
        }
}

struct allowed {
    char text[256];
    bool any;
};

static bool lists(const char *list, const char *method) {
    size_t len = strlen(method);
    for (const char *at = list; (at = strstr(at, method)); at += len)
        if ((at == list || at[-1] == ' ') && (!at[len] || at[len] == ',')) return true;
    return false;
}

static void allow(struct allowed *allowed, const char *method) {
    static const char *const every[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"};
    allowed->any = true;
    if (!strcmp(method, "*")) {
        for (size_t i = 0; i < sizeof every / sizeof *every; i++) allow(allowed, every[i]);
        return;
    }
    size_t len = strlen(allowed->text);
    if (lists(allowed->text, method)) return;
    snprintf(allowed->text + len, sizeof allowed->text - len, "%s%s%s", len ? ", " : "",
             !strcmp(method, "GET") && !lists(allowed->text, "HEAD") ? "HEAD, " : "", method);
}

static bool anybody_serves(const pando_router *router, enum h1_method method, const char *text) {
    if (method != H1_OTHER) return true;
    for (unsigned i = 0; i < router->count; i++)
        if (router->layers[i].method && !strcmp(router->layers[i].method, text)) return true;
    return false;
}

// When nobody has answered: OPTIONS, 405 with Allow, 501.
static void answer_method(pando_ctx *ctx, const pando_router *router, const struct allowed *allowed, enum h1_method method,
                          const char *text) {
    pando_next(ctx);
    if (ctx->status != 404 || ctx->explicit_status || ctx->body_kind != BODY_NONE || ctx->exchange->head_sent) return;
    if (!anybody_serves(router, method, text)) {
        pando_set_status(ctx, 501);
        pando_set(ctx, "Allow", "%s", allowed->text);
    } else if (method == H1_OPTIONS) {
        pando_body_static(ctx, PANDO_STR(""));
        pando_set(ctx, "Allow", "%s", allowed->text);
    } else {
        pando_set_status(ctx, 405);
        pando_set(ctx, "Allow", "%s", allowed->text);
    }
}

void router_middleware(pando_ctx *ctx) {
    const pando_router *router = pando_arg(ctx);
    if (router->host && strcasecmp(router->host, pando_hostname(ctx))) return pando_next(ctx);
    const char *text = pando_method(ctx);
    enum h1_method method = ctx->method ? h1_method_of(text, strlen(text)) : ctx->exchange->head.method;
    struct pando_str path = pando_str_of(pando_path(ctx));
    const struct layer *matched[MATCHES_MAX];
    struct pattern_capture captures[PATTERN_PARAMS];
    unsigned count = 0, routes = 0;
    struct allowed allowed = {.text = ""};
    for (unsigned i = 0; i < router->count && count < MATCHES_MAX; i++) {
        const struct layer *layer = &router->layers[i];
        if (!layer->everywhere && pattern_match(&layer->pattern, path, captures) < 0) continue;
        if (layer->method && !method_fits(layer, method, text)) {
            allow(&allowed, layer->method);
            continue;
        }
        if (layer->method && routes++ && router->options.exclusive) continue;
        matched[count++] = layer;
    }
    if (!routes) {
        if (allowed.any && !router->options.no_methods) return answer_method(ctx, router, &allowed, method, text);
        return pando_next(ctx);
    }
    struct route_match *match = pando_alloc(ctx, sizeof *match);
    match->count = 0;
    match->pattern = NULL;
    struct chain chain = {.cap = count + router->param_count};
    chain.items = pando_alloc(ctx, chain.cap * sizeof *chain.items);
    for (unsigned i = 0; i < count; i++)
        if (!matched[i]->everywhere) keep_params(ctx, match, captures, pattern_match(&matched[i]->pattern, path, captures));
    bool handlers_in = !router->param_count;
    for (unsigned i = 0; i < count; i++) {
        if (matched[i]->method && !match->pattern) match->pattern = matched[i]->pattern.source;
        if (matched[i]->method && !handlers_in) run_param_handlers(router, match, &chain), handlers_in = true;
        struct middleware item = matched[i]->item;
        if (matched[i]->redirect) item.arg = (void *)(uintptr_t)matched[i];
        if (chain.count < chain.cap) chain.items[chain.count++] = item;
    }
    ctx->match = match;
    compose_run(ctx, &chain, &ctx->frame->position);
}

const char *pando_param(const pando_ctx *ctx, const char *name) {
    for (int i = ctx->match ? ctx->match->count : 0; i--;)
        if (!strcmp(ctx->match->params[i].name, name)) return ctx->match->params[i].value;
    return NULL;
}

const char *pando_route_pattern(const pando_ctx *ctx) { return ctx->match ? ctx->match->pattern : NULL; }

// ---- URLs of named routes

static const char *encoded(pando_ctx *ctx, const char *text, bool wild) {
    size_t len = strlen(text);
    char *out = pando_alloc(ctx, 3 * len + 1);
    if (wild)
        url_encode(text, len, out);
    else
        url_encode_component(text, len, out);
    return out;
}

enum { URL_PAIRS = 32 };

// The first alternative all of whose parameters are given; the given ones that it uses are marked.
static const char *fill_pattern(pando_ctx *ctx, const struct pattern_flat *flat, const struct pair *pairs, int count, bool *used) {
    const char *out = "";
    for (unsigned i = 0; i < flat->count; i++) {
        const struct pattern_token *token = &flat->tokens[i];
        if (token->kind == PATTERN_TEXT) {
            out = pando_printf(ctx, "%s%.*s", out, (int)token->len, token->text);
            continue;
        }
        int k = 0;
        while (k < count && (strlen(pairs[k].name) != token->len || memcmp(pairs[k].name, token->text, token->len))) k++;
        if (k == count) return NULL;
        used[k] = true;
        out = pando_printf(ctx, "%s%s", out, encoded(ctx, pairs[k].value, token->kind == PATTERN_WILD));
    }
    return out;
}

const char *pando_route_url(pando_ctx *ctx, pando_router *router, const char *name, ...) {
    struct pair pairs[URL_PAIRS];
    int count = 0;
    va_list args;
    va_start(args, name);
    for (const char *key; count < URL_PAIRS && (key = va_arg(args, const char *)); count++)
        pairs[count] = (struct pair){key, va_arg(args, const char *)};
    va_end(args);
    for (unsigned i = 0; i < router->count; i++) {
        const struct layer *layer = &router->layers[i];
        if (!layer->route_name || strcmp(layer->route_name, name)) continue;
        for (unsigned k = 0; k < layer->pattern.flat_count; k++) {
            bool used[URL_PAIRS] = {0}, first = true;
            const char *url = fill_pattern(ctx, &layer->pattern.flats[k], pairs, count, used);
            for (int j = 0; url && j < count; j++) {
                if (used[j]) continue;
                url = pando_printf(ctx, "%s%c%s=%s", url, first ? '?' : '&', encoded(ctx, pairs[j].name, false),
                                   encoded(ctx, pairs[j].value, false));
                first = false;
            }
            if (url) return url;
        }
    }
    return NULL;
}
