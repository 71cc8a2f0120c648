// SPDX-License-Identifier: MIT
#include <sys/types.h>
#include "static_path.h"

#include <errno.h>
#include <string.h>

#include "url.h"

// %2f and %5c would make separators out of one segment's name.
static bool has_escaped_separator(const char *path, size_t len) {
    for (size_t i = 0; i + 2 < len; i++)
        if (path[i] == '%' && ((path[i + 1] == '2' && (path[i + 2] | 0x20) == 'f') || (path[i + 1] == '5' && (path[i + 2] | 0x20) == 'c')))
            return true;
    return false;
}

int static_path(const char *path, size_t len, bool hidden, char *out, bool *out_folder) {
    if (has_escaped_separator(path, len)) return -ENOENT;
    ssize_t decoded = url_decode(path, len, false, out);
    if (decoded < 0) return -EILSEQ;
    size_t n = (size_t)decoded, to = 0;
    *out_folder = !n || out[n - 1] == '/';
    for (size_t at = 0; at < n;) {
        size_t segment = 0;
        while (at + segment < n && out[at + segment] != '/') segment++;
        const char *name = out + at;
        if (memchr(name, '\\', segment)) return -ENOENT;
        bool dot = segment && name[0] == '.', self = segment == 1 && dot;
        if (segment == 2 && dot && name[1] == '.') return -ENOENT;
        if (dot && !self && !hidden) return -ENOENT;
        if (segment && !self) {
            if (to) out[to++] = '/';
            memmove(out + to, name, segment);
            to += segment;
        }
        at += segment + 1;
    }
    if (!to) out[to++] = '.';
    out[to] = '\0';
    return 0;
}
