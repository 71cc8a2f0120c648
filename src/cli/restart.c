// SPDX-License-Identifier: MIT
#include <limits.h>
#include <stdio.h>

#include "client.h"
#include "str.h"

int verb_restart(const struct cli_verb *verb, int argc, char **argv) {
    struct cli_args args;
    long slot = -1;
    int code = cli_args_parse(verb, argc, argv, &args);
    if (code != CLI_GO) return code;
    if (args.operand && str_parse_number(args.operand, 0, LONG_MAX, &slot))
        return cli_complain(verb, CLI_USAGE, "%s: not a slot: give a number from the SLOT column of `pando status`", args.operand);
    scoped_client client = CLIENT_NONE;
    code = client_open(&client, verb, args.name);
    if (code != CLI_OK) return code;
    json_t *request = json_pack("{s:s}", "verb", "restart");
    if (slot >= 0) json_object_set_new(request, "slot", json_integer(slot));
    scoped_json *result = client_ask(&client, verb, request, &code);
    if (!result) return code;
    if (args.json)
        client_print_json(result);
    else
        printf("pando: %s: %" JSON_INTEGER_FORMAT " restarted\n", client.name, json_integer_value(json_object_get(result, "restarted")));
    return CLI_OK;
}
