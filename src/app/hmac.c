// SPDX-License-Identifier: MIT
#include "hmac.h"

#include <assert.h>
#include <dlfcn.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <pthread.h>
#include <string.h>

#define TEXT(x) #x
#define TEXT_OF(x) TEXT(x)
#define LIBRARY "libcrypto.so." TEXT_OF(OPENSSL_SHLIB_VERSION)

// Written once, by load().
static struct {
    pthread_once_t once;
    __typeof__(HMAC) *hmac;
    __typeof__(EVP_sha256) *sha256;
    __typeof__(CRYPTO_memcmp) *compare;
} crypto = {.once = PTHREAD_ONCE_INIT};

static void load(void) {
    void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) return;
    crypto.sha256 = (__typeof__(crypto.sha256))dlsym(library, "EVP_sha256");
    crypto.compare = (__typeof__(crypto.compare))dlsym(library, "CRYPTO_memcmp");
    if (crypto.sha256 == NULL || crypto.compare == NULL) return;
    crypto.hmac = (__typeof__(crypto.hmac))dlsym(library, "HMAC");
    unsigned char out[HMAC_BYTES];
    unsigned out_len;
    // Now, while there is memory, OpenSSL makes what it keeps for later: it does not survive a failure in there.
    if (crypto.hmac != NULL) crypto.hmac(crypto.sha256(), "", 0, out, 0, out, &out_len);
}

bool hmac_load(void) {
    pthread_once(&crypto.once, load);
    return crypto.hmac != NULL;
}

int hmac_sha256(const char *key, const void *data, size_t len, unsigned char out[HMAC_BYTES]) {
    unsigned out_len = 0;
    assert(hmac_load());
    if (!crypto.hmac(crypto.sha256(), key, (int)strlen(key), data, len, out, &out_len)) return -ENOMEM;
    assert(out_len == HMAC_BYTES);
    return 0;
}

bool hmac_equal(const void *a, const void *b, size_t len) {
    assert(hmac_load());
    return crypto.compare(a, b, len) == 0;
}
