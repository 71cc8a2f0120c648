// SPDX-License-Identifier: MIT
// The app: its chain of middleware and what its requests share. Lives on one thread.
#pragma once

#include <pando/app.h>

#include "coroutine.h"

struct middleware {
    pando_handler fn;
    void *arg;         // borrowed
    const char *name;  // static
};

// Middleware in order. Grows only before the first request.
struct chain {
    struct middleware *items;  // owned
    unsigned count, cap;
};
int chain_append(struct chain *chain, struct middleware item);
void chain_deinit(struct chain *chain);

struct on_free {
    struct on_free *next;
    void (*fn)(void *arg);
    void *arg;
};

struct pando_app {
    struct pando_app_options options;
    struct chain chain;
    struct coroutine_pool pool;
    struct pando_router *tail_router;  // borrowed: the chain's last item is its middleware, or NULL
    pando_server *server;              // owned
    pando_error_fn on_error;
    void *on_error_arg;
    struct on_free *on_free;  // owned, newest first
    int slot_count;
    uint64_t failures;
};
