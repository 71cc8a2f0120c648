// SPDX-License-Identifier: MIT
#include "cli.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "launch.h"
#include "str.h"

static const struct cli_verb cli_verbs[] = {
    {
        .name = "run",
        .operand = "[--] COMMAND [ARG...]",
        .summary = "run copies of a program behind one port",
        .print_options = launch_print_options,
        .run = verb_run,
        .more = "Options end at COMMAND. In the foreground, TERM or one ^C stops gracefully, a second ^C at once, TTIN and TTOU\n"
                "add and remove a worker. Exit codes: 0 stopped as asked, 1 failed, 2 wrong options, 126 and 127 COMMAND cannot\n"
                "be run or was not found.\n\nExamples:\n"
                "  pando run node app.js                 one worker a core, all on the port that app.js listens on\n"
                "  pando run --node-cluster node server.js   where server.js forks a cluster itself\n"
                "  pando run -w 4 -n web -- python3 -m http.server 8000\n"
                "  pando run -d -e PORT=3000 ./server    in the background; `pando logs -f` shows its output\n",
    },
    {
        .name = "serve",
        .operand = "DIR [ADDRESS]",
        .summary = "static files on every core",
        .print_options = launch_print_options,
        .run = verb_serve,
        .more = "ADDRESS is PORT, HOST:PORT or unix:PATH; default: $PORT, else 8080. The options are those of `run`.\n\nExamples:\n"
                "  pando serve public                    one worker a core, port 8080\n"
                "  pando serve public 127.0.0.1:9000 -w 2\n",
    },
    {
        .name = "status",
        .summary = "show instances and their workers",
        .options = {[CLI_OPTION_NAME] = true, [CLI_OPTION_JSON] = true},
        .run = verb_status,
        .more = "Without -n: all instances. Exit code 3: none is running.\n\nExamples:\n"
                "  pando status\n"
                "  pando status -n web --json | jq '.workers[].pid'\n",
    },
    {
        .name = "scale",
        .operand = "N|+N|-N",
        .summary = "change the number of workers",
        .options = {[CLI_OPTION_NAME] = true, [CLI_OPTION_JSON] = true},
        .run = verb_scale,
        .more = "Returns when the new workers are ready and the surplus ones have finished their connections.\n\nExamples:\n"
                "  pando scale 8\n"
                "  pando scale -n web +2\n",
    },
    {
        .name = "reload",
        .operand = "[--] [COMMAND [ARG...]]",
        .summary = "replace all workers by a new version, without losing a connection",
        .print_options = reload_print_options,
        .run = verb_reload,
        .more = "New workers start first; an old one leaves when a new one is ready and has stayed so. When the new version does\n"
                "not come up, the old one serves on and the reason is shown. Without COMMAND: the same command, its files and\n"
                "folder (symbolic links included) looked up anew. Deploy a release into a folder of its own and turn a link to it:\n"
                "what still runs of the old version then also restarts from its own folder.\n"
                "Exit codes: 0 the new version serves, 4 it was refused and the old one serves on.\n\nExamples:\n"
                "  pando reload\n"
                "  pando reload -n web --surge 2 -e FEATURE=1\n"
                "  pando reload --canary 10% --for 30s\n"
                "  pando reload -- node app-v2.js\n",
    },
    {
        .name = "rollback",
        .summary = "go back to the generation before the last reload",
        .options = {[CLI_OPTION_NAME] = true, [CLI_OPTION_JSON] = true},
        .run = verb_rollback,
        .more = "At once where the reload was given --keep-old and its time is not over; else the old version starts again.\n\nExamples:\n"
                "  pando reload --keep-old 10m && ./check || pando rollback\n",
    },
    {
        .name = "restart",
        .operand = "[SLOT]",
        .summary = "replace all workers by new ones of the same version, or the one in a slot",
        .options = {[CLI_OPTION_NAME] = true, [CLI_OPTION_JSON] = true},
        .run = verb_restart,
        .more = "Returns when the successors are ready.\n\nExamples:\n"
                "  pando restart\n"
                "  pando restart -n web 3\n",
    },
    {
        .name = "stop",
        .summary = "end an instance and everything it started",
        .options = {[CLI_OPTION_NAME] = true, [CLI_OPTION_JSON] = true, [CLI_OPTION_NOW] = true},
        .run = verb_stop,
        .more = "Returns when the last process has ended. With -n it also ends workers whose Pando was killed.\n\nExamples:\n"
                "  pando stop\n"
                "  pando stop -n web --now\n",
    },
    {
        .name = "logs",
        .summary = "show the last output of an instance",
        .options = {[CLI_OPTION_NAME] = true, [CLI_OPTION_JSON] = true, [CLI_OPTION_FOLLOW] = true, [CLI_OPTION_LINES] = true},
        .run = verb_logs,
        .more = "Examples:\n"
                "  pando logs -l 50\n"
                "  pando logs -f -n web\n",
    },
    {
        .name = "torture",
        .operand = "[--] COMMAND [ARG...]",
        .summary = "run a command under load, kill what can be killed, and count what was lost",
        .run = verb_torture,
    },
    {
        .name = "upgrade",
        .operand = "[PROGRAM]",
        .summary = "replace the running Pando by another version, keeper and primary",
        .options = {[CLI_OPTION_NAME] = true, [CLI_OPTION_JSON] = true},
        .run = verb_upgrade,
        .more = "PROGRAM is another `pando`, its `pando-keeper` beside it; default: what is now at the path from which the running one\n"
                "was started. Workers and connections do not notice. The same by signal USR2. Exit code 4: it was refused or\n"
                "undone, with the reason, and the old Pando goes on.\n\nExamples:\n"
                "  pando upgrade -n web\n"
                "  pando upgrade -n web /opt/pando-2/bin/pando\n",
    },
    {
        .name = "unit",
        .operand = "NAME [OPTION...] [--] COMMAND [ARG...]",
        .summary = "print a systemd unit that runs a command under Pando",
        .print_options = launch_print_options,
        .run = verb_unit,
        .more = "The options are those of `run`. The unit runs as the calling user, or the one of -u, in the current folder, or that of -C.\n\n"
                "Example:\n"
                "  pando unit web -u www-data -- node app.js | sudo tee /etc/systemd/system/web.service\n"
                "  sudo systemctl daemon-reload && sudo systemctl enable --now web\n",
    },
    {
        .name = "messages",
        .summary = "show what workers have sent (process.send)",
        .options = {[CLI_OPTION_NAME] = true, [CLI_OPTION_JSON] = true, [CLI_OPTION_FOLLOW] = true, [CLI_OPTION_LINES] = true},
        .run = verb_messages,
        .more = "Messages of Node programs to their primary; `pando run --relay` also gives them to the other workers.\n\nExamples:\n"
                "  pando messages -f\n"
                "  pando messages -n web --json | jq .message\n",
    },
    {
        .name = "info",
        .summary = "show processors, kernel features, and what their absence costs",
        .options = {[CLI_OPTION_NAME] = true, [CLI_OPTION_JSON] = true},
        .run = verb_info,
        .more = "Without -n it looks at this machine as the calling user sees it; with -n a running instance says what it found\n"
                "and chose.\n\nExamples:\n"
                "  pando info\n"
                "  pando info -n web --json\n",
    },
};

#define CLI_VERB_COUNT (sizeof cli_verbs / sizeof cli_verbs[0])

void cli_print_line(const char *line) { puts(line); }

int cli_complain(const struct cli_verb *verb, int code, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fprintf(stderr, "pando: %s: ", verb->name);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    return code;
}

void cli_print_help(const struct cli_verb *verb) {
    printf("pando %s: %s\n\n", verb->name, verb->summary);
    printf("usage: pando %s [options]%s%s\n\n", verb->name, verb->operand ? " " : "", verb->operand ? verb->operand : "");
    if (verb->print_options)
        verb->print_options(cli_print_line);
    else
        cli_args_print_options(verb, cli_print_line);
    printf("\n%s", verb->more);
}

static void cli_print_overview(FILE *out) {
    fputs(
        "Pando runs copies of a program on all cores behind one port, and never lets the service die.\n\n"
        "usage: pando VERB [options]\n\n",
        out);
    for (size_t i = 0; i < CLI_VERB_COUNT; i++) fprintf(out, "  %-9s %s\n", cli_verbs[i].name, cli_verbs[i].summary);
    fputs("\n`pando help VERB` says more. Try: pando run node app.js\n", out);
}

static const struct cli_verb *cli_find_verb(const char *name) {
    for (size_t i = 0; i < CLI_VERB_COUNT; i++)
        if (strcmp(cli_verbs[i].name, name) == 0) return &cli_verbs[i];
    return NULL;
}

static int cli_unknown_verb(const char *name) {
    const char *nearest = NULL;
    size_t limit = strlen(name) / 3 + 2;
    for (size_t i = 0; i < CLI_VERB_COUNT; i++) {
        size_t distance = str_distance(name, cli_verbs[i].name);
        if (distance >= limit) continue;
        limit = distance;
        nearest = cli_verbs[i].name;
    }
    if (nearest)
        fprintf(stderr, "pando: %s: no such verb: did you mean %s? `pando help` lists all\n", name, nearest);
    else
        fprintf(stderr, "pando: %s: no such verb: `pando help` lists all; `pando run COMMAND` runs a program\n", name);
    return CLI_USAGE;
}

static int cli_help(const char *name) {
    if (!name) return cli_print_overview(stdout), CLI_OK;
    const struct cli_verb *verb = cli_find_verb(name);
    if (!verb) return cli_unknown_verb(name);
    if (!verb->more) return verb->run(verb, 1, (char *[]){(char[]){"--help"}, NULL});
    cli_print_help(verb);
    return CLI_OK;
}

static bool cli_is_any(const char *word, const char *a, const char *b, const char *c) {
    return strcmp(word, a) == 0 || strcmp(word, b) == 0 || strcmp(word, c) == 0;
}

static int cli_dispatch(int argc, char **argv) {
    if (argc < 2) return cli_print_overview(stderr), CLI_USAGE;
    if (cli_is_any(argv[1], "help", "--help", "-h")) return cli_help(argv[2]);
    if (cli_is_any(argv[1], "version", "--version", "-V")) return puts("pando " PANDO_VERSION), CLI_OK;
    const struct cli_verb *verb = cli_find_verb(argv[1]);
    return verb ? verb->run(verb, argc - 2, argv + 2) : cli_unknown_verb(argv[1]);
}

// Output that did not reach its reader is a failure: a script must not take half a status for a whole one.
int cli_main(int argc, char **argv) {
    int code = cli_dispatch(argc, argv);
    if (fflush(stdout) == 0 && !ferror(stdout)) return code;
    perror("pando: standard output");
    return code == CLI_OK ? CLI_FAILED : code;
}
