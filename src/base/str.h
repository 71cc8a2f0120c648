// SPDX-License-Identifier: MIT
// Bounded strings and the numbers, durations and sizes that users type and read.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Copies with truncation, always NUL-terminated. True when all of it fitted.
bool str_copy(char *out, size_t size, const char *from);

// A whole decimal number in [min, max], nothing before or after it. 0, -EINVAL (no number) or -ERANGE.
int str_parse_number(const char *text, long min, long max, long *out);
// "250ms", "30s", "5m", "24h"; a bare number is seconds ("0", "2.5s" are fine). 0, -EINVAL or -ERANGE.
int str_parse_duration(const char *text, uint64_t *out_ns);
// "512M", "2G", "64K", bare bytes. 0, -EINVAL or -ERANGE.
int str_parse_size(const char *text, uint64_t *out_bytes);

// "12s", "3m", "2h", "5d": what `status` shows. Returns `out`.
const char *str_duration(uint64_t ns, char *out, size_t size);
// "61 MB", "812 KB", "1.2 GB". Returns `out`.
const char *str_size(uint64_t bytes, char *out, size_t size);
// The name of a signal without "SIG" ("KILL"); "signal 40" for one without a name. Never NULL; thread-local storage.
const char *str_signal(int signo);
// The number of "TERM", "SIGTERM" or "15"; -EINVAL.
int str_parse_signal(const char *text);

// How many characters must be typed, dropped or replaced to turn one word into the other (of the first 64 each).
size_t str_distance(const char *a, const char *b);

void str_free(char **text);  // for scoped_str
#define scoped_str __attribute__((cleanup(str_free))) char *
