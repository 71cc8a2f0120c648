// SPDX-License-Identifier: MIT
// The command's primary: what it answers to signals and to its keeper, and how it begins and ends.
//
// Crash-only: there is no other way to begin than to take over what the keeper holds (adopt.c).
#include "primary.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "adopt.h"
#include "health.h"
#include "clock.h"
#include "control.h"
#include "cpus.h"
#include "entry.h"
#include "fd.h"
#include "given.h"
#include "handoff.h"
#include "home.h"
#include "inherit.h"
#include "log.h"
#include "node.h"
#include "notify.h"
#include "orphan.h"
#include "procinfo.h"
#include "reload.h"
#include "rollout.h"
#include "str.h"
#include "supervisor.h"
#include "turn.h"
#include "upgrade.h"
#include "watches.h"

enum { FLUSH_MS = 1000, UP_AGAIN_MS = 10000, DESCRIPTORS_A_WORKER = 13, DESCRIPTORS_OF_OURS = 64 };

// ---- the pool's hooks

static void on_started(void *arg, struct worker *worker, struct pool_fds *fds) {
    struct primary *primary = arg;
    struct procinfo info;
    watches_start(primary, worker, fds);
    worker->record->start_ticks = procinfo_read(worker->record->pid, &info) == 0 ? info.start_ticks : 0;
    primary->pids_changed = true;
}

static void on_ended(void *arg, struct worker *worker) { watches_end(arg, worker); }
static bool on_draining(void *arg, struct worker *worker) { return watches_drain(arg, worker) || node_draining(arg, worker); }
static void on_changed(void *arg) { primary_wake(arg); }
static uint64_t on_telling(void *arg, struct worker *worker) { return node_telling(arg, worker); }

static void on_progress(void *arg, const char *line) {
    struct primary *primary = arg;
    control_progress(primary->control, line);
}

// ---- the one who waits for `run -d`

static void tell_ready(struct primary *primary, char how, const char *text) {
    if (primary->pool.record != NULL) primary->pool.record->up_told = true;
    if (primary->ready < 0) return;
    if (fd_write_all(primary->ready, &how, 1) == 0) fd_write_all(primary->ready, text, strlen(text));
    fd_close(&primary->ready);
    link_drop(&primary->link, HELD_READY, 0);
}

static void add_tail(void *arg, const char *line, size_t len) {
    FILE *file = arg;
    fprintf(file, "%.*s\n", (int)len, line);
}

static void tell_failed(struct primary *primary, int exit_code, const char *why) {
    char *text = NULL;
    size_t size;
    FILE *file = open_memstream(&text, &size);
    if (file == NULL) return;
    fprintf(file, "exit=%d\npando: %s: %s\nIts last lines:\n", exit_code, primary->launch.name, why);
    ring_tail(primary->output.ring, 20, add_tail, file);
    if (fclose(file) == 0) tell_ready(primary, INHERIT_READY_FAILED, text);
    free(text);
}

static void check_up(struct primary *primary) {
    struct record *record = primary->pool.record;
    if (record->up_told || record->stopping || pool_ready_count(&primary->pool) < (int)record->wanted) return;
    log_info("%u of %u workers ready", record->wanted, record->wanted);
    tell_ready(primary, INHERIT_READY_UP, "");
}

static uint64_t addresses_served(const struct pool *pool) {
    uint64_t served = 0;
    for (uint32_t i = 0; i < pool->record->slot_end; i++) served |= pool->record->worker[i].addresses;
    return served;
}

// Some are ready and some do not come: whoever waits has waited long enough. Until all have come, it cannot be said what
// nobody listens on.
static void on_up_late(uv_timer_t *timer) {
    struct primary *primary = timer->data;
    const struct record *record = primary->pool.record;
    if (primary->given_count > 0 && !record->stopping) {
        if (pool_ready_count(&primary->pool) < (int)record->wanted)
            uv_timer_start(timer, on_up_late, UP_AGAIN_MS, 0);
        else
            given_end_unserved(&primary->pool.listeners, addresses_served(&primary->pool));
        primary_wake(primary);
    }
    if (!primary->pool.record->up_told && pool_ready_count(&primary->pool) > 0) tell_ready(primary, INHERIT_READY_UP, "");
}

// ---- the end

static void remove_file(const struct primary *primary, const char *suffix) {
    char path[HOME_PATH_MAX + 128];
    if (primary->launch.home == NULL) return;
    snprintf(path, sizeof path, "%s/%s.%s", primary->launch.home, primary->launch.name, suffix);
    unlink(path);
}

static void on_finished(void *arg, int exit_code, const char *why) {
    struct primary *primary = arg;
    primary->finished = true;
    if (why != NULL) {
        log_error("gives up: %s", why);
        if (!primary->pool.record->up_told) tell_failed(primary, exit_code, why);
    } else {
        log_info("stopped");
    }
    control_finish(primary->control, why);
    supervisor_finished(primary->supervisor, why);
    notify_remove_directory(primary->pool.notify_directory);
    remove_file(primary, "pids");
    pool_release_paths(&primary->pool);
    remove_file(primary, "sock");
    uv_stop(primary->loop);
}

void primary_stop(struct primary *primary, bool now) {
    bool already = primary->pool.record->stopping;
    if (!already || now) log_info("%s", now ? "stopping at once" : "stopping: workers finish what they have");
    if (primary->keeper_gone)
        orphan_stop(primary, now);
    else if (!already || now)
        pool_stop(&primary->pool, now);
    primary_wake(primary);
}

// ---- what the keeper tells

static void scale_by(struct primary *primary, int change) {
    int workers = (int)primary->pool.record->wanted + change;
    if (workers < 1 || workers > LAUNCH_WORKERS_MAX) return;
    log_info("scaled to %d workers by signal", workers);
    pool_scale(&primary->pool, workers);
}

// The supervisor waits for an answer also where there is nothing to do.
static void reload_by_signal(struct primary *primary) {
    struct pando_error error = {0};
    supervisor_reloading(primary->supervisor);
    if (rollout_runs(&primary->pool))
        log_warn("HUP: a reload is under way already");
    else if (reload_begin(primary, NULL, &error) != 0)
        log_error("HUP: reload: %s", error.text);
}

// However it was asked for; and its end, whichever generation serves then.
static void check_reload(struct primary *primary) {
    bool said = primary->pool.record->reloading, runs = rollout_runs(&primary->pool);
    if (runs && !said) supervisor_reloading(primary->supervisor);
    if (!runs && said) supervisor_ready(primary->supervisor);
}

static void on_signal(struct primary *primary, int signo, bool from_kernel) {
    bool stopping = primary->pool.record->stopping;
    switch (signo) {
        case SIGTERM:
        case SIGQUIT: primary_stop(primary, false); break;
        case SIGINT:
            primary_stop(primary, primary->pool.record->interrupted);
            primary->pool.record->interrupted = true;
            break;
        case SIGHUP:
            if (from_kernel) primary_stop(primary, false);  // the terminal went away
            else if (!stopping) reload_by_signal(primary);
            break;
        case SIGUSR1:
            outlet_reopen(primary->output.out);
            outlet_reopen(primary->output.err);
            break;
        case SIGTTIN:
            if (!stopping) scale_by(primary, 1);
            break;
        case SIGTTOU:
            if (!stopping) scale_by(primary, -1);
            break;
        case SIGUSR2:
            if (!stopping && !upgrade_begin(primary, NULL)) log_warn("USR2: an upgrade is under way already");
            break;
        default: log_warn("signal %s means nothing here: see `pando run --help`", str_signal(signo));
    }
}

// ---- after the pool has done what was due

static void after_tick(struct primary *primary) {
    if (primary->pids_changed) adopt_write_pids(primary);
    primary->pids_changed = false;
    check_up(primary);
    handoff_look(primary);
    check_reload(primary);
    supervisor_update(primary->supervisor);
    control_on_changed(primary->control);
}

static const struct primary_role role = {
    .on_signal = on_signal,
    .on_keeper_gone = orphan_begin,
    .after_tick = after_tick,
};

static int start_loop(struct primary *primary) {
    int r = turn_start(primary);
    uv_timer_init(primary->loop, &primary->up_timer);
    primary->up_timer.data = primary;
    uv_timer_start(&primary->up_timer, on_up_late, primary->launch.ready_timeout_ns / CLOCK_MS + 1000, 0);
    return r;
}

// This process holds about twelve descriptors a worker, the keeper seven; the keeper has raised the soft limit to the hard one.
static void warn_of_limit(long workers) {
    struct rlimit files;
    rlim_t needed = (rlim_t)workers * DESCRIPTORS_A_WORKER + DESCRIPTORS_OF_OURS;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_max >= needed) return;
    log_warn("%ld workers need about %llu open files here and the hard limit is %llu: raise it (ulimit -Hn, LimitNOFILE=), or start fewer",
             workers, (unsigned long long)needed, (unsigned long long)files.rlim_max);
}

static void greet(struct primary *primary) {
    struct cpus cpus;
    char quota[32] = "none";
    cpus_read(&cpus, "/proc", "");
    if (cpus.quota > 0) snprintf(quota, sizeof quota, "%.2g", cpus.quota);
    long workers = primary->launch.workers > 0 ? primary->launch.workers : cpus.count;
    log_info("%ld worker%s (%d core%s: affinity %d, cgroup quota %s), control %s/%s.sock", workers, workers == 1 ? "" : "s",
             cpus.count, cpus.count == 1 ? "" : "s", cpus.affinity, quota, primary->launch.home, primary->launch.name);
    warn_of_limit(workers);
    node_greet(primary);
    pool_begin(&primary->pool, (int)(workers <= LAUNCH_WORKERS_MAX ? workers : LAUNCH_WORKERS_MAX), primary->given_slots);
}

static void prepare(struct primary *primary) {
    static const int ignored[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGTTIN, SIGTTOU, SIGPIPE};
    for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++) signal(ignored[i], SIG_IGN);
    prctl(PR_SET_NAME, "pando", 0, 0, 0);
    primary->role = &role;
    list_init(&primary->unsent);
    primary->lock = primary->ready = -1;
    primary->keeper = getppid();
    primary->pool.link = &primary->link;
    primary->pool.launch = &primary->launch;
    primary->pool.arg = primary;
    primary->pool.hooks = (struct pool_hooks){.started = on_started,
                                              .ended = on_ended,
                                              .changed = on_changed,
                                              .check_health = health_begin,
                                              .progress = on_progress,
                                              .draining = on_draining,
                                              .telling = on_telling,
                                              .finished = on_finished};
    link_init(&primary->link, INHERIT_CHANNEL);
    fd_set_cloexec(INHERIT_CHANNEL, true);
}

int primary_main(int argc, char **argv) {
    struct pando_error error = {0};
    static struct primary *primary;  // for the life of the process, to its very end: nothing is torn down
    primary = calloc(1, sizeof *primary);
    if (argc != 3 || primary == NULL || fcntl(INHERIT_CHANNEL, F_GETFD) < 0) {
        fprintf(stderr, "pando: the primary is started by the keeper, not by hand: use `pando run`\n");
        return 2;
    }
    log_init("primary", argv[2], LOG_FORM_SHORT, LOG_LEVEL_INFO);
    prepare(primary);
    primary->loop = uv_default_loop();
    if (primary->loop == NULL) return 1;
    int r = adopt(primary, &error);
    if (r == 0) r = start_loop(primary);
    if (r != 0) {
        log_error("%s", error.text);
        if (primary->ready >= 0 && !primary->adopted_record) tell_failed(primary, 1, error.text);
        if (primary->output.err != NULL) outlet_flush(primary->output.err, FLUSH_MS);
        // Who comes next may do better, and the workers serve on; where nothing has begun yet there is nothing to keep.
        if (!primary->adopted_record) {
            remove_file(primary, "sock");
            link_quit(&primary->link, 1);
        }
        return 1;
    }
    primary->output.follow = control_follow;
    primary->output.arg = primary->control;
    bool begun = primary->pool.record->wanted > 0;
    if (!begun) greet(primary);
    if (primary->adopted_record && primary->upgrade_state != UPGRADE_DONE)
        log_warn("primary %u has taken over: %d workers ready", primary->pool.record->primaries, pool_ready_count(&primary->pool));
    adopt_given_done(primary);
    primary->supervisor = supervisor_open(primary);
    primary_wake(primary);
    if (!primary->finished) uv_run(primary->loop, UV_RUN_DEFAULT);
    for (int i = 0; i < 3; i++) uv_run(primary->loop, UV_RUN_NOWAIT);  // the last answers leave
    outlet_flush(primary->output.out, FLUSH_MS);
    outlet_flush(primary->output.err, FLUSH_MS);
    if (!primary->keeper_gone) link_quit(&primary->link, primary->pool.record->exit_code);
    return primary->pool.record->exit_code;
}
