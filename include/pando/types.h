// SPDX-License-Identifier: MIT
// What every public header shares: the string view, the error a person reads, visibility.
#ifndef PANDO_TYPES_H
#define PANDO_TYPES_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PANDO_API __attribute__((visibility("default")))
#define PANDO_PRINTF(at, first) __attribute__((format(printf, at, first)))

// Bytes that somebody else owns. Not NUL-terminated unless a function says so; data is never NULL-checked when len is 0.
struct pando_str {
    const char *data;
    size_t len;
};
#ifdef __cplusplus
#define PANDO_STR(literal) (pando_str{"" literal, sizeof(literal) - 1})
#else
#define PANDO_STR(literal) ((struct pando_str){"" literal, sizeof(literal) - 1})
#endif

static inline struct pando_str pando_str_of(const char *text) {
    struct pando_str str = {text, text ? strlen(text) : 0};
    return str;
}
static inline bool pando_str_is(struct pando_str a, struct pando_str b) { return a.len == b.len && !memcmp(a.data, b.data, a.len); }

#define PANDO_ERROR_TEXT_SIZE 512
struct pando_error {
    int code;                          // errno value, 0 when nothing failed
    char text[PANDO_ERROR_TEXT_SIZE];  // what was attempted, what happened, what to do
};

PANDO_API uint64_t pando_now_ns(void);  // CLOCK_MONOTONIC

#ifdef __cplusplus
}
#endif
#endif
