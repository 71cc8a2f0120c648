// SPDX-License-Identifier: MIT
// Cookies, and their signatures: `NAME.sig` holds the url-safe base64 of HMAC-SHA256 over "NAME=VALUE" by the first key. A
// cookie signed by an older key is accepted and signed anew; a wrong signature is no cookie, and is expired.
#include <sys/types.h>
#include "ctx.h"

#include <errno.h>
#include <stdio.h>
#include <strings.h>
#include <time.h>

#include "hmac.h"

enum { SIGNATURE_CHARS = 43 };

static void sign(pando_ctx *ctx, const char *key, const char *name, const char *value, char *out) {
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    unsigned char digest[HMAC_BYTES + 1] = {0};
    const char *text = pando_printf(ctx, "%s=%s", name, value);
    if (hmac_sha256(key, text, strlen(text), digest)) pando_throw(ctx, 503, "out of memory");
    for (unsigned bit = 0, i = 0; i < SIGNATURE_CHARS; i++, bit += 6) {
        unsigned pair = (unsigned)digest[bit / 8] << 8 | digest[bit / 8 + 1 <= HMAC_BYTES ? bit / 8 + 1 : HMAC_BYTES];
        out[i] = alphabet[pair >> (10 - bit % 8) & 63];
    }
    out[SIGNATURE_CHARS] = '\0';
}

static bool is_value(const char *text) {
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c < 0x20 || c == 0x7f || c == ';') return false;
    }
    return true;
}

const char *pando_cookie_unsigned(pando_ctx *ctx, const char *name) {
    size_t len = strlen(name);
    for (const char *at = pando_header(ctx, "Cookie"); *at;) {
        at += strspn(at, " \t;");
        size_t item = strcspn(at, ";");
        if (item > len && at[len] == '=' && !memcmp(at, name, len)) {
            const char *value = at + len + 1, *end = at + item;
            while (end > value && (end[-1] == ' ' || end[-1] == '\t')) end--;
            if (end - value >= 2 && *value == '"' && end[-1] == '"') value++, end--;
            return ctx_copy(ctx, value, (size_t)(end - value));
        }
        at += item;
    }
    return NULL;
}

static const char *signature_name(pando_ctx *ctx, const char *name) { return pando_printf(ctx, "%s.sig", name); }

const char *pando_cookie(pando_ctx *ctx, const char *name) {
    const char *const *keys = ctx->app->options.keys;
    const char *value = pando_cookie_unsigned(ctx, name);
    if (!keys || !*keys || !value) return value;
    const char *signature = pando_cookie_unsigned(ctx, signature_name(ctx, name));
    if (!signature) return NULL;
    struct pando_cookie unsigned_cookie = {.unsigned_ = true};
    int match = -1;
    for (int i = 0; keys[i]; i++) {  // all of them, so that the time does not tell which
        char expected[SIGNATURE_CHARS + 1];
        sign(ctx, keys[i], name, value, expected);
        if (strlen(signature) == SIGNATURE_CHARS && hmac_equal(signature, expected, SIGNATURE_CHARS) && match < 0) match = i;
    }
    if (match > 0) {
        char fresh[SIGNATURE_CHARS + 1];
        sign(ctx, keys[0], name, value, fresh);
        pando_set_cookie(ctx, signature_name(ctx, name), fresh, &unsigned_cookie);
    }
    if (match >= 0) return value;
    pando_set_cookie(ctx, signature_name(ctx, name), NULL, &unsigned_cookie);
    return NULL;
}

static void remove_earlier(pando_ctx *ctx, const char *name) {
    pando_exchange *exchange = ctx->exchange;
    size_t len = strlen(name);
    unsigned to = 0;
    for (unsigned i = 0; i < exchange->field_count; i++) {
        struct exchange_field field = exchange->fields[i];
        bool mine = field.name.len == 10 && !strncasecmp(field.name.data, "set-cookie", 10) && field.value.len > len &&
                    !memcmp(field.value.data, name, len) && field.value.data[len] == '=';
        if (!mine) exchange->fields[to++] = field;
    }
    exchange->field_count = (uint16_t)to;
}

static int put_cookie(pando_ctx *ctx, const char *name, const char *value, const struct pando_cookie *o) {
    static const char *const same_site[] = {"", "; samesite=strict", "; samesite=lax", "; samesite=none"};
    bool expire = !value || o->max_age_s < 0;
    char expires[64] = "", date[32];
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (expire)
        snprintf(expires, sizeof expires, "; expires=Thu, 01 Jan 1970 00:00:00 GMT");
    else if (o->max_age_s)
        snprintf(expires, sizeof expires, "; expires=%s", h1_date_text(now.tv_sec + o->max_age_s, date));
    const char *text = pando_printf(
        ctx, "%s=%s; path=%s%s%s%s%s%s%s%s%s%s", name, value ? value : "", o->path ? o->path : "/", expires, o->domain ? "; domain=" : "",
        o->domain ? o->domain : "", o->priority ? "; priority=" : "", o->priority ? o->priority : "", same_site[o->same_site],
        o->secure || pando_secure(ctx) ? "; secure" : "", o->partitioned ? "; partitioned" : "", o->script_may_read ? "" : "; httponly");
    if (o->overwrite) remove_earlier(ctx, name);
    return pando_append(ctx, "Set-Cookie", text);
}

int pando_set_cookie(pando_ctx *ctx, const char *name, const char *value, const struct pando_cookie *options) {
    struct pando_cookie o = options ? *options : (struct pando_cookie){0};
    if (!h1_is_token(name, strlen(name)) || (value && !is_value(value)) || (o.path && !is_value(o.path)) ||
        (o.domain && !is_value(o.domain)) || (o.priority && !is_value(o.priority)))
        return -EINVAL;
    if (o.secure && !pando_secure(ctx)) return -EPERM;  // a secure cookie over a plain connection
    int result = put_cookie(ctx, name, value, &o);
    const char *const *keys = ctx->app->options.keys;
    if (result || o.unsigned_ || !keys || !*keys) return result;
    char signature[SIGNATURE_CHARS + 1];
    if (value) sign(ctx, keys[0], name, value, signature);
    return put_cookie(ctx, signature_name(ctx, name), value ? signature : NULL, &o);
}
