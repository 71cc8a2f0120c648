// SPDX-License-Identifier: MIT
// What the user of `pando torture` can ask for. Its own options are one table, which is also its help; those of `pando run` are passed on.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "error.h"

enum { OPTIONS_RUN_WORDS_MAX = 64 };

struct options {
    uint64_t for_ns, patience_ns;
    unsigned seed;
    bool has_seed, keep_alive, json, shared_network, has_workers;
    long rate, port;                        // 0 = found out
    const char *path;                       // borrowed
    uint32_t only;                          // bit per kind of act; 0 = all
    char *run_word[OPTIONS_RUN_WORDS_MAX];  // borrowed: options for `pando run`
    int run_words;
    char **command;  // borrowed, NULL-terminated
};

// 0; 1 when help was asked for; -EINVAL with a sentence. `argv` is behind the program's name.
int options_parse(struct options *options, int argc, char **argv, struct pando_error *error);
void options_print_help(void);
