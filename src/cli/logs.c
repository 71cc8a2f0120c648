// SPDX-License-Identifier: MIT
#include <stdio.h>

#include "client.h"

static void logs_print(const struct cli_args *args, const json_t *line) {
    if (!json_is_string(line)) return;
    if (args->json) {
        scoped_json *object = json_pack("{s:O}", "line", line);
        client_print_json(object);
    } else {
        fwrite(json_string_value(line), 1, json_string_length(line), stdout);
        putchar('\n');
    }
}

static void logs_print_lost(const struct cli_args *args, const struct client *client, const json_t *lost) {
    if (args->json)
        printf("{\"lost\":%" JSON_INTEGER_FORMAT "}\n", json_integer_value(lost));
    else
        fprintf(stderr, "pando: %s: %" JSON_INTEGER_FORMAT " lines lost: this reader was too slow\n", client->name,
                json_integer_value(lost));
}

static json_t *logs_request(const struct cli_args *args, long lines) {
    json_t *request = json_pack("{s:s, s:b}", "verb", "logs", "follow", args->follow);
    if (lines >= 0) json_object_set_new(request, "lines", json_integer(lines));
    return request;
}

// The last lines, then, with --follow, what comes until the connection ends.
static void logs_show(struct client *client, const struct cli_args *args, const json_t *result) {
    size_t i;
    json_t *line, *event;
    json_array_foreach(json_object_get(result, "lines"), i, line) logs_print(args, line);
    fflush(stdout);
    while (args->follow && (event = client_receive(client))) {
        json_t *lost = json_object_get(event, "lost");
        if (lost) logs_print_lost(args, client, lost);
        logs_print(args, json_object_get(event, "line"));
        fflush(stdout);
        json_decref(event);
    }
}

static void logs_follow(struct client *client, const struct cli_args *args) {
    json_t *answer;
    while (!ferror(stdout) && (answer = client_ask_again(client, logs_request(args, 0)))) {
        logs_show(client, args, json_object_get(answer, "result"));
        json_decref(answer);
    }
}

int verb_logs(const struct cli_verb *verb, int argc, char **argv) {
    struct cli_args args;
    scoped_client client = CLIENT_NONE;
    int code = cli_args_parse(verb, argc, argv, &args);
    if (code != CLI_GO) return code;
    code = client_open(&client, verb, args.name);
    if (code != CLI_OK) return code;
    scoped_json *result = client_ask(&client, verb, logs_request(&args, args.lines), &code);
    if (!result) return code;
    logs_show(&client, &args, result);
    if (args.follow) logs_follow(&client, &args);
    return CLI_OK;
}
