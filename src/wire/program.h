// SPDX-License-Identifier: MIT
// Where Pando's own executables are.
#pragma once

#include <stddef.h>

// The path of this process's executable, as it was when it was started: what replaced the file since has that path now.
int program_self(char *out, size_t size);  // 0 or -errno
// The keeper that belongs to a `pando`: next to it, in the place for helpers of an installation, or in the build folder.
int program_find_keeper(const char *program, char *out, size_t size);  // 0, -ENOENT, or other -errno
