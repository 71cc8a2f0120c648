// SPDX-License-Identifier: MIT
// Server-Sent Events: a stream of lines. A text with line breaks becomes several data lines, so nothing in it can end the event.
#include <sys/types.h>
#include "ctx.h"

#include <errno.h>
#include "buf.h"

int pando_sse_start(pando_ctx *ctx) {
    if (ctx->exchange->head_sent) return -EALREADY;
    pando_set(ctx, "Content-Type", "text/event-stream");
    pando_set(ctx, "Cache-Control", "no-cache, no-transform");
    pando_set(ctx, "X-Accel-Buffering", "no");
    pando_flush_headers(ctx);
    return pando_writable(ctx) ? 0 : -EPIPE;
}

static void put_lines(struct buf *out, const char *field, const char *text) {
    do {
        size_t len = strcspn(text, "\r\n");
        buf_printf(out, "%s: %.*s\n", field, (int)len, text);
        text += len;
        if (*text == '\r' && text[1] == '\n') text++;
    } while (*text++);
}

static int send_take(pando_ctx *ctx, struct buf *out) {
    int result = out->failed ? -ENOMEM : pando_write(ctx, out->data, out->len);
    buf_deinit(out);
    return result;
}

int pando_sse_send(pando_ctx *ctx, const char *event, const char *id, const char *data) {
    if ((event && strpbrk(event, "\r\n")) || (id && strpbrk(id, "\r\n"))) return -EINVAL;
    struct buf out = {0};
    if (id) buf_printf(&out, "id: %s\n", id);
    if (event) buf_printf(&out, "event: %s\n", event);
    put_lines(&out, "data", data);
    buf_puts(&out, "\n");
    return send_take(ctx, &out);
}

int pando_sse_comment(pando_ctx *ctx, const char *text) {
    struct buf out = {0};  // not from the request's memory: a stream may be kept alive for days by these
    buf_printf(&out, ": %.*s\n\n", (int)strcspn(text, "\r\n"), text);
    return send_take(ctx, &out);
}

const char *pando_sse_last_id(pando_ctx *ctx) { return pando_header(ctx, "Last-Event-ID"); }
