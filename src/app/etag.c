// SPDX-License-Identifier: MIT
// An ETag of what was said (FNV-1a, 64 bits, with the length), and 304 where the client has just that.
#include "ctx.h"

static void etag(pando_ctx *ctx) {
    pando_next(ctx);
    struct pando_str body = pando_body(ctx);
    if (ctx->exchange->head_sent) return;
    if (body.data && !pando_has(ctx, "ETag") && ctx->status / 100 == 2) {
        uint64_t hash = UINT64_C(14695981039346656037);
        for (size_t i = 0; i < body.len; i++) hash = (hash ^ (unsigned char)body.data[i]) * UINT64_C(1099511628211);
        pando_set(ctx, "ETag", "\"%zx-%016llx\"", body.len, (unsigned long long)hash);
    }
    if (pando_fresh(ctx)) pando_set_status(ctx, 304);
}

void pando_use_etag(pando_app *app) { pando_use_named(app, "etag", etag, NULL); }
