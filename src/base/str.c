// SPDX-License-Identifier: MIT
#include "str.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "clock.h"

#define STR_DISTANCE_MAX 64  // longer words are no typing mistakes

struct str_unit {
    const char *suffix;
    uint64_t factor;
};

static const struct str_unit str_duration_units[] = {
    {"", CLOCK_S}, {"ms", CLOCK_MS}, {"s", CLOCK_S}, {"m", 60 * CLOCK_S}, {"h", 3600 * CLOCK_S}, {NULL, 0},
};

static const struct str_unit str_size_units[] = {
    {"", 1},        {"B", 1},       {"K", 1 << 10},           {"k", 1 << 10},           {"M", 1 << 20}, {"m", 1 << 20},
    {"G", 1 << 30}, {"g", 1 << 30}, {"T", UINT64_C(1) << 40}, {"t", UINT64_C(1) << 40}, {NULL, 0},
};

bool str_copy(char *out, size_t size, const char *from) {
    assert(size > 0);
    size_t len = strnlen(from, size);
    bool fits = len < size;
    if (!fits) len = size - 1;
    memcpy(out, from, len);
    out[len] = '\0';
    return fits;
}

static bool str_is_digit(char c) { return c >= '0' && c <= '9'; }

int str_parse_number(const char *text, long min, long max, long *out) {
    const char *digits = *text == '-' ? text + 1 : text;
    if (!str_is_digit(*digits)) return -EINVAL;
    char *end;
    int saved = errno;
    errno = 0;
    long number = strtol(text, &end, 10);
    bool overflow = errno == ERANGE;
    errno = saved;
    if (*end) return -EINVAL;
    if (overflow || number < min || number > max) return -ERANGE;
    *out = number;
    return 0;
}

static const struct str_unit *str_find_unit(const struct str_unit *units, const char *suffix) {
    while (units->suffix && strcmp(units->suffix, suffix) != 0) units++;
    return units->suffix ? units : NULL;
}

// "DIGITS[.DIGITS]UNIT". The cap of INT64_MAX leaves room to add such a value to a point in time.
static int str_parse_quantity(const char *text, const struct str_unit *units, uint64_t *out) {
    unsigned __int128 whole = 0, fraction = 0, scale = 1;
    if (!str_is_digit(*text)) return -EINVAL;
    for (; str_is_digit(*text); text++)
        if (whole <= INT64_MAX) whole = whole * 10 + (unsigned)(*text - '0');
    if (*text == '.') {
        if (!str_is_digit(*++text)) return -EINVAL;
        for (; str_is_digit(*text); text++) {
            if (scale >= CLOCK_S) continue;
            fraction = fraction * 10 + (unsigned)(*text - '0');
            scale *= 10;
        }
    }
    const struct str_unit *unit = str_find_unit(units, text);
    if (!unit) return -EINVAL;
    unsigned __int128 value = whole * unit->factor + fraction * unit->factor / scale;
    if (value > INT64_MAX) return -ERANGE;
    *out = (uint64_t)value;
    return 0;
}

int str_parse_duration(const char *text, uint64_t *out_ns) { return str_parse_quantity(text, str_duration_units, out_ns); }

int str_parse_size(const char *text, uint64_t *out_bytes) { return str_parse_quantity(text, str_size_units, out_bytes); }

// A unit begins at two of it: "90s" says more than "1m".
const char *str_duration(uint64_t ns, char *out, size_t size) {
    unsigned long long s = ns / CLOCK_S;
    if (ns > 0 && s == 0)
        snprintf(out, size, "%llums", (unsigned long long)(ns / CLOCK_MS));
    else if (s < 120)
        snprintf(out, size, "%llus", s);
    else if (s < 120 * 60)
        snprintf(out, size, "%llum", s / 60);
    else if (s < 48 * 3600)
        snprintf(out, size, "%lluh", s / 3600);
    else
        snprintf(out, size, "%llud", s / 86400);
    return out;
}

const char *str_size(uint64_t bytes, char *out, size_t size) {
    static const char *const units[] = {"B", "KB", "MB", "GB", "TB", "PB", "EB"};
    size_t unit = 0;
    double value = (double)bytes;
    while (value >= 999.5 && unit + 1 < sizeof units / sizeof units[0]) {
        value /= 1024;
        unit++;
    }
    int decimals = unit >= 2 && value < 9.95 ? 1 : 0;
    snprintf(out, size, "%.*f %s", decimals, value, units[unit]);
    return out;
}

const char *str_signal(int signo) {
    static _Thread_local char other[24];
    const char *name = sigabbrev_np(signo);
    if (name) return name;
    snprintf(other, sizeof other, "signal %d", signo);
    return other;
}

int str_parse_signal(const char *text) {
    long number;
    if (str_parse_number(text, 1, SIGRTMAX, &number) == 0) return (int)number;
    if (strncasecmp(text, "SIG", 3) == 0) text += 3;
    for (int signo = 1; signo < NSIG; signo++) {
        const char *name = sigabbrev_np(signo);
        if (name && strcasecmp(name, text) == 0) return signo;
    }
    return -EINVAL;
}

static size_t str_min3(size_t a, size_t b, size_t c) {
    size_t least = a < b ? a : b;
    return least < c ? least : c;
}

// One row of the usual table at a time: row[j] is the distance of what was read of `a` to the first j characters of `b`.
size_t str_distance(const char *a, const char *b) {
    size_t row[STR_DISTANCE_MAX + 1];
    size_t len = strnlen(b, STR_DISTANCE_MAX);
    for (size_t j = 0; j <= len; j++) row[j] = j;
    for (size_t i = 0; a[i] && i < STR_DISTANCE_MAX; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 1; j <= len; j++) {
            size_t above = row[j];
            row[j] = str_min3(above + 1, row[j - 1] + 1, diagonal + (a[i] != b[j - 1]));
            diagonal = above;
        }
    }
    return row[len];
}

void str_free(char **text) {
    free(*text);
    *text = NULL;
}
