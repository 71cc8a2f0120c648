// SPDX-License-Identifier: MIT
// --ready http=PATH: a worker that listens is asked, and is ready when it answers with 2xx. Where each has a socket of its own,
// that very worker is. Where a generation shares one, its first worker is asked and the others are ready when they listen; unless
// they are to be warmed up (--warm-up N): then each is asked as often, as long as the generation gets no others' connections, and
// the kernel chooses among them.
#include <netinet/in.h>
#include <sys/socket.h>

#include "clock.h"
#include "log.h"
#include "pool.h"

#define ASK_AGAIN_NS (100 * CLOCK_MS)
#define ASK_BUSY_NS (5 * CLOCK_MS)

static int row_to_ask(const struct pool *pool, const struct worker *worker) {
    const struct record_worker *record = worker->record;
    for (int a = 0; a < RECORD_ADDRESS_MAX; a++) {
        const struct record_address *at = &pool->record->address[a];
        bool asks = (record->addresses >> a & 1) != 0 && at->type == SOCK_STREAM && at->at.any.sa_family != AF_UNIX;
        int row = asks ? listeners_find(&pool->listeners, a, record->generation, worker->slot) : -1;
        if (row >= 0) return row;
    }
    return -1;
}

// Of its generation, which shares a socket, somebody has answered: nothing new can be learned, and nobody in particular be warmed up.
static bool is_known(const struct pool *pool, const struct worker *worker) {
    const struct record_generation *generation = generation_row(pool->record, worker->record->generation);
    bool serves = pool->record->generation == worker->record->generation;
    return generation != NULL && generation->answered && (serves || pool_launch_of(pool, worker)->warm_up == 1);
}

void pool_check_health(struct pool *pool, struct worker *worker, uint64_t now_ns) {
    struct record_worker *record = worker->record;
    bool due = worker_state(worker) == WORKER_STARTING && !record->ready_sign && record->ask_ns <= now_ns;
    if (!due || pool_launch_of(pool, worker)->ready != LAUNCH_READY_HTTP || !pool_listens_on_enough(pool, worker)) return;
    int row = row_to_ask(pool, worker);
    if (row < 0) {
        log_warn("worker %d listens on no TCP address that could be asked (--ready http=): ready because it listens", worker_number(worker));
        record->ready_sign = true;
    } else if (pool->record->socket[row].slot == LISTENER_SHARED && is_known(pool, worker)) {
        record->ready_sign = true;
    } else {
        record->ask_ns = CLOCK_NEVER;
        if (!pool->hooks.check_health(pool->arg, worker, row)) record->ask_ns = now_ns + ASK_BUSY_NS;
    }
}

void pool_on_health(struct pool *pool, struct worker *worker, uint64_t token, bool ready) {
    struct record_worker *record = worker->record;
    struct record_generation *generation = generation_row(pool->record, record->generation);
    if (record->token != token || worker_state(worker) != WORKER_STARTING) return;
    record->answers += ready;
    bool again = ready && record->answers < pool_launch_of(pool, worker)->warm_up;
    record->ask_ns = clock_now_ns() + (again ? 0 : ASK_AGAIN_NS);
    if (!ready || again) return;
    if (generation != NULL) generation->answered = true;
    pool_on_ready_sign(pool, worker);
}
