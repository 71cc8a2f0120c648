// SPDX-License-Identifier: MIT
#include <sys/types.h>
#include "url.h"

#include <errno.h>
#include <strings.h>

static int hex(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool url_is_utf8(const char *text, size_t len) {
    const unsigned char *s = (const unsigned char *)text, *end = s + len;
    while (s < end) {
        unsigned char c = *s++;
        if (c < 0x80) continue;
        unsigned more = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1, code = c & (0x3fu >> more);
        if (c < 0xc2 || c > 0xf4 || (size_t)(end - s) < more) return false;
        for (unsigned i = 0; i < more; i++, s++) {
            if ((*s & 0xc0) != 0x80) return false;
            code = code << 6 | (*s & 0x3f);
        }
        if ((more == 2 && code < 0x800) || (more == 3 && (code < 0x10000 || code > 0x10ffff)) || (code >= 0xd800 && code < 0xe000))
            return false;
    }
    return true;
}

ssize_t url_decode(const char *text, size_t len, bool plus, char *out) {
    size_t to = 0;
    bool high = false;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (c == '%') {
            int a = i + 2 < len ? hex(text[i + 1]) : -1, b = i + 2 < len ? hex(text[i + 2]) : -1;
            if (a < 0 || b < 0) return -EILSEQ;
            c = (char)(a << 4 | b);
            i += 2;
        } else if (c == '+' && plus) {
            c = ' ';
        }
        if (!c) return -EILSEQ;
        high |= (unsigned char)c >= 0x80;
        out[to++] = c;
    }
    out[to] = '\0';
    return high && !url_is_utf8(out, to) ? -EILSEQ : (ssize_t)to;
}

static size_t encode(const char *text, size_t len, const char *keep, bool keep_escapes, char *out) {
    static const char digits[] = "0123456789ABCDEF";
    char *to = out;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        bool escape = keep_escapes && c == '%' && i + 2 < len && hex(text[i + 1]) >= 0 && hex(text[i + 2]) >= 0;
        bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c && strchr(keep, c));
        if (escape || plain) {
            *to++ = (char)c;
        } else {
            *to++ = '%';
            *to++ = digits[c >> 4];
            *to++ = digits[c & 15];
        }
    }
    *to = '\0';
    return (size_t)(to - out);
}

size_t url_encode(const char *text, size_t len, char *out) { return encode(text, len, "-_.!~*'();,/?:@&=+$#[]|^\\", true, out); }
size_t url_encode_component(const char *text, size_t len, char *out) { return encode(text, len, "-_.!~*'()", false, out); }

size_t url_escape_html(const char *text, size_t len, char *out) {
    char *to = out;
    for (size_t i = 0; i < len; i++) {
        const char *with = NULL;
        switch (text[i]) {
            case '&': with = "&amp;"; break;
            case '<': with = "&lt;"; break;
            case '>': with = "&gt;"; break;
            case '"': with = "&quot;"; break;
            case '\'': with = "&#39;"; break;
            default: *to++ = text[i];
        }
        if (with) to = stpcpy(to, with);
    }
    *to = '\0';
    return (size_t)(to - out);
}

bool url_split(const char *url, struct pando_str *out_scheme, struct pando_str *out_host, struct pando_str *out_rest) {
    size_t scheme = !strncasecmp(url, "http://", 7) ? 4 : !strncasecmp(url, "https://", 8) ? 5 : 0;
    if (!scheme) return false;
    const char *host = url + scheme + 3;
    size_t len = strcspn(host, "/?#\\");
    const char *at = memrchr(host, '@', len);
    *out_scheme = (struct pando_str){url, scheme};
    *out_rest = (struct pando_str){host + len, strlen(host + len)};
    if (at) len -= (size_t)(at + 1 - host), host = at + 1;
    *out_host = (struct pando_str){host, len};
    return len > 0;
}
