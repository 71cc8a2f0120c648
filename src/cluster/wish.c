// SPDX-License-Identifier: MIT
// What a person may wish of a pool: more or fewer workers, fresh ones, an end.
#include <signal.h>
#include <stdio.h>

#include "clock.h"
#include "log.h"
#include "pool.h"

static void drain(struct pool *pool, struct worker *worker, const char *why) {
    if (worker_next(worker_state(worker), WORKER_EVENT_DRAIN) < 0) return;
    bool waits_only = worker_state(worker) == WORKER_BACKOFF;
    worker->record->next_look_ns = 0;
    pool_move(pool, worker, WORKER_EVENT_DRAIN, waits_only ? CLOCK_NEVER : pool->launch->kill_timeout_ns, why);
}

static void make_slots(struct pool *pool, uint32_t count) {
    for (uint32_t i = pool->record->slot_end; i < count; i++) {
        pool->worker[i] = (struct worker){.record = &pool->record->worker[i], .slot = (int)i, .pidfd = -1, .listener = -1};
        pool->record->worker[i].deadline_ns = CLOCK_NEVER;
    }
    if (count > pool->record->slot_end) pool->record->slot_end = count;
}

void pool_scale(struct pool *pool, int workers) {
    uint32_t count = (uint32_t)workers;
    pool->record->wanted = count;
    make_slots(pool, count);
    for (uint32_t i = 0; i < pool->record->slot_end; i++) {
        struct worker *worker = &pool->worker[i];
        worker->record->wanted = i < count;
        if (i < count && worker_state(worker) == WORKER_VACANT && !pool->record->stopping)
            pool_start_slot(pool, worker, WORKER_EVENT_START);
        if (i >= count) drain(pool, worker, NULL);
    }
    pool->hooks.changed(pool->arg);
}

bool pool_is_scaled(const struct pool *pool) {
    for (uint32_t i = 0; i < pool->record->slot_end; i++) {
        enum worker_state state = worker_state(&pool->worker[i]);
        if (pool->worker[i].record->wanted ? state != WORKER_SERVING : state != WORKER_VACANT) return false;
    }
    return true;
}

// ---- restart: one after the other, the next when the successor is ready

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

void pool_restart(struct pool *pool, int slot) {
    pool->restart_why[0] = '\0';
    for (uint32_t i = 0; i < pool->record->slot_end; i++)
        if (slot < 0 || (uint32_t)slot == i) restart_slot(pool, &pool->worker[i]);
    pool_step_restarts(pool);
}

void pool_step_restarts(struct pool *pool) {
    struct worker *next = NULL;
    for (uint32_t i = 0; i < pool->record->slot_end; i++) {
        struct worker *worker = &pool->worker[i];
        if (worker->record->restarting) return;
        if (worker->record->restart_due && next == NULL) next = worker;
    }
    if (next == NULL) return;
    next->record->restart_due = false;
    if (worker_next(worker_state(next), WORKER_EVENT_DRAIN) < 0) return;
    next->record->restarting = true;
    drain(pool, next, NULL);
}

void pool_fail_restart(struct pool *pool, const struct worker *worker, const char *why) {
    snprintf(pool->restart_why, sizeof pool->restart_why, "worker %d did not come back: %.100s", worker->slot, why);
    for (uint32_t i = 0; i < pool->record->slot_end; i++)
        pool->worker[i].record->restart_due = pool->worker[i].record->restarting = false;
    pool->hooks.changed(pool->arg);
}

bool pool_is_restarted(const struct pool *pool) {
    for (uint32_t i = 0; i < pool->record->slot_end; i++)
        if (pool->worker[i].record->restart_due || pool->worker[i].record->restarting) return false;
    return true;
}

// ---- stop

void pool_stop(struct pool *pool, bool now) {
    pool->record->stopping = true;
    for (uint32_t i = 0; i < pool->record->slot_end; i++) {
        struct worker *worker = &pool->worker[i];
        worker->record->wanted = worker->record->restart_due = worker->record->restarting = false;
        drain(pool, worker, NULL);
        if (now && worker_state(worker) == WORKER_DRAINING) {
            pool_thaw(pool, worker);
            pool_retire(pool, worker, "asked to stop at once");
        }
    }
    pool_check_finished(pool);
}
