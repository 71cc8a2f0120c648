// SPDX-License-Identifier: MIT
// `pando unit` writes down for systemd what `pando run` with the same words would do here and now: absolute paths, this
// folder, this user. systemd.service(5) and systemd.exec(5) define every line.
#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "buf.h"
#include "clock.h"
#include "cli.h"
#include "command.h"
#include "launch.h"

#define STOP_MARGIN_S 5    // Pando kills before systemd does
#define START_MARGIN_S 10  // READY=1 comes at the latest when --ready-timeout is over

struct unit {
    const struct cli_verb *verb;  // borrowed
    const char *name;             // borrowed
    struct launch launch;
    struct buf program, command, exec;  // owned: absolute paths of Pando and of the command; the line of ExecStart=
    struct buf user, group;             // owned; empty = root, whom nobody needs to name
    bool named;
};

static void unit_deinit(struct unit *unit) {
    buf_deinit(&unit->program);
    buf_deinit(&unit->command);
    buf_deinit(&unit->exec);
    buf_deinit(&unit->user);
    buf_deinit(&unit->group);
    launch_deinit(&unit->launch);
}

#define scoped_unit __attribute__((cleanup(unit_deinit))) struct unit

// ---- words as systemd reads them

static bool unit_is_plain(unsigned char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("/._-=:,+@", c) != NULL;
}

// '%' would begin a specifier, '$' a variable.
static void unit_add_quoted(struct buf *out, const char *text) {
    buf_puts(out, "\"");
    for (const char *at = text; *at; at++) {
        unsigned char c = (unsigned char)*at;
        if (c == '%' || c == '$')
            buf_printf(out, "%c%c", c, c);
        else if (c == '"' || c == '\\')
            buf_printf(out, "\\%c", c);
        else if (c < ' ' || c == 0x7f)
            buf_printf(out, "\\x%02x", c);
        else
            buf_append(out, at, 1);
    }
    buf_puts(out, "\"");
}

static void unit_add_word(struct buf *out, const char *word) {
    bool plain = *word != '\0';
    for (const char *at = word; *at; at++) plain = plain && unit_is_plain((unsigned char)*at);
    if (out->len > 0) buf_puts(out, " ");
    if (plain)
        buf_puts(out, word);
    else
        unit_add_quoted(out, word);
}

// ---- what the command line says

// Those have lines of their own in the unit.
static void unit_see_option(void *arg, const char *name, const char *value) {
    struct unit *unit = arg;
    scoped_buf word = {0};
    unit->named |= strcmp(name, "name") == 0;
    if (strcmp(name, "name") == 0 || strcmp(name, "user") == 0 || strcmp(name, "directory") == 0) return;
    buf_puts(&word, "--");
    buf_puts(&word, name);
    unit_add_word(&unit->exec, word.data);
    if (strcmp(name, "log-file") == 0) value = unit->launch.log_file;  // absolute: the unit may run elsewhere
    if (value) unit_add_word(&unit->exec, value);
}

static int unit_find_program(struct unit *unit) {
    char self[4096];
    ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);
    if (len < 0) return cli_complain(unit->verb, CLI_FAILED, "find the own executable by /proc/self/exe: %s", strerror(errno));
    buf_append(&unit->program, self, (size_t)len);
    return CLI_OK;
}

static void unit_find_user(struct unit *unit) {
    const struct passwd *account = getpwuid(geteuid());
    if (unit->launch.user) {
        size_t len = strcspn(unit->launch.user, ":");
        buf_append(&unit->user, unit->launch.user, len);
        if (unit->launch.user[len] == ':') buf_puts(&unit->group, unit->launch.user + len + 1);
    } else if (geteuid() != 0) {
        if (account)
            buf_puts(&unit->user, account->pw_name);
        else
            buf_printf(&unit->user, "%u", geteuid());
    }
}

static bool unit_is_root(const struct unit *unit) { return unit->launch.has_user ? unit->launch.uid == 0 : geteuid() == 0; }

static int unit_read(struct unit *unit, int argc, char **argv) {
    struct pando_error error;
    int parsed = launch_parse(&unit->launch, argc, argv, environ, &error);
    if (parsed < 0) return cli_complain(unit->verb, CLI_USAGE, "%s", error.text);
    if (unit->launch.detach) return cli_complain(unit->verb, CLI_USAGE, "--detach: systemd wants a process that stays: leave it out");
    int code = command_find(unit->verb, &unit->launch, &unit->command);
    if (code == CLI_OK) code = unit_find_program(unit);
    if (code != CLI_OK) return code;
    unit_find_user(unit);
    unit_add_word(&unit->exec, unit->program.data);
    unit_add_word(&unit->exec, "run");
    unit_add_word(&unit->exec, "--name");
    unit_add_word(&unit->exec, unit->name);
    launch_each_option(argc, argv, unit_see_option, unit);
    for (const char *at = unit->launch.directory; *at; at++)
        if ((unsigned char)*at < ' ')
            return cli_complain(unit->verb, CLI_FAILED, "the folder's name has a control character: no unit can name it");
    if (unit->named) return cli_complain(unit->verb, CLI_USAGE, "--name: the name is %s already: leave it out", unit->name);
    unit_add_word(&unit->exec, "--");
    unit_add_word(&unit->exec, unit->command.data);
    for (char **word = unit->launch.argv + 1; *word; word++) unit_add_word(&unit->exec, *word);
    bool failed = unit->program.failed || unit->command.failed || unit->exec.failed || unit->user.failed || unit->group.failed;
    return failed ? cli_complain(unit->verb, CLI_FAILED, "%s", strerror(ENOMEM)) : CLI_OK;
}

// ---- the unit

static unsigned long long unit_seconds(uint64_t ns, unsigned margin) { return (ns + CLOCK_S - 1) / CLOCK_S + margin; }

// No quotes and no escapes here: the line is the path.
static void unit_print_directory(const struct unit *unit) {
    printf("WorkingDirectory=");
    for (const char *at = unit->launch.directory; *at; at++) printf(*at == '%' ? "%%%%" : "%c", *at);
    puts("");
}

static void unit_print_user(const struct unit *unit) {
    if (unit->user.len == 0) return;
    printf("User=%s\n", unit->user.data);
    if (unit->group.len > 0) printf("Group=%s\n", unit->group.data);
    printf("# The control socket: PANDO_DIR=/run/pando/%s pando status\n", unit->name);
    printf("RuntimeDirectory=pando/%s\nEnvironment=PANDO_DIR=%%t/pando/%s\n", unit->name, unit->name);
    if (unit_is_root(unit)) return;
    bool steers = unit->launch.mode != LAUNCH_MODE_PULL && unit->launch.intercept != LAUNCH_INTERCEPT_NONE;
    if (steers)
        puts(
            "# Slot mode: the kernel chooses a worker for each connection by eBPF. Workers do not get these. For a port below 1024 add\n"
            "# CAP_NET_BIND_SERVICE.\n"
            "AmbientCapabilities=CAP_BPF CAP_NET_ADMIN CAP_PERFMON");
    else
        puts("# For a port below 1024:\n#AmbientCapabilities=CAP_NET_BIND_SERVICE");
}

static void unit_print(const struct unit *unit) {
    printf(
        "# /etc/systemd/system/%s.service, written by `pando unit`\n"
        "[Unit]\n"
        "Description=%s, run by Pando\n"
        "Wants=network-online.target\n"
        "After=network-online.target\n"
        "# Pando waits longer and longer by itself before it starts a failing worker again.\n"
        "StartLimitIntervalSec=0\n"
        "\n"
        "[Service]\n"
        "# Ready when all workers are. `systemctl reload` returns when the reload has ended. systemd before 253 ignores the second line:\n"
        "# there, take the comment off ExecReload.\n"
        "Type=notify\n"
        "Type=notify-reload\n"
        "#ExecReload=/bin/kill -HUP $MAINPID\n"
        "NotifyAccess=main\n"
        "ExecStart=%s\n",
        unit->name, unit->name, unit->exec.data);
    unit_print_directory(unit);
    unit_print_user(unit);
    printf(
        "TimeoutStartSec=%llus\n"
        "# TERM goes to Pando alone, which lets its workers finish; longer than its own --kill-timeout.\n"
        "KillMode=mixed\n"
        "TimeoutStopSec=%llus\n"
        "# Of the loop that looks after the workers: killed when it is stuck for so long.\n"
        "WatchdogSec=30s\n"
        "# `pando stop` is an end; anything else that ends it is not, but wrong options and a command that cannot be run.\n"
        "Restart=on-failure\n"
        "RestartSec=100ms\n"
        "RestartPreventExitStatus=2 126 127\n"
        "# A worker that the kernel kills for memory is replaced: it does not end the service.\n"
        "OOMPolicy=continue\n"
        "# The listening sockets outlive Pando here, and those who wait in their queues are answered after the restart.\n"
        "FileDescriptorStoreMax=4096\n"
        "\n"
        "[Install]\n"
        "WantedBy=multi-user.target\n",
        unit_seconds(unit->launch.ready_timeout_ns, START_MARGIN_S), unit_seconds(unit->launch.kill_timeout_ns, STOP_MARGIN_S));
}

int verb_unit(const struct cli_verb *verb, int argc, char **argv) {
    scoped_unit unit = {.verb = verb};
    launch_init(&unit.launch);
    for (int i = 0; i < argc && argv[i][0] == '-'; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) return cli_print_help(verb), CLI_OK;
    if (argc < 1 || argv[0][0] == '-') return cli_complain(verb, CLI_USAGE, "which name? `pando unit NAME -- COMMAND`");
    if (!launch_name_valid(argv[0]))
        return cli_complain(verb, CLI_USAGE,
                            "%s: not a name for an instance: 1 to 63 letters, digits, '.', '_' or '-', the first one no '.' or '-'",
                            argv[0]);
    unit.name = argv[0];
    int code = unit_read(&unit, argc - 1, argv + 1);
    if (code == CLI_OK) unit_print(&unit);
    return code;
}
