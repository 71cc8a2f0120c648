// SPDX-License-Identifier: MIT
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "client.h"
#include "ending.h"
#include "fd.h"
#include "home.h"

static int stop_report(const struct cli_args *args, const char *name, int leftover_count) {
    if (args->json)
        printf("{\"stopped\":true,\"leftovers\":%d}\n", leftover_count);
    else if (leftover_count > 0)
        printf("pando: %s: its Pando had been killed; %d left-over workers ended\n", name, leftover_count);
    else
        printf("pando: %s: stopped\n", name);
    return CLI_OK;
}

// Nobody answers by that name, but a record of its workers is there: Pando itself was killed.
static int stop_leftovers(const struct cli_verb *verb, const struct cli_args *args, int home) {
    pid_t holder = 0;
    struct pando_error error;
    scoped_fd lock = home_lock(home, args->name, &holder, &error);
    if (lock == -EWOULDBLOCK) return cli_complain(verb, CLI_FAILED, "%s is just starting or ending: try again", args->name);
    if (lock < 0) return cli_complain(verb, CLI_FAILED, "%s", error.text);
    int count = ending_leftovers(home, args->name, args->now);
    if (count < 0) return cli_complain(verb, CLI_FAILED, "end what is left of %s: %s", args->name, strerror(-count));
    return stop_report(args, args->name, count);
}

static bool stop_finds_leftovers(int home, const char *name) {
    char file[LAUNCH_NAME_MAX + 16];
    char byte[1];
    scoped_fd connection = home_connect(home, name);
    if (connection != -ECONNREFUSED && connection != -ENOENT) return false;
    return fd_read_file_at(home, home_file(file, sizeof file, name, ".pids"), byte, sizeof byte) != -ENOENT;
}

int verb_stop(const struct cli_verb *verb, int argc, char **argv) {
    struct cli_args args;
    int code = cli_args_parse(verb, argc, argv, &args);
    if (code != CLI_GO) return code;
    scoped_fd home = args.name ? client_open_home(verb) : -ENOENT;
    if (home >= 0 && stop_finds_leftovers(home, args.name)) return stop_leftovers(verb, &args, home);
    scoped_client client = CLIENT_NONE;
    code = client_open(&client, verb, args.name);
    if (code == CLI_OK) code = ending_live(&client, verb, args.now);
    return code == CLI_OK ? stop_report(&args, client.name, 0) : code;
}
