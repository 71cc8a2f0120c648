// SPDX-License-Identifier: MIT
// Waiting inside a handler: a libuv handle whose callback resumes the coroutine. The handle is on the heap and closes after the
// handler has gone on, so a cancelled wait costs nobody anything.
#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#include "ctx.h"

struct waiter {
    uv_timer_t timer;
    uv_poll_t poll;
    struct pando_ctx *ctx;  // NULL: nobody waits any more
    int open_handles, events;
    bool over, timed_out;
};

static uv_loop_t *loop_of(struct pando_ctx *ctx) { return ctx->exchange->server->loop; }

static void on_closed(uv_handle_t *handle) {
    struct waiter *waiter = handle->data;
    if (!--waiter->open_handles) free(waiter);
}

static void on_over(struct waiter *waiter) {
    waiter->over = true;
    if (waiter->ctx) ctx_resume(waiter->ctx, WAIT_CALLBACK);
}

static void on_timer(uv_timer_t *timer) {
    struct waiter *waiter = timer->data;
    waiter->timed_out = true;
    on_over(waiter);
}

static void on_ready(uv_poll_t *poll, int status, int events) {
    struct waiter *waiter = poll->data;
    waiter->events = status < 0 ? status : events;
    uv_poll_stop(poll);
    on_over(waiter);
}

static struct waiter *waiter_new(struct pando_ctx *ctx) {
    struct waiter *waiter = calloc(1, sizeof *waiter);
    if (!waiter) pando_throw(ctx, 503, "out of memory");
    waiter->ctx = ctx;
    waiter->timer.data = waiter->poll.data = waiter;
    uv_timer_init(loop_of(ctx), &waiter->timer);
    waiter->open_handles = 1;
    return waiter;
}

static void wait_until_over(struct waiter *waiter) {
    struct pando_ctx *ctx = waiter->ctx;
    while (!waiter->over && !ctx->cancelled) ctx_suspend(ctx, WAIT_CALLBACK);
    waiter->ctx = NULL;
    uv_close((uv_handle_t *)&waiter->timer, on_closed);
    if (waiter->open_handles == 2) uv_close((uv_handle_t *)&waiter->poll, on_closed);
}

int pando_sleep(pando_ctx *ctx, uint32_t ms) {
    if (ctx->cancelled) return -ECANCELED;
    struct waiter *waiter = waiter_new(ctx);
    uv_timer_start(&waiter->timer, on_timer, ms, 0);
    wait_until_over(waiter);  // the waiter lives at least until libuv's next round
    return waiter->over ? 0 : -ECANCELED;
}

int pando_wait_fd(pando_ctx *ctx, int fd, short events, uint32_t timeout_ms) {
    if (ctx->cancelled) return -ECANCELED;
    struct waiter *waiter = waiter_new(ctx);
    int result = uv_poll_init(loop_of(ctx), &waiter->poll, fd);
    if (!result) {
        waiter->open_handles = 2;
        result = uv_poll_start(&waiter->poll, (events & POLLIN ? UV_READABLE : 0) | (events & POLLOUT ? UV_WRITABLE : 0) | UV_DISCONNECT,
                               on_ready);
    }
    if (result) {
        waiter->over = true;
        wait_until_over(waiter);
        return result;
    }
    if (timeout_ms != PANDO_NEVER) uv_timer_start(&waiter->timer, on_timer, timeout_ms, 0);
    wait_until_over(waiter);
    if (!waiter->over) return -ECANCELED;
    if (waiter->timed_out) return -ETIMEDOUT;
    if (waiter->events < 0) return waiter->events;
    return (waiter->events & (UV_READABLE | UV_DISCONNECT) ? POLLIN : 0) | (waiter->events & UV_WRITABLE ? POLLOUT : 0);
}

struct job {
    uv_work_t work;
    struct pando_ctx *ctx;
    void (*fn)(void *arg);
    void *arg;
    bool done;
};

static void on_job(uv_work_t *work) {
    struct job *job = work->data;
    job->fn(job->arg);
}

static void on_job_done(uv_work_t *work, int status) {
    (void)status;
    struct job *job = work->data;
    job->done = true;
    ctx_resume(job->ctx, WAIT_WORK);
}

// A thread that runs cannot be taken back, and `arg` may be on our stack: so this wait is not cancelled.
int pando_work(pando_ctx *ctx, void (*fn)(void *arg), void *arg) {
    if (ctx->cancelled) return -ECANCELED;
    struct job job = {.ctx = ctx, .fn = fn, .arg = arg};
    job.work.data = &job;
    int result = uv_queue_work(loop_of(ctx), &job.work, on_job, on_job_done);
    if (result) return result;
    while (!job.done) ctx_suspend(ctx, WAIT_WORK);
    return ctx->cancelled ? -ECANCELED : 0;
}

int pando_suspend(pando_ctx *ctx) {
    ctx_suspend(ctx, WAIT_CALLBACK);
    return ctx->cancelled ? -ECANCELED : 0;
}

void pando_resume(pando_ctx *ctx) { ctx_resume(ctx, WAIT_CALLBACK); }
