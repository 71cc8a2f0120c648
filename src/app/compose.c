// SPDX-License-Identifier: MIT
// The onion. Each middleware runs in a frame on the coroutine's stack; pando_next calls the following one, so "upstream" is
// simply the code after the call. A router runs its own chain with the place it was called from as `outer`: the end of an
// inner chain goes on there, which makes every chain middleware.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "ctx.h"

int chain_append(struct chain *chain, struct middleware item) {
    if (chain->count == chain->cap) {
        unsigned cap = chain->cap ? chain->cap * 2 : 8;
        struct middleware *items = realloc(chain->items, cap * sizeof *items);
        if (!items) return -ENOMEM;
        chain->items = items;
        chain->cap = cap;
    }
    chain->items[chain->count++] = item;
    return 0;
}

void chain_deinit(struct chain *chain) {
    free(chain->items);
    *chain = (struct chain){0};
}

static void run_at(struct pando_ctx *ctx, struct position position) {
    while (position.index == position.chain->count) {
        if (!position.outer) return;
        position = *position.outer;
    }
    struct frame frame = {.outer = ctx->frame, .middleware = &position.chain->items[position.index], .position = position};
    frame.position.index++;
    ctx->frame = &frame;
    ctx->last_middleware = frame.middleware->name;
    frame.middleware->fn(ctx);
    if (ctx->frame != &frame) {  // somebody jumped out of a frame below
        ctx->frame = &frame;
        pando_throw(ctx, 500, "%s returned before its downstream had finished", frame.middleware->name);
    }
    ctx->frame = frame.outer;
}

void compose_run(struct pando_ctx *ctx, const struct chain *chain, const struct position *outer) {
    if (ctx->frame) ctx->frame->next_called = true;  // the chain takes over the caller's next
    run_at(ctx, (struct position){.chain = chain, .outer = outer});
}

static bool may_call(pando_ctx *ctx) {
    if (ctx->state == CTX_RUNNING && ctx->frame && ctx->app->pool.current == ctx->coroutine) return true;
    struct pando_failure failure = {.status = 500, .middleware = ctx->last_middleware, .head_sent = true};
    char text[200];
    snprintf(text, sizeof text, "next() called after %s had returned", ctx->last_middleware ? ctx->last_middleware : "the chain");
    failure.message = text;
    ctx->app->failures++;
    if (ctx->app->on_error)
        ctx->app->on_error(ctx, &failure, ctx->app->on_error_arg);
    else if (!ctx->app->options.silent)
        fprintf(stderr, "%s\n", text);
    return false;
}

void pando_next(pando_ctx *ctx) {
    if (!may_call(ctx)) return;
    struct frame *frame = ctx->frame;
    if (frame->next_called) pando_throw(ctx, 500, "next() called multiple times by %s", frame->middleware->name);
    frame->next_called = true;
    run_at(ctx, frame->position);
}

const struct pando_failure *pando_try_next(pando_ctx *ctx) {
    if (!may_call(ctx)) return NULL;
    struct boundary boundary = {.outer = ctx->boundary, .frame = ctx->frame};
    ctx->boundary = &boundary;
    if (_setjmp(boundary.jump)) return ctx_catch(ctx, &boundary);
    pando_next(ctx);
    ctx->boundary = boundary.outer;
    return NULL;
}

void *pando_arg(const pando_ctx *ctx) { return ctx->frame ? ctx->frame->middleware->arg : ctx->producer_arg; }
