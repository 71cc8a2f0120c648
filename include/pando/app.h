// SPDX-License-Identifier: MIT
// Koa for C: an app is a chain of middleware, each of which may run the rest of the chain by pando_next, and may wait.
//
// One app serves one thread. Handlers run on a coroutine of their own request: waiting (pando_sleep, pando_next, reading a
// body) lets other requests go on. docs/app.md is the guide.
#ifndef PANDO_APP_H
#define PANDO_APP_H

#include <pando/http.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pando_app pando_app;
typedef struct pando_ctx pando_ctx;
typedef struct pando_router pando_router;
typedef void (*pando_handler)(pando_ctx *ctx);

// What was thrown. `message` reaches the client when `expose` (4xx), else only the log.
struct pando_failure {
    int status;
    bool expose, head_sent;
    const char *message;     // NUL-terminated
    const char *middleware;  // the name of the one that threw
};
typedef void (*pando_error_fn)(pando_ctx *ctx, const struct pando_failure *failure, void *arg);

struct pando_app_options {
    bool proxy;                          // trust X-Forwarded-Host, -Proto and proxy_ip_header
    const char *proxy_ip_header;         // NULL: X-Forwarded-For
    unsigned max_ips;                    // the last n of it are ours; 0: all
    unsigned subdomain_offset;           // 0: 2
    const char *const *keys;             // of signed cookies, newest first, NULL-terminated; borrowed
    bool silent;                         // failures are not printed
    bool conditional;                    // answer 304 to a fresh GET or HEAD by itself (Koa leaves that to middleware)
    size_t stack_bytes;                  // of a handler; 0: 256 KiB, of which only what is touched costs memory
    struct pando_server_options server;  // on_request and arg are the app's
};

PANDO_API pando_app *pando_app_new(const struct pando_app_options *options);  // NULL options: all defaults. NULL: no memory, or keys without OpenSSL (ENOENT)
PANDO_API void pando_app_free(pando_app *app);

// Appends middleware; `arg` is pando_arg(ctx) inside it. The macros pass the function's name on to error messages.
PANDO_API pando_app *pando_use_named(pando_app *app, const char *name, pando_handler fn, void *arg);
#define pando_use(app, fn, arg) pando_use_named(app, #fn, fn, arg)
PANDO_API void pando_on_free(pando_app *app, void (*fn)(void *arg), void *arg);  // in reverse order by pando_app_free

// Routes of the app itself, in the order of pando_use: see router.h for patterns and for routers with a prefix.
PANDO_API pando_router *pando_app_router(pando_app *app);  // the one that pando_get and so on add to here
PANDO_API void pando_route_named(pando_router *router, const char *method, const char *pattern, const char *name, pando_handler fn,
                                 void *arg);
#define pando_get(app, pattern, fn, arg) pando_route_named(pando_app_router(app), "GET", pattern, #fn, fn, arg)
#define pando_post(app, pattern, fn, arg) pando_route_named(pando_app_router(app), "POST", pattern, #fn, fn, arg)
#define pando_put(app, pattern, fn, arg) pando_route_named(pando_app_router(app), "PUT", pattern, #fn, fn, arg)
#define pando_patch(app, pattern, fn, arg) pando_route_named(pando_app_router(app), "PATCH", pattern, #fn, fn, arg)
#define pando_delete(app, pattern, fn, arg) pando_route_named(pando_app_router(app), "DELETE", pattern, #fn, fn, arg)
#define pando_all(app, pattern, fn, arg) pando_route_named(pando_app_router(app), "*", pattern, #fn, fn, arg)

// Where failures are told; NULL: those that are not exposed are printed to stderr.
PANDO_API void pando_on_error(pando_app *app, pando_error_fn fn, void *arg);
// A slot in every ctx of this app (an extension's own data). Before the first request.
PANDO_API int pando_slot_new(pando_app *app);
PANDO_API void **pando_slot(pando_ctx *ctx, int slot);

// The app as an HTTP server's request callback: arg is the app. For several servers, or a loop of your own.
PANDO_API void pando_app_on_request(pando_exchange *exchange, void *app);
PANDO_API pando_server *pando_app_server(pando_app *app, struct pando_error *error);             // made on first use, owned by the app
PANDO_API int pando_app_listen(pando_app *app, const char *address, struct pando_error *error);  // as pando_server_listen
// Listens, serves until TERM or INT, drains, frees the app. An exit status; failures are printed. address NULL: $PORT, else 8080.
PANDO_API int pando_app_main(pando_app *app, const char *address);

// Answers a request in process, without a socket: a whole HTTP/1.1 request in, the raw answer out (malloced, NUL-terminated).
PANDO_API int pando_inject_raw(pando_app *app, struct pando_str request, char **out_answer, size_t *out_len);
struct pando_answer {
    int status;
    char *raw;              // owned
    struct pando_str head;  // views into raw
    struct pando_str body;  // chunks joined
};
// "GET", "/users/7", headers as "Name: value\r\n..." or NULL, body or NULL.
PANDO_API int pando_inject(pando_app *app, const char *method, const char *target, const char *headers, const char *body,
                           struct pando_answer *out);
PANDO_API struct pando_str pando_answer_header(const struct pando_answer *answer, const char *name);
PANDO_API void pando_answer_free(struct pando_answer *answer);

// The onion
PANDO_API void pando_next(pando_ctx *ctx);  // runs what comes after this middleware; a throw in there passes through
PANDO_API const struct pando_failure *pando_try_next(pando_ctx *ctx);  // the same, but a throw ends here; NULL: none
PANDO_API void *pando_arg(const pando_ctx *ctx);
PANDO_API pando_app *pando_ctx_app(const pando_ctx *ctx);
PANDO_API pando_exchange *pando_ctx_exchange(const pando_ctx *ctx);

// Ends this and every outer middleware up to pando_try_next. What C would have cleaned up on the way is not: use pando_defer.
PANDO_API __attribute__((noreturn)) void pando_throw(pando_ctx *ctx, int status, const char *format, ...) PANDO_PRINTF(3, 4);
PANDO_API void pando_throw_with(pando_ctx *ctx, const char *name, const char *value);  // a header of the error answer
PANDO_API __attribute__((noreturn)) void pando_rethrow(pando_ctx *ctx, const struct pando_failure *failure);
#define pando_assert(ctx, value, status, ...)                \
    do {                                                     \
        if (!(value)) pando_throw(ctx, status, __VA_ARGS__); \
    } while (0)
PANDO_API void pando_defer(pando_ctx *ctx, void (*fn)(void *arg), void *arg);  // when the ctx ends, last first

// Memory that lives as long as the ctx. Throws 503 when there is none.
PANDO_API void *pando_alloc(pando_ctx *ctx, size_t size);
PANDO_API char *pando_printf(pando_ctx *ctx, const char *format, ...) PANDO_PRINTF(2, 3);
// ctx.state: what middleware leaves for later ones, by name. The pointer is the caller's (pando_alloc, or static).
PANDO_API void pando_state_set(pando_ctx *ctx, const char *name, void *value);
PANDO_API void *pando_state(const pando_ctx *ctx, const char *name);

// Waiting, without blocking the worker. -ECANCELED: the client is gone or the time is over; finish soon.
PANDO_API int pando_sleep(pando_ctx *ctx, uint32_t ms);
PANDO_API int pando_wait_fd(pando_ctx *ctx, int fd, short events, uint32_t timeout_ms);  // POLLIN, POLLOUT: which came; -ETIMEDOUT; -EBADF
PANDO_API int pando_work(pando_ctx *ctx, void (*fn)(void *arg), void *arg);              // in libuv's thread pool
// For any client with callbacks: suspend until a callback on this loop resumes. A resume before the suspend is not lost.
PANDO_API int pando_suspend(pando_ctx *ctx);
PANDO_API void pando_resume(pando_ctx *ctx);

#include <pando/ctx.h>
#include <pando/middleware.h>
#include <pando/router.h>

#ifdef __cplusplus
}
#endif
#endif
