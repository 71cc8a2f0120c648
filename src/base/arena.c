// SPDX-License-Identifier: MIT
#include "arena.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ARENA_BLOCK_MIN = 16 * 1024 };

struct arena_block {
    struct arena_block *older;
    size_t size;
    char data[] __attribute__((aligned(16)));
};

void arena_init(struct arena *arena, void *first, size_t first_size, size_t ceiling) {
    first_size &= ~(size_t)7;  // every piece stays 8-aligned to the end
    *arena = (struct arena){.next = first, .end = (char *)first + first_size, .first = first, .first_size = first_size, .ceiling = ceiling};
}

void arena_reset(struct arena *arena) {
    while (arena->blocks) {
        struct arena_block *block = arena->blocks;
        arena->blocks = block->older;
        free(block);
    }
    arena->next = arena->first;
    arena->end = arena->first + arena->first_size;
    arena->taken = 0;
}

void *arena_take_slow(struct arena *arena, size_t size) {
    if (size > arena->ceiling) return NULL;
    size_t want = size > ARENA_BLOCK_MIN / 4 ? size : ARENA_BLOCK_MIN;
    if (want > arena->ceiling - arena->taken) return NULL;
    struct arena_block *block = malloc(sizeof *block + want);
    if (!block) return NULL;
    *block = (struct arena_block){.older = arena->blocks, .size = want};
    arena->blocks = block;
    arena->taken += want;
    if (want == size) return block->data;  // a large piece has its own block; the current one goes on being filled
    arena->next = block->data + size;
    arena->end = block->data + want;
    return block->data;
}

void *arena_zero(struct arena *arena, size_t size) {
    void *at = arena_take(arena, size);
    return at ? memset(at, 0, size) : NULL;
}

char *arena_copy(struct arena *arena, const void *data, size_t len) {
    if (len == SIZE_MAX) return NULL;
    char *at = arena_take(arena, len + 1);
    if (!at) return NULL;
    if (len) memcpy(at, data, len);
    at[len] = '\0';
    return at;
}

char *arena_vprintf(struct arena *arena, size_t *out_len, const char *format, va_list args) {
    va_list again;
    va_copy(again, args);
    size_t room = (size_t)(arena->end - arena->next);
    int len = vsnprintf(arena->next, room, format, args);
    char *at = NULL;
    if (len >= 0 && (at = arena_take(arena, (size_t)len + 1)) && (size_t)len >= room) vsnprintf(at, (size_t)len + 1, format, again);
    va_end(again);
    if (at && out_len) *out_len = (size_t)len;
    return at;
}

char *arena_printf(struct arena *arena, size_t *out_len, const char *format, ...) {
    va_list args;
    va_start(args, format);
    char *at = arena_vprintf(arena, out_len, format, args);
    va_end(args);
    return at;
}
