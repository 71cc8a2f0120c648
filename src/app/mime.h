// SPDX-License-Identifier: MIT
#pragma once

#include <pando/types.h>

struct pando_ctx;
// The type of an extension without dot; data NULL: unknown.
struct pando_str mime_of_extension(const char *extension, size_t len);
// The type of a file name by its extension; data NULL: unknown.
struct pando_str mime_of_name(const char *name);
// A Content-Type value from "html", ".png", "file.png" or "text/html", with a charset for text; data NULL: unknown.
struct pando_str mime_content_type(struct pando_ctx *ctx, const char *type);
