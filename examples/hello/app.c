// SPDX-License-Identifier: MIT
// What to serve: a router, one middleware, a handler. Knows nothing of processes. This is what bench/http measures.
#include "app.h"

static void timing(pando_ctx *ctx) {
    uint64_t start = pando_now_ns();
    pando_next(ctx);
    pando_set(ctx, "X-Response-Time", "%lluus", (unsigned long long)(pando_now_ns() - start) / 1000);
}

static void show_user(pando_ctx *ctx) { pando_body_json(ctx, "{s:s}", "id", pando_param(ctx, "id")); }

static void hello(pando_ctx *ctx) { pando_body_text(ctx, "<h1>Hello World</h1>"); }

pando_app *app_new(void) {
    pando_app *app = pando_app_new(NULL);
    pando_use(app, timing, NULL);
    pando_get(app, "/users/:id", show_user, NULL);
    pando_use(app, hello, NULL);
    return app;
}
