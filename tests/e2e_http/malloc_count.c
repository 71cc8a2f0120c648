// SPDX-License-Identifier: MIT
// LD_PRELOADed: counts allocations and says so at the end.
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static atomic_ulong count;
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *at, size_t size);

__attribute__((visibility("default"))) void *malloc(size_t size);
__attribute__((visibility("default"))) void *calloc(size_t n, size_t size);
__attribute__((visibility("default"))) void *realloc(void *at, size_t size);
void *malloc(size_t size) {
    count++;
    return __libc_malloc(size);
}
void *calloc(size_t n, size_t size) {
    count++;
    return __libc_calloc(n, size);
}
void *realloc(void *at, size_t size) {
    count++;
    return __libc_realloc(at, size);
}

static __attribute__((destructor)) void tell(void) {
    char text[64];
    int len = snprintf(text, sizeof text, "allocations: %lu\n", (unsigned long)count);
    if (write(2, text, (size_t)len) < 0) return;
}
