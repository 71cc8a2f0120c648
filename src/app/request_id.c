// SPDX-License-Identifier: MIT
// A name for each request: in ctx.state, in the answer.
#include "ctx.h"

#include <sys/random.h>

enum { ID_MAX = 128 };

static const char *make_id(pando_ctx *ctx) {
    unsigned char r[16] = {0};
    if (getrandom(r, sizeof r, 0) != sizeof r) pando_throw(ctx, 503, "no randomness");
    r[6] = (unsigned char)((r[6] & 0x0f) | 0x40);
    r[8] = (unsigned char)((r[8] & 0x3f) | 0x80);
    return pando_printf(ctx, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", r[0], r[1], r[2], r[3], r[4], r[5],
                        r[6], r[7], r[8], r[9], r[10], r[11], r[12], r[13], r[14], r[15]);
}

static bool is_usable(const char *id) {
    size_t len = strlen(id);
    return len && len <= ID_MAX && strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:+/=") == len;
}

static void request_id(pando_ctx *ctx) {
    const char *id = pando_arg(ctx) ? pando_header(ctx, "X-Request-Id") : "";
    if (!is_usable(id)) id = make_id(ctx);
    pando_state_set(ctx, "pando.request_id", (void *)(uintptr_t)id);
    pando_set(ctx, "X-Request-Id", "%s", id);
    pando_next(ctx);
}

void pando_use_request_id(pando_app *app, bool trust) { pando_use_named(app, "request_id", request_id, trust ? app : NULL); }

const char *pando_request_id(pando_ctx *ctx) {
    const char *id = pando_state(ctx, "pando.request_id");
    return id ? id : "";
}
