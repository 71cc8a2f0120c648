// SPDX-License-Identifier: MIT
#include <inttypes.h>
#include <stdio.h>

#include "client.h"

static void messages_print(const struct cli_args *args, const json_t *one) {
    const json_t *message = json_object_get(one, "message");
    if (!message) return;
    if (args->json) {
        client_print_json(one);
        return;
    }
    char *text = json_dumps(message, JSON_COMPACT | JSON_ENCODE_ANY);
    if (text)
        printf("worker %" JSON_INTEGER_FORMAT " (pid %" JSON_INTEGER_FORMAT "): %s\n", json_integer_value(json_object_get(one, "slot")),
               json_integer_value(json_object_get(one, "pid")), text);
    free(text);
}

// A reader that is too slow loses some.
static void messages_print_lost(const struct cli_args *args, const struct client *client, const json_t *lost) {
    if (args->json)
        printf("{\"lost\":%" JSON_INTEGER_FORMAT "}\n", json_integer_value(lost));
    else
        fprintf(stderr, "pando: %s: %" JSON_INTEGER_FORMAT " messages lost: this reader was too slow\n", client->name,
                json_integer_value(lost));
}

static void messages_show(struct client *client, const struct cli_args *args, const json_t *result) {
    size_t i;
    json_t *one, *event;
    json_array_foreach(json_object_get(result, "messages"), i, one) messages_print(args, one);
    fflush(stdout);
    while (args->follow && (event = client_receive(client))) {
        json_t *lost = json_object_get(event, "lost");
        if (lost) messages_print_lost(args, client, lost);
        messages_print(args, event);
        fflush(stdout);
        json_decref(event);
    }
}

static json_t *messages_request(const struct cli_args *args, long lines) {
    json_t *request = json_pack("{s:s, s:b}", "verb", "messages", "follow", args->follow);
    if (lines >= 0) json_object_set_new(request, "lines", json_integer(lines));
    return request;
}

static void messages_follow(struct client *client, const struct cli_args *args) {
    json_t *answer;
    while (!ferror(stdout) && (answer = client_ask_again(client, messages_request(args, 0)))) {
        messages_show(client, args, json_object_get(answer, "result"));
        json_decref(answer);
    }
}

int verb_messages(const struct cli_verb *verb, int argc, char **argv) {
    struct cli_args args;
    scoped_client client = CLIENT_NONE;
    int code = cli_args_parse(verb, argc, argv, &args);
    if (code != CLI_GO) return code;
    code = client_open(&client, verb, args.name);
    if (code != CLI_OK) return code;
    scoped_json *result = client_ask(&client, verb, messages_request(&args, args.lines), &code);
    if (!result) return code;
    messages_show(&client, &args, result);
    if (args.follow) messages_follow(&client, &args);
    return CLI_OK;
}
