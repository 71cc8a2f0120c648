// SPDX-License-Identifier: MIT
// From the path of a URL to a path below a folder. Pure.
#pragma once

#include <stdbool.h>
#include <stddef.h>

// Decodes once. out (len + 2 bytes): relative, "." for the root itself. 0, -EILSEQ (cannot be decoded, NUL, bad UTF-8), -ENOENT
// (".." or, unless `hidden`, a name that begins with a dot; a slash or backslash that only appears after decoding).
// *out_folder: it ended in '/'.
int static_path(const char *path, size_t len, bool hidden, char *out, bool *out_folder);
