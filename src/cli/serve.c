// SPDX-License-Identifier: MIT
// `pando serve DIR` is `pando run` of pando-serve, which knows nothing of it.
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

enum { SERVE_WORDS_MAX = 64, SERVE_ADDED_MAX = 8, SERVE_OPERANDS_MAX = 2 };

struct serve_words {
    char *option[SERVE_WORDS_MAX], *operand[SERVE_OPERANDS_MAX];
    int options, operands;
};

static bool serve_find_in(char *out, size_t size, const char *self, const char *below) {
    const char *slash = strrchr(self, '/');
    int len = snprintf(out, size, "%.*s/%s", slash ? (int)(slash - self) : 0, self, below);
    return len > 0 && (size_t)len < size && access(out, X_OK) == 0;
}

// Beside this executable; in the build folder one folder further.
static bool serve_find(char *out, size_t size) {
    char self[PATH_MAX];
    ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);
    if (len < 0) return false;
    self[len] = '\0';
    return serve_find_in(out, size, self, "pando-serve") || serve_find_in(out, size, self, "../serve/pando-serve");
}

static bool serve_takes_value(const char *option) {
    static const char *const flags[] = {"-d", "--detach", "--pin", "--fail-fast", "--no-rescue", "--no-intercept"};
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++)
        if (strcmp(option, flags[i]) == 0) return false;
    return strchr(option, '=') == NULL && (option[1] == '-' || option[2] == '\0');
}

// Options may stand on both sides of DIR, as people type them: `pando serve DIR -w 4`.
static int serve_sort(const struct cli_verb *verb, int argc, char **argv, struct serve_words *out) {
    for (int i = 0; i < argc; i++) {
        if (out->options + SERVE_ADDED_MAX > SERVE_WORDS_MAX) return cli_complain(verb, CLI_USAGE, "too many words");
        if (argv[i][0] == '-' && argv[i][1] != '\0') {
            out->option[out->options++] = argv[i];
            if (serve_takes_value(argv[i]) && i + 1 < argc) out->option[out->options++] = argv[++i];
        } else if (out->operands == SERVE_OPERANDS_MAX) {
            return cli_complain(verb, CLI_USAGE, "%s: one folder and one address are enough: see `pando serve --help`", argv[i]);
        } else {
            out->operand[out->operands++] = argv[i];
        }
    }
    return out->operands > 0 ? CLI_GO : cli_complain(verb, CLI_USAGE, "which folder? `pando serve DIR [ADDRESS]`");
}

int verb_serve(const struct cli_verb *verb, int argc, char **argv) {
    static char program[PATH_MAX], name_option[] = "--name", name[] = "serve", separator[] = "--";
    struct serve_words words = {.options = 0};
    char *run[SERVE_WORDS_MAX + SERVE_ADDED_MAX];
    int count = 0;
    if (argc > 0 && (strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0)) return cli_print_help(verb), CLI_OK;
    int code = serve_sort(verb, argc, argv, &words);
    if (code != CLI_GO) return code;
    if (!serve_find(program, sizeof program)) return cli_complain(verb, CLI_FAILED, "pando-serve is not installed beside pando");
    run[count++] = name_option;  // the user's own -n comes later, and wins
    run[count++] = name;
    for (int i = 0; i < words.options; i++) run[count++] = words.option[i];
    run[count++] = separator;
    run[count++] = program;
    for (int i = 0; i < words.operands; i++) run[count++] = words.operand[i];
    run[count] = NULL;
    return verb_run(verb, count, run);
}
