// SPDX-License-Identifier: MIT
// Workers that their program forks one by one: each ends when it ends, and another is the program's decision.
#include <errno.h>
#include <sys/socket.h>

#include "address.h"
#include "ask.h"
#include "clock.h"
#include "error.h"
#include "pool.h"
#include "steer.h"

static struct worker *free_slot(struct pool *pool) {
    struct record *record = pool->record;
    for (uint32_t i = 0; i < record->slot_end; i++)
        if (worker_state(&pool->worker[i]) == WORKER_VACANT && !worker_runs(&pool->worker[i]) && !record->worker[i].wanted)
            return &pool->worker[i];
    if (record->slot_end == LAUNCH_WORKERS_MAX) return NULL;
    record->worker[record->slot_end].deadline_ns = CLOCK_NEVER;
    return &pool->worker[record->slot_end++];
}

static uint32_t count_running(const struct pool *pool) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < pool->record->slot_end; i++) count += worker_runs(&pool->worker[i]);
    return count;
}

static int begin(struct pool *pool, struct pando_error *error) {
    int number = pool->record->generation > 0 ? 0 : generations_add(&pool->generations, NULL, -1, error);
    if (number > 0) pool->record->generation = (uint32_t)number;
    pool->by_hand = true;
    if (number < 0) return number;
    int r = pool_fit_intercept(pool);
    return r == 0 ? 0 : error_set(error, -r, "start a worker: build the seccomp filter");
}

struct worker *pool_fork(struct pool *pool, struct pando_error *error) {
    int exit_code = 0;
    if (begin(pool, error) != 0) return NULL;
    struct worker *worker = free_slot(pool);
    if (worker == NULL) {
        error_say(error, EAGAIN, "start a worker: %d run already, and that is the limit", LAUNCH_WORKERS_MAX);
        return NULL;
    }
    pool->record->wanted = count_running(pool) + 1;
    worker->record->failures = 0;
    worker->record->number = (uint32_t)worker->slot;
    worker->record->generation = pool->record->generation;
    if (pool_start_process(pool, worker, error, &exit_code) != 0) return NULL;
    pool_move(pool, worker, WORKER_EVENT_START, pool->launch->ready_timeout_ns, NULL);
    return worker;
}

bool pool_finish(struct pool *pool, struct worker *worker, uint64_t lasts_ns) {
    if (worker_next(worker_state(worker), WORKER_EVENT_DRAIN) < 0) return false;
    worker->record->wanted = false;
    worker->record->next_look_ns = 0;
    pool_move(pool, worker, WORKER_EVENT_DRAIN, lasts_ns, NULL);
    return true;
}

// ---- sockets

// It closes what it was given without a word: before it asks again, what it has no more is taken note of.
static void note_closed(struct pool *pool, struct worker *worker) {
    for (int a = 0; a < RECORD_ADDRESS_MAX; a++)
        if ((worker->record->asked >> a & 1) != 0 && !intercept_holds(&pool->intercept, worker, a))
            worker->record->asked &= ~(UINT64_C(1) << a);
}

int pool_listen(struct pool *pool, struct worker *worker, const struct message_listen *wanted, int *out_address) {
    struct ask ask = {.pair = wanted->index};
    if (wanted->len > sizeof wanted->address) return -EINVAL;
    int r = address_from(&ask.key, (const struct sockaddr *)wanted->address, wanted->len, SOCK_STREAM, wanted->v6only != 0);
    if (r != 0) return r;
    if ((address_port(&ask.key) == 0) != (wanted->index > 0)) return -EINVAL;
    note_closed(pool, worker);
    return ask_socket(pool, worker, &ask, out_address);
}

void pool_listening(struct pool *pool, struct worker *worker, int address, int row) {
    ask_given(pool, worker, address, row);
    pool_on_listening(pool, worker, address);
}

void pool_close_sockets(struct pool *pool) {
    for (uint32_t i = 0; i < pool->record->socket_end; i++)
        if (pool->record->socket[i].used) listeners_close(&pool->listeners, (int)i);
    pool_release_paths(pool);
    for (int a = 0; a < RECORD_ADDRESS_MAX; a++) {
        steer_forget(&pool->listeners, a);
        pool->record->address[a] = (struct record_address){0};
    }
}
