// SPDX-License-Identifier: MIT
// The reason a person reads when something failed: a code for the program, a sentence for the user.
#pragma once

#include <stdarg.h>

#define PANDO_ERROR_TEXT_SIZE 512

struct pando_error {
    int code;                          // errno value, 0 when nothing failed
    char text[PANDO_ERROR_TEXT_SIZE];  // what was attempted, what happened, what to do
};

// Fills `error` (may be NULL) with "FORMAT: strerror(err)" and returns -err. Filled once, at the origin of the failure.
int error_set(struct pando_error *error, int err, const char *format, ...) __attribute__((format(printf, 3, 4)));

// The same without strerror: the sentence already says what happened.
int error_say(struct pando_error *error, int err, const char *format, ...) __attribute__((format(printf, 3, 4)));
