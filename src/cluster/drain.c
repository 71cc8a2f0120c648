// SPDX-License-Identifier: MIT
// Stopping a worker that pulls from a shared socket, without losing what it has accepted: it is told to stop only while it
// is frozen and seen to have no open connection, for then it cannot have taken one in between. A program without a signal
// handler drains just as well.
//
//   look --no connection--> freeze --all threads stopped, still none--> stop signal, thaw --> it ends
//    ^                        |
//    +---- thaw, wait <-------+ a connection after all
//
// Near the deadline it is told anyway: one that handles the signal may still finish by itself. At the deadline it is killed.
#include <signal.h>

#include "clock.h"
#include "connections.h"
#include "log.h"
#include "pool.h"
#include "procinfo.h"
#include "steer.h"

#define LOOK_AGAIN_NS (10 * CLOCK_MS)
#define FREEZE_LOOK_NS (CLOCK_MS / 2)
#define FREEZE_PATIENCE_NS (100 * CLOCK_MS)  // a thread in uninterruptible sleep does not stop: leave it alone for a while
#define OPENING_NS (2 * CLOCK_S)  // so long a program that is linked with libpando has to begin reading its channel
#define LAST_WORD_NS (5 * CLOCK_S)

static bool process_is_not_stopped(pid_t pid, void *arg) {
    bool *stopped = arg;
    *stopped = procinfo_all_stopped(pid);
    return *stopped;
}

bool pool_group_is_stopped(const struct procinfo_groups *groups, pid_t pgrp) {
    bool stopped = true;
    procinfo_groups_each(groups, pgrp, process_is_not_stopped, &stopped);
    return stopped;
}

// When the whole instance stops, a connection on which nobody waits for an answer may be closed; else a client could be
// about to use it again.
static bool may_stop(struct pool *pool, const struct worker *worker) {
    // A queue of its own, that nobody can move, and no successor to serve it: it has to be emptied first.
    if (!worker->record->wanted && listeners_slot_stranded(&pool->listeners, worker->slot) > 0) return false;
    switch (connections_of(pool->record, pool_groups(pool), worker->record->pid, worker->record->addresses)) {
        case CONNECTIONS_NONE: return true;
        case CONNECTIONS_IDLE: return pool->record->stopping;
        case CONNECTIONS_ACTIVE:
        case CONNECTIONS_UNKNOWN: return false;
    }
    return false;
}

void pool_thaw(struct pool *pool, struct worker *worker) {
    if (!worker->record->frozen) return;
    link_kill(pool->link, worker->record->pid, SIGCONT, true);
    worker->record->frozen = false;
}

void pool_freeze(struct pool *pool, struct worker *worker, uint64_t now_ns) {
    worker->record->frozen = true;
    worker->record->frozen_ns = now_ns;
    if (link_kill(pool->link, worker->record->pid, SIGSTOP, true) != 0) worker->record->frozen = false;
}

static void tell(struct pool *pool, struct worker *worker) {
    worker->record->told = true;
    link_kill(pool->link, worker->record->pid, pool->launch->stop_signal, true);
    pool_thaw(pool, worker);
    worker->record->next_look_ns = CLOCK_NEVER;
}

static uint64_t last_word_ns(const struct pool *pool) {
    uint64_t third = pool->launch->kill_timeout_ns / 3;
    return third < LAST_WORD_NS ? third : LAST_WORD_NS;
}

static void look_frozen(struct pool *pool, struct worker *worker, uint64_t now_ns) {
    struct record_worker *record = worker->record;
    record->next_look_ns = now_ns + FREEZE_LOOK_NS;
    bool stopped = pool_group_is_stopped(pool_groups(pool), record->pid);
    if (stopped) steer_move_queues(&pool->listeners, worker->slot);
    if (stopped && may_stop(pool, worker)) {
        tell(pool, worker);
    } else if (stopped || now_ns - record->frozen_ns > FREEZE_PATIENCE_NS) {
        pool_thaw(pool, worker);
        record->next_look_ns = now_ns + (stopped ? LOOK_AGAIN_NS : FREEZE_PATIENCE_NS);
    }
}

// It closes what it serves by itself. What reached the queue of a socket of its own after that is given to siblings.
static void look_asked(struct pool *pool, struct worker *worker, uint64_t now_ns) {
    struct record_worker *record = worker->record;
    bool waits = !record->frozen && steer_numbers(&pool->listeners, worker->slot).queued > 0;
    record->next_look_ns = pool->record->mode != LAUNCH_MODE_SLOT ? CLOCK_NEVER : now_ns + (record->frozen || waits ? FREEZE_LOOK_NS : LOOK_AGAIN_NS);
    if (waits) pool_freeze(pool, worker, now_ns);
    if (!record->frozen || waits) return;
    bool stopped = pool_group_is_stopped(pool_groups(pool), record->pid);
    if (stopped) steer_move_queues(&pool->listeners, worker->slot);
    if (stopped || now_ns - record->frozen_ns > FREEZE_PATIENCE_NS) pool_thaw(pool, worker);
}

// It may be about to read its channel, where it will find what it is to do: better than a signal.
static bool may_open_yet(const struct record_worker *record, uint64_t now_ns) {
    return record->online && !record->opened && record->first_listen_ns == 0 && now_ns - record->started_ns < OPENING_NS;
}

void pool_drain_look(struct pool *pool, struct worker *worker, uint64_t now_ns) {
    struct record_worker *record = worker->record;
    if (record->told || record->next_look_ns > now_ns) return;
    if (record->asked) {
        look_asked(pool, worker, now_ns);
    } else if (record->deadline_ns != CLOCK_NEVER && now_ns + last_word_ns(pool) >= record->deadline_ns) {
        log_info("worker %d (pid %d) still has connections: told to stop, killed at the deadline", worker->slot, record->pid);
        tell(pool, worker);
    } else if (may_open_yet(record, now_ns)) {
        record->next_look_ns = now_ns + LOOK_AGAIN_NS;
    } else if (record->frozen) {
        look_frozen(pool, worker, now_ns);
    } else if (may_stop(pool, worker)) {
        record->next_look_ns = now_ns + FREEZE_LOOK_NS;
        pool_freeze(pool, worker, now_ns);
    } else {
        record->next_look_ns = now_ns + LOOK_AGAIN_NS;
    }
}
