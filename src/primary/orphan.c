// SPDX-License-Identifier: MIT
#include "orphan.h"

#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include "clock.h"
#include "home.h"
#include "log.h"

#define LOOK_NS (50 * CLOCK_MS)

static bool has_ended(const struct worker *worker) {
    struct pollfd ended = {.fd = worker->pidfd, .events = POLLIN};
    return worker->pidfd < 0 || poll(&ended, 1, 0) == 1;
}

// Its number is its own for as long as the pidfd says that it has not ended.
static void signal_group(const struct worker *worker, int signo) {
    if (worker->record->pid > 0 && !has_ended(worker)) kill(-worker->record->pid, signo);
}

void orphan_begin(struct primary *primary) {
    log_error("the keeper (pid %d) was killed: the workers serve on, but one that dies stays dead; `pando stop -n %s` and start again",
              (int)primary->keeper, primary->launch.name);
    if (primary->lock >= 0) home_lock_write_pid(primary->lock, getpid());
    for (uint32_t i = 0; i < primary->pool.record->slot_end; i++)
        if (primary->pool.worker[i].record->frozen) signal_group(&primary->pool.worker[i], SIGCONT);
    primary_wake(primary);
}

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
