// SPDX-License-Identifier: MIT
// `pando run` prepares what must be right before anything starts, and becomes the keeper:
//
//   options -> command exists? -> folder, lock, control socket -> [-d: fork] -> descriptors in place -> exec pando-keeper
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cli.h"
#include "command.h"
#include "detach.h"
#include "ending.h"
#include "fd.h"
#include "home.h"
#include "inherit.h"
#include "program.h"
#include "str.h"

struct run {
    const struct cli_verb *verb;  // borrowed
    struct launch launch;
    char keeper[4096];                // its path
    int home, log;                    // owned
    int inherit[INHERIT_KEEPER_END];  // owned: what the keeper gets under that number; -1 = nothing
    int given[INHERIT_GIVEN_MAX];     // owned: what it gets from INHERIT_GIVEN on
    int given_count;
    int ready;                        // owned: our end of INHERIT_READY
    sigset_t signals;                 // the caller's mask
};

static void run_init(struct run *run, const struct cli_verb *verb) {
    *run = (struct run){.verb = verb, .home = -1, .log = -1, .ready = -1};
    for (int i = 0; i < INHERIT_KEEPER_END; i++) run->inherit[i] = -1;
    launch_init(&run->launch);
}

static void run_deinit(struct run *run) {
    for (int i = 0; i < INHERIT_KEEPER_END; i++) fd_close(&run->inherit[i]);
    for (int i = 0; i < run->given_count; i++) fd_close(&run->given[i]);
    fd_close(&run->ready);
    fd_close(&run->log);
    fd_close(&run->home);
    launch_deinit(&run->launch);
}

#define scoped_run __attribute__((cleanup(run_deinit))) struct run

static int run_complain(const struct run *run, int err, const char *what) {
    return cli_complain(run->verb, CLI_FAILED, "%s: %s", what, strerror(err < 0 ? -err : err));
}

static int run_find_keeper(struct run *run) {
    char self[4096];
    int err = program_self(self, sizeof self);
    if (err) return run_complain(run, err, "find the own executable by /proc/self/exe");
    if (program_find_keeper(self, run->keeper, sizeof run->keeper) == 0) return CLI_OK;
    *strrchr(self, '/') = '\0';
    return cli_complain(run->verb, CLI_FAILED, "pando-keeper is neither in %s nor in %s/../libexec/pando: install it there", self, self);
}

static int run_open_home(struct run *run) {
    char path[HOME_PATH_MAX];
    struct pando_error error;
    int err = home_path(path, sizeof path, &error);
    if (err == 0) err = run->home = home_open(path, &error);
    if (err < 0) return cli_complain(run->verb, CLI_FAILED, "%s", error.text);
    run->launch.home = strdup(path);
    return run->launch.home ? CLI_OK : run_complain(run, ENOMEM, "run-time folder");
}

static int run_complain_taken(const struct run *run, pid_t holder) {
    char who[48] = "it is just starting or ending";
    if (holder > 0) snprintf(who, sizeof who, "pid %d", holder);
    return cli_complain(run->verb, CLI_FAILED,
                        "an instance named %s is already running (%s): `pando stop -n %s` ends it, `-n` gives this one another name",
                        run->launch.name, who, run->launch.name);
}

// The keeper of that name was killed: its primary and workers hold the port and wait for somebody to end them.
static int run_end_orphan(struct run *run) {
    scoped_client client = CLIENT_NONE;
    cli_complain(run->verb, CLI_OK, "%s runs without its keeper, which was killed: stopping it to take over", run->launch.name);
    int code = client_open(&client, run->verb, run->launch.name);
    return code == CLI_OK ? ending_live(&client, run->verb, false) : code;
}

static int run_lock(struct run *run) {
    const char *name = run->launch.name;
    pid_t holder = 0;
    struct pando_error error;
    int lock = home_lock(run->home, name, &holder, &error);
    if (lock == -EWOULDBLOCK && ending_is_orphan(run->home, name)) {
        int code = run_end_orphan(run);
        if (code != CLI_OK) return code;
        lock = home_lock(run->home, name, &holder, &error);
    }
    if (lock == -EWOULDBLOCK) return run_complain_taken(run, holder);
    if (lock < 0) return cli_complain(run->verb, CLI_FAILED, "%s", error.text);
    run->inherit[INHERIT_LOCK] = lock;
    return CLI_OK;
}

static int run_end_leftovers(struct run *run) {
    int count = ending_leftovers(run->home, run->launch.name, false);
    if (count < 0) return run_complain(run, count, "end what an earlier instance of that name left");
    if (count > 0) cli_complain(run->verb, CLI_OK, "ended %d workers that an earlier, killed instance of that name had left", count);
    return CLI_OK;
}

// From here on there is something to clean up, which only the keeper can: a signal that arrives now waits for it. Blocked
// and pending signals survive exec.
static void run_hold_signals(struct run *run) {
    static const int held[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof held / sizeof held[0]; i++) sigaddset(&set, held[i]);
    sigprocmask(SIG_BLOCK, &set, &run->signals);
}

static int run_open_control(struct run *run) {
    struct pando_error error;
    run_hold_signals(run);
    int fd = home_listen(run->home, run->launch.name, &error);
    if (fd < 0) return cli_complain(run->verb, CLI_FAILED, "%s", error.text);
    run->inherit[INHERIT_CONTROL] = fd;
    return CLI_OK;
}

static int run_seal(struct run *run) {
    int fd = launch_seal(&run->launch);
    if (fd < 0) return run_complain(run, fd, "pass the options on");
    run->inherit[INHERIT_LAUNCH] = fd;
    int program = open("/proc/self/exe", O_PATH | O_CLOEXEC);
    if (program < 0) return run_complain(run, errno, "open the own executable");
    run->inherit[INHERIT_PROGRAM] = program;
    return CLI_OK;
}

// In the foreground the primary writes the file, but whether it can be opened is said before anything starts.
static int run_open_output(struct run *run) {
    struct launch *launch = &run->launch;
    launch->log_is_terminal = !launch->detach && !launch->log_file && isatty(STDERR_FILENO);
    if (!launch->detach && !launch->log_file) return CLI_OK;
    run->log = detach_open_log(launch, run->verb);
    return run->log < 0 ? CLI_FAILED : CLI_OK;
}

// First all out of the way, then each to its place: no target is still somebody's source. dup2 clears CLOEXEC.
static int run_place_fds(struct run *run) {
    int end = INHERIT_GIVEN + run->given_count;
    for (int i = 0; i < INHERIT_KEEPER_END; i++) {
        if (run->inherit[i] < 0) continue;
        int moved = fcntl(run->inherit[i], F_DUPFD_CLOEXEC, end);
        if (moved < 0) return -errno;
        fd_close(&run->inherit[i]);
        run->inherit[i] = moved;
    }
    for (int i = 0; i < run->given_count; i++)
        if (dup2(run->given[i], INHERIT_GIVEN + i) < 0) return -errno;
    for (int i = STDERR_FILENO + 1; i < INHERIT_KEEPER_END; i++) {
        if (run->inherit[i] < 0) close(i);
        if (run->inherit[i] >= 0 && dup2(run->inherit[i], i) < 0) return -errno;
    }
    return syscall(SYS_close_range, end, ~0U, 0) ? -errno : 0;
}

// Returns only when it failed. The descriptors of `run` are gone then: this process has nothing left to do but to say so.
static int run_become_keeper(struct run *run) {
    char *argv[] = {(char[]){"pando-keeper"}, run->launch.name, NULL};
    int err = home_lock_write_pid(run->inherit[INHERIT_LOCK], getpid());
    if (err == 0) err = run_place_fds(run);
    if (err) return run_complain(run, err, "hand over to the keeper");
    execve(run->keeper, argv, environ);
    return run_complain(run, errno, run->keeper);
}

static int run_detached_child(struct run *run) {
    fd_close(&run->ready);
    int err = detach_enter(run->log);
    return err ? run_complain(run, err, "detach") : run_become_keeper(run);
}

// The parent keeps nothing that says "this instance runs" while it waits.
static int run_detached(struct run *run) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC)) return run_complain(run, errno, "detach");
    run->ready = ends[0];
    run->inherit[INHERIT_READY] = ends[1];
    fflush(NULL);
    pid_t child = fork();
    if (child < 0) return run_complain(run, errno, "detach");
    if (child == 0) _exit(run_detached_child(run));
    sigprocmask(SIG_SETMASK, &run->signals, NULL);
    for (int i = 0; i < INHERIT_KEEPER_END; i++) fd_close(&run->inherit[i]);
    for (int i = 0; i < run->given_count; i++) fd_close(&run->given[i]);
    return detach_wait(&run->launch, run->verb, run->ready, run->log, run->home);
}

// sd_listen_fds(3): the sockets that systemd passes, from descriptor 3 on, if it is us whom they are meant for. Out of the way,
// whose numbers the keeper's own descriptors get.
static int run_take_given(struct run *run) {
    const char *pid_text = getenv("LISTEN_PID"), *count_text = getenv("LISTEN_FDS");
    struct rlimit files;
    long pid, count;
    if (pid_text == NULL || count_text == NULL || str_parse_number(pid_text, 1, INT32_MAX, &pid) != 0 || pid != getpid()) return CLI_OK;
    if (str_parse_number(count_text, 1, INHERIT_GIVEN_MAX, &count) != 0)
        return cli_complain(run->verb, CLI_FAILED, "LISTEN_FDS=%s: not a number of sockets from 1 to %d", count_text, INHERIT_GIVEN_MAX);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    for (int i = 0; i < (int)count; i++) {
        int passed = STDERR_FILENO + 1 + i;
        run->given[i] = fcntl(passed, F_DUPFD_CLOEXEC, INHERIT_GIVEN + (int)count);
        if (run->given[i] < 0) return run_complain(run, errno, "LISTEN_FDS: take over the sockets that were passed");
        run->given_count++;
        close(passed);
    }
    return CLI_OK;
}

static int run_prepare(struct run *run) {
    static int (*const steps[])(struct run *) = {run_take_given,    run_find_keeper, run_open_home,    run_lock,
                                                 run_end_leftovers, run_open_output, run_open_control, run_seal};
    int code = command_check(run->verb, &run->launch);
    for (size_t i = 0; code == CLI_OK && i < sizeof steps / sizeof steps[0]; i++) code = steps[i](run);
    return code;
}

int verb_run(const struct cli_verb *verb, int argc, char **argv) {
    scoped_run run;
    struct pando_error error;
    run_init(&run, verb);
    int parsed = launch_parse(&run.launch, argc, argv, environ, &error);
    if (parsed > 0) return cli_print_help(verb), CLI_OK;
    if (parsed < 0) return cli_complain(verb, CLI_USAGE, "%s", error.text);
    int code = run_prepare(&run);
    if (code != CLI_OK) return code;
    return run.launch.detach ? run_detached(&run) : run_become_keeper(&run);
}
