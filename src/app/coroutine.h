// SPDX-License-Identifier: MIT
// Stackful coroutines from a pool: each on a mapping of its own with a guard page below. One pool a thread.
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct coroutine;

struct coroutine_pool {
    struct coroutine *idle;     // owned
    struct coroutine *current;  // NULL: the thread's own stack is running
    size_t stack_bytes;
    unsigned idle_count, live_count;
    const void *main_stack;  // for the sanitizer: bottom and size of the thread's own stack
    size_t main_stack_bytes;
};

void coroutine_pool_init(struct coroutine_pool *pool, size_t stack_bytes);
void coroutine_pool_deinit(struct coroutine_pool *pool);

// Runs fn(arg) until it first suspends or returns. NULL: no memory, fn was not called. *out_done: it has returned, and the
// coroutine is in the pool again.
struct coroutine *coroutine_start(struct coroutine_pool *pool, void (*fn)(void *arg), void *arg, bool *out_done);
// Goes on where it suspended. True: it has returned. May be called from another coroutine, which then waits for it.
bool coroutine_resume(struct coroutine_pool *pool, struct coroutine *coroutine);
void coroutine_suspend(struct coroutine_pool *pool);
void *coroutine_arg(const struct coroutine *coroutine);
// Is this address in the guard page of the coroutine? For the report of an overflow.
bool coroutine_guards(const struct coroutine *coroutine, const void *address);
