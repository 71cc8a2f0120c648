// SPDX-License-Identifier: MIT
// Invariant: data == NULL and cap == 0, or len < cap and data[len] == '\0'.
#include "buf.h"

#include <assert.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUF_FIRST_CAP 256

// Room for `more` bytes and the NUL behind them.
static bool buf_reserve(struct buf *buf, size_t more) {
    if (buf->failed) return false;
    if (more < buf->cap - buf->len) return true;
    if (more > SIZE_MAX / 2 - 1 - buf->len) return !(buf->failed = true);
    size_t cap = buf->cap ? buf->cap : BUF_FIRST_CAP;
    while (cap < buf->len + more + 1) cap *= 2;
    char *data = realloc(buf->data, cap);
    if (!data) return !(buf->failed = true);
    buf->data = data;
    buf->cap = cap;
    return true;
}

void buf_append(struct buf *buf, const void *data, size_t len) {
    if (!buf_reserve(buf, len)) return;
    if (len) memcpy(buf->data + buf->len, data, len);
    buf->len += len;
    buf->data[buf->len] = '\0';
}

void buf_puts(struct buf *buf, const char *text) { buf_append(buf, text, strlen(text)); }

void buf_printf(struct buf *buf, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (len < 0) buf->failed = true;
    if (len < 0 || !buf_reserve(buf, (size_t)len)) return;
    va_start(args, format);
    vsnprintf(buf->data + buf->len, (size_t)len + 1, format, args);
    va_end(args);
    buf->len += (size_t)len;
}

void buf_consume(struct buf *buf, size_t len) {
    assert(len <= buf->len);
    if (!len) return;
    buf->len -= len;
    memmove(buf->data, buf->data + len, buf->len + 1);
}

void buf_deinit(struct buf *buf) {
    free(buf->data);
    *buf = (struct buf){0};
}
