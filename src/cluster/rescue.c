// SPDX-License-Identifier: MIT
// A worker that is stuck with connections in its queue, in slot mode: they are taken from it and given to others.
//
//   queue not empty --nothing taken for --rescue-after--> STUCK: steered away, frozen --stopped--> queue moved, thawed
//        ^                                                  |
//        +------ it waits for connections again <-----------+------- --hang-timeout, and it did have the processor --> replaced
//
// One-shot events start the watching, a timer that runs only while something waits does the rest: the cost does not grow
// with the connections. Freezing is what makes the move invisible: a thread in accept would see an error otherwise. A thread
// in epoll_wait sees one EINTR at the thaw.
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "clock.h"
#include "fd.h"
#include "judge.h"
#include "log.h"
#include "pool.h"
#include "procinfo.h"
#include "steer.h"

#define LOOK_NS (10 * CLOCK_MS)
#define FREEZE_LOOK_NS (CLOCK_MS / 2)
#define FREEZE_PATIENCE_NS (50 * CLOCK_MS)  // a thread in uninterruptible sleep does not stop: it is let go
#define BUSY_NS (2 * CLOCK_MS)        // something waits again so soon: then
#define ARM_LAST_NS (80 * CLOCK_MS)  // it is asked less often, at most this long
#define RESCUE_AGAIN_NS (100 * CLOCK_MS)
#define PROBE_NS CLOCK_S  // where it cannot be seen to wait (another thread than the first accepts), one connection is risked
#define STARVED_NS (200 * CLOCK_MS)  // starved for longer than that: whoever waits there is given to somebody else after all
enum { EVENTS_A_TURN = 64, EVIDENCE_SIZE = 1024, STARVED_PART = 4 };

// ---- watching

static bool is_watched(const struct worker *worker) {
    const struct record_worker *record = worker->record;
    return worker_state(worker) == WORKER_SERVING && (record->queued_ns != 0 || record->arm_ns != 0 || record->steered_away || record->frozen);
}

static uint64_t accepted(const struct steer_numbers *numbers) {
    return numbers->total - numbers->moved_away - (uint64_t)numbers->queued;
}

static void begin_watching(struct worker *worker, const struct steer_numbers *numbers, uint64_t now_ns) {
    worker->record->queued_ns = now_ns;
    worker->record->accepted = accepted(numbers);
    if (worker->record->stuck_ns == 0) worker->record->stuck_cpu_ns = procinfo_cpu_clock_ns(worker->record->pid);
}

void pool_on_queues(struct pool *pool) {
    struct epoll_event events[EVENTS_A_TURN];
    int count = epoll_wait(pool->listeners.queue_epoll, events, EVENTS_A_TURN, 0);
    for (int i = 0; i < count; i++) {
        const struct record_socket *row = &pool->record->socket[events[i].data.u32 % RECORD_SOCKET_MAX];
        if (!row->used || row->slot < 0) continue;
        struct worker *worker = &pool->worker[row->slot];
        struct steer_numbers numbers = steer_numbers(&pool->listeners, row->slot);
        if (worker->record->queued_ns != 0) continue;
        uint64_t now_ns = clock_now_ns(), wait_ns = worker->record->arm_wait_ns;
        bool busy = now_ns - worker->record->armed_ns < BUSY_NS;
        worker->record->arm_wait_ns = !busy ? 0 : wait_ns == 0 ? LOOK_NS : wait_ns < ARM_LAST_NS ? 2 * wait_ns : wait_ns;
        begin_watching(worker, &numbers, now_ns);
    }
    if (count > 0 && !pool->rescue_runs) pool->hooks.changed(pool->arg);
}

static void watch_again(struct pool *pool, struct worker *worker) {
    worker->record->armed_ns = clock_now_ns();
    worker->record->arm_ns = 0;
    for (int i = 0; i < (int)pool->record->socket_end; i++)
        if (pool->record->socket[i].used && pool->record->socket[i].slot == worker->slot) listeners_watch_queue(&pool->listeners, i);
}

// ---- stuck

static bool somebody_is_free(const struct pool *pool, const struct worker *stuck) {
    for (uint32_t i = 0; i < pool->record->slot_end; i++) {
        const struct worker *other = &pool->worker[i];
        if (other == stuck || worker_state(other) != WORKER_SERVING || other->record->steered_away) continue;
        if (steer_numbers(&pool->listeners, other->slot).queued == 0) return true;
    }
    return false;
}

// Ready to run, and did not get the processor: on a machine that is all busy, moving its queue helps nobody.
static bool is_starved(const struct worker *worker, uint64_t now_ns) {
    struct procinfo info;
    uint64_t waited_ns = now_ns - worker->record->queued_ns;
    return procinfo_read(worker->record->pid, &info) == 0 && info.state == 'R' &&
           procinfo_cpu_clock_ns(worker->record->pid) - worker->record->stuck_cpu_ns < waited_ns / STARVED_PART && waited_ns < STARVED_NS;
}

static void begin_stuck(struct worker *worker, uint64_t now_ns) {
    worker->record->stuck_ns = worker->record->queued_ns;
    worker->record->rescue_ns = now_ns;
}

static void steer_away(struct pool *pool, struct worker *worker, bool away) {
    worker->record->steered_away = away;
    pool_update_live(pool, worker);
}

// Nothing waits there now. Whether it is still stuck will be seen when something does.
static void probe(struct pool *pool, struct worker *worker) {
    worker->record->queued_ns = 0;
    steer_away(pool, worker, false);
    watch_again(pool, worker);
}

static void end_stuck(struct pool *pool, struct worker *worker) {
    worker->record->stuck_ns = worker->record->queued_ns = 0;
    steer_away(pool, worker, false);
    watch_again(pool, worker);
}

// The group as it was a second ago will do, as long as its first process is looked at: all of it was sent the signal.
static bool group_is_stopped(struct pool *pool, const struct worker *worker) {
    return procinfo_all_stopped(worker->record->pid) && pool_group_is_stopped(pool_recent_groups(pool), worker->record->pid);
}

static void try_rescue(struct pool *pool, struct worker *worker, uint64_t now_ns) {
    if (pool->launch->no_rescue || now_ns < worker->record->rescue_ns || !somebody_is_free(pool, worker)) return;
    steer_away(pool, worker, true);
    worker->record->rescue_ns = now_ns + RESCUE_AGAIN_NS;
    uint64_t hang_ns = pool->launch->hang_timeout_ns;
    worker->record->probe_ns = now_ns + (hang_ns > 0 && hang_ns < PROBE_NS ? hang_ns : PROBE_NS);
    if (group_is_stopped(pool, worker))  // by a debugger: it stays stopped, and is as good as frozen
        steer_move_queues(&pool->listeners, worker->slot);
    else
        pool_freeze(pool, worker, now_ns);
}

static void finish_rescue(struct pool *pool, struct worker *worker, uint64_t now_ns) {
    bool stopped = group_is_stopped(pool, worker);
    if (!stopped && now_ns - worker->record->frozen_ns < FREEZE_PATIENCE_NS) return;
    if (stopped) steer_move_queues(&pool->listeners, worker->slot);
    pool_thaw(pool, worker);
}

// ---- hung

static void read_proc(pid_t pid, const char *name, char *out, size_t size) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    if (fd_read_file(path, out, size) < 0) out[0] = '\0';
    for (char *at = out; *at != '\0'; at++)
        if (*at == '\n') *at = at[1] != '\0' ? '|' : ' ';
}

static void log_evidence(const struct worker *worker, const struct procinfo *info, uint64_t now_ns) {
    char wchan[64], call[160], stack[EVIDENCE_SIZE];
    pid_t pid = worker->record->pid;
    read_proc(pid, "wchan", wchan, sizeof wchan);
    read_proc(pid, "syscall", call, sizeof call);
    read_proc(pid, "stack", stack, sizeof stack);
    log_warn("worker %d (pid %d) hangs: state %c, %llu ms of processor time in %llu ms, wchan %s, syscall %s, stack %s", worker_number(worker), pid,
             info->state, (unsigned long long)((procinfo_cpu_clock_ns(pid) - worker->record->stuck_cpu_ns) / CLOCK_MS),
             (unsigned long long)((now_ns - worker->record->stuck_ns) / CLOCK_MS), wchan[0] != '\0' ? wchan : "?", call, stack);
}

// Blocked, or spinning: then it had the processor. One that wants to run and is not let is starved, not hung.
static bool is_hung(const struct pool *pool, const struct worker *worker, const struct procinfo *info, uint64_t now_ns) {
    uint64_t stuck_ns = now_ns - worker->record->stuck_ns;
    uint64_t used_ns = procinfo_cpu_clock_ns(worker->record->pid) - worker->record->stuck_cpu_ns;
    if (pool->launch->hang_timeout_ns == 0 || stuck_ns < pool->launch->hang_timeout_ns) return false;
    if (info->state == 'T' || info->state == 't') return false;  // somebody debugs it
    return info->state != 'R' || used_ns >= pool->launch->hang_timeout_ns;
}

static void replace(struct pool *pool, struct worker *worker, const struct procinfo *info, uint64_t now_ns) {
    log_evidence(worker, info, now_ns);
    pool_thaw(pool, worker);
    pool_move(pool, worker, WORKER_EVENT_HUNG, CLOCK_NEVER, "it took nothing from its queue for longer than --hang-timeout");
    link_kill(pool->link, worker->record->pid, SIGKILL, true);
}

// ---- one look

static void look_stuck(struct pool *pool, struct worker *worker, const struct steer_numbers *numbers, uint64_t now_ns) {
    struct procinfo info;
    if (worker->record->frozen) {
        finish_rescue(pool, worker, now_ns);
        return;
    }
    if (accepted(numbers) > worker->record->accepted || (numbers->queued == 0 && judge_waits(worker->record->pid))) {
        end_stuck(pool, worker);
        return;
    }
    bool waited = numbers->queued > 0 && now_ns - worker->record->queued_ns >= pool->launch->rescue_after_ns;
    if (waited && procinfo_read(worker->record->pid, &info) == 0 && is_hung(pool, worker, &info, now_ns))
        replace(pool, worker, &info, now_ns);
    else if (waited)
        try_rescue(pool, worker, now_ns);
    else if (numbers->queued == 0 && now_ns >= worker->record->probe_ns)
        probe(pool, worker);
}

static void look(struct pool *pool, struct worker *worker, uint64_t now_ns) {
    struct record_worker *record = worker->record;
    struct steer_numbers numbers = steer_numbers(&pool->listeners, worker->slot);
    if (record->arm_ns != 0) {
        if (now_ns >= record->arm_ns) watch_again(pool, worker);
    } else if (record->stuck_ns != 0) {
        look_stuck(pool, worker, &numbers, now_ns);
    } else if (numbers.queued == 0) {
        record->queued_ns = 0;
        if (record->arm_wait_ns == 0)
            watch_again(pool, worker);
        else
            record->arm_ns = now_ns + record->arm_wait_ns;
    } else if (accepted(&numbers) > record->accepted) {
        begin_watching(worker, &numbers, now_ns);
    } else if (now_ns - record->queued_ns >= pool->launch->rescue_after_ns && !is_starved(worker, now_ns)) {
        begin_stuck(worker, now_ns);
        look_stuck(pool, worker, &numbers, now_ns);
    }
}

uint64_t pool_rescue(struct pool *pool, uint64_t now_ns) {
    uint64_t next = CLOCK_NEVER;
    if (pool->record->mode != LAUNCH_MODE_SLOT) return next;
    for (uint32_t i = 0; i < pool->record->slot_end; i++) {
        struct worker *worker = &pool->worker[i];
        if (!is_watched(worker)) continue;
        look(pool, worker, now_ns);
        uint64_t again = now_ns + (worker->record->frozen ? FREEZE_LOOK_NS : LOOK_NS);
        if (is_watched(worker) && again < next) next = again;
    }
    pool->rescue_runs = next != CLOCK_NEVER;
    return next;
}
