// SPDX-License-Identifier: MIT
// What the user asked for: the options of `pando run`, the command, its environment and directory. The command line makes
// it; it travels as JSON in a sealed memfd; the primary reads it. One per generation.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "error.h"

#define LAUNCH_WORKERS_MAX 1024
#define LAUNCH_WARM_UP_MAX 10000
#define LAUNCH_NAME_MAX 63  // letters, digits, '.', '_', '-'; not starting with '.' or '-'

enum launch_ready {
    LAUNCH_READY_LISTEN,
    LAUNCH_READY_NOTIFY,
    LAUNCH_READY_FD,
    LAUNCH_READY_DELAY,
    LAUNCH_READY_HTTP,
    LAUNCH_READY_MESSAGE,
    LAUNCH_READY_COUNT
};
enum launch_log { LAUNCH_LOG_TEXT, LAUNCH_LOG_JSON, LAUNCH_LOG_COUNT };
// How `bind` and `listen` reach Pando. AUTO is decided by probing; the others are for tests.
enum launch_intercept { LAUNCH_INTERCEPT_AUTO, LAUNCH_INTERCEPT_READ, LAUNCH_INTERCEPT_HAND, LAUNCH_INTERCEPT_NONE, LAUNCH_INTERCEPT_COUNT };

// A socket pair between each worker and the primary. NODE: what Node calls IPC, a stream of JSON lines (NODE_CHANNEL_FD).
// PANDO: messages of their own length, for programs that use <pando/worker.h> (PANDO_CHANNEL_FD).
// AUTO: by the command and the other options (launch_channel_of).
enum launch_channel { LAUNCH_CHANNEL_NONE, LAUNCH_CHANNEL_NODE, LAUNCH_CHANNEL_PANDO, LAUNCH_CHANNEL_AUTO, LAUNCH_CHANNEL_COUNT };

// Who gets the next connection. AUTO: fewest waiting, then fewest open, in turn; without privileges: whoever is free.
enum launch_balance { LAUNCH_BALANCE_AUTO, LAUNCH_BALANCE_RR, LAUNCH_BALANCE_RANDOM, LAUNCH_BALANCE_STICKY, LAUNCH_BALANCE_COUNT };
// SLOT: one socket a slot, chosen by eBPF for each connection. PULL: one a generation. AUTO: SLOT where it is possible.
enum launch_mode { LAUNCH_MODE_AUTO, LAUNCH_MODE_SLOT, LAUNCH_MODE_PULL, LAUNCH_MODE_COUNT };

extern const char *const launch_balance_name[LAUNCH_BALANCE_COUNT];
extern const char *const launch_mode_name[LAUNCH_MODE_COUNT];
extern const char *const launch_ready_name[LAUNCH_READY_COUNT];
extern const char *const launch_intercept_name[LAUNCH_INTERCEPT_COUNT];
extern const char *const launch_channel_name[LAUNCH_CHANNEL_COUNT];

struct launch {
    char name[LAUNCH_NAME_MAX + 1];
    long workers;  // 0 = auto
    bool detach, fail_fast, pin, has_user;
    enum launch_ready ready;
    int ready_fd;
    uint64_t ready_delay_ns, ready_timeout_ns, kill_timeout_ns;
    uint32_t warm_up;           // with LAUNCH_READY_HTTP: how often it must answer to be ready
    uint64_t drain_timeout_ns;  // how long a worker that leaves may take over its connections; 0 = kill_timeout_ns
    uint32_t surge;             // in a roll-out: workers that start at a time
    uint64_t stable_ns;         // and how long a new one must have served before an old one leaves
    uint64_t keep_old_ns;       // the old generation stays, frozen, for a rollback; 0 = it does not
    bool cooperative;           // on the stop signal the program finishes its connections by itself
    bool allow_new_address;     // a new generation may listen elsewhere than the old one
    int stop_signal;
    int own_port;  // 0 = none
    enum launch_intercept intercept;
    enum launch_balance balance;
    enum launch_mode mode;
    enum launch_channel channel;
    bool node_cluster;   // --node-cluster was given (see launch_is_node_cluster)
    bool relay;          // messages of workers go to the other workers
    bool stop_message;   // --stop-signal message: "shutdown" on the channel instead of `stop_signal`
    bool no_rescue;
    uint64_t rescue_after_ns;  // a queue that does not move for so long is moved to other workers
    uint64_t hang_timeout_ns;  // a worker that takes nothing from it for so long is replaced; 0 = never
    enum launch_log log_format;
    bool log_is_terminal;  // the user reads Pando's lines on a terminal
    uint32_t uid, gid;     // with has_user
    uint32_t *groups;      // owned; supplementary groups of that user
    size_t group_count;
    char *user;       // owned, may be NULL: as typed
    char *log_file;   // owned, may be NULL; absolute
    char *ready_path;  // owned; with LAUNCH_READY_HTTP: what it is asked for; else NULL
    char *directory;  // owned; absolute working directory of the workers, symbolic links as given: each generation resolves them anew
    char *home;       // owned; the instance's run-time folder ($PANDO_DIR), absolute
    char **argv;      // owned, NULL-terminated: the command
    char **envp;      // owned, NULL-terminated: the caller's environment with -e applied, Pando's own variables not yet
    const char *relative_to;  // borrowed, while options are parsed: where relative folders are looked for; NULL = here
    uint64_t nofile_soft, nofile_hard;  // the caller's RLIMIT_NOFILE, which the workers get back
};

void launch_init(struct launch *launch);    // defaults of DESIGN.md section 7; environment and command empty
void launch_deinit(struct launch *launch);  // zeroes; half-built is fine

// Parses the arguments of `run` (argv[0] is the first option) up to and including the command, with `environ_base` as the
// environment the workers start from, into a `launch` fresh from launch_init. 0; 1 when --help was asked for; -EINVAL with
// a sentence for the user in `error` on anything wrong.
int launch_parse(struct launch *launch, int argc, char **argv, char *const *environ_base, struct pando_error *error);
// Tells `see` each option among arguments that launch_parse has accepted, in order, by its long name; value NULL: a flag.
void launch_each_option(int argc, char **argv, void (*see)(void *arg, const char *name, const char *value), void *arg);
// The option table as help text. `out` gets one line an option.
void launch_print_options(void (*print)(const char *line));
// What a next generation may say otherwise: options as for launch_parse (only those that can change while the instance runs)
// and, behind them, a new command or nothing. Relative folders are looked for in `cwd`. 0 or -EINVAL; `launch` may be half
// changed then.
int launch_overlay(struct launch *launch, int argc, char **argv, const char *cwd, struct pando_error *error);
// Words that the option at `word` takes up, its value included (1 or 2); 0: it is no option, the command begins here.
int launch_option_words(const char *word);
void launch_print_overlay_options(void (*print)(const char *line));

int launch_seal(const struct launch *launch);  // new sealed memfd, or -errno
int launch_load(struct launch *launch, int memfd, struct pando_error *error);  // 0 or -errno; checks everything it reads

// The channel that a worker of this launch gets: never AUTO. Node programs may always use what Node's own children have; of
// others it has to be said that they are some.
enum launch_channel launch_channel_of(const struct launch *launch);
// The workers are those of Node's cluster, and Pando is its primary. Not so for commands that cannot be (node_command.h).
bool launch_is_node_cluster(const struct launch *launch);

// True when `name` may be an instance's name.
bool launch_name_valid(const char *name);
