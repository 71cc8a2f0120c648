// SPDX-License-Identifier: MIT
// HMAC-SHA256 by OpenSSL, which is loaded when somebody signs: its load would be most of what starting a worker costs.
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum { HMAC_BYTES = 32 };

// True when OpenSSL's library is there; without it nothing below may be called. Thread-safe.
bool hmac_load(void);
// 0 or -ENOMEM.
int hmac_sha256(const char *key, const void *data, size_t len, unsigned char out[HMAC_BYTES]);
bool hmac_equal(const void *a, const void *b, size_t len);  // takes as long whether they are or not
