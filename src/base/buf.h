// SPDX-License-Identifier: MIT
// A growing byte buffer. A failed allocation sets `failed`; later appends do nothing, so that one check at the end is enough.
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct buf {
    char *data;  // owned; NUL-terminated whenever not NULL
    size_t len, cap;
    bool failed;
};

void buf_deinit(struct buf *buf);  // frees and zeroes; buf = {0} is an empty buffer
#define scoped_buf __attribute__((cleanup(buf_deinit))) struct buf

void buf_append(struct buf *buf, const void *data, size_t len);
void buf_puts(struct buf *buf, const char *text);
void buf_printf(struct buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buf_consume(struct buf *buf, size_t len);  // drops the first `len` bytes
