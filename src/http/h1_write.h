// SPDX-License-Identifier: MIT
// The head of an answer as bytes: status line, fields, date.
#pragma once

#include <pando/types.h>

#include "block.h"

enum { H1_DATE_SIZE = 38 };  // "Date: Tue, 24 Nov 2026 16:49:04 GMT\r\n" is 37

const char *h1_status_text(int status);  // NULL when unknown
// "Tue, 24 Nov 2026 16:49:04 GMT" of a wall-clock second. Returns `out` (size >= 30).
char *h1_date_text(int64_t second, char *out);

// Append to a block. False when it does not fit; nothing is written then.
bool h1_put(struct block *block, const void *data, size_t len);
bool h1_put_status(struct block *block, int status, struct pando_str reason);  // reason.data NULL: the usual one
bool h1_put_field(struct block *block, struct pando_str name, struct pando_str value);
bool h1_put_number(struct block *block, const char *prefix, size_t prefix_len, uint64_t value);  // prefix, decimal, CRLF
size_t h1_chunk_head(char *out, size_t len);                                                     // "1a\r\n"; out has 20 bytes
