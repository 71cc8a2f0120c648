// SPDX-License-Identifier: MIT
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client.h"
#include "str.h"

// The primary has another working directory.
static char *upgrade_absolute(const char *program) {
    scoped_str directory = *program == '/' ? NULL : getcwd(NULL, 0);
    char *path = NULL;
    if (*program == '/') return strdup(program);
    return directory && asprintf(&path, "%s/%s", directory, program) >= 0 ? path : NULL;
}

int verb_upgrade(const struct cli_verb *verb, int argc, char **argv) {
    struct cli_args args;
    scoped_client client = CLIENT_NONE;
    int code = cli_args_parse(verb, argc, argv, &args);
    if (code != CLI_GO) return code;
    scoped_str program = args.operand ? upgrade_absolute(args.operand) : NULL;
    if (args.operand && !program) return cli_complain(verb, CLI_FAILED, "%s: %s", args.operand, strerror(errno));
    code = client_open(&client, verb, args.name);
    if (code != CLI_OK) return code;
    json_t *request = json_pack("{s:s, s:s*}", "verb", "upgrade", "program", program);
    scoped_json *result = client_ask(&client, verb, request, &code);
    if (!result) return code;
    if (args.json)
        client_print_json(result);
    else
        printf("pando: %s: upgraded from version %s to %s, by %s\n", client.name, json_string_value(json_object_get(result, "from")),
               json_string_value(json_object_get(result, "version")), json_string_value(json_object_get(result, "program")));
    return CLI_OK;
}
