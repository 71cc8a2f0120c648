// SPDX-License-Identifier: MIT
// `reload` and `rollback`: the request, then lines of progress until the answer. The primary may be killed meanwhile: the next
// one goes on with it, and is asked how it ended.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "client.h"
#include "clock.h"
#include "str.h"

extern char **environ;

enum { RECONNECT_TRIES = 100, RECONNECT_WAIT_MS = 50, CANARY_DEFAULT_MS = 30000 };

struct reload_args {
    const char *name;
    bool json;
    json_t *request;  // owned
};

static const char *const own_options[] = {
    "  -n, --name NAME           which instance; not needed where only one is running",
    "      --json                print JSON",
    "      --abort               cancel a reload that is under way instead of waiting for it",
    "      --canary PERCENT      first give the new version only that share of new connections, and watch it",
    "      --for T               for how long (30s)",
    "      --update-env          the workers' environment is that of this command, not that of `pando run`",
};

void reload_print_options(void (*print)(const char *line)) {
    for (size_t i = 0; i < sizeof own_options / sizeof *own_options; i++) print(own_options[i]);
    launch_print_overlay_options(print);
}

static int take_percent(const struct cli_verb *verb, const char *text, json_t *request) {
    char digits[8] = "";
    long percent;
    size_t len = strlen(text);
    bool sign = len > 0 && text[len - 1] == '%';
    if (len < sizeof digits) str_copy(digits, len - sign + 1, text);
    if (str_parse_number(digits, 1, 99, &percent))
        return cli_complain(verb, CLI_USAGE, "--canary %s: not a share: give 1%% to 99%%", text);
    json_object_set_new(request, "canary", json_integer(percent));
    if (!json_object_get(request, "for_ms")) json_object_set_new(request, "for_ms", json_integer(CANARY_DEFAULT_MS));
    return CLI_GO;
}

static int take_duration(const struct cli_verb *verb, const char *text, json_t *request) {
    uint64_t ns;
    if (str_parse_duration(text, &ns) || ns < CLOCK_MS) return cli_complain(verb, CLI_USAGE, "--for %s: not a duration: give one such as 30s or 5m", text);
    json_object_set_new(request, "for_ms", json_integer((json_int_t)(ns / CLOCK_MS)));
    return CLI_GO;
}

// What is not UTF-8 cannot travel; few variables are not.
static void take_environment(json_t *request) {
    json_t *list = json_array();
    for (char **entry = environ; *entry; entry++) {
        json_t *text = json_string(*entry);
        if (text)
            json_array_append_new(list, text);
        else
            fprintf(stderr, "pando: reload: the variable %.*s is not UTF-8: left out\n", (int)strcspn(*entry, "="), *entry);
    }
    json_object_set_new(request, "environment", list);
}

// 1 or 2 words used, 0: none of ours, -1: complained.
static int take_own(const struct cli_verb *verb, char **words, struct reload_args *out) {
    const char *word = words[0], *value = words[1];
    bool needs = strcmp(word, "-n") == 0 || strcmp(word, "--name") == 0 || strcmp(word, "--canary") == 0 || strcmp(word, "--for") == 0;
    if (needs && !value) return cli_complain(verb, -1, "%s: needs a value", word);
    if (strcmp(word, "-n") == 0 || strcmp(word, "--name") == 0) {
        out->name = value;
        if (!launch_name_valid(value)) return cli_complain(verb, -1, "--name %s: not a name for an instance: `pando status` lists those that run", value);
        return 2;
    }
    if (strcmp(word, "--canary") == 0) return take_percent(verb, value, out->request) == CLI_GO ? 2 : -1;
    if (strcmp(word, "--for") == 0) return take_duration(verb, value, out->request) == CLI_GO ? 2 : -1;
    if (strcmp(word, "--json") == 0) return out->json = true, 1;
    if (strcmp(word, "--abort") == 0) return json_object_set_new(out->request, "abort", json_true()), 1;
    if (strcmp(word, "--update-env") == 0) return take_environment(out->request), 1;
    return 0;
}

static int add_word(const struct cli_verb *verb, json_t *list, const char *word) {
    return json_array_append_new(list, json_string(word)) == 0 ? CLI_GO : cli_complain(verb, CLI_USAGE, "%s: not UTF-8", word);
}

static int parse(const struct cli_verb *verb, int argc, char **argv, struct reload_args *out) {
    json_t *options = json_array(), *command = json_array();
    json_object_set_new(out->request, "options", options);
    json_object_set_new(out->request, "command", command);
    int at = 0, code = CLI_GO;
    while (at < argc && code == CLI_GO) {
        if (strcmp(argv[at], "-h") == 0 || strcmp(argv[at], "--help") == 0) return cli_print_help(verb), CLI_OK;
        int used = take_own(verb, argv + at, out), words = used == 0 ? launch_option_words(argv[at]) : 0;
        if (used < 0) return CLI_USAGE;
        if (used == 0 && words == 0) break;
        for (int i = 0; i < words && at + i < argc && code == CLI_GO; i++) code = add_word(verb, options, argv[at + i]);
        at += used > 0 ? used : words;
    }
    if (at < argc && strcmp(argv[at], "--") == 0) at++;
    for (; at < argc && code == CLI_GO; at++) code = add_word(verb, command, argv[at]);
    return code;
}

static bool reconnect(struct client *client) {
    struct timespec wait = {.tv_nsec = RECONNECT_WAIT_MS * 1000000L};
    for (int i = 0; i < RECONNECT_TRIES; i++) {
        if (client_connect(client) == 0 && client_send_take(client, json_pack("{s:s}", "verb", "rollout")) == 0) return true;
        nanosleep(&wait, NULL);
    }
    return false;
}

static void print_output(const json_t *answer) {
    const json_t *lines = json_object_get(answer, "output");
    if (json_array_size(lines) > 0) fprintf(stderr, "Its last output:\n");
    for (size_t i = 0; i < json_array_size(lines); i++) fprintf(stderr, "  %s\n", json_string_value(json_array_get(lines, i)));
}

static json_t *follow(struct client *client, const struct cli_verb *verb, json_t *request, bool quiet, int *out_code) {
    bool sent = client_send_take(client, request) == 0;
    for (;;) {
        json_t *answer = sent ? client_receive(client) : NULL;
        const char *progress = json_string_value(json_object_get(answer, "progress"));
        if (!answer && !(sent = reconnect(client))) {
            *out_code = cli_complain(verb, CLI_FAILED, "the instance %s gave no answer: `pando status -n %s` shows whether it lives", client->name,
                                     client->name);
            return NULL;
        }
        if (answer && !progress) {
            if (!quiet && json_is_false(json_object_get(answer, "ok"))) {
                json_t *shown = json_incref(answer);
                json_t *result = client_result_take(verb, answer, out_code);
                print_output(shown);
                json_decref(shown);
                return result;
            }
            return client_result_take(verb, answer, out_code);
        }
        if (progress && !quiet) printf("pando: %s: %s\n", client->name, progress);
        fflush(stdout);
        json_decref(answer);
    }
}

static void print_summary(const struct client *client, const json_t *result) {
    printf("pando: %s: generation %d serves with %d workers after %.1f s: %lld connections served, %lld moved, %lld reset\n", client->name,
           (int)json_integer_value(json_object_get(result, "generation")), (int)json_integer_value(json_object_get(result, "workers")),
           json_real_value(json_object_get(result, "seconds")), (long long)json_integer_value(json_object_get(result, "served")),
           (long long)json_integer_value(json_object_get(result, "moved")), (long long)json_integer_value(json_object_get(result, "reset")));
}

static int ask(const struct cli_verb *verb, const char *name, bool json, json_t *request_take) {
    scoped_client client = CLIENT_NONE;
    int code = client_open(&client, verb, name);
    if (code != CLI_OK) return json_decref(request_take), code;
    scoped_json *result = follow(&client, verb, request_take, json, &code);
    if (!result) return code;
    if (json)
        client_print_json(result);
    else
        print_summary(&client, result);
    return CLI_OK;
}

int verb_reload(const struct cli_verb *verb, int argc, char **argv) {
    struct reload_args args = {.request = json_pack("{s:s}", "verb", "reload")};
    scoped_str cwd = getcwd(NULL, 0);
    int code = parse(verb, argc, argv, &args);
    if (code != CLI_GO) return json_decref(args.request), code;
    if (cwd) json_object_set_new(args.request, "cwd", json_string(cwd));
    return ask(verb, args.name, args.json, args.request);
}

int verb_rollback(const struct cli_verb *verb, int argc, char **argv) {
    struct cli_args args;
    int code = cli_args_parse(verb, argc, argv, &args);
    return code != CLI_GO ? code : ask(verb, args.name, args.json, json_pack("{s:s}", "verb", "rollback"));
}
