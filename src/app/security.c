// SPDX-License-Identifier: MIT
// The headers that tell a browser to be careful. They are set before the rest runs, so a handler may change them.
#include "ctx.h"

#include <stdlib.h>

static void put(pando_ctx *ctx, const char *name, const char *chosen, const char *usual) {
    const char *value = chosen ? chosen : usual;
    if (*value) pando_set(ctx, name, "%s", value);
}

static void secure(pando_ctx *ctx) {
    const struct pando_security_options *o = pando_arg(ctx);
    put(ctx, "Content-Security-Policy", o->content_security_policy,
        "default-src 'self';base-uri 'self';font-src 'self' https: data:;form-action 'self';frame-ancestors 'self';img-src 'self' "
        "data:;object-src 'none';"
        "script-src 'self';script-src-attr 'none';style-src 'self' https: 'unsafe-inline';upgrade-insecure-requests");
    put(ctx, "Cross-Origin-Opener-Policy", o->cross_origin_opener_policy, "same-origin");
    put(ctx, "Cross-Origin-Resource-Policy", o->cross_origin_resource_policy, "same-origin");
    put(ctx, "Referrer-Policy", o->referrer_policy, "no-referrer");
    put(ctx, "Strict-Transport-Security", o->strict_transport_security, "max-age=31536000; includeSubDomains");
    put(ctx, "X-Frame-Options", o->frame_options, "SAMEORIGIN");
    put(ctx, "X-Content-Type-Options", NULL, "nosniff");
    put(ctx, "Origin-Agent-Cluster", NULL, "?1");
    put(ctx, "X-DNS-Prefetch-Control", NULL, "off");
    put(ctx, "X-Permitted-Cross-Domain-Policies", NULL, "none");
    put(ctx, "X-XSS-Protection", NULL, "0");
    pando_next(ctx);
}

void pando_use_security(pando_app *app, const struct pando_security_options *options) {
    struct pando_security_options *copy = calloc(1, sizeof *copy);
    if (!copy) return;
    if (options) *copy = *options;
    pando_on_free(app, free, copy);
    pando_use_named(app, "security", secure, copy);
}
