// SPDX-License-Identifier: MIT
// The options of `pando run`: one table row each, which is also its help. Parsing ends at the first word that is no
// option: from there on the words are the command's own.
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "launch_parts.h"
#include "node_command.h"
#include "str.h"

struct launch_option {
    const char *name;
    char letter;        // 0 = none
    const char *value;  // what the help calls it; NULL = a flag
    const char *help;   // NULL = hidden
    bool overlay;       // a next generation may say otherwise
    // `value` is NULL for a flag.
    int (*apply)(struct launch *launch, const struct launch_option *option, const char *value, struct pando_error *error);
};

// "--workers 0x: not a number: give 1 to 1024, or auto"
static int option_refuse(const struct launch_option *option, const char *value, const char *wrong, const char *allowed,
                         struct pando_error *error) {
    return error_say(error, EINVAL, "--%s %s: %s: give %s", option->name, value, wrong, allowed);
}

static int option_number(const struct launch_option *option, const char *value, long max, const char *allowed, long *out,
                         struct pando_error *error) {
    int err = str_parse_number(value, 1, max, out);
    if (err) return option_refuse(option, value, err == -ERANGE ? "out of range" : "not a number", allowed, error);
    return 0;
}

static int option_duration(const struct launch_option *option, const char *value, uint64_t *out_ns, struct pando_error *error) {
    int err = str_parse_duration(value, out_ns);
    if (err) return option_refuse(option, value, err == -ERANGE ? "too long" : "not a duration", "one such as 250ms, 30s, 5m, 24h", error);
    return 0;
}

static int option_choice(const struct launch_option *option, const char *value, const char *const *names, size_t count,
                         struct pando_error *error) {
    int found = launch_find_name(names, count, value);
    return found >= 0 ? found : option_refuse(option, value, "no such choice", option->value, error);
}

static int option_string(const struct launch_option *option, char *text, char **field, struct pando_error *error) {
    if (!text) return error_set(error, ENOMEM, "--%s", option->name);
    free(*field);
    *field = text;
    return 0;
}

static int apply_workers(struct launch *launch, const struct launch_option *option, const char *value, struct pando_error *error) {
    long count = 0;
    bool is_auto = strcmp(value, "auto") == 0 || strcmp(value, "max") == 0 || strcmp(value, "0") == 0;
    int err = is_auto ? 0 : option_number(option, value, LAUNCH_WORKERS_MAX, "1 to 1024, or auto", &count, error);
    if (!err) launch->workers = count;
    return err;
}

static int apply_name(struct launch *launch, const struct launch_option *option, const char *value, struct pando_error *error) {
    if (!launch_name_valid(value))
        return option_refuse(option, value, "not a name for an instance",
                             "1 to 63 letters, digits, '.', '_' or '-', the first one no '.' or '-'", error);
    str_copy(launch->name, sizeof launch->name, value);
    return 0;
}

static int apply_ready_fd(struct launch *launch, const struct launch_option *option, const char *value, struct pando_error *error) {
    long fd;
    if (str_parse_number(value + strlen("fd="), LAUNCH_READY_FD_MIN, LAUNCH_READY_FD_MAX, &fd))
        return option_refuse(option, value, "not a descriptor for this", "fd=3 to fd=1023", error);
    launch->ready = LAUNCH_READY_FD;
    launch->ready_fd = (int)fd;
    return 0;
}

static int apply_ready_delay(struct launch *launch, const struct launch_option *option, const char *value, struct pando_error *error) {
    if (str_parse_duration(value + strlen("delay="), &launch->ready_delay_ns))
        return option_refuse(option, value, "not a duration", "delay=2s, delay=500ms or the like", error);
    launch->ready = LAUNCH_READY_DELAY;
    return 0;
}

static int apply_ready_http(struct launch *launch, const struct launch_option *option, const char *value, struct pando_error *error) {
    const char *path = value + strlen("http=");
    if (!launch_ready_path_valid(path))
        return option_refuse(option, value, "not a path to ask for", "one such as http=/health", error);
    launch->ready = LAUNCH_READY_HTTP;
    return option_string(option, strdup(path), &launch->ready_path, error);
}

static int apply_ready(struct launch *launch, const struct launch_option *option, const char *value, struct pando_error *error) {
    if (strncmp(value, "fd=", 3) == 0) return apply_ready_fd(launch, option, value, error);
    if (strncmp(value, "delay=", 6) == 0) return apply_ready_delay(launch, option, value, error);
    if (strncmp(value, "http=", 5) == 0) return apply_ready_http(launch, option, value, error);
    if (strcmp(value, "listen") == 0)
        launch->ready = LAUNCH_READY_LISTEN;
    else if (strcmp(value, "notify") == 0)
        launch->ready = LAUNCH_READY_NOTIFY;
    else if (strcmp(value, "message") == 0)
        launch->ready = LAUNCH_READY_MESSAGE;
    else
        return option_refuse(option, value, "no such sign of being ready", "listen, notify, message, http=PATH, fd=N or delay=T", error);
    return 0;
}

static int apply_ready_timeout(struct launch *launch, const struct launch_option *option, const char *value, struct pando_error *error) {
    uint64_t timeout_ns;
    int err = option_duration(option, value, &timeout_ns, error);
    if (err) return err;
    if (timeout_ns == 0) return option_refuse(option, value, "no time at all", "a duration such as 60s", error);
    launch->ready_timeout_ns = timeout_ns;
    return 0;
}

static int apply_kill_timeout(struct launch *launch, const struct launch_option *option, const char *value, struct pando_error *error) {
    return option_duration(option, value, &launch->kill_timeout_ns, error);
}

static int apply_drain_timeout(struct launch *launch, const struct launch_option *option, const char *value, struct pando_error *error) {
    return option_duration(option, value, &launch->drain_timeout_ns, error);
}

static int apply_cooperative(struct launch *launch, const struct launch_option *option, const char *value, struct pando_error *error) {
    (void)option, (void)value, (void)error;
    launch->cooperative = true;
    return 0;
}

static int apply_allow_new_address(struct launch *launch, const struct launch_option *option, const char *value, struct pando_error *error) {
    (void)option, (void)value, (void)error;
    launch->allow_new_address = true;
    return 0;
}

static int apply_surge(struct launch *launch, const struct launch_option *option, const char *value, struct pando_error *error) {
    long count;
    int err = option_number(option, value, LAUNCH_WORKERS_MAX, "1 to 1024", &count, error);
    if (!err) launch->surge = (uint32_t)count;
    return err;
}

static int apply_warm_up(struct launch *launch, const struct launch_option *option, const char *value, struct pando_error *error) {
    long count;
    int err = option_number(option, value, LAUNCH_WARM_UP_MAX, "1 to 10000", &count, error);
    if (!err) launch->warm_up = (uint32_t)count;
    return err;
}

static int apply_stable(struct launch *launch, const struct launch_option *option, const char *value, struct pando_error *error) {
    return option_duration(option, value, &launch->stable_ns, error);
}

static int apply_keep_old(struct launch *launch, const struct launch_option *option, const char *value, struct pando_error *error) {
    return option_duration(option, value, &launch->keep_old_ns, error);
}

static int apply_stop_signal(struct launch *launch, const struct launch_option *option, const char *value, struct pando_error *error) {
    launch->stop_message = strcmp(value, "message") == 0;
    if (launch->stop_message) return 0;
    int signo = str_parse_signal(value);
    if (signo < 0) return option_refuse(option, value, "no such signal", "a name such as TERM, INT, QUIT, a number, or message", error);
    launch->stop_signal = signo;
    return 0;
}

static int apply_stop_message(struct launch *launch, const struct launch_option *option, const char *value, struct pando_error *error) {
    (void)option, (void)value, (void)error;
    launch->stop_message = true;
    return 0;
}

static int apply_node_cluster(struct launch *launch, const struct launch_option *option, const char *value, struct pando_error *error) {
    (void)option, (void)value, (void)error;
    launch->node_cluster = true;
    return 0;
}

static int apply_relay(struct launch *launch, const struct launch_option *option, const char *value, struct pando_error *error) {
    (void)option, (void)value, (void)error;
    launch->relay = true;
    return 0;
}

static int apply_fail_fast(struct launch *launch, const struct launch_option *option, const char *value, struct pando_error *error) {
    (void)option, (void)value, (void)error;
    launch->fail_fast = true;
    return 0;
}

static int apply_own_port(struct launch *launch, const struct launch_option *option, const char *value, struct pando_error *error) {
    long port;
    int err = option_number(option, value, 65535, "a port from 1 to 65535; worker N gets that plus N", &port, error);
    if (!err) launch->own_port = (int)port;
    return err;
}

static int apply_no_intercept(struct launch *launch, const struct launch_option *option, const char *value, struct pando_error *error) {
    (void)option, (void)value, (void)error;
    launch->intercept = LAUNCH_INTERCEPT_NONE;
    return 0;
}

static int apply_balance(struct launch *launch, const struct launch_option *option, const char *value, struct pando_error *error) {
    int found = option_choice(option, value, launch_balance_name, LAUNCH_BALANCE_COUNT, error);
    if (found >= 0) launch->balance = (enum launch_balance)found;
    return found < 0 ? found : 0;
}

static int apply_mode(struct launch *launch, const struct launch_option *option, const char *value, struct pando_error *error) {
    int found = option_choice(option, value, launch_mode_name, LAUNCH_MODE_COUNT, error);
    if (found >= 0) launch->mode = (enum launch_mode)found;
    return found < 0 ? found : 0;
}

static int apply_no_rescue(struct launch *launch, const struct launch_option *option, const char *value, struct pando_error *error) {
    (void)option, (void)value, (void)error;
    launch->no_rescue = true;
    return 0;
}

static int apply_rescue_after(struct launch *launch, const struct launch_option *option, const char *value, struct pando_error *error) {
    uint64_t after_ns;
    int err = option_duration(option, value, &after_ns, error);
    if (err) return err;
    if (after_ns < CLOCK_MS) return option_refuse(option, value, "too short", "1ms or more; --no-rescue turns it off", error);
    launch->rescue_after_ns = after_ns;
    return 0;
}

static int apply_hang_timeout(struct launch *launch, const struct launch_option *option, const char *value, struct pando_error *error) {
    return option_duration(option, value, &launch->hang_timeout_ns, error);
}

// Takes all variables of that name out: execve(2) may carry several, and programs differ in which one they believe.
static void launch_unset(char **envp, const char *assignment) {
    size_t key_len = strcspn(assignment, "=") + 1;
    char **kept = envp;
    for (char **entry = envp; entry && *entry; entry++) {
        if (strncmp(*entry, assignment, key_len) == 0)
            free(*entry);
        else
            *kept++ = *entry;
    }
    if (kept) *kept = NULL;
}

static int apply_env(struct launch *launch, const struct launch_option *option, const char *value, struct pando_error *error) {
    const char *equals = strchr(value, '=');
    if (!equals || equals == value) return option_refuse(option, value, "not a variable", "KEY=VALUE", error);
    launch_unset(launch->envp, value);
    return launch_list_add_take(&launch->envp, strdup(value)) ? error_set(error, ENOMEM, "--%s", option->name) : 0;
}

// As the shell shows it: with the symbolic links that led here.
static char *launch_current_directory(void) {
    const char *shown = getenv("PWD");
    struct stat named, here;
    bool same = shown && *shown == '/' && stat(shown, &named) == 0 && stat(".", &here) == 0 && named.st_dev == here.st_dev &&
                named.st_ino == here.st_ino;
    return same ? strdup(shown) : getcwd(NULL, 0);
}

static int apply_directory(struct launch *launch, const struct launch_option *option, const char *value, struct pando_error *error) {
    scoped_str here = launch->relative_to ? strdup(launch->relative_to) : launch_current_directory();
    scoped_str path = NULL;
    struct stat info;
    if (asprintf(&path, "%s%s%s", *value == '/' || !here ? "" : here, *value == '/' ? "" : "/", value) < 0) path = NULL;
    if (!path || stat(path, &info)) return option_refuse(option, value, strerrordesc_np(errno), "a folder to run in", error);
    if (!S_ISDIR(info.st_mode)) return option_refuse(option, value, "not a folder", "a folder to run in", error);
    char *taken = path;
    path = NULL;
    return option_string(option, taken, &launch->directory, error);
}

static int apply_user(struct launch *launch, const struct launch_option *option, const char *value, struct pando_error *error) {
    (void)option;
    return launch_set_user(launch, value, error);
}

static int apply_pin(struct launch *launch, const struct launch_option *option, const char *value, struct pando_error *error) {
    (void)option, (void)value, (void)error;
    launch->pin = true;
    return 0;
}

static int apply_log_format(struct launch *launch, const struct launch_option *option, const char *value, struct pando_error *error) {
    int found = option_choice(option, value, launch_log_name, LAUNCH_LOG_COUNT, error);
    if (found >= 0) launch->log_format = (enum launch_log)found;
    return found < 0 ? found : 0;
}

static int apply_log_file(struct launch *launch, const struct launch_option *option, const char *value, struct pando_error *error) {
    if (!*value) return option_refuse(option, value, "no path", "a file to append to", error);
    scoped_str cwd = *value == '/' ? NULL : getcwd(NULL, 0);
    if (*value != '/' && !cwd) return error_set(error, errno, "--%s %s: the current folder", option->name, value);
    char *path = NULL;
    if (asprintf(&path, "%s%s%s", cwd ? cwd : "", cwd ? "/" : "", value) < 0) path = NULL;
    return option_string(option, path, &launch->log_file, error);
}

static int apply_detach(struct launch *launch, const struct launch_option *option, const char *value, struct pando_error *error) {
    (void)option, (void)value, (void)error;
    launch->detach = true;
    return 0;
}

static int apply_intercept(struct launch *launch, const struct launch_option *option, const char *value, struct pando_error *error) {
    int found = option_choice(option, value, launch_intercept_name, LAUNCH_INTERCEPT_COUNT, error);
    if (found >= 0) launch->intercept = (enum launch_intercept)found;
    return found < 0 ? found : 0;
}

static int apply_channel(struct launch *launch, const struct launch_option *option, const char *value, struct pando_error *error) {
    int found = option_choice(option, value, launch_channel_name, LAUNCH_CHANNEL_COUNT, error);
    if (found >= 0) launch->channel = (enum launch_channel)found;
    return found < 0 ? found : 0;
}

static const struct launch_option launch_options[] = {
    {"workers", 'w', "N|auto", "how many; auto (the default), max or 0: one a core that this process may use", false, apply_workers},
    {"instances", 'i', "N|auto", "the same", false, apply_workers},
    {"name", 'n', "NAME", "the instance's name; default: that of the script or command", false, apply_name},
    {"detach", 'd', NULL, "return once all workers are ready; output goes to the log file", false, apply_detach},
    {"env", 'e', "KEY=VALUE", "a variable for the workers; may be repeated, later ones win", true, apply_env},
    {"directory", 'C', "DIR", "the folder that the workers run in", true, apply_directory},
    {"user", 'u', "USER[:GROUP]", "who the workers run as, by name or number", false, apply_user},
    {"ready", 0, "SIGN", "when a worker is ready: listen (default), notify, message, http=PATH (2xx), fd=N, delay=T", true, apply_ready},
    {"warm-up", 0, "N", "with --ready http=PATH: so many times, before it gets clients (1)", true, apply_warm_up},
    {"ready-timeout", 0, "T", "how long that may take (60s)", true, apply_ready_timeout},
    {"kill-timeout", 0, "T", "from the stop signal to KILL (30s)", true, apply_kill_timeout},
    {"drain-timeout", 0, "T", "how long a leaving worker may take over its connections (--kill-timeout's)", true, apply_drain_timeout},
    {"cooperative", 0, NULL, "the program finishes its connections on the stop signal: give it at once", true, apply_cooperative},
    {"surge", 0, "N", "reload: new workers that start at a time (1)", true, apply_surge},
    {"stable", 0, "T", "reload: how long a new worker must serve before an old one leaves (2s)", true, apply_stable},
    {"keep-old", 0, "T", "reload: keep the old workers, frozen, for a `pando rollback` at once (0)", true, apply_keep_old},
    {"allow-new-address", 0, NULL, "reload: the new version may listen elsewhere than the old one", true, apply_allow_new_address},
    {"stop-signal", 0, "SIGNAL|message", "how a worker is told to stop (TERM); message: by 'shutdown' on Node's channel", true, apply_stop_signal},
    {"shutdown-with-message", 0, NULL, "the same as --stop-signal message", true, apply_stop_message},
    {"node-cluster", 0, NULL, "be the primary of Node's cluster: `cluster.isPrimary` is false in every worker", false, apply_node_cluster},
    {"relay", 0, NULL, "what a worker sends (process.send) goes to all the others", false, apply_relay},
    {"fail-fast", 0, NULL, "give up, with exit code 1, when no worker ever becomes ready", false, apply_fail_fast},
    {"balance", 0, "auto|rr|random|sticky", "who gets the next connection: the least loaded, in turn, any, by client address", false, apply_balance},
    {"balance-mode", 0, "auto|slot|pull", "one socket a worker, steered by eBPF (needs privileges), or one they all pull from", false, apply_mode},
    {"rescue-after", 0, "T", "a worker's queue that does not move for so long goes to others (10ms; slot mode)", false, apply_rescue_after},
    {"no-rescue", 0, NULL, "leave every connection with the worker it was given to", false, apply_no_rescue},
    {"hang-timeout", 0, "T", "replace a worker that takes nothing from its queue for so long (0: never; slot mode)", false, apply_hang_timeout},
    {"own-port", 0, "PORT", "worker N gets PORT+N to itself there (debuggers, metrics)", false, apply_own_port},
    {"pin", 0, NULL, "bind each worker to one core", true, apply_pin},
    {"no-intercept", 0, NULL, "do not share the port: only start, watch and restart", false, apply_no_intercept},
    {"log-format", 0, "text|json", "how Pando's own lines look", false, apply_log_format},
    {"log-file", 0, "PATH", "append all output to this file", false, apply_log_file},
    {"debug-intercept", 0, "auto|read|hand|none", NULL, false, apply_intercept},
    {"debug-channel", 0, "auto|none|node|pando", NULL, false, apply_channel},
};

#define LAUNCH_OPTION_COUNT (sizeof launch_options / sizeof launch_options[0])

static void launch_print(void (*print)(const char *line), bool overlay_only) {
    for (size_t i = 0; i < LAUNCH_OPTION_COUNT; i++) {
        const struct launch_option *option = &launch_options[i];
        char letter[8] = "    ";
        char left[64];
        char line[200];
        if (!option->help || (overlay_only && !option->overlay)) continue;
        if (option->letter) snprintf(letter, sizeof letter, "-%c, ", option->letter);
        snprintf(left, sizeof left, "%s--%s %s", letter, option->name, option->value ? option->value : "");
        snprintf(line, sizeof line, "  %-27s %s", left, option->help);
        print(line);
    }
}

void launch_print_options(void (*print)(const char *line)) { launch_print(print, false); }
void launch_print_overlay_options(void (*print)(const char *line)) { launch_print(print, true); }

static const char *launch_nearest_option(const char *name) {
    const char *best = NULL;
    size_t limit = strlen(name) / 3 + 2;
    for (size_t i = 0; i < LAUNCH_OPTION_COUNT; i++) {
        size_t distance = str_distance(name, launch_options[i].name);
        if (!launch_options[i].help || distance >= limit) continue;
        limit = distance;
        best = launch_options[i].name;
    }
    return best;
}

static int launch_unknown_option(const char *word, const char *name, struct pando_error *error) {
    const char *nearest = launch_nearest_option(name);
    const char *list = "`pando run --help` lists the options";
    if (nearest) return error_say(error, EINVAL, "%s: no such option: did you mean --%s? %s", word, nearest, list);
    return error_say(error, EINVAL, "%s: no such option: %s", word, list);
}

// Words not yet used, and who is told of each option instead of its being applied; NULL = nobody.
struct launch_words {
    int count;
    char **next;
    bool overlay;  // of a next generation
    void (*see)(void *arg, const char *name, const char *value);
    void *arg;
};

static char *launch_next_word(struct launch_words *words) {
    if (words->count == 0) return NULL;
    words->count--;
    return *words->next++;
}

static int launch_check(const struct launch_words *words, const struct launch_option *option, struct pando_error *error) {
    if (!words->overlay || option->overlay) return 0;
    return error_say(error, EINVAL, "--%s: is set for as long as the instance runs: %s", option->name,
                     option->apply == apply_workers ? "`pando scale` changes the number of workers" : "stop it and run it anew to change this");
}

static int launch_apply(struct launch *launch, const struct launch_option *option, const char *value, const struct launch_words *words,
                        struct pando_error *error) {
    if (option->value && !value)
        return error_say(error, EINVAL, "--%s: needs a value: give --%s %s", option->name, option->name, option->value);
    if (!words->see) return option->apply(launch, option, value, error);
    words->see(words->arg, option->name, value);
    return 0;
}

static int launch_parse_long(struct launch *launch, const char *word, struct launch_words *words, struct pando_error *error) {
    char name[64];
    const char *equals = strchr(word, '=');
    size_t len = equals ? (size_t)(equals - word) : strlen(word);
    snprintf(name, sizeof name, "%.*s", (int)len - 2, word + 2);
    for (size_t i = 0; i < LAUNCH_OPTION_COUNT; i++) {
        const struct launch_option *option = &launch_options[i];
        if (strcmp(option->name, name) != 0) continue;
        int err = launch_check(words, option, error);
        if (err) return err;
        if (option->value) return launch_apply(launch, option, equals ? equals + 1 : launch_next_word(words), words, error);
        if (equals) return error_say(error, EINVAL, "%s: --%s takes no value", word, name);
        return launch_apply(launch, option, NULL, words, error);
    }
    char shown[72];
    snprintf(shown, sizeof shown, "--%s", name);
    return launch_unknown_option(shown, name, error);
}

static const struct launch_option *launch_find_letter(char letter) {
    for (size_t i = 0; i < LAUNCH_OPTION_COUNT; i++)
        if (launch_options[i].letter == letter) return &launch_options[i];
    return NULL;
}

// "-w4", "-w 4", "-dw4".
static int launch_parse_short(struct launch *launch, const char *word, struct launch_words *words, struct pando_error *error) {
    for (const char *at = word + 1; *at; at++) {
        const struct launch_option *option = launch_find_letter(*at);
        if (!option) return error_say(error, EINVAL, "-%c: no such option: `pando run --help` lists the options", *at);
        int err = launch_check(words, option, error);
        if (err) return err;
        if (option->value) return launch_apply(launch, option, at[1] ? at + 1 : launch_next_word(words), words, error);
        err = launch_apply(launch, option, NULL, words, error);
        if (err) return err;
    }
    return 0;
}

// Leaves the command in `words`. 1 when help was asked for.
static int launch_parse_options(struct launch *launch, struct launch_words *words, struct pando_error *error) {
    while (words->count > 0 && words->next[0][0] == '-' && words->next[0][1] != '\0') {
        const char *word = launch_next_word(words);
        if (strcmp(word, "--") == 0) return 0;
        if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) return 1;
        bool is_long = word[1] == '-';
        int err = is_long ? launch_parse_long(launch, word, words, error) : launch_parse_short(launch, word, words, error);
        if (err) return err;
    }
    return 0;
}

// A list even when empty.
static int launch_copy_list(char ***list, char *const *from, struct pando_error *error) {
    size_t count = 0;
    while (from[count]) count++;
    *list = calloc(count + 1, sizeof **list);
    for (size_t i = 0; *list && i < count; i++)
        if (!((*list)[i] = strdup(from[i]))) launch_list_free(list);
    return *list ? 0 : error_set(error, ENOMEM, "copy the command and its environment");
}

static int launch_default_directory(struct launch *launch, struct pando_error *error) {
    if (!launch->directory) launch->directory = launch_current_directory();
    if (!launch->directory) return error_set(error, errno, "the current folder (-C names another one)");
    return 0;
}

static void launch_read_limits(struct launch *launch) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit)) return;
    launch->nofile_soft = limit.rlim_cur;
    launch->nofile_hard = limit.rlim_max;
}

// Node's own variable says what --balance says; it is for the primary, and here that is Pando.
static void launch_choose_policy(struct launch *launch) {
    for (char **entry = launch->envp; launch->node_cluster && *entry; entry++)
        if (strcmp(*entry, "NODE_CLUSTER_SCHED_POLICY=rr") == 0 && launch->balance == LAUNCH_BALANCE_AUTO)
            launch->balance = LAUNCH_BALANCE_RR;
}

// What can only be said when all options are known.
static int launch_check_warm_up(const struct launch *launch, struct pando_error *error) {
    if (launch->warm_up == 1 || launch->ready == LAUNCH_READY_HTTP) return 0;
    return error_say(error, EINVAL, "--warm-up %u: a worker is warmed up by being asked for something: give --ready http=PATH too", launch->warm_up);
}

static int launch_finish(struct launch *launch, const struct launch_words *words, struct pando_error *error) {
    if (words->count == 0 || !*words->next[0])
        return error_say(error, EINVAL, "no command was given: pando run [options] [--] COMMAND [ARG...]");
    if (launch->own_port && launch->own_port + launch->workers - 1 > 65535)
        return error_say(error, EINVAL, "--own-port %d: %ld workers need ports up to %ld: give a lower one", launch->own_port,
                         launch->workers, launch->own_port + launch->workers - 1);
    int err = launch_check_warm_up(launch, error);
    if (!err) err = launch_default_directory(launch, error);
    if (!err) err = launch_copy_list(&launch->argv, words->next, error);
    if (err) return err;
    if (!launch->name[0]) launch_name_guess(launch->argv, launch->directory, launch->name);
    launch_choose_policy(launch);
    launch_read_limits(launch);
    return 0;
}

int launch_parse(struct launch *launch, int argc, char **argv, char *const *environ_base, struct pando_error *error) {
    assert(!launch->argv && !launch->envp);
    assert(!argv[argc]);
    struct launch_words words = {.count = argc, .next = argv};
    int err = launch_copy_list(&launch->envp, environ_base, error);
    if (!err) err = launch_parse_options(launch, &words, error);
    if (err) return err > 0 ? err : -EINVAL;
    return launch_finish(launch, &words, error) ? -EINVAL : 0;
}

int launch_overlay(struct launch *launch, int argc, char **argv, const char *cwd, struct pando_error *error) {
    assert(!argv[argc]);
    struct launch_words words = {.count = argc, .next = argv, .overlay = true};
    launch->relative_to = cwd;
    int err = launch_parse_options(launch, &words, error);
    launch->relative_to = NULL;
    if (err > 0) return error_say(error, EINVAL, "--help: `pando reload --help` helps"), -EINVAL;
    if (err || launch_check_warm_up(launch, error)) return -EINVAL;
    if (words.count == 0) return 0;
    if (!*words.next[0]) return error_say(error, EINVAL, "an empty command"), -EINVAL;
    launch_list_free(&launch->argv);
    return launch_copy_list(&launch->argv, words.next, error) ? -EINVAL : 0;
}

int launch_option_words(const char *word) {
    if (word[0] != '-' || word[1] == '\0' || strcmp(word, "--") == 0) return 0;
    if (word[1] == '-') {
        for (size_t i = 0; i < LAUNCH_OPTION_COUNT; i++)
            if (strcmp(launch_options[i].name, word + 2) == 0) return launch_options[i].value ? 2 : 1;
        return 1;
    }
    for (const char *at = word + 1; *at; at++) {
        const struct launch_option *option = launch_find_letter(*at);
        if (option && option->value) return at[1] ? 1 : 2;
    }
    return 1;
}

void launch_each_option(int argc, char **argv, void (*see)(void *arg, const char *name, const char *value), void *arg) {
    struct launch_words words = {.count = argc, .next = argv, .see = see, .arg = arg};
    struct pando_error ignored;
    launch_parse_options(NULL, &words, &ignored);
}
