// SPDX-License-Identifier: MIT
#include "error.h"

#include <assert.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

static size_t error_format(struct pando_error *error, int err, const char *format, va_list args) {
    error->code = err;
    int len = vsnprintf(error->text, sizeof error->text, format, args);
    if (len < 0) error->text[0] = '\0';
    return strlen(error->text);
}

// The reason is worth more than the end of a long sentence: it is what stays when both do not fit.
static void error_append_reason(struct pando_error *error, size_t len, int err) {
    char reason[128];
    char storage[96];
    int reason_len = snprintf(reason, sizeof reason, ": %s", strerror_r(err, storage, sizeof storage));
    size_t room = sizeof error->text - 1 - (size_t)reason_len;
    if (len > room) len = room;
    memcpy(error->text + len, reason, (size_t)reason_len + 1);
}

int error_set(struct pando_error *error, int err, const char *format, ...) {
    assert(err > 0);
    if (!error) return -err;
    va_list args;
    va_start(args, format);
    size_t len = error_format(error, err, format, args);
    va_end(args);
    error_append_reason(error, len, err);
    return -err;
}

int error_say(struct pando_error *error, int err, const char *format, ...) {
    assert(err > 0);
    if (!error) return -err;
    va_list args;
    va_start(args, format);
    error_format(error, err, format, args);
    va_end(args);
    return -err;
}
