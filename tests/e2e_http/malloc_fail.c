// SPDX-License-Identifier: MIT
// LD_PRELOADed: between one SIGUSR1 and the next, one of MALLOC_FAIL_EVERY allocations fails. Which ones is the same each time.
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static atomic_bool failing;
static atomic_uint count, failed;
static unsigned every = 10;
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *at, size_t size);

static bool fails(void) {
    if (!failing) return false;
    unsigned mixed = ++count * 2654435761u;
    mixed ^= mixed >> 15;
    mixed *= 2246822519u;
    mixed ^= mixed >> 13;
    if (mixed % every) return false;
    failed++;
    errno = ENOMEM;
    return true;
}

__attribute__((visibility("default"))) void *malloc(size_t size);
__attribute__((visibility("default"))) void *calloc(size_t n, size_t size);
__attribute__((visibility("default"))) void *realloc(void *at, size_t size);
void *malloc(size_t size) { return fails() ? NULL : __libc_malloc(size); }
void *calloc(size_t n, size_t size) { return fails() ? NULL : __libc_calloc(n, size); }
void *realloc(void *at, size_t size) { return fails() ? NULL : __libc_realloc(at, size); }

static void toggle(int number) {
    (void)number;
    failing = !failing;
}
static __attribute__((constructor)) void begin(void) {
    const char *text = getenv("MALLOC_FAIL_EVERY");
    if (text) every = (unsigned)strtoul(text, NULL, 10);
    signal(SIGUSR1, toggle);
}
static __attribute__((destructor)) void tell(void) {
    char text[64];
    int len = snprintf(text, sizeof text, "failed allocations: %u\n", (unsigned)failed);
    if (write(2, text, (size_t)len) < 0) return;
}
