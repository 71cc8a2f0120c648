// SPDX-License-Identifier: MIT
// What a person may wish of a pool: more or fewer workers, fresh ones, an end.
#include <signal.h>
#include <stdio.h>

#include "clock.h"
#include "log.h"
#include "pool.h"
#include "rollout.h"
#include "str.h"

void pool_drain(struct pool *pool, struct worker *worker, const char *why) {
    if (worker_next(worker_state(worker), WORKER_EVENT_DRAIN) < 0) return;
    const struct launch *launch = pool_launch_of(pool, worker);
    bool waits_only = worker_state(worker) == WORKER_BACKOFF;
    uint64_t lasts_ns = pool->record->stopping || launch->drain_timeout_ns == 0 ? launch->kill_timeout_ns : launch->drain_timeout_ns;
    worker->record->next_look_ns = 0;
    pool_move(pool, worker, WORKER_EVENT_DRAIN, waits_only ? CLOCK_NEVER : lasts_ns, why);
}

void pool_scale(struct pool *pool, int workers) {
    pool->record->wanted = (uint32_t)workers;
    pool->record->wanted_then = 0;
    pool_arrange(pool);
    pool->hooks.changed(pool->arg);
}

bool pool_is_scaled(const struct pool *pool) {
    uint32_t serving = 0;
    for (uint32_t i = 0; i < pool->record->slot_end; i++) {
        enum worker_state state = worker_state(&pool->worker[i]);
        bool done = pool->worker[i].record->wanted ? state == WORKER_SERVING : state == WORKER_VACANT || pool->worker[i].record->kept;
        if (!done) return false;
        serving += state == WORKER_SERVING;
    }
    return serving >= pool->record->wanted && !rollout_runs(pool);
}

// ---- restart: by a roll-out, or one after the other, the next when the successor is ready

static void restart_slot(struct pool *pool, struct worker *worker) {
    switch (worker_state(worker)) {
        case WORKER_STARTING:
        case WORKER_SERVING: worker->record->restart_due = true; break;
        case WORKER_BACKOFF:
            worker->record->failures = 0;
            worker->record->restarting = true;
            pool_start_slot(pool, worker, WORKER_EVENT_START);
            break;
        case WORKER_VACANT:
        case WORKER_DRAINING:
        case WORKER_REPLACING:
        case WORKER_RETIRING:
        case WORKER_STATE_COUNT: break;
    }
}

void pool_restart(struct pool *pool, int number) {
    struct pando_error error = {0};
    pool->restart_why[0] = '\0';
    if (number < 0 && !pool->by_hand && !rollout_runs(pool) && rollout_turns(pool)) {
        if (rollout_again(pool, &error) != 0) str_copy(pool->restart_why, sizeof pool->restart_why, error.text);
        return;
    }
    for (uint32_t i = 0; i < pool->record->slot_end; i++)
        if (pool->worker[i].record->wanted && (number < 0 || number == worker_number(&pool->worker[i]))) restart_slot(pool, &pool->worker[i]);
    pool_step_restarts(pool);
}

void pool_step_restarts(struct pool *pool) {
    struct worker *next = NULL;
    if (rollout_runs(pool)) return;
    for (uint32_t i = 0; i < pool->record->slot_end; i++) {
        struct worker *worker = &pool->worker[i];
        if (worker->record->restarting) return;
        if (worker->record->restart_due && next == NULL) next = worker;
    }
    if (next == NULL) return;
    next->record->restart_due = false;
    if (worker_next(worker_state(next), WORKER_EVENT_DRAIN) < 0) return;
    next->record->restarting = true;
    pool_drain(pool, next, NULL);
}

void pool_fail_restart(struct pool *pool, const struct worker *worker, const char *why) {
    snprintf(pool->restart_why, sizeof pool->restart_why, "worker %d did not come back: %.100s", worker_number(worker), why);
    for (uint32_t i = 0; i < pool->record->slot_end; i++)
        pool->worker[i].record->restart_due = pool->worker[i].record->restarting = false;
    pool->hooks.changed(pool->arg);
}

bool pool_is_restarted(const struct pool *pool) {
    for (uint32_t i = 0; i < pool->record->slot_end; i++)
        if (pool->worker[i].record->restart_due || pool->worker[i].record->restarting) return false;
    return !pool->record->rollout.again || rollout_is_over(pool);
}

// ---- stop

void pool_stop(struct pool *pool, bool now) {
    pool->record->stopping = true;
    for (uint32_t i = 0; i < pool->record->slot_end; i++) {
        struct worker *worker = &pool->worker[i];
        worker->record->wanted = worker->record->restart_due = worker->record->restarting = false;
        if (worker->record->kept) pool_release_kept(pool, worker);
        pool_drain(pool, worker, NULL);
        uint64_t end_ns = clock_now_ns() + pool_launch_of(pool, worker)->kill_timeout_ns;
        if (worker_state(worker) == WORKER_DRAINING && worker->record->deadline_ns > end_ns) worker->record->deadline_ns = end_ns;
        if (now && worker_state(worker) == WORKER_DRAINING) {
            pool_thaw(pool, worker);
            pool_retire(pool, worker, "asked to stop at once");
        }
    }
    pool_check_finished(pool);
}
