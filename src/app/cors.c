// SPDX-License-Identifier: MIT
// Cross-origin requests: what a browser may read. Preflights are answered here; others are marked and go on, failures too.
#include "ctx.h"

#include <stdlib.h>
#include <strings.h>

// `list` has the origin as an item, case and all.
static bool allows(const char *list, const char *origin) {
    size_t len = strlen(origin);
    while (*list) {
        list += strspn(list, ", ");
        size_t item = strcspn(list, ", ");
        if (item == len && !memcmp(list, origin, len)) return true;
        list += item;
    }
    return false;
}

static void preflight(pando_ctx *ctx, const struct pando_cors_options *o) {
    const char *asked = pando_header(ctx, "Access-Control-Request-Headers"), *headers = o->headers ? o->headers : asked;
    pando_set(ctx, "Access-Control-Allow-Methods", "%s", o->methods ? o->methods : "GET,HEAD,PUT,POST,DELETE,PATCH");
    if (*headers) pando_set(ctx, "Access-Control-Allow-Headers", "%s", headers);
    if (!o->headers) pando_vary(ctx, "Access-Control-Request-Headers");
    if (o->max_age_s) pando_set(ctx, "Access-Control-Max-Age", "%u", o->max_age_s);
    pando_set_status(ctx, 204);
}

static void cors(pando_ctx *ctx) {
    const struct pando_cors_options *o = pando_arg(ctx);
    const char *origin = pando_header(ctx, "Origin");
    if (o->origins) pando_vary(ctx, "Origin");
    if (!*origin || (o->origins && !allows(o->origins, origin))) return pando_next(ctx);
    const char *answer = o->origins ? origin : "*";
    pando_set(ctx, "Access-Control-Allow-Origin", "%s", answer);
    if (o->credentials && o->origins) pando_set(ctx, "Access-Control-Allow-Credentials", "true");
    if (!strcmp(pando_method(ctx), "OPTIONS") && *pando_header(ctx, "Access-Control-Request-Method")) return preflight(ctx, o);
    if (o->expose) pando_set(ctx, "Access-Control-Expose-Headers", "%s", o->expose);
    pando_throw_with(ctx, "Access-Control-Allow-Origin", answer);  // an error answer must be readable too
    pando_next(ctx);
}

void pando_use_cors(pando_app *app, const struct pando_cors_options *options) {
    struct pando_cors_options *copy = calloc(1, sizeof *copy);
    if (!copy) return;
    if (options) *copy = *options;
    pando_on_free(app, free, copy);
    pando_use_named(app, "cors", cors, copy);
}
