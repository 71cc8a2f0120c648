// SPDX-License-Identifier: MIT
#include "arena.h"

#include <stdbool.h>
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
    size = (size + 7) & ~(size_t)7;
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

static char *put_number(char *at, const char *end, unsigned long long value, bool negative) {
    char digits[24], *first = digits + sizeof digits;
    do *--first = (char)('0' + value % 10);
    while (value /= 10);
    if (negative) *--first = '-';
    size_t len = (size_t)(digits + sizeof digits - first);
    if (len > (size_t)(end - at)) return NULL;
    memcpy(at, first, len);
    return at + len;
}

// What most formats are made of, without printf's machinery: text, %s, %d, %u with l, ll or z, and %%. The end of what was written to
// `at`, or NULL: something else, or no room.
static char *print_plain(char *at, const char *end, const char *format, va_list args) {
    for (; at && *format; format++) {
        if (*format != '%') {
            if (at == end) return NULL;
            *at++ = *format;
            continue;
        }
        int longs = 0;
        for (format++; *format == 'l' || *format == 'z'; format++) longs++;
        if (*format == 's' && !longs) {
            const char *text = va_arg(args, const char *);
            size_t len = text ? strlen(text) : 0;
            if (!text || len > (size_t)(end - at)) return NULL;
            memcpy(at, text, len);
            at += len;
        } else if (*format == 'd') {
            long long value = longs > 1 ? va_arg(args, long long) : longs ? va_arg(args, long) : va_arg(args, int);
            at = put_number(at, end, value < 0 ? 0 - (unsigned long long)value : (unsigned long long)value, value < 0);
        } else if (*format == 'u') {
            at = put_number(at, end,
                            longs > 1 ? va_arg(args, unsigned long long)
                            : longs   ? va_arg(args, unsigned long)
                                      : va_arg(args, unsigned),
                            false);
        } else if (*format == '%' && !longs && at < end) {
            *at++ = '%';
        } else {
            return NULL;
        }
    }
    return at;
}

char *arena_vprintf(struct arena *arena, size_t *out_len, const char *format, va_list args) {
    va_list again;
    size_t room = (size_t)(arena->end - arena->next);
    char *at = arena->next;
    va_copy(again, args);
    char *end = room ? print_plain(at, at + room - 1, format, again) : NULL;  // a byte is left for the NUL
    va_end(again);
    if (end) {
        *end = '\0';
        arena_take(arena, (size_t)(end - at) + 1);
        if (out_len) *out_len = (size_t)(end - at);
        return at;
    }
    va_copy(again, args);
    int len = vsnprintf(at, room, format, args);
    at = len >= 0 ? arena_take(arena, (size_t)len + 1) : NULL;
    if (at && (size_t)len >= room) vsnprintf(at, (size_t)len + 1, format, again);
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
