// SPDX-License-Identifier: MIT
//   mapping:  | guard pages | stack, growing down ............ | struct coroutine |
//
// A switch saves the callee-saved registers on the old stack and takes them from the new one: about twenty instructions.
// A coroutine that has returned waits in `entry` for its next function, so that reuse costs nothing more than a switch.
#include "coroutine.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define VALGRIND_STACK_REGISTER(bottom, top) 0
#define VALGRIND_STACK_DEREGISTER(id) (void)(id)
#endif

#if defined(__SANITIZE_ADDRESS__)
#define COROUTINE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define COROUTINE_ASAN 1
#endif
#endif
#ifndef COROUTINE_ASAN
#define COROUTINE_ASAN 0
#endif

enum {
    IDLE_MAX = 256,
    STACK_MIN = 16 * 1024,
    FIRST_STACK_BYTES = 8 * 1024,
    GUARD_BYTES = 64 * 1024
};  // the last: where makecontext writes its first frame

struct coroutine {
    void *sp;         // while it is suspended
    void *caller_sp;  // while it runs: who resumed it
    struct coroutine *next_idle;
    struct coroutine *parent;  // who resumed it, when that was a coroutine too
    struct coroutine_pool *pool;
    void (*fn)(void *arg);
    void *arg;
    bool done;
    void *fake_stack;        // the sanitizer's
    char *mapping, *bottom;  // owned; above the guard page
    size_t mapping_bytes;
    unsigned valgrind_id;
};

// ---- the switch: saves the running context at *from, continues the one at `to`

void coroutine_switch(void **from, void *to);

#if defined(__x86_64__) && !defined(COROUTINE_UCONTEXT)
__asm__(
    ".text\n.globl coroutine_switch\n.hidden coroutine_switch\n.type coroutine_switch,@function\ncoroutine_switch:\n"
    "  .cfi_startproc\n  endbr64\n"
    "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
    "  movq %rsp, (%rdi)\n  movq %rsi, %rsp\n"
    "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n  ret\n"
    "  .cfi_endproc\n.size coroutine_switch,.-coroutine_switch\n");
static void *first_frame(char *top, void (*entry)(void)) {
    void **sp = (void **)(void *)top;
    *--sp = NULL;                      // entry's return address: nobody's. Also aligns the stack as after a call
    *--sp = (void *)(uintptr_t)entry;  // where ret goes
    for (int i = 0; i < 6; i++) *--sp = NULL;
    return sp;
}
#elif defined(__aarch64__) && !defined(COROUTINE_UCONTEXT)
__asm__(
    ".text\n.globl coroutine_switch\n.hidden coroutine_switch\n.type coroutine_switch,%function\ncoroutine_switch:\n"
    "  sub sp, sp, #160\n"
    "  stp x19, x20, [sp, #0]\n  stp x21, x22, [sp, #16]\n  stp x23, x24, [sp, #32]\n  stp x25, x26, [sp, #48]\n  stp x27, x28, [sp, #64]\n"
    "  stp x29, x30, [sp, #80]\n  stp d8, d9, [sp, #96]\n  stp d10, d11, [sp, #112]\n  stp d12, d13, [sp, #128]\n  stp d14, d15, [sp, "
    "#144]\n"
    "  mov x9, sp\n  str x9, [x0]\n  mov sp, x1\n"
    "  ldp x19, x20, [sp, #0]\n  ldp x21, x22, [sp, #16]\n  ldp x23, x24, [sp, #32]\n  ldp x25, x26, [sp, #48]\n  ldp x27, x28, [sp, #64]\n"
    "  ldp x29, x30, [sp, #80]\n  ldp d8, d9, [sp, #96]\n  ldp d10, d11, [sp, #112]\n  ldp d12, d13, [sp, #128]\n  ldp d14, d15, [sp, "
    "#144]\n"
    "  add sp, sp, #160\n  ret\n.size coroutine_switch,.-coroutine_switch\n");
static void *first_frame(char *top, void (*entry)(void)) {
    uint64_t *sp = (uint64_t *)(void *)top - 20;
    memset(sp, 0, 160);
    sp[11] = (uint64_t)(uintptr_t)entry;  // x30
    return sp;
}
#else
#include <ucontext.h>
// Slower (it also switches the signal mask, by a system call), and right everywhere. A context lives in the frame that left.
void coroutine_switch(void **from, void *to) {
    ucontext_t here;
    *from = &here;
    swapcontext(&here, to);
}
static void *first_frame(char *top, void (*entry)(void)) {
    ucontext_t *first = (ucontext_t *)(void *)(((uintptr_t)top - sizeof *first) & ~(uintptr_t)63);
    getcontext(first);
    first->uc_stack.ss_sp = (char *)first - FIRST_STACK_BYTES;
    first->uc_stack.ss_size = FIRST_STACK_BYTES;
    first->uc_link = NULL;
    makecontext(first, entry, 0);
    return first;
}
#endif

#if COROUTINE_ASAN
#include <sanitizer/common_interface_defs.h>
static void before_switch(void **save, const void *bottom, size_t size) { __sanitizer_start_switch_fiber(save, bottom, size); }
static void after_switch(void *fake, const void **bottom, size_t *size) { __sanitizer_finish_switch_fiber(fake, bottom, size); }
#else
static void before_switch(void **save, const void *bottom, size_t size) { (void)save, (void)bottom, (void)size; }
static void after_switch(void *fake, const void **bottom, size_t *size) {
    (void)fake;
    if (bottom) *bottom = NULL, *size = 0;
}
#endif

static size_t page_bytes(void) { return (size_t)sysconf(_SC_PAGESIZE); }
static char *stack_bottom(const struct coroutine *coroutine) { return coroutine->bottom; }
static size_t stack_size(const struct coroutine *coroutine) { return (size_t)((const char *)coroutine - coroutine->bottom); }

// The coroutine that is being entered for the first time: the one word that crosses the first switch.
static _Thread_local struct coroutine *entering;

static void on_entered(struct coroutine *coroutine, void *fake_stack) {
    const void *bottom;
    size_t size;
    after_switch(fake_stack, &bottom, &size);
    if (coroutine->parent) return;
    coroutine->pool->main_stack = bottom;
    coroutine->pool->main_stack_bytes = size;
}

static void to_caller(struct coroutine *coroutine) {
    struct coroutine_pool *pool = coroutine->pool;
    struct coroutine *parent = pool->current = coroutine->parent;
    before_switch(&coroutine->fake_stack, parent ? stack_bottom(parent) : pool->main_stack,
                  parent ? stack_size(parent) : pool->main_stack_bytes);
    coroutine_switch(&coroutine->sp, coroutine->caller_sp);
    on_entered(coroutine, coroutine->fake_stack);
}

static void entry(void) {
    struct coroutine *coroutine = entering;
    on_entered(coroutine, NULL);
    for (;;) {
        coroutine->fn(coroutine->arg);
        coroutine->done = true;
        to_caller(coroutine);
    }
}

static struct coroutine *coroutine_new(struct coroutine_pool *pool) {
    size_t bytes = pool->stack_bytes + GUARD_BYTES;  // 64 KiB: a frame with a larger array could step over one page
    char *mapping = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (mapping == MAP_FAILED) return NULL;
    if (mprotect(mapping, GUARD_BYTES, PROT_NONE)) return munmap(mapping, bytes), NULL;
    struct coroutine *coroutine = (struct coroutine *)(void *)(mapping + bytes - (sizeof *coroutine + 63) / 64 * 64);
    *coroutine = (struct coroutine){.pool = pool, .mapping = mapping, .bottom = mapping + GUARD_BYTES, .mapping_bytes = bytes};
    coroutine->sp = first_frame((char *)coroutine, entry);
    coroutine->valgrind_id = VALGRIND_STACK_REGISTER(coroutine->bottom, coroutine);
    return coroutine;
}

static void coroutine_free(struct coroutine *coroutine) {
    VALGRIND_STACK_DEREGISTER(coroutine->valgrind_id);
    munmap(coroutine->mapping, coroutine->mapping_bytes);
}

void coroutine_pool_init(struct coroutine_pool *pool, size_t stack_bytes) {
    size_t page = page_bytes();
    if (stack_bytes < STACK_MIN) stack_bytes = STACK_MIN;
    *pool = (struct coroutine_pool){.stack_bytes = (stack_bytes + page - 1) / page * page};
}

void coroutine_pool_deinit(struct coroutine_pool *pool) {
    while (pool->idle) {
        struct coroutine *coroutine = pool->idle;
        pool->idle = coroutine->next_idle;
        coroutine_free(coroutine);
    }
}

static void recycle(struct coroutine_pool *pool, struct coroutine *coroutine) {
    pool->live_count--;
    if (pool->idle_count >= IDLE_MAX) {
        coroutine_free(coroutine);
        return;
    }
    pool->idle_count++;
    coroutine->next_idle = pool->idle;
    pool->idle = coroutine;
}

bool coroutine_resume(struct coroutine_pool *pool, struct coroutine *coroutine) {
    void *fake = NULL;
    coroutine->parent = pool->current;
    pool->current = coroutine;
    entering = coroutine;
    before_switch(&fake, stack_bottom(coroutine), stack_size(coroutine));
    coroutine_switch(&coroutine->caller_sp, coroutine->sp);
    after_switch(fake, NULL, NULL);
    bool done = coroutine->done;
    if (done) recycle(pool, coroutine);
    return done;
}

struct coroutine *coroutine_start(struct coroutine_pool *pool, void (*fn)(void *arg), void *arg, bool *out_done) {
    struct coroutine *coroutine = pool->idle;
    if (coroutine) {
        pool->idle = coroutine->next_idle;
        pool->idle_count--;
    } else if (!(coroutine = coroutine_new(pool))) {
        return NULL;
    }
    pool->live_count++;
    coroutine->fn = fn;
    coroutine->arg = arg;
    coroutine->done = false;
    *out_done = coroutine_resume(pool, coroutine);
    return coroutine;
}

void coroutine_suspend(struct coroutine_pool *pool) { to_caller(pool->current); }

void *coroutine_arg(const struct coroutine *coroutine) { return coroutine->arg; }

bool coroutine_guards(const struct coroutine *coroutine, const void *address) {
    const char *at = address;
    return at >= coroutine->mapping && at < coroutine->bottom;
}
