// SPDX-License-Identifier: MIT
// Counts visits in Redis by hiredis' asynchronous client: any libuv-based client works like this. The handler starts a command
// and suspends; the client's callback resumes it. Meanwhile the worker serves others.
// Usage: redis_counter ADDRESS REDIS-PORT
#include <pando/app.h>

#include <hiredis/adapters/libuv.h>
#include <hiredis/async.h>
#include <stdio.h>
#include <stdlib.h>

struct call {
    pando_ctx *ctx;  // NULL: the handler has gone on without the reply
    long long count;
    bool done, failed;
};

static redisAsyncContext *redis;

static void on_reply(redisAsyncContext *context, void *answer, void *at) {
    (void)context;
    struct call *call = at;
    redisReply *reply = answer;
    if (!call->ctx) return free(call);
    call->failed = !reply || reply->type != REDIS_REPLY_INTEGER;
    if (!call->failed) call->count = reply->integer;
    call->done = true;
    pando_resume(call->ctx);
}

static void visit(pando_ctx *ctx) {
    struct call *call = calloc(1, sizeof *call);  // on the heap: the reply may come after the handler was cancelled
    pando_assert(ctx, call, 503, "out of memory");
    call->ctx = ctx;
    if (redisAsyncCommand(redis, on_reply, call, "INCR visits:%s", pando_param(ctx, "page")) != REDIS_OK) {
        free(call);
        pando_throw(ctx, 503, "Redis is away");
    }
    while (!call->done)
        if (pando_suspend(ctx)) return (void)(call->ctx = NULL);  // the client is gone; on_reply frees
    long long count = call->count;
    bool failed = call->failed;
    free(call);
    pando_assert(ctx, !failed, 503, "Redis is away");
    pando_body_json(ctx, "{s:I}", "visits", count);
}

int main(int argc, char **argv) {
    pando_app *app = pando_app_new(NULL);
    pando_get(app, "/:page", visit, NULL);
    redis = redisAsyncConnect("127.0.0.1", argc > 2 ? atoi(argv[2]) : 6379);
    if (!redis || redis->err) return fprintf(stderr, "Redis: %s\n", redis ? redis->errstr : "out of memory"), 1;
    redisLibuvAttach(redis, pando_server_loop(pando_app_server(app, NULL)));
    return pando_app_main(app, argc > 1 ? argv[1] : NULL);
}
