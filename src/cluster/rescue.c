// SPDX-License-Identifier: MIT
// A worker that is stuck with connections in its queue, in slot mode: they are taken from it and given to others.
//
//   queue does not move --wake--> NOTICED --it had the processor, or is blocked--> STUCK: steered away, frozen, emptied, thawed
//        ^                           | starved: let be                               |
//        +---------------------------+--- it accepts, or waits for connections <-----+--- --hang-timeout --> replaced
//
// The steering program looks at the queues while anything waits, and wakes this process only when the same connection is found
// at the head of a queue twice, --rescue-after apart: what that costs grows neither with connections nor with workers.
// Freezing is what makes the move invisible: a thread in accept would see an error otherwise. A thread in epoll_wait sees one
// EINTR at the thaw.
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "clock.h"
#include "cpus.h"
#include "fd.h"
#include "judge.h"
#include "log.h"
#include "pool.h"
#include "procinfo.h"
#include "rollout.h"
#include "steer.h"

#define LOOK_NS (10 * CLOCK_MS)
#define LOOK_LAST_NS CLOCK_S
#define FREEZE_LOOK_NS (CLOCK_MS / 2)
#define FREEZE_PATIENCE_NS (50 * CLOCK_MS)  // a thread in uninterruptible sleep does not stop: it is let go
#define STARVED_LOOK_NS (4 * CLOCK_MS)      // so long it takes to see whether one that wants the processor gets it
#define STARVED_NS (200 * CLOCK_MS)         // starved for longer than that: whoever waits there is given to somebody else after all
#define RESCUE_AGAIN_NS (100 * CLOCK_MS)
// Where it cannot be seen to accept again, one connection is risked: soon where another thread may be the one that accepts,
// and less and less often while that fails.
#define PROBE_SOON_NS (20 * CLOCK_MS)
#define PROBE_NS CLOCK_S
enum { EVIDENCE_SIZE = 1024, STARVED_PART = 4, PROBES_SOON = 5 };
// What is blocked may wait for somebody who does not get a processor: where more than so much of the time something waits for
// one, it is given so much longer.
enum { PRESSED_PERCENT = 60, PRESSED_FACTOR = 4 };

// ---- watching

// Where nothing waits, and nothing is steered away, the next wake says that there is something to see.
static bool is_watched(const struct worker *worker) {
    const struct record_worker *record = worker->record;
    return worker_state(worker) == WORKER_SERVING && (record->noticed_ns != 0 || record->steered_away || record->frozen);
}

static uint64_t accepted(const struct steer_numbers *numbers) { return numbers->total - numbers->moved_away - (uint64_t)numbers->queued; }

static void notice(int slot, void *arg) {
    struct pool *pool = arg;
    struct worker *worker = &pool->worker[slot];
    struct record_worker *record = worker->record;
    if (worker_state(worker) != WORKER_SERVING || record->noticed_ns != 0) return;
    struct steer_numbers numbers = steer_numbers(&pool->listeners, slot);
    if (accepted(&numbers) > record->accepted) record->stuck_ns = 0;  // it came back, and nobody saw it
    record->noticed_ns = clock_now_ns();
    record->accepted = accepted(&numbers);
    if (record->stuck_ns == 0) record->noticed_cpu_ns = procinfo_cpu_clock_ns(record->pid);
    record->next_look_ns = 0;
}

void pool_on_wakes(struct pool *pool) {
    steer_take_wakes(&pool->listeners, notice, pool);
    pool->hooks.changed(pool->arg);
}

// ---- stuck

static void steer_away(struct pool *pool, struct worker *worker, bool away) {
    worker->record->steered_away = away;
    pool_update_live(pool, worker);
}

static void end_stuck(struct pool *pool, struct worker *worker) {
    worker->record->noticed_ns = worker->record->stuck_ns = 0;
    steer_away(pool, worker, false);
}

// The group as it was a second ago will do, as long as its first process is looked at: all of it was sent the signal.
static bool group_is_stopped(struct pool *pool, const struct worker *worker) {
    return procinfo_all_stopped(worker->record->pid) && pool_group_is_stopped(pool_recent_groups(pool), worker->record->pid);
}

static void end_worker(struct pool *pool, struct worker *worker, const char *why) {
    pool_thaw(pool, worker);
    pool_move(pool, worker, WORKER_EVENT_HUNG, CLOCK_NEVER, why);
    link_kill(pool->link, worker->record->pid, SIGKILL, true);
}

// One whose socket is lost would wait for connections for ever.
static void empty_queues(struct pool *pool, struct worker *worker) {
    if (steer_move_queues(&pool->listeners, worker->slot) != 0)
        end_worker(pool, worker, "its socket was lost when its queue was taken from it");
}

static void try_rescue(struct pool *pool, struct worker *worker, uint64_t now_ns) {
    if (pool->launch->no_rescue || now_ns < worker->record->rescue_ns || !steer_can_move(&pool->listeners, worker->slot)) return;
    steer_away(pool, worker, true);
    worker->record->rescue_ns = now_ns + RESCUE_AGAIN_NS;
    worker->record->emptied_ns = now_ns;
    if (group_is_stopped(pool, worker))  // by a debugger: it stays stopped, and is as good as frozen
        empty_queues(pool, worker);
    else
        pool_freeze(pool, worker, now_ns);
}

static void finish_rescue(struct pool *pool, struct worker *worker, uint64_t now_ns) {
    bool stopped = group_is_stopped(pool, worker);
    if (!stopped && now_ns - worker->record->frozen_ns < FREEZE_PATIENCE_NS) return;
    if (stopped) empty_queues(pool, worker);
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

// All processes of a worker: the direct child may be a shell that waits for the real server.
struct group_look {
    uint64_t used_ns;  // of processor time
    bool runs;         // a thread runs, or would
    bool stopped;      // by a debugger
};

static bool look_at_thread(pid_t tid, void *arg) {
    struct group_look *look = arg;
    struct procinfo info;
    if (procinfo_read(tid, &info) != 0) return true;
    look->runs = look->runs || info.state == 'R';
    look->stopped = look->stopped || info.state == 'T' || info.state == 't';
    return true;
}

static bool look_at_process(pid_t pid, void *arg) {
    ((struct group_look *)arg)->used_ns += procinfo_cpu_clock_ns(pid);
    procinfo_thread_each(pid, look_at_thread, arg);
    return true;
}

static struct group_look look_at_group(struct pool *pool, const struct worker *worker) {
    struct group_look look = {0};
    procinfo_groups_each(pool_recent_groups(pool), worker->record->pid, look_at_process, &look);
    return look;
}

static uint64_t throttled(const struct worker *worker) {
    uint64_t now = cpus_throttled("/proc", "", worker->record->pid), before = worker->record->stuck_throttled;
    return now > before ? now - before : 0;  // it may have been moved to another cgroup
}

static uint64_t used_since(const struct worker *worker, const struct group_look *look) {
    return look->used_ns > worker->record->stuck_cpu_ns ? look->used_ns - worker->record->stuck_cpu_ns : 0;  // some may have ended
}

static void log_evidence(const struct worker *worker, const struct procinfo *info, const struct group_look *look, uint64_t now_ns) {
    char wchan[64], call[160], stack[EVIDENCE_SIZE];
    pid_t pid = worker->record->pid;
    read_proc(pid, "wchan", wchan, sizeof wchan);
    read_proc(pid, "syscall", call, sizeof call);
    read_proc(pid, "stack", stack, sizeof stack);
    log_warn(
        "worker %d (pid %d) hangs: state %c, %llu ms of processor time in %llu ms (machine's pressure %d %%, throttled %llu times), wchan %s, "
        "syscall %s, stack %s",
        worker->slot, pid, info->state, (unsigned long long)(used_since(worker, look) / CLOCK_MS),
        (unsigned long long)((now_ns - worker->record->stuck_ns) / CLOCK_MS), procinfo_cpu_pressure(NULL),
        (unsigned long long)throttled(worker), wchan[0] != '\0' ? wchan : "?", call, stack);
}

// Blocked, or spinning: then it had the processor. One of which a thread wants to run and is not let is starved, not hung; so may be whatever
// it waits for, while the machine or its own quota is short of processors.
static bool is_hung(const struct pool *pool, const struct worker *worker, const struct group_look *look, uint64_t now_ns) {
    uint64_t stuck_ns = now_ns - worker->record->stuck_ns, timeout_ns = pool->launch->hang_timeout_ns;
    if (look->stopped) return false;
    if (used_since(worker, look) >= timeout_ns) return true;
    if (look->runs) return false;
    return stuck_ns >= PRESSED_FACTOR * timeout_ns || (procinfo_cpu_pressure(NULL) <= PRESSED_PERCENT && throttled(worker) == 0);
}

// True: it was hung, and is being replaced.
static bool replace_hung(struct pool *pool, struct worker *worker, const struct procinfo *info, uint64_t now_ns) {
    uint64_t timeout_ns = pool->launch->hang_timeout_ns;
    if (timeout_ns == 0 || now_ns - worker->record->stuck_ns < timeout_ns) return false;
    struct group_look look = look_at_group(pool, worker);
    if (!is_hung(pool, worker, &look, now_ns)) return false;
    log_evidence(worker, info, &look, now_ns);
    end_worker(pool, worker, "it hangs: it took nothing from its queue for longer than --hang-timeout");
    if (rollout_is_new(pool, worker)) rollout_fail(pool, worker, "it hangs (--hang-timeout)");
    return true;
}

// ---- one look

// Ready to run, and did not get the processor: on a machine that is all busy, moving its queue helps nobody.
static bool is_starved(const struct pool *pool, const struct worker *worker, uint64_t now_ns) {
    uint64_t had_ns = procinfo_cpu_clock_ns(worker->record->pid) - worker->record->noticed_cpu_ns;
    return had_ns < (now_ns - worker->record->noticed_ns) / STARVED_PART && steer_waited_ns(&pool->listeners, worker->slot) < STARVED_NS;
}

static void begin_stuck(struct pool *pool, struct worker *worker, uint64_t now_ns) {
    struct record_worker *record = worker->record;
    record->stuck_ns = record->noticed_ns;
    record->rescue_ns = now_ns;
    record->probes = 0;
    if (pool->launch->hang_timeout_ns == 0) return;
    record->stuck_cpu_ns = look_at_group(pool, worker).used_ns;
    record->stuck_throttled = cpus_throttled("/proc", "", record->pid);
}

// Something waits, and it takes nothing.
static void look_waiting(struct pool *pool, struct worker *worker, uint64_t now_ns) {
    struct record_worker *record = worker->record;
    struct procinfo info;
    if (procinfo_read(record->pid, &info) != 0) return;
    if (record->stuck_ns == 0 && info.state == 'R') {
        if (now_ns - record->noticed_ns < STARVED_LOOK_NS) return;
        if (is_starved(pool, worker, now_ns)) {
            record->noticed_ns = 0;  // while it lasts there are more wakes, less and less often
            return;
        }
    }
    if (record->stuck_ns == 0) begin_stuck(pool, worker, now_ns);
    if (!replace_hung(pool, worker, &info, now_ns)) try_rescue(pool, worker, now_ns);
}

static uint64_t probe_wait_ns(const struct pool *pool, const struct record_worker *record) {
    bool soon = record->probes < PROBES_SOON && judge_another_waits(record->pid);
    uint64_t wait_ns = soon ? PROBE_SOON_NS << record->probes : PROBE_NS, hang_ns = pool->launch->hang_timeout_ns;
    return hang_ns > 0 && hang_ns < wait_ns ? hang_ns : wait_ns;
}

// Nothing waits there. Whether one that cannot be seen to wait is still stuck will show when something does.
static void look_empty(struct pool *pool, struct worker *worker, uint64_t now_ns) {
    struct record_worker *record = worker->record;
    record->noticed_ns = 0;
    if (record->stuck_ns == 0 || judge_waits(record->pid)) {
        end_stuck(pool, worker);
    } else if (record->steered_away && now_ns - record->emptied_ns >= probe_wait_ns(pool, record)) {
        record->probes++;
        steer_away(pool, worker, false);
    }
}

static void look(struct pool *pool, struct worker *worker, uint64_t now_ns) {
    struct steer_numbers numbers = steer_numbers(&pool->listeners, worker->slot);
    if (worker->record->frozen)
        finish_rescue(pool, worker, now_ns);
    else if (accepted(&numbers) > worker->record->accepted)
        end_stuck(pool, worker);
    else if (numbers.queued == 0)
        look_empty(pool, worker, now_ns);
    else
        look_waiting(pool, worker, now_ns);
}

// Soon where looking can change something; else in step with how long it lasts already.
static uint64_t next_look_ns(const struct worker *worker, uint64_t now_ns) {
    const struct record_worker *record = worker->record;
    if (record->frozen) return now_ns + FREEZE_LOOK_NS;
    if (record->stuck_ns == 0) return now_ns + STARVED_LOOK_NS;
    uint64_t part_ns = (now_ns - record->stuck_ns) / 8;
    return now_ns + (record->steered_away || part_ns < LOOK_NS ? LOOK_NS : part_ns > LOOK_LAST_NS ? LOOK_LAST_NS : part_ns);
}

uint64_t pool_rescue(struct pool *pool, uint64_t now_ns) {
    uint64_t next = CLOCK_NEVER;
    if (pool->record->mode != LAUNCH_MODE_SLOT) return next;
    for (uint32_t i = 0; i < pool->record->slot_end; i++) {
        struct worker *worker = &pool->worker[i];
        if (!is_watched(worker)) continue;
        if (worker->record->next_look_ns <= now_ns) {
            look(pool, worker, now_ns);
            worker->record->next_look_ns = next_look_ns(worker, now_ns);
        }
        if (is_watched(worker) && worker->record->next_look_ns < next) next = worker->record->next_look_ns;
    }
    return next;
}
