// SPDX-License-Identifier: MIT
// The command line: one file a verb, one row a verb in the table of cli.c. Verbs are clients; policy lives in the primary.
#pragma once

#include <stdbool.h>
#include <stddef.h>

// Part of the interface: scripts and service managers read them.
enum cli_exit {
    CLI_OK = 0,
    CLI_FAILED = 1,
    CLI_USAGE = 2,
    CLI_NOT_RUNNING = 3,
    CLI_REFUSED = 4,  // the old state is kept
    CLI_NOT_EXECUTABLE = 126,
    CLI_NOT_FOUND = 127,
    CLI_GO = -1,  // no exit: go on
};

enum cli_option { CLI_OPTION_NAME, CLI_OPTION_JSON, CLI_OPTION_NOW, CLI_OPTION_FOLLOW, CLI_OPTION_LINES, CLI_OPTION_COUNT };

struct cli_verb {
    const char *name;
    const char *operand;  // what may follow, for the usage line: "N|+N|-N", "[SLOT]"; NULL = nothing
    const char *summary;  // one line
    const char *more;     // the rest of its help: what happens, exit codes, examples; NULL = it has a --help of its own
    bool options[CLI_OPTION_COUNT];
    void (*print_options)(void (*print)(const char *line));          // instead of `options`
    int (*run)(const struct cli_verb *verb, int argc, char **argv);  // arguments behind the verb; the exit code
};

struct cli_args {
    const char *name;     // borrowed; NULL = not given
    const char *operand;  // borrowed; NULL = not given
    bool json, now, follow;
    long lines;  // -1 = not given
};

int cli_main(int argc, char **argv);

// CLI_GO, or the exit code when a complaint or the help has been printed.
int cli_args_parse(const struct cli_verb *verb, int argc, char **argv, struct cli_args *out);
void cli_args_print_options(const struct cli_verb *verb, void (*print)(const char *line));

void cli_print_line(const char *line);
void cli_print_help(const struct cli_verb *verb);
// "pando: VERB: ..." on stderr. Returns `code`.
int cli_complain(const struct cli_verb *verb, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

int verb_run(const struct cli_verb *verb, int argc, char **argv);
int verb_serve(const struct cli_verb *verb, int argc, char **argv);
int verb_status(const struct cli_verb *verb, int argc, char **argv);
int verb_scale(const struct cli_verb *verb, int argc, char **argv);
int verb_reload(const struct cli_verb *verb, int argc, char **argv);
void reload_print_options(void (*print)(const char *line));
int verb_rollback(const struct cli_verb *verb, int argc, char **argv);
int verb_restart(const struct cli_verb *verb, int argc, char **argv);
int verb_stop(const struct cli_verb *verb, int argc, char **argv);
int verb_logs(const struct cli_verb *verb, int argc, char **argv);
int verb_torture(const struct cli_verb *verb, int argc, char **argv);
int verb_upgrade(const struct cli_verb *verb, int argc, char **argv);
int verb_unit(const struct cli_verb *verb, int argc, char **argv);
int verb_messages(const struct cli_verb *verb, int argc, char **argv);
int verb_info(const struct cli_verb *verb, int argc, char **argv);
