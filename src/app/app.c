// SPDX-License-Identifier: MIT
// The app: construction, serving, the report of a stack overflow, and answering without a socket.
#include "error.h"
#include "ctx.h"
#include "conn.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <pando/worker.h>

#include "hmac.h"
#include "router.h"

enum { STACK_BYTES = 256 * 1024, SIGNAL_STACK_BYTES = 64 * 1024, DRAIN_MS = 30000 };

// ---- a handler that overflows its stack: say whose, then die; the worker is replaced

static _Thread_local struct pando_app *serving;  // whose coroutine may be running, for the signal handler

static void say(const char *text) {
    if (write(STDERR_FILENO, text, strlen(text)) < 0) return;
}

static void on_segv(int number, siginfo_t *info, void *context) {
    (void)context;
    struct pando_app *app = serving;
    struct coroutine *current = app ? app->pool.current : NULL;
    if (current && coroutine_guards(current, info->si_addr)) {
        struct pando_ctx *ctx = coroutine_arg(current);
        say("pando: stack overflow in middleware ");
        say(ctx->last_middleware ? ctx->last_middleware : "?");
        say(": raise stack_bytes in struct pando_app_options, or keep large arrays off the stack\n");
    }
    signal(number, SIG_DFL);  // the fault comes again and is fatal now, with its core
}

static void watch_for_overflow(struct pando_app *app) {
    serving = app;
    struct sigaction old;
    if (sigaction(SIGSEGV, NULL, &old) || old.sa_handler != SIG_DFL) return;  // a sanitizer's, or the user's own
    stack_t stack = {.ss_size = SIGNAL_STACK_BYTES}, before;
    if (sigaltstack(NULL, &before)) return;
    if (before.ss_flags & SS_DISABLE) {  // this thread has none yet; it keeps this one
        stack.ss_sp = mmap(NULL, SIGNAL_STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (stack.ss_sp == MAP_FAILED || sigaltstack(&stack, NULL)) return;
    }
    sigaction(SIGSEGV, &(struct sigaction){.sa_sigaction = on_segv, .sa_flags = SA_SIGINFO | SA_ONSTACK}, NULL);
}

// ---- construction

pando_app *pando_app_new(const struct pando_app_options *options) {
    if (options && options->keys && *options->keys && !hmac_load()) {
        fputs("pando: signed cookies need OpenSSL's libcrypto, which is not installed here\n", stderr);
        errno = ENOENT;
        return NULL;
    }
    struct pando_app *app = calloc(1, sizeof *app);
    if (!app) return NULL;
    if (options) app->options = *options;
    if (!app->options.stack_bytes) app->options.stack_bytes = STACK_BYTES;
    if (!app->options.subdomain_offset) app->options.subdomain_offset = 2;
    if (!app->options.proxy_ip_header) app->options.proxy_ip_header = "x-forwarded-for";
    coroutine_pool_init(&app->pool, app->options.stack_bytes);
    return app;
}

void pando_app_free(pando_app *app) {
    if (!app) return;
    pando_server_free(app->server);
    while (app->on_free) {
        struct on_free *item = app->on_free;
        app->on_free = item->next;
        item->fn(item->arg);
        free(item);
    }
    chain_deinit(&app->chain);
    coroutine_pool_deinit(&app->pool);
    if (serving == app) serving = NULL;
    free(app);
}

static __attribute__((noreturn)) void out_of_memory(void) {
    fputs("pando: out of memory while the app is being built\n", stderr);
    abort();
}

pando_app *pando_use_named(pando_app *app, const char *name, pando_handler fn, void *arg) {
    if (chain_append(&app->chain, (struct middleware){fn, arg, name})) out_of_memory();
    app->tail_router = NULL;
    return app;
}

void pando_on_free(pando_app *app, void (*fn)(void *), void *arg) {
    struct on_free *item = malloc(sizeof *item);
    if (!item) out_of_memory();
    *item = (struct on_free){.next = app->on_free, .fn = fn, .arg = arg};
    app->on_free = item;
}

void pando_use_router_take(pando_app *app, pando_router *router) {
    pando_on_free(app, router_free_owned, router);
    pando_use_named(app, "router", router_middleware, router);
}

// The app's own routes stand where the first of them was added; a pando_use in between starts a new router behind it.
pando_router *pando_app_router(pando_app *app) {
    if (!app->tail_router) {
        pando_router *router = pando_router_new(NULL);
        if (!router) out_of_memory();
        pando_use_router_take(app, router);
        app->tail_router = router;
    }
    return app->tail_router;
}

void pando_on_error(pando_app *app, pando_error_fn fn, void *arg) {
    app->on_error = fn;
    app->on_error_arg = arg;
}

int pando_slot_new(pando_app *app) { return app->slot_count++; }

// ---- serving

pando_server *pando_app_server(pando_app *app, struct pando_error *error) {
    if (app->server) return app->server;
    struct pando_server_options options = app->options.server;
    options.on_request = pando_app_on_request;
    options.arg = app;
    app->server = pando_server_new(&options, error);
    if (app->server) watch_for_overflow(app);
    return app->server;
}

int pando_app_listen(pando_app *app, const char *address, struct pando_error *error) {
    pando_server *server = pando_app_server(app, error);
    return server ? pando_server_listen(server, address, error) : -ENOMEM;
}

int pando_app_main(pando_app *app, const char *address) {
    struct pando_error error = {0};
    pando_self *self = NULL;
    if (!address) address = getenv("PORT");
    if (!address || !*address) address = "8080";
    pando_server *server = pando_app_server(app, &error);
    int result = server ? pando_self_open(&self, &(struct pando_self_options){.loop = server->loop, .background = true}, &error) : -ENOMEM;
    if (!result) result = pando_self_serve(self, server, address, DRAIN_MS, &error);
    if (result)
        fprintf(stderr, "pando: %s\n", error.text);
    else
        pando_server_run(app->server, true);
    pando_self_close(self);
    pando_app_free(app);
    return result ? 1 : 0;
}

// ---- without a socket

int pando_inject_raw(pando_app *app, struct pando_str request, char **out_answer, size_t *out_len) {
    pando_server *server = pando_app_server(app, NULL);
    if (!server) return -ENOMEM;
    struct buf answer = {0};
    bool over = false;
    int result = conn_open_memory(server, request, &answer, &over);
    while (!result && !over && uv_run(server->loop, UV_RUN_ONCE)) {
    }
    if (!result && (answer.failed || !over)) result = -ENOMEM;
    if (result || !answer.data) {
        buf_deinit(&answer);
        return result ? result : -ECONNRESET;
    }
    *out_answer = answer.data;
    *out_len = answer.len;
    return 0;
}

static void unchunk(struct pando_answer *answer) {
    struct h1_body body = {.framing = H1_CHUNKED};
    char *to = (char *)(uintptr_t)answer->body.data, *start = to;
    const char *from = to;
    size_t left = answer->body.len;
    struct h1_piece piece;
    while (h1_body_step(&body, from, left, &piece) == H1_MORE && piece.used) {
        if (piece.len) memmove(to, piece.data, piece.len), to += piece.len;
        from += piece.used;
        left -= piece.used;
    }
    answer->body = (struct pando_str){start, (size_t)(to - start)};
    *to = '\0';
}

struct pando_str pando_answer_header(const struct pando_answer *answer, const char *name) {
    size_t len = strlen(name);
    const char *at = answer->head.data, *end = at + answer->head.len;
    while (at && (at = memchr(at, '\n', (size_t)(end - at))) && ++at < end) {
        if ((size_t)(end - at) <= len || strncasecmp(at, name, len) || at[len] != ':') continue;
        const char *value = at + len + 1, *stop = memchr(value, '\r', (size_t)(end - value));
        while (*value == ' ') value++;
        return (struct pando_str){value, (size_t)((stop ? stop : end) - value)};
    }
    return (struct pando_str){0};
}

int pando_inject(pando_app *app, const char *method, const char *target, const char *headers, const char *body, struct pando_answer *out) {
    scoped_buf request = {0};
    buf_printf(&request, "%s %s HTTP/1.1\r\nHost: test\r\nConnection: close\r\n%s", method, target, headers ? headers : "");
    if (body) buf_printf(&request, "Content-Length: %zu\r\n", strlen(body));
    buf_printf(&request, "\r\n%s", body ? body : "");
    if (request.failed) return -ENOMEM;
    size_t len;
    *out = (struct pando_answer){0};
    int result = pando_inject_raw(app, (struct pando_str){request.data, request.len}, &out->raw, &len);
    if (result) return result;
    const char *end = memmem(out->raw, len, "\r\n\r\n", 4);
    if (len < 12 || !end) return pando_answer_free(out), -EPROTO;
    out->status = atoi(out->raw + 9);
    out->head = (struct pando_str){out->raw, (size_t)(end + 4 - out->raw)};
    out->body = (struct pando_str){end + 4, len - out->head.len};
    if (pando_answer_header(out, "Transfer-Encoding").data) unchunk(out);
    return 0;
}

void pando_answer_free(struct pando_answer *answer) {
    free(answer->raw);
    *answer = (struct pando_answer){0};
}
