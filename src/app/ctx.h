// SPDX-License-Identifier: MIT
// One request on its way through the app. Lives in its exchange's arena; ends when its coroutine has returned and its
// exchange is over, whichever comes last.
#pragma once

#include <setjmp.h>

#include "app.h"
#include "exchange.h"

// What a ctx is doing. ctx_move (ctx.c) alone writes it.
enum ctx_state {
    CTX_RUNNING,   // its coroutine runs, or is about to
    CTX_WAITING,   // its coroutine is suspended; `waits_for` says what resumes it
    CTX_RETURNED,  // the chain is done, the answer is being sent
    CTX_ENDED,     // nothing may touch it any more
    CTX_STATE_COUNT
};
enum ctx_wait { WAIT_NOTHING, WAIT_CALLBACK, WAIT_READABLE, WAIT_WRITABLE, WAIT_WORK };

enum body_kind { BODY_NONE, BODY_NULL, BODY_TEXT, BODY_BYTES, BODY_JSON, BODY_STREAM, BODY_FILE };

// Where in which chain `next` goes on; `outer` is where that chain was run from (a router in an app).
struct position {
    const struct chain *chain;
    unsigned index;
    const struct position *outer;
};
// A middleware that is running: on the coroutine's stack.
struct frame {
    struct frame *outer;
    const struct middleware *middleware;
    struct position position;
    bool next_called;
};
// Where a throw ends.
struct boundary {
    struct boundary *outer;
    struct frame *frame;
    jmp_buf jump;
};

struct named {  // cookies seen, state, ...
    struct named *next;
    const char *name;
    void *value;
};
struct deferred {
    struct deferred *next;
    void (*fn)(void *arg);
    void *arg;
};

struct pando_ctx {
    struct pando_app *app;        // borrowed
    pando_exchange *exchange;     // held
    struct coroutine *coroutine;  // while RUNNING or WAITING
    enum ctx_state state;
    enum ctx_wait waits_for;
    bool exchange_over, cancelled, resumed_early, thrown;
    // onion
    struct frame *frame;
    struct boundary *boundary;
    const char *last_middleware;
    struct pando_failure failure;
    struct exchange_field failure_header;
    struct deferred *deferred;
    struct named *state_values;
    void **slots;
    // request, filled when asked for
    const char *method, *url, *original_url, *path, *querystring, *ip;
    struct pair_list *query, *form;
    struct pando_file *files;
    size_t file_count;
    struct pando_str whole_body;
    struct route_match *match;
    struct json_t *request_json;
    bool body_read, form_read;
    // answer
    bool explicit_status, explicit_null, no_respond, has_length;
    enum body_kind body_kind;
    int status;
    const char *message;
    uint64_t length;
    struct pando_str body;   // TEXT, BYTES
    struct json_t *json;     // owned: JSON
    pando_handler producer;  // STREAM
    void *producer_arg;
    int file_fd;  // FILE; borrowed
    uint64_t file_at, file_len;
};

static inline struct arena *ctx_arena(const struct pando_ctx *ctx) { return &ctx->exchange->arena; }
void ctx_suspend(struct pando_ctx *ctx, enum ctx_wait what);  // returns when resumed, or cancelled (not for WAIT_WORK)
void ctx_resume(struct pando_ctx *ctx, enum ctx_wait what);   // if it waits for just that
struct pando_failure *ctx_catch(struct pando_ctx *ctx, struct boundary *boundary);  // after a throw landed in `boundary`
char *ctx_copy(struct pando_ctx *ctx, const char *text, size_t len);                // throws 503
const char *ctx_lower(struct pando_ctx *ctx, const char *text);                     // a copy in lower case

// compose.c
void compose_run(struct pando_ctx *ctx, const struct chain *chain, const struct position *outer);

// response.c, for the other files of app
int response_set(struct pando_ctx *ctx, struct pando_str name, struct pando_str value);          // replaces; checked; not copied
void response_set_static(struct pando_ctx *ctx, struct pando_str name, struct pando_str value);  // trusted and static
struct exchange_field *response_find(const struct pando_ctx *ctx, struct pando_str name);
void response_wipe(struct pando_ctx *ctx);
void response_body_file(struct pando_ctx *ctx, int fd, uint64_t at, uint64_t len);  // fd borrowed until the ctx ends

// request.c
struct pair {
    const char *name, *value;
};
struct pair_list {
    size_t count, cap;
    struct pair *items;
};
bool pair_add(struct pando_ctx *ctx, struct pair_list *list, const char *name, const char *value);
struct pair_list *parse_urlencoded(struct pando_ctx *ctx, struct pando_str text);  // decoded, '+' is a space
