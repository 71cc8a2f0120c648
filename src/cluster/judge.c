// SPDX-License-Identifier: MIT
// How do the programs behind an address wait for connections? Those that sleep in select or poll and then call accept on a
// *blocking* listener would stick there when a sibling was faster, with their keep-alive clients behind them. They get one
// socket a slot. It cannot be seen at `listen` (php sets O_NONBLOCK afterwards), so the first copy is watched until it is
// idle, while the others' `listen` is parked; half a second at most. Each generation is judged anew.
#include <fcntl.h>
#include <sys/syscall.h>

#include "address.h"
#include "clock.h"
#include "fd.h"
#include "log.h"
#include "judge.h"
#include "pool.h"
#include "procinfo.h"

#define LOOK_FIRST_NS (10 * CLOCK_MS)
#define LOOK_LATER_NS CLOCK_S
enum { LOOK_MAX = JUDGE_PARKING_LOOKS + 60 };  // after those a minute of later ones

enum waits { WAITS_UNKNOWN, WAITS_IN_ACCEPT, WAITS_IN_POLL };

static enum waits waits_in(long call) {
    switch (call) {
        case SYS_accept:
        case SYS_accept4: return WAITS_IN_ACCEPT;
#ifdef SYS_poll
        case SYS_poll:
        case SYS_select:
        case SYS_epoll_wait:
#endif
        case SYS_ppoll:
        case SYS_pselect6:
        case SYS_epoll_pwait:
        case SYS_epoll_pwait2: return WAITS_IN_POLL;
        default: return WAITS_UNKNOWN;
    }
}

static bool look_at_thread(pid_t tid, void *arg) {
    enum waits *seen = arg, now = waits_in(procinfo_syscall(tid));
    if (now == WAITS_IN_ACCEPT || *seen == WAITS_UNKNOWN) *seen = now;
    return *seen != WAITS_IN_ACCEPT;
}

static bool look_at_process(pid_t pid, void *arg) {
    procinfo_thread_each(pid, look_at_thread, arg);
    return *(enum waits *)arg != WAITS_IN_ACCEPT;
}

bool judge_waits(pid_t tid) { return waits_in(procinfo_syscall(tid)) != WAITS_UNKNOWN; }

static bool look_for_waiting(pid_t tid, void *arg) {
    bool *waits = arg;
    *waits = judge_waits(tid);
    return !*waits;
}

bool judge_another_waits(pid_t pid) {
    bool waits = false;
    if (procinfo_syscall(pid) >= 0) procinfo_thread_each(pid, look_for_waiting, &waits);
    return waits;
}

static int first_user(const struct record *record, int address, uint32_t generation) {
    for (uint32_t i = 0; i < record->slot_end; i++) {
        const struct record_worker *worker = &record->worker[i];
        if (worker->pid != 0 && worker->generation == generation && (worker->addresses >> address & 1) != 0) return (int)i;
    }
    return -1;
}

static bool is_judged(struct record *record, int address, uint32_t generation) {
    const struct record_generation *row = generation_row(record, generation);
    return record->address[address].judged || row == NULL || (row->judged >> address & 1) != 0;
}

bool judge_parks(struct record *record, int address, int slot) {
    const struct record_address *at = &record->address[address];
    uint32_t generation = record->worker[slot].generation;
    int first = first_user(record, address, generation);
    bool looks = at->listened && !is_judged(record, address, generation) && at->look_generation == generation;
    return looks && at->look_count < JUDGE_PARKING_LOOKS && first >= 0 && first != slot;
}

// There is one socket and cannot be another. Who finds nothing to accept hears EAGAIN, instead of waiting for the next client
// while its own wait for it.
static void unblock(struct pool *pool, int address) {
    char text[ADDRESS_TEXT_SIZE];
    int row = listeners_any_row(&pool->listeners, address);
    log_warn("%s: its programs poll, then accept on a blocking listener, and share one that the supervisor made: it is made non-blocking",
             address_text(&pool->record->address[address], text, sizeof text));
    pool->record->address[address].unblocked = true;
    if (row >= 0) fd_set_nonblock(pool->listeners.fd[row], true);
}

// Copies that got the shared socket before the verdict have to come again.
static void split(struct pool *pool, int address, const struct worker *keeps) {
    char text[ADDRESS_TEXT_SIZE];
    if (pool->record->address[address].fixed) {
        unblock(pool, address);
        return;
    }
    log_info("%s: its programs poll, then accept on a blocking listener: one socket a worker instead of a shared one",
             address_text(&pool->record->address[address], text, sizeof text));
    listeners_split(&pool->listeners, address, keeps->record->generation, keeps->slot);
    pool_update_live(pool, &pool->worker[keeps->slot]);  // it may listen and not be ready yet
    for (uint32_t i = 0; i < pool->record->slot_end; i++) {
        struct worker *worker = &pool->worker[i];
        bool sibling = worker != keeps && worker->record->generation == keeps->record->generation;
        if (sibling && worker_runs(worker) && (worker->record->addresses >> address & 1) != 0)
            worker->record->restart_due = true;
    }
}

static void judge(struct pool *pool, int address, uint64_t now_ns) {
    struct record_address *at = &pool->record->address[address];
    int first = first_user(pool->record, address, at->look_generation);
    struct worker *worker = first < 0 ? NULL : &pool->worker[first];
    int row = worker == NULL ? -1 : listeners_find(&pool->listeners, address, worker->record->generation, worker->slot);
    if (row < 0 || is_judged(pool->record, address, at->look_generation)) {  // nobody to watch: the next to listen is the first
        at->look_ns = CLOCK_NEVER;
        return;
    }
    at->look_ns = now_ns + (at->look_count < JUDGE_PARKING_LOOKS ? LOOK_FIRST_NS * (1 + at->look_count / 10) : LOOK_LATER_NS);
    at->look_count++;
    enum waits waits = WAITS_UNKNOWN;
    bool blocking = (fcntl(pool->listeners.fd[row], F_GETFL) & O_NONBLOCK) == 0;
    if (blocking) procinfo_group_each(worker->record->pid, look_at_process, &waits);
    if (blocking && waits == WAITS_IN_POLL) split(pool, address, worker);
    bool judged = !blocking || waits != WAITS_UNKNOWN || at->look_count > LOOK_MAX;
    if (judged) {
        generation_row(pool->record, at->look_generation)->judged |= UINT64_C(1) << address;
        at->look_ns = CLOCK_NEVER;
    }
    if (judged || at->look_count == JUDGE_PARKING_LOOKS) pool_unpark(pool);
}

void pool_judge(struct pool *pool, uint64_t now_ns) {
    for (int a = 0; a < RECORD_ADDRESS_MAX; a++) {
        const struct record_address *at = &pool->record->address[a];
        if (at->used && at->listened && !at->judged && at->look_ns <= now_ns) judge(pool, a, now_ns);
    }
}

void pool_begin_judging(struct pool *pool, int address, uint32_t generation, uint64_t now_ns) {
    struct record_address *at = &pool->record->address[address];
    bool looks = at->look_generation == generation && at->look_ns != 0 && at->look_ns != CLOCK_NEVER;
    if (at->type != SOCK_STREAM || at->at.any.sa_family == AF_UNIX) at->judged = true;
    if (looks || is_judged(pool->record, address, generation)) return;
    if (at->look_generation != generation) at->look_count = 0;
    at->look_generation = generation;
    at->look_ns = now_ns;
    judge(pool, address, now_ns);
}
