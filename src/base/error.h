// SPDX-License-Identifier: MIT
// The reason a person reads when something failed: a code for the program, a sentence for the user.
#pragma once

#include <pando/types.h>

// Fills `error` (may be NULL) with "FORMAT: strerror(err)" and returns -err. Filled once, at the origin of the failure.
int error_set(struct pando_error *error, int err, const char *format, ...) __attribute__((format(printf, 3, 4)));

// The same without strerror: the sentence already says what happened.
int error_say(struct pando_error *error, int err, const char *format, ...) __attribute__((format(printf, 3, 4)));
