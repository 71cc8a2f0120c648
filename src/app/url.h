// SPDX-License-Identifier: MIT
// Percent-encoding and what a URL consists of. Pure.
#pragma once

#include <pando/types.h>

// Decodes once into `out` (len + 1 bytes; may be `text`); NUL-terminated. Bytes written, or -EILSEQ: a broken escape, a NUL, or
// not UTF-8 (overlong forms and surrogates included). plus: '+' is a space.
ssize_t url_decode(const char *text, size_t len, bool plus, char *out);
// As encodeURI, but escapes that are there stay. out: 3 * len + 1 bytes. Bytes written.
size_t url_encode(const char *text, size_t len, char *out);
size_t url_encode_component(const char *text, size_t len, char *out);  // as encodeURIComponent
bool url_is_utf8(const char *text, size_t len);
// "&<>\"'" escaped for HTML. out: 6 * len + 1 bytes.
size_t url_escape_html(const char *text, size_t len, char *out);
// Scheme and host of "http[s]://host[:port]/..."; false when it is not such a URL. *out_host: host[:port], no user info.
bool url_split(const char *url, struct pando_str *out_scheme, struct pando_str *out_host, struct pando_str *out_rest);
