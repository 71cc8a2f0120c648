// SPDX-License-Identifier: MIT
// The life of a ctx:
//
//   on_request --> RUNNING <--> WAITING          on the coroutine: the chain, then the producer of a streamed body
//                     | chain done
//                     v
//                  RETURNED --------> ENDED      on the thread's stack: answer or error answer; ENDED when the exchange is over
//
// The exchange may be over first (client gone, time-out): then what the ctx waits for is cancelled, and whatever it still
// says is said to nobody. Koa's rules of what is answered when are in `respond` and `answer_failure`.
#include "ctx.h"

#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

static const bool may_move[CTX_STATE_COUNT][CTX_STATE_COUNT] = {
    [CTX_RUNNING] = {[CTX_WAITING] = true, [CTX_RETURNED] = true},
    [CTX_WAITING] = {[CTX_RUNNING] = true},
    [CTX_RETURNED] = {[CTX_ENDED] = true},
};

static void ctx_move(struct pando_ctx *ctx, enum ctx_state to) {
    assert(may_move[ctx->state][to]);
    ctx->state = to;
}

// ---- the end

static void end_if_over(struct pando_ctx *ctx) {
    if (ctx->state != CTX_RETURNED || !ctx->exchange_over) return;
    ctx_move(ctx, CTX_ENDED);
    while (ctx->deferred) {
        struct deferred *deferred = ctx->deferred;
        ctx->deferred = deferred->next;
        deferred->fn(deferred->arg);
    }
    if (ctx->json) json_decref(ctx->json);
    if (ctx->request_json) json_decref(ctx->request_json);
    pando_exchange_release(ctx->exchange);
}

void pando_defer(pando_ctx *ctx, void (*fn)(void *), void *arg) {
    struct deferred *deferred = pando_alloc(ctx, sizeof *deferred);
    *deferred = (struct deferred){.next = ctx->deferred, .fn = fn, .arg = arg};
    ctx->deferred = deferred;
}

// ---- answering

static bool is_empty_status(int status) { return status == 204 || status == 205 || status == 304; }

static void end_with(struct pando_ctx *ctx, const void *data, size_t len) {
    pando_exchange *exchange = ctx->exchange;
    if (ctx->has_length)
        exchange->declared = ctx->length;
    else if (exchange->head.method == H1_HEAD && ctx->body_kind >= BODY_TEXT && ctx->body_kind <= BODY_JSON)
        exchange->declared = len;
    exchange->status = (uint16_t)ctx->status;
    exchange->reason = ctx->message ? pando_str_of(ctx->message) : (struct pando_str){0};
    if (pando_exchange_end(exchange, data, len) < 0) pando_exchange_abort(exchange);
}

static void end_json(struct pando_ctx *ctx) {
    char *text = json_dumps(ctx->json, JSON_COMPACT | JSON_ENCODE_ANY);
    size_t len = text ? strlen(text) : 0;
    char *copy = text ? arena_copy(ctx_arena(ctx), text, len) : NULL;
    free(text);
    if (copy)
        end_with(ctx, copy, len);
    else
        pando_exchange_abort(ctx->exchange);
}

static void end_file(struct pando_ctx *ctx) {
    pando_exchange *exchange = ctx->exchange;
    exchange->status = (uint16_t)ctx->status;
    exchange->reason = ctx->message ? pando_str_of(ctx->message) : (struct pando_str){0};
    if (pando_exchange_end_file(exchange, ctx->file_fd, (off_t)ctx->file_at, ctx->file_len)) pando_exchange_abort(exchange);
}

static void end_without_body(struct pando_ctx *ctx) {
    if (ctx->explicit_null) {
        pando_remove(ctx, "Content-Type");
        ctx->has_length = false;
        end_with(ctx, NULL, 0);
        return;
    }
    const char *text = ctx->message ? ctx->message : pando_status_text(ctx->status);
    if (!text) text = pando_printf(ctx, "%d", ctx->status);
    response_set_static(ctx, PANDO_STR("Content-Type"), PANDO_STR("text/plain; charset=utf-8"));
    ctx->has_length = false;
    end_with(ctx, text, strlen(text));
}

static bool answers_304(struct pando_ctx *ctx) { return ctx->app->options.conditional && !ctx->exchange->head_sent && pando_fresh(ctx); }

static void respond(struct pando_ctx *ctx) {
    if (ctx->no_respond || !pando_writable(ctx)) return;
    if (ctx->exchange->head_sent) {  // it streamed
        if (pando_exchange_end(ctx->exchange, NULL, 0) < 0) pando_exchange_abort(ctx->exchange);
        return;
    }
    if (is_empty_status(ctx->status) || answers_304(ctx)) {
        if (!is_empty_status(ctx->status)) ctx->status = 304, ctx->message = NULL;
        pando_remove(ctx, "Content-Type");
        ctx->has_length = false;
        return end_with(ctx, NULL, 0);
    }
    switch (ctx->body_kind) {
        case BODY_NONE:
        case BODY_NULL:
            if (ctx->exchange->head.method == H1_HEAD) return end_with(ctx, NULL, 0);
            return end_without_body(ctx);
        case BODY_TEXT:
        case BODY_BYTES: return end_with(ctx, ctx->body.data, ctx->body.len);
        case BODY_JSON: return end_json(ctx);
        case BODY_FILE: return end_file(ctx);
        case BODY_STREAM: return end_with(ctx, NULL, 0);  // its producer wrote nothing
    }
}

static void tell(struct pando_ctx *ctx) {
    struct pando_app *app = ctx->app;
    const struct pando_failure *failure = &ctx->failure;
    app->failures++;
    if (app->on_error)
        app->on_error(ctx, failure, app->on_error_arg);
    else if (failure->status != 404 && !failure->expose && !app->options.silent)
        fprintf(stderr, "\n  %s %s: %d %s\n      thrown in %s\n\n", pando_method(ctx), pando_original_url(ctx), failure->status,
                failure->message, failure->middleware ? failure->middleware : "?");
}

// Koa's ctx.onerror: every header set so far is forgotten, the error's own are set, the text says no more than it may.
static void answer_failure(struct pando_ctx *ctx) {
    ctx->failure.head_sent = ctx->exchange->head_sent || !pando_writable(ctx);
    tell(ctx);
    if (ctx->failure.head_sent) {
        pando_exchange_abort(ctx->exchange);
        return;
    }
    response_wipe(ctx);
    const char *usual = pando_status_text(ctx->failure.status);
    ctx->status = usual ? ctx->failure.status : 500;
    const char *text = ctx->failure.expose ? ctx->failure.message : pando_status_text(ctx->status);
    if (ctx->failure_header.name.len) response_set(ctx, ctx->failure_header.name, ctx->failure_header.value);
    response_set_static(ctx, PANDO_STR("Content-Type"), PANDO_STR("text/plain; charset=utf-8"));
    end_with(ctx, text, strlen(text));
}

// ---- on the coroutine

static void stream(struct pando_ctx *ctx) {
    if (ctx->body_kind != BODY_STREAM || ctx->no_respond || !pando_writable(ctx) || is_empty_status(ctx->status)) return;
    if (ctx->exchange->head.method == H1_HEAD) return;
    ctx->producer(ctx);
}

static void run(void *arg) {
    struct pando_ctx *ctx = arg;
    struct boundary root = {0};
    ctx->coroutine = ctx->app->pool.current;
    ctx->boundary = &root;
    if (!_setjmp(root.jump)) {
        compose_run(ctx, &ctx->app->chain, NULL);
        stream(ctx);
    } else {
        ctx->thrown = true;
    }
    ctx->boundary = NULL;
    ctx->frame = NULL;
}

static void on_returned(struct pando_ctx *ctx) {
    ctx->coroutine = NULL;
    ctx_move(ctx, CTX_RETURNED);
    if (ctx->thrown)
        answer_failure(ctx);
    else
        respond(ctx);
    end_if_over(ctx);
}

// ---- waiting

void ctx_suspend(struct pando_ctx *ctx, enum ctx_wait what) {
    if (ctx->cancelled && what != WAIT_WORK) return;
    if (what == WAIT_CALLBACK && ctx->resumed_early) {
        ctx->resumed_early = false;
        return;
    }
    assert(ctx->app->pool.current == ctx->coroutine);  // only from its own handler
    ctx->waits_for = what;
    ctx_move(ctx, CTX_WAITING);
    coroutine_suspend(&ctx->app->pool);
}

static void wake(struct pando_ctx *ctx) {
    ctx->waits_for = WAIT_NOTHING;
    ctx_move(ctx, CTX_RUNNING);
    if (coroutine_resume(&ctx->app->pool, ctx->coroutine)) on_returned(ctx);
}

void ctx_resume(struct pando_ctx *ctx, enum ctx_wait what) {
    if (ctx->state == CTX_WAITING && ctx->waits_for == what)
        wake(ctx);
    else if (what == WAIT_CALLBACK && ctx->state < CTX_RETURNED)
        ctx->resumed_early = true;
}

// ---- events of the exchange

static void on_readable(pando_exchange *exchange, void *arg) {
    (void)exchange;
    ctx_resume(arg, WAIT_READABLE);
}

static void on_writable(pando_exchange *exchange, void *arg) {
    (void)exchange;
    ctx_resume(arg, WAIT_WRITABLE);
}

static void on_end(pando_exchange *exchange, void *arg, bool sent) {
    (void)exchange;
    struct pando_ctx *ctx = arg;
    ctx->exchange_over = true;
    ctx->cancelled = !sent;
    if (ctx->state == CTX_WAITING && ctx->waits_for != WAIT_WORK && !sent)
        wake(ctx);
    else
        end_if_over(ctx);
}

static const struct pando_exchange_events events = {.on_readable = on_readable, .on_writable = on_writable, .on_end = on_end};

void pando_app_on_request(pando_exchange *exchange, void *arg) {
    struct pando_app *app = arg;
    struct pando_ctx *ctx = arena_zero(&exchange->arena, sizeof *ctx + (size_t)app->slot_count * sizeof(void *));
    ctx->app = app;
    ctx->exchange = exchange;
    ctx->status = 404;
    ctx->slots = (void **)(ctx + 1);
    pando_exchange_hold(exchange);
    pando_exchange_watch(exchange, &events, ctx);
    bool done;
    if (coroutine_start(&app->pool, run, ctx, &done)) {
        if (done) on_returned(ctx);
        return;
    }
    ctx->status = 503;  // no memory for a stack
    on_returned(ctx);
}

// ---- throwing

struct pando_failure *ctx_catch(struct pando_ctx *ctx, struct boundary *boundary) {
    ctx->boundary = boundary->outer;
    ctx->frame = boundary->frame;
    return &ctx->failure;
}

static __attribute__((noreturn)) void jump(pando_ctx *ctx) {
    if (!ctx->boundary || ctx->app->pool.current != ctx->coroutine) {
        fprintf(stderr, "pando: thrown outside of a handler: %s\n", ctx->failure.message);
        abort();
    }
    _longjmp(ctx->boundary->jump, 1);
}

void pando_throw(pando_ctx *ctx, int status, const char *format, ...) {
    va_list args;
    va_start(args, format);
    const char *message = format ? arena_vprintf(ctx_arena(ctx), NULL, format, args) : pando_status_text(status);
    va_end(args);
    if (status < 400 || status > 599) status = 500;
    ctx->failure = (struct pando_failure){.status = status, .expose = status < 500, .message = message ? message : "out of memory"};
    ctx->failure.middleware = ctx->frame ? ctx->frame->middleware->name : ctx->last_middleware;
    jump(ctx);
}

void pando_throw_with(pando_ctx *ctx, const char *name, const char *value) {
    if (!h1_is_token(name, strlen(name)) || !h1_is_field_value(value, strlen(value))) return;
    ctx->failure_header.name = pando_str_of(ctx_copy(ctx, name, strlen(name)));
    ctx->failure_header.value = pando_str_of(ctx_copy(ctx, value, strlen(value)));
}

void pando_rethrow(pando_ctx *ctx, const struct pando_failure *failure) {
    ctx->failure = *failure;
    jump(ctx);
}

// ---- memory, state, slots

void *pando_alloc(pando_ctx *ctx, size_t size) {
    void *at = arena_take(ctx_arena(ctx), size);
    if (!at) pando_throw(ctx, 503, "out of memory");
    return at;
}

char *ctx_copy(struct pando_ctx *ctx, const char *text, size_t len) {
    char *at = arena_copy(ctx_arena(ctx), text, len);
    if (!at) pando_throw(ctx, 503, "out of memory");
    return at;
}

char *pando_printf(pando_ctx *ctx, const char *format, ...) {
    va_list args;
    va_start(args, format);
    char *at = arena_vprintf(ctx_arena(ctx), NULL, format, args);
    va_end(args);
    if (!at) pando_throw(ctx, 503, "out of memory");
    return at;
}

void pando_state_set(pando_ctx *ctx, const char *name, void *value) {
    struct named *at = ctx->state_values;
    while (at && strcmp(at->name, name)) at = at->next;
    if (!at) {
        at = pando_alloc(ctx, sizeof *at);
        *at = (struct named){.next = ctx->state_values, .name = ctx_copy(ctx, name, strlen(name))};
        ctx->state_values = at;
    }
    at->value = value;
}

void *pando_state(const pando_ctx *ctx, const char *name) {
    for (struct named *at = ctx->state_values; at; at = at->next)
        if (!strcmp(at->name, name)) return at->value;
    return NULL;
}

void **pando_slot(pando_ctx *ctx, int slot) {
    assert(slot >= 0 && slot < ctx->app->slot_count);
    return &ctx->slots[slot];
}

pando_app *pando_ctx_app(const pando_ctx *ctx) { return ctx->app; }
pando_exchange *pando_ctx_exchange(const pando_ctx *ctx) { return ctx->exchange; }
void pando_respond_none(pando_ctx *ctx) { ctx->no_respond = true; }
