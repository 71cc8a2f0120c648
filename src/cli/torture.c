// SPDX-License-Identifier: MIT
// `pando torture` is pando-torture, a program of its own that uses this one as anybody would.
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

// Beside this executable; in the build folder one folder further.
static void torture_exec(char **argv) {
    static const char *const places[] = {"pando-torture", "../libexec/pando/pando-torture", "../torture/pando-torture"};
    char self[PATH_MAX], path[2 * PATH_MAX];
    ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);
    if (len < 0) return;
    self[len] = '\0';
    *strrchr(self, '/') = '\0';
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", self, places[i]);
        execv(path, argv);
        if (errno != ENOENT) return;
    }
}

int verb_torture(const struct cli_verb *verb, int argc, char **argv) {
    static char program[] = "pando-torture";
    char **words = calloc((size_t)argc + 2, sizeof *words);
    if (!words) return cli_complain(verb, CLI_FAILED, "%s", strerror(ENOMEM));
    words[0] = program;
    for (int i = 0; i < argc; i++) words[i + 1] = argv[i];
    torture_exec(words);
    int err = errno;
    free(words);
    return cli_complain(verb, CLI_FAILED, "start pando-torture, which is installed beside pando: %s", strerror(err));
}
