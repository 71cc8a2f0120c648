// SPDX-License-Identifier: MIT
// Memory that is freed all at once: a request's. The first block is the caller's, so that a small request allocates nothing.
#pragma once

#include <stddef.h>
#include <stdarg.h>

struct arena_block;

struct arena {
    char *next, *end;
    struct arena_block *blocks;  // owned: further blocks, newest first
    char *first;                 // borrowed: the caller's block
    size_t first_size, taken, ceiling;
};

void arena_init(struct arena *arena, void *first, size_t first_size, size_t ceiling);
void arena_reset(struct arena *arena);  // frees the further blocks; also the deinit

// 8-aligned, uninitialised; NULL when memory or the ceiling is reached.
void *arena_take_slow(struct arena *arena, size_t size);
static inline void *arena_take(struct arena *arena, size_t size) {
    if (size > (size_t)(arena->end - arena->next)) return arena_take_slow(arena, size);
    void *at = arena->next;
    arena->next += (size + 7) & ~(size_t)7;  // fits: both ends are 8-aligned
    return at;
}
void *arena_zero(struct arena *arena, size_t size);                   // the same, zeroed
char *arena_copy(struct arena *arena, const void *data, size_t len);  // NUL added
char *arena_printf(struct arena *arena, size_t *out_len, const char *format, ...) __attribute__((format(printf, 3, 4)));
char *arena_vprintf(struct arena *arena, size_t *out_len, const char *format, va_list args);
