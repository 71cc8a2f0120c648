// SPDX-License-Identifier: MIT
// The options of the client verbs: one table for all, each verb says which of them it takes.
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "launch.h"
#include "str.h"

#define ARGS_LINES_MAX 1000000

struct args_option {
    const char *name, *value, *help;
    char letter;
};

static const struct args_option args_options[CLI_OPTION_COUNT] = {
    [CLI_OPTION_NAME] = {.name = "name", .letter = 'n', .value = "NAME", .help = "which instance; not needed where only one is running"},
    [CLI_OPTION_JSON] = {.name = "json", .help = "print JSON"},
    [CLI_OPTION_NOW] = {.name = "now", .help = "do not wait for connections to finish: kill"},
    [CLI_OPTION_FOLLOW] = {.name = "follow", .letter = 'f', .help = "go on with what comes"},
    [CLI_OPTION_LINES] = {.name = "lines", .letter = 'l', .value = "N", .help = "how many of the last lines"},
};

void cli_args_print_options(const struct cli_verb *verb, void (*print)(const char *line)) {
    for (size_t i = 0; i < CLI_OPTION_COUNT; i++) {
        const struct args_option *option = &args_options[i];
        char letter[8] = "    ";
        char left[32];
        char line[160];
        if (!verb->options[i]) continue;
        if (option->letter) snprintf(letter, sizeof letter, "-%c, ", option->letter);
        snprintf(left, sizeof left, "%s--%s %s", letter, option->name, option->value ? option->value : "");
        snprintf(line, sizeof line, "  %-20s%s", left, option->help);
        print(line);
    }
}

// Where the parser stands.
struct args_parser {
    const struct cli_verb *verb;
    struct cli_args *out;
    int count;
    char **next;
};

static const char *args_next(struct args_parser *parser) {
    if (parser->count == 0) return NULL;
    parser->count--;
    return *parser->next++;
}

static int args_apply(struct args_parser *parser, enum cli_option which, const char *value) {
    struct cli_args *out = parser->out;
    switch (which) {
        case CLI_OPTION_NAME:
            out->name = value;
            if (launch_name_valid(value)) return CLI_GO;
            return cli_complain(parser->verb, CLI_USAGE, "--name %s: not a name for an instance: `pando status` lists those that run",
                                value);
        case CLI_OPTION_LINES:
            if (str_parse_number(value, 0, ARGS_LINES_MAX, &out->lines) == 0) return CLI_GO;
            return cli_complain(parser->verb, CLI_USAGE, "--lines %s: not a number of lines: give 0 to %d", value, ARGS_LINES_MAX);
        case CLI_OPTION_JSON: out->json = true; return CLI_GO;
        case CLI_OPTION_NOW: out->now = true; return CLI_GO;
        case CLI_OPTION_FOLLOW: out->follow = true; return CLI_GO;
        case CLI_OPTION_COUNT: break;
    }
    return CLI_GO;
}

static int args_unknown(const struct args_parser *parser, const char *word) {
    return cli_complain(parser->verb, CLI_USAGE, "%s: no such option: `pando help %s` lists them", word, parser->verb->name);
}

static int args_apply_valued(struct args_parser *parser, enum cli_option which, const char *value) {
    const struct args_option *option = &args_options[which];
    if (value) return args_apply(parser, which, value);
    return cli_complain(parser->verb, CLI_USAGE, "--%s: needs a value: give --%s %s", option->name, option->name, option->value);
}

static int args_parse_long(struct args_parser *parser, const char *word) {
    size_t len = strcspn(word + 2, "=");
    const char *equals = word[2 + len] ? word + 2 + len : NULL;
    for (size_t i = 0; i < CLI_OPTION_COUNT; i++) {
        const struct args_option *option = &args_options[i];
        if (!parser->verb->options[i] || strlen(option->name) != len || memcmp(option->name, word + 2, len) != 0) continue;
        if (option->value) return args_apply_valued(parser, (enum cli_option)i, equals ? equals + 1 : args_next(parser));
        if (equals) return cli_complain(parser->verb, CLI_USAGE, "%s: --%s takes no value", word, option->name);
        return args_apply(parser, (enum cli_option)i, NULL);
    }
    return args_unknown(parser, word);
}

static int args_find_letter(const struct args_parser *parser, char letter) {
    for (int i = 0; i < CLI_OPTION_COUNT; i++)
        if (parser->verb->options[i] && args_options[i].letter == letter) return i;
    return -1;
}

// "-f", "-n web", "-nweb", "-fl 50".
static int args_parse_short(struct args_parser *parser, const char *word) {
    for (const char *at = word + 1; *at; at++) {
        int which = args_find_letter(parser, *at);
        if (which < 0) return args_unknown(parser, word);
        if (args_options[which].value) return args_apply_valued(parser, (enum cli_option)which, at[1] ? at + 1 : args_next(parser));
        int code = args_apply(parser, (enum cli_option)which, NULL);
        if (code != CLI_GO) return code;
    }
    return CLI_GO;
}

static int args_parse_operand(struct args_parser *parser, const char *word) {
    const struct cli_verb *verb = parser->verb;
    if (!verb->operand)
        return cli_complain(verb, CLI_USAGE, "%s: one word too many: `pando %s -n NAME` picks an instance", word, verb->name);
    if (parser->out->operand) return cli_complain(verb, CLI_USAGE, "%s: one word too many: give one %s", word, verb->operand);
    parser->out->operand = word;
    return CLI_GO;
}

static int args_parse_word(struct args_parser *parser, const char *word) {
    bool is_option = word[0] == '-' && word[1] != '\0' && !(word[1] >= '0' && word[1] <= '9');  // "-2" is for `scale`
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
        cli_print_help(parser->verb);
        return CLI_OK;
    }
    if (!is_option) return args_parse_operand(parser, word);
    return word[1] == '-' ? args_parse_long(parser, word) : args_parse_short(parser, word);
}

int cli_args_parse(const struct cli_verb *verb, int argc, char **argv, struct cli_args *out) {
    struct args_parser parser = {.verb = verb, .out = out, .count = argc, .next = argv};
    *out = (struct cli_args){.lines = -1};
    const char *word;
    while ((word = args_next(&parser))) {
        int code = args_parse_word(&parser, word);
        if (code != CLI_GO) return code;
    }
    return CLI_GO;
}
