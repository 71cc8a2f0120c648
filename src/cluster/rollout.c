// SPDX-License-Identifier: MIT
#include "rollout.h"

#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "address.h"
#include "canary.h"
#include "clock.h"
#include "fd.h"
#include "log.h"
#include "procinfo.h"
#include "steer.h"
#include "str.h"

// Who holds each number.
struct view {
    struct worker *target[LAUNCH_WORKERS_MAX];  // of the generation that shall serve
    struct worker *other[LAUNCH_WORKERS_MAX];   // of another
};

static const char *const phase_verb[] = {"", "reload", "canary", "going back"};

// ---- what runs

bool rollout_runs(const struct pool *pool) { return pool->record->rollout.phase != ROLLOUT_NONE; }

static bool goes_forward(const struct pool *pool) {
    return pool->record->rollout.phase == ROLLOUT_FORWARD || pool->record->rollout.phase == ROLLOUT_CANARY;
}

static uint32_t target_of(const struct pool *pool) {
    return rollout_runs(pool) ? pool->record->rollout.target : pool->record->generation;
}

bool rollout_is_new(const struct pool *pool, const struct worker *worker) {
    return goes_forward(pool) && worker->record->generation == pool->record->rollout.target;
}

bool rollout_is_over(const struct pool *pool) {
    if (rollout_runs(pool)) return false;
    for (uint32_t i = 0; i < pool->record->slot_end; i++) {
        const struct record_worker *record = pool->worker[i].record;
        if (record->state != WORKER_VACANT && record->generation != pool->record->generation && !record->kept) return false;
    }
    return true;
}

void rollout_say(struct pool *pool, const char *format, ...) {
    char line[400];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    const struct record_rollout *rollout = &pool->record->rollout;
    log_info("%s: %s", rollout->again && rollout->phase == ROLLOUT_FORWARD ? "restart" : phase_verb[rollout->phase], line);
    pool->hooks.progress(pool->arg, line);
}

// ---- what each generation listens on

bool rollout_is_turned(const struct record *record, const struct record_socket *socket) {
    const struct record_address *at = &record->address[socket->address];
    return socket->used && socket->slot == LISTENER_SHARED && at->type == SOCK_STREAM && !at->for_all;
}

bool rollout_turns(const struct pool *pool) {
    for (uint32_t i = 0; i < pool->record->socket_end; i++)
        if (rollout_is_turned(pool->record, &pool->record->socket[i])) return true;
    return false;
}

static void turn(struct pool *pool, uint32_t generation) {
    uint64_t now = clock_now_ns();
    for (int i = 0; i < RECORD_GENERATIONS; i++) {
        struct record_generation *row = &pool->record->generations[i];
        if (row->number == generation) row->turned_ns = row->settle_look_ns = row->settled = 0;
        else if (row->number != 0 && row->turned_ns == 0) row->turned_ns = now;
    }
    for (uint32_t i = 0; i < pool->record->socket_end; i++)
        if (rollout_is_turned(pool->record, &pool->record->socket[i])) pool->record->socket[i].live = pool->record->socket[i].generation == generation;
    steer_update_all(&pool->listeners);
}

uint64_t rollout_missing(const struct pool *pool, const struct worker *worker) {
    const struct record_generation *from = generation_row(pool->record, pool->record->rollout.from);
    if (!rollout_is_new(pool, worker) || from == NULL || pool_launch_of(pool, worker)->allow_new_address) return 0;
    return from->addresses & ~worker->record->addresses;
}

static void list_addresses(const struct record *record, uint64_t mask, char *out, size_t size) {
    size_t len = 0;
    out[0] = '\0';
    for (int a = 0; a < RECORD_ADDRESS_MAX && len < size; a++) {
        char text[ADDRESS_TEXT_SIZE];
        if ((mask >> a & 1) == 0) continue;
        int n = snprintf(out + len, size - len, "%s%s", len > 0 ? ", " : "", address_text(&record->address[a], text, sizeof text));
        len += n > 0 ? (size_t)n : 0;
    }
}

// ---- places

static struct worker *find_place(struct pool *pool, uint32_t number, uint32_t generation) {
    struct record *record = pool->record;
    for (uint32_t k = 0; k <= LAUNCH_WORKERS_MAX; k++) {
        uint32_t slot = k == 0 ? number : k - 1;  // its own place first
        if (slot >= LAUNCH_WORKERS_MAX) continue;
        struct record_worker *place = &record->worker[slot];
        bool used = slot < record->slot_end && (place->state != WORKER_VACANT || place->wanted || place->pid != 0 ||
                                                 listeners_slot_used(&pool->listeners, (int)slot, generation));
        if (used) continue;
        for (uint32_t i = record->slot_end; i <= slot; i++) record->worker[i].deadline_ns = CLOCK_NEVER;
        if (slot >= record->slot_end) record->slot_end = slot + 1;
        return &pool->worker[slot];
    }
    return NULL;
}

static void start(struct pool *pool, uint32_t number, uint32_t generation) {
    struct worker *worker = find_place(pool, number, generation);
    if (worker == NULL) {
        if (goes_forward(pool)) rollout_fail(pool, NULL, "no place is left: fewer than 1024 workers can run, those that leave included");
        return;
    }
    struct record_worker *record = worker->record;
    bool same = record->number == number && record->generation == generation;
    record->number = number;
    record->generation = generation;
    record->failures = 0;
    if (!same) {
        record->restarts = 0;
        record->started_ns = 0;
        record->has_last = false;
    }
    record->restart_due = record->restarting = false;
    record->wanted = true;
    pool_start_slot(pool, worker, WORKER_EVENT_START);
}

static void leave(struct pool *pool, struct worker *worker) {
    if (!worker->record->wanted) return;
    worker->record->wanted = worker->record->restart_due = worker->record->restarting = false;
    bool kept = pool->record->rollout.phase == ROLLOUT_FORWARD && pool->record->rollout.keep_ns > 0 &&
                worker_state(worker) == WORKER_SERVING && worker->record->generation == pool->record->rollout.from;
    worker->record->keep = kept;
    pool_drain(pool, worker, NULL);
}

static bool is_proven(const struct pool *pool, const struct worker *worker) {
    if (worker == NULL || worker_state(worker) != WORKER_SERVING) return false;
    return !rollout_is_new(pool, worker) || pool->arranged_ns >= worker->record->since_ns + pool->record->rollout.stable_ns;
}

// Those that nobody wants any more leave here.
static void look(struct pool *pool, struct view *view) {
    const struct record *record = pool->record;
    *view = (struct view){0};
    for (uint32_t i = 0; i < record->slot_end; i++) {
        struct worker *worker = &pool->worker[i];
        if (!worker->record->wanted) continue;
        if (worker->record->number >= record->wanted) {
            leave(pool, worker);
            continue;
        }
        bool is_target = worker->record->generation == target_of(pool);
        struct worker **seat = is_target ? &view->target[worker->record->number] : &view->other[worker->record->number];
        if (*seat != NULL) leave(pool, worker);
        else *seat = worker;
    }
}

static void promote(struct pool *pool) {
    struct record_rollout *rollout = &pool->record->rollout;
    rollout->canary_percent = 0;
    rollout->phase = ROLLOUT_FORWARD;
    for (uint32_t i = 0; i < pool->record->socket_end; i++) {
        struct record_socket *socket = &pool->record->socket[i];
        if (rollout_is_turned(pool->record, socket)) socket->live = socket->generation == rollout->from;
    }
    steer_update_all(&pool->listeners);
    pool->hooks.changed(pool->arg);
}

// ---- the end of one

static void finish(struct pool *pool) {
    struct record_rollout *rollout = &pool->record->rollout;
    if (rollout->phase == ROLLOUT_BACK) {
        rollout_say(pool, "generation %u serves as before", rollout->target);
    } else {
        rollout_say(pool, "generation %u serves", rollout->target);
        if (!rollout->again) pool->record->previous = rollout->from;
        pool->record->generation = rollout->target;
    }
    rollout->phase = ROLLOUT_NONE;
    rollout->turned = false;
    rollout->canary_percent = 0;
    pool->hooks.changed(pool->arg);
}

// It leaves, or is kept for a rollback, and has not heard that it shall end: it comes back as it is.
static bool may_come_back(const struct record_worker *record, uint32_t generation) {
    return record->generation == generation && record->state == WORKER_DRAINING && !record->told && !record->bid;
}

void rollout_abort(struct pool *pool, const char *why) { rollout_fail(pool, NULL, why); }

void rollout_fail(struct pool *pool, const struct worker *worker, const char *why) {
    struct record_rollout *rollout = &pool->record->rollout;
    if (!goes_forward(pool)) return;
    if (worker != NULL)
        snprintf(rollout->why, sizeof rollout->why, "worker %d: %s", worker_number(worker), why);
    else
        str_copy(rollout->why, sizeof rollout->why, why);
    log_error("%s refused: generation %u: %s; generation %u serves on", rollout->again ? "restart" : "reload", rollout->target, rollout->why, rollout->from);
    if (rollout->again) snprintf(pool->restart_why, sizeof pool->restart_why, "the new workers did not come up, the old ones serve on: %.200s", rollout->why);
    rollout->failed = true;
    rollout->failed_number = worker != NULL ? worker_number(worker) : -1;
    rollout->canary_percent = 0;
    rollout->phase = ROLLOUT_BACK;
    uint32_t failed = rollout->target;
    rollout->target = rollout->from;
    rollout->from = failed;
    turn(pool, rollout->target);
    for (uint32_t i = 0; i < pool->record->slot_end; i++) {
        struct worker *other = &pool->worker[i];
        // What does not serve needs no substitute.
        if (other->record->generation == failed && worker_state(other) != WORKER_SERVING) {
            other->record->wanted = false;
            pool_drain(pool, other, NULL);
        }
        // The old ones that were already leaving come back.
        if (may_come_back(other->record, rollout->target)) pool_recall(pool, other);
    }
    pool->hooks.changed(pool->arg);
}

void rollout_late(struct pool *pool, struct worker *worker) {
    const struct launch *launch = pool_launch_of(pool, worker);
    char why[440], limit[32], here[120], there[120];
    uint64_t missing = rollout_missing(pool, worker);
    str_duration(launch->ready == LAUNCH_READY_DELAY ? launch->ready_delay_ns : launch->ready_timeout_ns, limit, sizeof limit);
    list_addresses(pool->record, missing, there, sizeof there);
    list_addresses(pool->record, worker->record->addresses, here, sizeof here);
    if (missing != 0 && worker->record->addresses != 0)
        snprintf(why, sizeof why, "after %s it listens on %s, and not on %s, where generation %u does (--allow-new-address takes it all the same)",
                 limit, here, there, pool->record->rollout.from);
    else if (missing != 0)
        snprintf(why, sizeof why, "after %s it does not listen on %s, where generation %u does", limit, there, pool->record->rollout.from);
    else
        snprintf(why, sizeof why, "not ready after %s (--ready-timeout)", limit);
    worker->record->wanted = false;
    pool_move(pool, worker, WORKER_EVENT_DEADLINE_IN_ROLLOUT, CLOCK_NEVER, why);
    link_kill(pool->link, worker->record->pid, SIGKILL, true);
    rollout_fail(pool, worker, why);
}

// ---- generations that are no more

static bool has_process(const struct pool *pool, uint32_t generation) {
    for (uint32_t i = 0; i < pool->record->slot_end; i++) {
        const struct record_worker *record = pool->worker[i].record;
        if (record->generation == generation && (record->state != WORKER_VACANT || record->wanted)) return true;
    }
    return false;
}

// Connections that came while its last workers died: one more is started for them, and leaves when it is done. Should that take
// none, as in a version that hangs, nobody ever will.
static bool close_shared(struct pool *pool, struct record_generation *generation) {
    uint32_t left_over = 0;
    for (uint32_t i = 0; i < pool->record->socket_end; i++) {
        const struct record_socket *socket = &pool->record->socket[i];
        if (rollout_is_turned(pool->record, socket) && socket->generation == generation->number) left_over += (uint32_t)listeners_queued(&pool->listeners, (int)i);
    }
    bool hopeless = generation->left_over > 0 && left_over >= generation->left_over;
    generation->left_over = left_over;
    if (left_over > 0 && !hopeless) return false;
    if (left_over > 0)
        log_warn("generation %u: its workers took none of %u connections that wait for it: they are reset", generation->number, left_over);
    for (uint32_t i = 0; i < pool->record->socket_end; i++) {
        const struct record_socket *socket = &pool->record->socket[i];
        int address = socket->address;
        if (!rollout_is_turned(pool->record, socket) || socket->generation != generation->number) continue;
        listeners_close(&pool->listeners, (int)i);
        steer_update(&pool->listeners, address);
    }
    return true;
}

static void forget_generations(struct pool *pool) {
    struct record *record = pool->record;
    for (int i = 0; i < RECORD_GENERATIONS; i++) {
        uint32_t number = record->generations[i].number;
        bool needed = number == record->generation || (rollout_runs(pool) && (number == record->rollout.target || number == record->rollout.from));
        if (number == 0 || needed || has_process(pool, number)) continue;
        if (!close_shared(pool, &record->generations[i])) start(pool, 0, number);
        else if (number != record->previous) generations_remove(&pool->generations, number);
    }
}

// ---- the next thing to do

static uint32_t count_unproven(const struct pool *pool, const struct view *view) {
    uint32_t count = 0;
    for (uint32_t n = 0; n < pool->record->wanted; n++) count += view->target[n] != NULL && !is_proven(pool, view->target[n]);
    return count;
}

static bool all_proven(const struct pool *pool, const struct view *view, uint32_t count) {
    for (uint32_t n = 0; n < count; n++)
        if (!is_proven(pool, view->target[n])) return false;
    return true;
}

static uint32_t wanted_of_target(const struct pool *pool) {
    return pool->record->rollout.phase == ROLLOUT_CANARY ? canary_workers(pool) : pool->record->wanted;
}

static struct worker *find_leaving(struct pool *pool, uint32_t number, uint32_t generation) {
    for (uint32_t i = 0; i < pool->record->slot_end; i++)
        if (pool->record->worker[i].number == number && may_come_back(&pool->record->worker[i], generation)) return &pool->worker[i];
    return NULL;
}

// Of the generation that shall serve: where nobody is at once, beside another only so many at a time.
static void start_missing(struct pool *pool, const struct view *view) {
    uint32_t starting = count_unproven(pool, view);
    uint32_t surge = pool->record->rollout.surge > 0 ? pool->record->rollout.surge : 1, phase = pool->record->rollout.phase;
    for (uint32_t n = 0; n < pool->record->wanted; n++) {
        bool beside = view->other[n] != NULL;
        struct worker *leaving = rollout_runs(pool) && view->target[n] == NULL ? find_leaving(pool, n, target_of(pool)) : NULL;
        if (leaving != NULL) pool_recall(pool, leaving);
        if (leaving != NULL) continue;
        if (view->target[n] != NULL || (beside && (!rollout_runs(pool) || n >= wanted_of_target(pool) || starting >= surge))) continue;
        starting++;
        start(pool, n, target_of(pool));
        if (pool->record->rollout.phase != phase) return;  // it failed at once
    }
}

static void let_go(struct pool *pool, const struct view *view) {
    const struct record_rollout *rollout = &pool->record->rollout;
    bool waits = rollout->phase == ROLLOUT_CANARY || (rollout->phase == ROLLOUT_FORWARD && rollout_turns(pool) && !rollout->turned);
    for (uint32_t n = 0; n < pool->record->wanted && !waits; n++) {
        struct worker *other = view->other[n];
        bool drains_queue = other != NULL && worker_state(other) == WORKER_STARTING && !rollout_runs(pool);
        if (other != NULL && !drains_queue && is_proven(pool, view->target[n])) leave(pool, other);
    }
}

static void go_on_with_canary(struct pool *pool) {
    const struct record_rollout *rollout = &pool->record->rollout;
    if (rollout->canary_until_ns == 0) {
        canary_begin(pool);
        return;
    }
    struct canary_reason reason;
    switch (canary_look(pool, &reason)) {
        case CANARY_ON_TRIAL: break;
        case CANARY_FAILED: rollout_fail(pool, reason.worker, reason.text); break;
        case CANARY_PASSED:
            rollout_say(pool, "%s", reason.text);
            promote(pool);
            break;
    }
}

static void go_on(struct pool *pool, const struct view *view) {
    struct record_rollout *rollout = &pool->record->rollout;
    if (!rollout_runs(pool) || !all_proven(pool, view, wanted_of_target(pool))) return;
    if (rollout->phase == ROLLOUT_CANARY) {
        go_on_with_canary(pool);
    } else if (rollout->phase == ROLLOUT_FORWARD && rollout_turns(pool) && !rollout->turned) {
        rollout->turned = true;
        turn(pool, rollout->target);
        rollout_say(pool, "new connections go to generation %u", rollout->target);
        let_go(pool, view);
        finish(pool);
    } else {
        let_go(pool, view);
        finish(pool);
    }
}

void pool_arrange(struct pool *pool) {
    struct view view;
    if (pool->record->stopping || pool->by_hand) return;
    pool->arranged_ns = clock_now_ns();
    look(pool, &view);
    start_missing(pool, &view);
    look(pool, &view);
    let_go(pool, &view);
    go_on(pool, &view);
    forget_generations(pool);
}

uint64_t rollout_next(const struct pool *pool) {
    const struct record_rollout *rollout = &pool->record->rollout;
    bool on_trial = rollout->phase == ROLLOUT_CANARY && rollout->canary_until_ns != 0;
    uint64_t next = on_trial ? canary_next(pool) : CLOCK_NEVER;
    for (uint32_t i = 0; goes_forward(pool) && i < pool->record->slot_end; i++) {
        const struct worker *worker = &pool->worker[i];
        uint64_t proven_ns = worker->record->since_ns + rollout->stable_ns;
        bool waits = rollout_is_new(pool, worker) && worker_state(worker) == WORKER_SERVING && !is_proven(pool, worker);
        if (waits && proven_ns < next) next = proven_ns;
    }
    return next;
}

void rollout_note_ready(struct pool *pool, const struct worker *worker) {
    if (!rollout_is_new(pool, worker)) return;
    uint32_t count = 0;
    for (uint32_t i = 0; i < pool->record->slot_end; i++)
        count += rollout_is_new(pool, &pool->worker[i]) && worker_state(&pool->worker[i]) == WORKER_SERVING;
    rollout_say(pool, "worker %d (pid %d) of generation %u is ready (%u of %u)", worker_number(worker), worker->record->pid,
                worker->record->generation, count, wanted_of_target(pool));
}

// ---- wishes

static unsigned long moved_so_far(const struct pool *pool) {
    unsigned long moved = 0;
    for (uint32_t i = 0; i < pool->record->slot_end; i++) moved += steer_numbers(&pool->listeners, (int)i).moved_away;
    return moved;
}

// Nothing runs before `run`: a primary that is killed in between has begun nothing.
static void prepare(struct pool *pool, uint32_t target, const struct launch *launch) {
    struct record *record = pool->record;
    record->rollout = (struct record_rollout){.from = record->generation,
                                              .target = target,
                                              .serial = record->rollout.serial + 1,
                                              .surge = launch->surge,
                                              .stable_ns = launch->stable_ns,
                                              .keep_ns = launch->keep_old_ns,
                                              .moved_before = moved_so_far(pool),
                                              .began_ns = clock_now_ns()};
    procinfo_tcp_counts(&record->rollout.served_before, &record->rollout.reset_before);
    for (uint32_t i = 0; i < record->slot_end; i++) record->worker[i].restart_due = record->worker[i].restarting = false;
}

static void run(struct pool *pool, enum rollout_phase phase) {
    pool->record->rollout.phase = phase;
    pool->hooks.changed(pool->arg);
}

struct rollout_sums rollout_sums(const struct pool *pool) {
    const struct record_rollout *rollout = &pool->record->rollout;
    struct rollout_sums sums = {.moved = moved_so_far(pool) - rollout->moved_before};
    uint64_t served, reset;
    if (procinfo_tcp_counts(&served, &reset) != 0) return sums;
    sums.served = served - rollout->served_before;
    sums.reset = reset - rollout->reset_before;
    return sums;
}

static void release_kept(struct pool *pool) {
    for (uint32_t i = 0; i < pool->record->slot_end; i++)
        if (pool->worker[i].record->kept) pool_release_kept(pool, &pool->worker[i]);
}

int rollout_begin(struct pool *pool, const struct rollout_wish *wish, struct pando_error *error) {
    int number = generations_add(&pool->generations, wish->launch_take, wish->memfd, error);
    if (number < 0) return number;
    release_kept(pool);
    prepare(pool, (uint32_t)number, generations_launch(&pool->generations, (uint32_t)number));
    pool->record->rollout.canary_percent = wish->canary_percent;
    pool->record->rollout.canary_for_ns = wish->canary_for_ns;
    run(pool, wish->canary_percent > 0 ? ROLLOUT_CANARY : ROLLOUT_FORWARD);
    log_info("reload: generation %d starts", number);
    return 0;
}

static bool is_kept(const struct pool *pool, uint32_t generation) {
    for (uint32_t i = 0; i < pool->record->slot_end; i++) {
        const struct record_worker *record = &pool->record->worker[i];
        if (record->generation == generation && record->state == WORKER_DRAINING && (record->keep || record->kept)) return true;
    }
    return false;
}

int rollout_again(struct pool *pool, struct pando_error *error) {
    struct record *record = pool->record;
    int number = generations_copy(&pool->generations, record->generation, error);
    if (number < 0) return number;
    prepare(pool, (uint32_t)number, generations_launch(&pool->generations, (uint32_t)number));
    record->rollout.again = true;
    record->rollout.keep_ns = record->rollout.stable_ns = 0;
    run(pool, ROLLOUT_FORWARD);
    return 0;
}

int rollout_back(struct pool *pool, struct pando_error *error) {
    struct record *record = pool->record;
    uint32_t previous = record->previous;
    if (previous == 0 || generation_row(record, previous) == NULL)
        return error_say(error, ENOENT, "no generation came before this one");
    bool kept = is_kept(pool, previous);
    int number = kept ? (int)previous : generations_copy(&pool->generations, previous, error);
    if (number < 0) return number;
    prepare(pool, (uint32_t)number, generations_launch(&pool->generations, (uint32_t)number));
    record->rollout.keep_ns = 0;
    if (kept) record->rollout.stable_ns = 0;
    run(pool, ROLLOUT_FORWARD);
    log_info("rollback: generation %u %s", previous, kept ? "is thawed" : "starts again");
    if (kept) pool_arrange(pool);
    return 0;
}
