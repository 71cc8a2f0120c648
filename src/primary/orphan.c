// SPDX-License-Identifier: MIT
// This process knows all that the keeper knew: the children from the record, the descriptors from its link. So it becomes
// the keeper, by executing the very program that the killed one ran, and that starts another primary. What no one can take
// over is the parenthood of the workers that run (docs/survival.md).
#include "orphan.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "fd.h"
#include "home.h"
#include "keeper_state.h"
#include "log.h"

#define LOOK_NS (50 * CLOCK_MS)
enum { LAST_LINES_MS = 200 };

static bool has_ended(const struct worker *worker) {
    struct pollfd ended = {.fd = worker->pidfd, .events = POLLIN};
    return worker->pidfd < 0 || poll(&ended, 1, 0) == 1;
}

// Its number is its own for as long as the pidfd says that it has not ended.
static void signal_group(const struct worker *worker, int signo) {
    if (worker->record->pid > 0 && !has_ended(worker)) kill(-worker->record->pid, signo);
}

// ---- becoming the keeper

static void describe_children(const struct primary *primary, struct keeper_state *state) {
    for (uint32_t i = 0; i < primary->pool.record->slot_end; i++) {
        const struct worker *worker = &primary->pool.worker[i];
        if (worker->record->pid == 0 || worker->pidfd < 0 || state->child_end == KEEPER_CHILD_MAX) continue;
        state->child[state->child_end++] = (struct keeper_child){.pid = worker->record->pid,
                                                                 .pidfd = worker->pidfd,
                                                                 .listener = worker->listener,
                                                                 .token = worker->record->token,
                                                                 .foreign = true};
    }
}

static void describe_held(const struct primary *primary, struct keeper_state *state) {
    const struct link *link = &primary->link;
    for (size_t i = 0; i < link->held_len && state->held_end < KEEPER_HELD_MAX; i++) state->held[state->held_end++] = link->held[i];
}

// Ignored signals stay ignored over exec, in every worker to come; blocked ones wait for the keeper.
static void prepare_signals(bool to_become) {
    static const int ours[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGTTIN, SIGTTOU, SIGPIPE};
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) sigaddset(&set, ours[i]);
    if (to_become) sigprocmask(SIG_BLOCK, &set, NULL);
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) signal(ours[i], to_become ? SIG_DFL : SIG_IGN);
    if (!to_become) sigprocmask(SIG_UNBLOCK, &set, NULL);
}

static int become_keeper(struct primary *primary) {
    int keeper = link_held(&primary->link, HELD_KEEPER, 0);
    struct keeper_state *state = calloc(1, sizeof *state);
    if (state == NULL) return -ENOMEM;
    state->channel = state->primary_pidfd = -1;
    state->ever_told = true;
    describe_children(primary, state);
    describe_held(primary, state);
    outlet_flush(primary->output.out, LAST_LINES_MS);
    outlet_flush(primary->output.err, LAST_LINES_MS);
    if (primary->lock >= 0) home_lock_write_pid(primary->lock, getpid());
    prepare_signals(true);
    int r = keeper < 0 ? -ENOENT : keeper_state_exec(state, keeper, primary->launch.name, environ);
    prepare_signals(false);
    free(state);
    return r;
}

void orphan_begin(struct primary *primary) {
    struct record *record = primary->pool.record;
    record->keepers_lost++;
    // A supervisor's main process was the keeper: it starts another one, with the descriptors that it stored, and ends what is left.
    bool supervised = getenv("NOTIFY_SOCKET") != NULL;
    if (supervised)
        log_error("the keeper (pid %d) was killed: the workers serve on until the supervisor restarts the service", (int)primary->keeper);
    else
        log_error("the keeper (pid %d) was killed: the workers serve on, and this process (pid %d) becomes the keeper", (int)primary->keeper,
                  (int)getpid());
    int r = supervised ? 0 : become_keeper(primary);
    if (r != 0) log_error("cannot become the keeper: %s: the workers serve on, but one that dies stays dead; `pando stop -n %s` and start again",
              strerror(-r), primary->launch.name);
    for (uint32_t i = 0; i < record->slot_end; i++)
        if (record->worker[i].frozen) signal_group(&primary->pool.worker[i], SIGCONT);
    primary_wake(primary);
}

// ---- life without one

void orphan_stop(struct primary *primary, bool now) {
    struct record *record = primary->pool.record;
    record->stopping = true;
    for (uint32_t i = 0; i < record->slot_end; i++) {
        signal_group(&primary->pool.worker[i], now ? SIGKILL : primary->launch.stop_signal);
        record->worker[i].deadline_ns = clock_now_ns() + (now ? 0 : primary->launch.kill_timeout_ns);
    }
    primary_wake(primary);
}

uint64_t orphan_tick(struct primary *primary, uint64_t now_ns) {
    struct record *record = primary->pool.record;
    bool alive = false;
    for (uint32_t i = 0; i < record->slot_end; i++) {
        struct worker *worker = &primary->pool.worker[i];
        if (worker->record->pid == 0) continue;
        if (has_ended(worker)) {
            primary->pool.hooks.ended(primary, worker);
            if (worker_next(worker_state(worker), WORKER_EVENT_DIED) >= 0)
                worker_move(worker, WORKER_EVENT_DIED, now_ns, CLOCK_NEVER, "without a keeper it is not replaced");
            worker->record->pid = 0;
            continue;
        }
        alive = true;
        if (record->stopping && worker->record->deadline_ns <= now_ns) signal_group(worker, SIGKILL);
    }
    if (!alive) primary->pool.hooks.finished(primary, record->stopping ? 0 : 1, record->stopping ? NULL : "no keeper, and no worker is left");
    return alive ? now_ns + LOOK_NS : CLOCK_NEVER;
}
