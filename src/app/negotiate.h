// SPDX-License-Identifier: MIT
// Content negotiation with q-values, as npm's negotiator does it. Pure.
#pragma once

#include <stddef.h>

enum negotiate_kind { NEGOTIATE_TYPE, NEGOTIATE_ENCODING, NEGOTIATE_CHARSET, NEGOTIATE_LANGUAGE };

// The index of the offer the client likes best, -1: none is acceptable. `header` NULL: there was none.
int negotiate(enum negotiate_kind kind, const char *header, const char *const *offers, size_t count);
