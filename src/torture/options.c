// SPDX-License-Identifier: MIT
#include "options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "act.h"
#include "clock.h"
#include "launch.h"
#include "str.h"

#define FOR_MIN_NS (2 * CLOCK_S)

struct option {
    const char *name, *value, *help;
    int (*apply)(struct options *options, const char *value, struct pando_error *error);
};

static int refuse(const char *name, const char *value, const char *allowed, struct pando_error *error) {
    return error_say(error, EINVAL, "--%s %s: give %s", name, value, allowed);
}

static int apply_for(struct options *options, const char *value, struct pando_error *error) {
    if (str_parse_duration(value, &options->for_ns) || options->for_ns < FOR_MIN_NS)
        return refuse("for", value, "a time such as 30s or 2m, at least 2s", error);
    return 0;
}

static int apply_seed(struct options *options, const char *value, struct pando_error *error) {
    long seed;
    if (str_parse_number(value, 0, INT32_MAX, &seed)) return refuse("seed", value, "a number from 0 to 2147483647", error);
    options->seed = (unsigned)seed;
    options->has_seed = true;
    return 0;
}

static int apply_rate(struct options *options, const char *value, struct pando_error *error) {
    if (str_parse_number(value, 1, 50000, &options->rate)) return refuse("rate", value, "requests a second, 1 to 50000", error);
    return 0;
}

static int apply_port(struct options *options, const char *value, struct pando_error *error) {
    if (str_parse_number(value, 1, 65535, &options->port)) return refuse("port", value, "a port", error);
    return 0;
}

static int apply_path(struct options *options, const char *value, struct pando_error *error) {
    if (*value != '/' || strlen(value) > 512 || strpbrk(value, " \r\n\t")) return refuse("path", value, "a path such as /health", error);
    options->path = value;
    return 0;
}

static int apply_patience(struct options *options, const char *value, struct pando_error *error) {
    if (str_parse_duration(value, &options->patience_ns) || options->patience_ns < CLOCK_S)
        return refuse("patience", value, "a time such as 20s, at least 1s", error);
    return 0;
}

static int act_of(const char *name, size_t len) {
    for (int i = ACT_FIRST; i < ACT_COUNT; i++)
        if (strlen(act_table[i].name) == len && strncmp(act_table[i].name, name, len) == 0) return i;
    return -1;
}

static int apply_only(struct options *options, const char *value, struct pando_error *error) {
    char all[256] = "";
    for (int i = ACT_FIRST; i < ACT_COUNT; i++) {
        size_t len = strlen(all);
        snprintf(all + len, sizeof all - len, "%s%s", i > ACT_FIRST ? ", " : "", act_table[i].name);
    }
    for (const char *at = value;; at++) {
        size_t len = strcspn(at, ",");
        int act = act_of(at, len);
        if (act < 0) return refuse("only", value, all, error);
        options->only |= 1U << act;
        at += len;
        if (*at == '\0') return 0;
    }
}

static int apply_keep_alive(struct options *options, const char *value, struct pando_error *error) {
    (void)value, (void)error;
    options->keep_alive = true;
    return 0;
}

static int apply_shared_network(struct options *options, const char *value, struct pando_error *error) {
    (void)value, (void)error;
    options->shared_network = true;
    return 0;
}

static int apply_json(struct options *options, const char *value, struct pando_error *error) {
    (void)value, (void)error;
    options->json = true;
    return 0;
}

static const struct option own_options[] = {
    {"for", "T", "how long (30s); longer where each kind of torture once takes longer", apply_for},
    {"seed", "N", "the order of what is done; the same number, the same order", apply_seed},
    {"only", "KIND,...", "only these kinds of torture", apply_only},
    {"keep-alive", NULL, "many requests on a connection instead of one", apply_keep_alive},
    {"rate", "N", "requests a second; default: a quarter of what it can do, at most 2000", apply_rate},
    {"path", "PATH", "what to ask for (/)", apply_path},
    {"port", "N", "which port to ask, where the command listens on several", apply_port},
    {"patience", "T", "a request without an answer for so long has failed (20s)", apply_patience},
    {"shared-network", NULL, "no network namespace: the command needs others (a database)", apply_shared_network},
    {"json", NULL, "the result as JSON on standard output; lines for people go to standard error", apply_json},
};

#define OWN_COUNT (sizeof own_options / sizeof own_options[0])

static const char help_before[] =
    "pando torture: run a command under load, kill what can be killed, and count what was lost\n\n"
    "usage: pando torture [options] [options of `pando run`] [--] COMMAND [ARG...]\n\n";

static const char help_after[] =
    "\nIn a private network namespace where that is possible. Workers, the primary and, last, the keeper are killed with -9; workers are\n"
    "restarted, scaled, reloaded to versions that work and to broken ones, and Pando is upgraded, all under load. Promises: no request\n"
    "fails that was not inside a process when it was killed;\n"
    "whatever was killed comes back; a broken version is refused; nothing is left.\n"
    "Exit codes: 0 all promises kept, 1 one was broken or the command cannot be judged, 2 wrong options, 126 and 127 as for `run`,\n"
    "130 interrupted.\n\nExamples:\n"
    "  pando torture -- node app.js                       30 seconds\n"
    "  pando torture --for 2m --json -w 4 -- ./server     for a CI; the exit code tells\n"
    "  pando torture --only restart,scale-up,scale-down --keep-alive -- python3 app.py\n"
    "  pando torture --shared-network --path /health -- node app-with-database.js\n";

void options_print_help(void) {
    fputs(help_before, stdout);
    for (size_t i = 0; i < OWN_COUNT; i++) {
        char left[40];
        snprintf(left, sizeof left, "--%s %s", own_options[i].name, own_options[i].value ? own_options[i].value : "");
        printf("  %-20s%s\n", left, own_options[i].help);
    }
    printf("  %-20s", "KIND");
    for (int i = ACT_FIRST; i < ACT_COUNT; i++) printf("%s%s", i > ACT_FIRST ? ", " : "", act_table[i].name);
    printf("\n%s", help_after);
}

struct words {
    int count;
    char **next;
};

static char *next_word(struct words *words) {
    if (words->count == 0) return NULL;
    words->count--;
    return *words->next++;
}

static const struct option *find_own(const char *word) {
    size_t len = strcspn(word + 2, "=");
    for (size_t i = 0; i < OWN_COUNT; i++)
        if (strlen(own_options[i].name) == len && strncmp(own_options[i].name, word + 2, len) == 0) return &own_options[i];
    return NULL;
}

static int apply_own(struct options *options, const struct option *option, const char *word, struct words *words,
                     struct pando_error *error) {
    const char *equals = strchr(word, '=');
    if (!option->value && equals) return error_say(error, EINVAL, "%s: --%s takes no value", word, option->name);
    if (!option->value) return option->apply(options, NULL, error);
    const char *value = equals ? equals + 1 : next_word(words);
    if (!value) return error_say(error, EINVAL, "--%s: needs a value: give --%s %s", option->name, option->name, option->value);
    return option->apply(options, value, error);
}

static bool is_option(const char *word, char letter, const char *name) {
    size_t len = strlen(name);
    bool is_long = strncmp(word, "--", 2) == 0 && strncmp(word + 2, name, len) == 0 && (word[2 + len] == '\0' || word[2 + len] == '=');
    return is_long || (word[0] == '-' && word[1] == letter && letter != '\0');
}

static int pass_on(struct options *options, char *word, struct words *words, struct pando_error *error) {
    int count = launch_option_words(word);
    if (count == 0) return error_say(error, EINVAL, "%s: no such option: `pando torture --help` and `pando run --help` list them", word);
    if (is_option(word, 'n', "name") || is_option(word, 'd', "detach"))
        return error_say(error, EINVAL, "%s: the instance under torture is a private one: leave this option out", word);
    if (is_option(word, 'w', "workers") || is_option(word, 'i', "instances")) options->has_workers = true;
    for (; count > 0 && word; count--, word = count > 0 ? next_word(words) : NULL) {
        if (options->run_words == OPTIONS_RUN_WORDS_MAX) return error_say(error, EINVAL, "too many options for `pando run`");
        options->run_word[options->run_words++] = word;
    }
    return 0;
}

static int parse_word(struct options *options, char *word, struct words *words, struct pando_error *error) {
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) return 1;
    const struct option *own = strncmp(word, "--", 2) == 0 ? find_own(word) : NULL;
    return own ? apply_own(options, own, word, words, error) : pass_on(options, word, words, error);
}

int options_parse(struct options *options, int argc, char **argv, struct pando_error *error) {
    struct words words = {.count = argc, .next = argv};
    *options = (struct options){.for_ns = 30 * CLOCK_S, .patience_ns = 20 * CLOCK_S, .path = "/"};
    while (words.count > 0 && words.next[0][0] == '-' && words.next[0][1] != '\0') {
        char *word = next_word(&words);
        if (strcmp(word, "--") == 0) break;
        int err = parse_word(options, word, &words, error);
        if (err) return err > 0 ? err : -EINVAL;
    }
    if (words.count == 0) return error_say(error, EINVAL, "no command was given: pando torture [options] [--] COMMAND [ARG...]");
    options->command = words.next;
    return 0;
}
