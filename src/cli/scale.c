// SPDX-License-Identifier: MIT
#include <stdio.h>

#include "client.h"
#include "str.h"

// "+2" and "-1" stay text: the primary knows what they are relative to.
static json_t *scale_request(const char *operand) {
    long count;
    bool is_relative = *operand == '+' || *operand == '-';
    if (str_parse_number(operand + is_relative, 1, LAUNCH_WORKERS_MAX, &count)) return NULL;
    if (is_relative) return json_pack("{s:s, s:s}", "verb", "scale", "workers", operand);
    return json_pack("{s:s, s:I}", "verb", "scale", "workers", (json_int_t)count);
}

int verb_scale(const struct cli_verb *verb, int argc, char **argv) {
    struct cli_args args;
    int code = cli_args_parse(verb, argc, argv, &args);
    if (code != CLI_GO) return code;
    if (!args.operand) return cli_complain(verb, CLI_USAGE, "how many workers? give 1 to %d, or +N or -N", LAUNCH_WORKERS_MAX);
    json_t *request = scale_request(args.operand);
    if (!request)
        return cli_complain(verb, CLI_USAGE, "%s: not a number of workers: give 1 to %d, or +N or -N", args.operand, LAUNCH_WORKERS_MAX);
    scoped_client client = CLIENT_NONE;
    code = client_open(&client, verb, args.name);
    if (code != CLI_OK) return json_decref(request), code;
    scoped_json *result = client_ask(&client, verb, request, &code);
    if (!result) return code;
    if (args.json)
        client_print_json(result);
    else
        printf("pando: %s: %" JSON_INTEGER_FORMAT " workers\n", client.name, json_integer_value(json_object_get(result, "workers")));
    return CLI_OK;
}
