// SPDX-License-Identifier: MIT
#include "program.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int program_self(char *out, size_t size) {
    static const char deleted[] = " (deleted)";
    ssize_t len = readlink("/proc/self/exe", out, size - 1);
    if (len < 0) return -errno;
    if ((size_t)len == size - 1) return -ENAMETOOLONG;
    out[len] = '\0';
    size_t tail = sizeof deleted - 1;
    if ((size_t)len > tail && strcmp(out + len - tail, deleted) == 0) out[(size_t)len - tail] = '\0';
    return 0;
}

int program_find_keeper(const char *program, char *out, size_t size) {
    static const char *const places[] = {"", "../libexec/pando/", "../keeper/"};
    const char *slash = strrchr(program, '/');
    int folder = slash == NULL ? 0 : (int)(slash - program) + 1;
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        if (snprintf(out, size, "%.*s%spando-keeper", folder, program, places[i]) >= (int)size) return -ENAMETOOLONG;
        if (access(out, X_OK) == 0) return 0;
    }
    return -ENOENT;
}
