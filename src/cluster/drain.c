// SPDX-License-Identifier: MIT
// Stopping a worker that pulls from a shared socket, without losing what it has accepted: it is told to stop only while it
// is frozen and seen to have no open connection, for then it cannot have taken one in between. A program without a signal
// handler drains just as well.
//
// A signal that comes while all threads are stopped is taken by whichever runs first, and until it is handled the others run on
// and may accept. So the stop signal goes to the main thread, which would take it if nobody was stopped; and where no handler
// waits for it, SIGKILL takes its place: that ends the program the same way, without one more instruction of any thread.
//
//   look --no connection--> freeze --all threads stopped, still none--> stop signal, thaw --> it ends
//    ^                        |
//    +---- thaw, wait <-------+ a connection after all
//
// A program that finishes its connections by itself on the stop signal (--cooperative) is told as soon as nothing new can
// come to it. Near the deadline any is told: one that handles the signal may still finish. At the deadline it is killed.
// One that a rollback may ask for (--keep-old) is not told: it stays frozen. One that has a channel is told there first
// (hooks.draining, hooks.telling), and has some time before the signal.
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "address.h"
#include "clock.h"
#include "connections.h"
#include "log.h"
#include "pool.h"
#include "procinfo.h"
#include "sock_diag.h"
#include "steer.h"

#define LOOK_AGAIN_NS (2 * CLOCK_MS)
#define ASK_KERNEL_NS (10 * CLOCK_MS)
#define LOOK_MOST_NS (200 * CLOCK_MS)
#define LOOK_SHARE 50  // so small a part of the time may be spent on looking at connections
#define FREEZE_LOOK_NS (CLOCK_MS / 2)
#define FREEZE_PATIENCE_NS (100 * CLOCK_MS)  // a thread in uninterruptible sleep does not stop: leave it alone for a while
#define ENDS_ITSELF_LOOK_NS (100 * CLOCK_MS)  // a program that was told over the channel that it reads
#define OPENING_NS (2 * CLOCK_S)  // so long a program that is linked with libpando has to begin reading its channel
#define LAST_WORD_NS (5 * CLOCK_S)
#define KEPT_LOOK_NS (100 * CLOCK_MS)
#define TURN_NS (100 * CLOCK_MS)
#define HANDSHAKE_NS (3 * CLOCK_S)  // a handshake that takes longer has lost its first packets
enum { LOOKS = 100, RESTLESS_LOOKS = 25, IDLE_MS = 1000, TCP_SYN_UNDER_WAY = 12 };  // 12: TCP_NEW_SYN_RECV, see sock_diag.h

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

static bool find_handshake(const struct sock_diag_tcp *socket, void *arg) {
    bool *found = arg;
    *found = socket->state == TCP_SYN_UNDER_WAY;
    return !*found;
}

// A generation that shared a socket and was turned away from it: handshakes that had begun still end in its queue.
static bool look_whether_settled(const struct pool *pool, const struct record_generation *row, uint64_t now_ns) {
    bool under_way = false;
    for (uint32_t i = 0; i < pool->record->socket_end; i++) {
        const struct record_socket *socket = &pool->record->socket[i];
        if (!socket->used || socket->slot != LISTENER_SHARED || socket->generation != row->number) continue;
        if (listeners_queued(&pool->listeners, (int)i) > 0) return false;
        const struct record_address *at = &pool->record->address[socket->address];
        if (now_ns - row->turned_ns < HANDSHAKE_NS) sock_diag_tcp_each((uint16_t)address_port(at), find_handshake, &under_way);
        if (under_way) return false;
    }
    return true;
}

// Once settled it stays so. The kernel's list is dear: not for each of its workers, and not at every look.
static bool queue_is_settled(const struct pool *pool, const struct worker *worker, uint64_t now_ns) {
    struct record_generation *row = generation_row(pool->record, worker->record->generation);
    if (row == NULL || row->turned_ns == 0 || row->settled) return true;
    if (now_ns < row->settle_look_ns) return false;
    row->settled = look_whether_settled(pool, row, now_ns);
    row->settle_look_ns = now_ns + LOOK_AGAIN_NS;
    return row->settled;
}

// Nothing more can come to it: a queue of its own that nobody can move, with no successor to serve it, has to be emptied first.
static bool nothing_comes(struct pool *pool, const struct worker *worker, uint64_t now_ns) {
    if (worker->record->wanted) return true;
    return listeners_slot_stranded(&pool->listeners, worker->slot) == 0 && queue_is_settled(pool, worker, now_ns);
}

// A connection on which nobody waits for an answer may be closed when the whole instance stops, or when it has been idle for
// a while, as any server does; else a client could be about to use it again.
static bool has_finished(struct pool *pool, struct worker *worker, const struct procinfo_groups *groups, bool asks_kernel, uint64_t now_ns) {
    uint32_t idle_ms = 0;
    struct record_worker *record = worker->record;
    struct connections_others *others = &worker->others;
    if (!nothing_comes(pool, worker, now_ns)) return false;
    worker->found = connections_of(pool->record, groups, record->pid, record->addresses, asks_kernel, others, &idle_ms);
    switch (worker->found) {
        case CONNECTIONS_NONE: return true;
        case CONNECTIONS_IDLE: return pool->record->stopping || idle_ms >= IDLE_MS;
        case CONNECTIONS_ACTIVE:
        case CONNECTIONS_UNKNOWN: return false;
    }
    return false;
}

static uint64_t between(uint64_t least, uint64_t value, uint64_t most) { return value < least ? least : value > most ? most : value; }

// Neither kind of look may take more than a small part of the time, and who has been leaving for long is looked at less often.
static bool may_stop(struct pool *pool, struct worker *worker, const struct procinfo_groups *groups, bool asks_kernel, uint64_t now_ns) {
    uint64_t begin_ns = clock_now_ns();
    bool finished = has_finished(pool, worker, groups, asks_kernel, now_ns);
    uint64_t took_ns = clock_now_ns() - begin_ns, leaving_ns = now_ns > worker->record->since_ns ? now_ns - worker->record->since_ns : 0;
    uint64_t wait_ns = took_ns * LOOK_SHARE > leaving_ns / LOOKS ? took_ns * LOOK_SHARE : leaving_ns / LOOKS;
    if (asks_kernel)
        worker->ask_kernel_ns = now_ns + between(ASK_KERNEL_NS, wait_ns, LOOK_MOST_NS);
    else
        worker->look_again_ns = between(LOOK_AGAIN_NS, wait_ns, LOOK_MOST_NS);
    return finished;
}

// As it runs: a hint. What it says of children is up to a second old. Most connections end by themselves within milliseconds; those that stay
// are looked up in the kernel's list, which tells whether they are idle.
static bool seems_to_have_finished(struct pool *pool, struct worker *worker, uint64_t now_ns) {
    if (worker->ask_kernel_ns == 0) worker->ask_kernel_ns = now_ns + ASK_KERNEL_NS;
    return may_stop(pool, worker, pool_recent_groups(pool), now_ns >= worker->ask_kernel_ns, now_ns);
}

// Frozen: now it is certain. If the hint was that it has no connections, a socket that is there now and was not then is taken for a new one.
static bool has_finished_for_certain(struct pool *pool, struct worker *worker, uint64_t now_ns) {
    bool asks_kernel = worker->found == CONNECTIONS_IDLE || worker->others.len == CONNECTIONS_OTHERS_MAX;
    return may_stop(pool, worker, pool_groups(pool), asks_kernel, now_ns);
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

void pool_wake_threads(struct pool *pool, struct worker *worker, uint64_t now_ns) {
    pool_freeze(pool, worker, now_ns);
    worker->record->next_look_ns = now_ns + FREEZE_LOOK_NS;
    pool->hooks.changed(pool->arg);
}

static void look_woken(struct pool *pool, struct worker *worker, uint64_t now_ns) {
    bool over = now_ns - worker->record->frozen_ns > FREEZE_PATIENCE_NS || pool_group_is_stopped(pool_groups(pool), worker->record->pid);
    if (over) pool_thaw(pool, worker);
    worker->record->next_look_ns = over ? CLOCK_NEVER : now_ns + FREEZE_LOOK_NS;
}

static bool ends_by(int signo) {
    return signo == SIGTERM || signo == SIGINT || signo == SIGHUP || signo == SIGUSR1 || signo == SIGUSR2;
}

static bool is_left_to_default(pid_t pid, void *arg) {
    int *signo = arg;
    if (procinfo_signal(pid, *signo) != PROCINFO_SIGNAL_DEFAULT) *signo = 0;
    return *signo != 0;
}

static bool signal_process(pid_t pid, void *arg) {
    int signo = *(int *)arg;
    if (procinfo_signal(pid, signo) == PROCINFO_SIGNAL_BLOCKED)
        kill(pid, signo);
    else
        syscall(SYS_tgkill, pid, pid, signo);
    return true;
}

static void signal_stopped_group(struct pool *pool, struct worker *worker, int signo) {
    int undone = ends_by(signo) ? signo : 0;
    if (undone != 0) procinfo_groups_each(pool_groups(pool), worker->record->pid, is_left_to_default, &undone);
    worker->record->cut_short = undone != 0;
    if (undone != 0)
        link_kill(pool->link, worker->record->pid, SIGKILL, true);
    else
        procinfo_groups_each(pool_groups(pool), worker->record->pid, signal_process, &signo);
}

static void tell(struct pool *pool, struct worker *worker) {
    if (!worker->record->messaged) pool->hooks.telling(pool->arg, worker);
    worker->record->told = worker->record->bid = true;
    worker->record->told_ns = clock_now_ns();
    worker->record->keep = worker->record->kept = false;
    listeners_watch_shared(&pool->listeners, worker->record->addresses, true);
    int signo = pool_launch_of(pool, worker)->stop_signal;
    if (worker->record->frozen && pool_group_is_stopped(pool_groups(pool), worker->record->pid))
        signal_stopped_group(pool, worker, signo);
    else
        link_kill(pool->link, worker->record->pid, signo, true);
    pool_thaw(pool, worker);
    worker->record->next_look_ns = CLOCK_NEVER;
}

static void keep(struct worker *worker, uint64_t lasts_ns, uint64_t now_ns) {
    worker->record->kept = true;
    worker->record->next_look_ns = now_ns + KEPT_LOOK_NS;
    worker->record->deadline_ns = now_ns + lasts_ns;
}

void pool_release_kept(struct pool *pool, struct worker *worker) {
    worker->record->deadline_ns = clock_now_ns() + pool_launch_of(pool, worker)->kill_timeout_ns;
    tell(pool, worker);
}

void pool_recall(struct pool *pool, struct worker *worker) {
    worker->record->keep = worker->record->kept = false;
    worker->record->wanted = true;
    pool_thaw(pool, worker);
    pool_move(pool, worker, WORKER_EVENT_RECALL, CLOCK_NEVER, NULL);
}

// Many programs shut down their listener when they are told to stop. Where they share it and Pando is not asked about that, it ends for the
// siblings too, until Pando has it listen again (listeners_watch_shared): in between, nobody else should do the same.
static bool is_its_turn(const struct pool *pool, const struct worker *worker, uint64_t now_ns) {
    const struct record_worker *record = worker->record;
    for (uint32_t i = 0; record->shuts_down_unasked && i < pool->record->slot_end; i++) {
        const struct record_worker *other = &pool->record->worker[i];
        bool ends = other != record && other->generation == record->generation && other->state == WORKER_DRAINING && other->told;
        if (ends && (other->addresses & record->addresses) != 0 && now_ns - other->told_ns < TURN_NS) return false;
    }
    return true;
}

static uint64_t last_word_ns(const struct record_worker *record) {
    uint64_t third = (record->deadline_ns - record->since_ns) / 3;
    return third < LAST_WORD_NS ? third : LAST_WORD_NS;
}

// Its channel hears of it as soon as nothing more can come to it; that of one that is kept for a rollback must not.
static void bid_farewell(struct pool *pool, struct worker *worker, uint64_t now_ns) {
    struct record_worker *record = worker->record;
    if (record->bid || (record->keep && !pool->record->stopping) || !nothing_comes(pool, worker, now_ns)) return;
    record->bid = pool->hooks.draining(pool->arg, worker);
}

// Its channel first, where it has one; the signal at once, or when what the channel was told has had its time.
static void tell_channel(struct pool *pool, struct worker *worker, uint64_t now_ns) {
    struct record_worker *record = worker->record;
    uint64_t wait_ns = pool->hooks.telling(pool->arg, worker);
    record->messaged = record->bid = true;
    if (wait_ns == 0) {
        tell(pool, worker);
    } else {
        pool_thaw(pool, worker);
        uint64_t last_ns = record->deadline_ns - last_word_ns(record);  // it is later than now
        record->next_look_ns = record->deadline_ns == CLOCK_NEVER || wait_ns < last_ns - now_ns ? now_ns + wait_ns : last_ns;
    }
}

static bool is_inside_a_call(pid_t tid, void *arg) {
    long call = procinfo_syscall(tid);
    bool *inside = arg;
    *inside = call >= 0 || call <= -1000;  // or it cannot be told
    return *inside;
}

static bool is_process_inside_calls(pid_t pid, void *arg) {
    procinfo_thread_each(pid, is_inside_a_call, arg);
    return *(bool *)arg;
}

// It shares its socket with others that go on. A thread that was frozen on its way from select(2) to accept(2) would accept as soon as it is
// thawed, before a handler that only sets a flag is heeded; so it may be only where all its threads wait and nobody is in the queue. Who is
// busy all the time is not waited for for ever.
static bool is_at_rest(struct pool *pool, struct worker *worker) {
    bool shares = false, inside = true;
    int queued = 0;
    const struct record_worker *record = worker->record;
    for (uint32_t i = 0; i < pool->record->socket_end; i++) {
        const struct record_socket *socket = &pool->record->socket[i];
        bool shared = socket->used && socket->slot == LISTENER_SHARED && (record->addresses >> socket->address & 1) != 0;
        if (!shared || (socket->generation != record->generation && !pool->record->address[socket->address].for_all)) continue;
        shares = true;
        queued += listeners_queued(&pool->listeners, (int)i);
    }
    if (!shares || worker->restless_looks++ >= RESTLESS_LOOKS) return true;
    procinfo_groups_each(pool_groups(pool), record->pid, is_process_inside_calls, &inside);
    return inside && queued <= 0;
}

static void look_frozen(struct pool *pool, struct worker *worker, uint64_t now_ns) {
    struct record_worker *record = worker->record;
    record->next_look_ns = now_ns + FREEZE_LOOK_NS;
    bool stopped = pool_group_is_stopped(pool_groups(pool), record->pid);
    if (stopped) steer_move_queues(&pool->listeners, worker->slot);
    bool cooperates = pool_launch_of(pool, worker)->cooperative && nothing_comes(pool, worker, now_ns);
    if (stopped && record->keep && !pool->record->stopping && has_finished_for_certain(pool, worker, now_ns)) {
        keep(worker, pool->record->rollout.keep_ns, now_ns);
    } else if (stopped && !is_at_rest(pool, worker)) {
        pool_thaw(pool, worker);
        record->next_look_ns = now_ns + LOOK_AGAIN_NS;
    } else if (stopped && is_its_turn(pool, worker, now_ns) && (cooperates || has_finished_for_certain(pool, worker, now_ns))) {
        tell_channel(pool, worker, now_ns);
    } else if (stopped || now_ns - record->frozen_ns > FREEZE_PATIENCE_NS) {
        pool_thaw(pool, worker);
        record->next_look_ns = now_ns + (stopped ? worker->look_again_ns : FREEZE_PATIENCE_NS);
    }
}

// It may be about to read its channel, where it will find what it is to do: better than a signal.
static bool may_open_yet(const struct record_worker *record, uint64_t now_ns) {
    return record->online && !record->opened && record->first_listen_ns == 0 && now_ns - record->started_ns < OPENING_NS;
}

// While nobody is fit, connections go to any queue, that of a frozen worker included: they are for those that come.
static void look_kept(struct pool *pool, struct worker *worker, uint64_t now_ns) {
    steer_move_queues(&pool->listeners, worker->slot);
    worker->record->next_look_ns = now_ns + KEPT_LOOK_NS;
}

void pool_drain_look(struct pool *pool, struct worker *worker, uint64_t now_ns) {
    struct record_worker *record = worker->record;
    if ((record->told && !record->frozen) || record->next_look_ns > now_ns) return;
    if (record->told) {
        look_woken(pool, worker, now_ns);
        return;
    }
    if (record->kept) {
        look_kept(pool, worker, now_ns);
        return;
    }
    bool cooperates = pool_launch_of(pool, worker)->cooperative && nothing_comes(pool, worker, now_ns);
    bid_farewell(pool, worker, now_ns);
    if (record->deadline_ns != CLOCK_NEVER && now_ns + last_word_ns(record) >= record->deadline_ns) {
        log_info("worker %d (pid %d) still %s: told to stop, killed at the deadline", worker_number(worker), record->pid,
                 record->messaged ? "runs after its message" : "has connections");
        tell(pool, worker);
    } else if (record->bid && record->opened) {
        pool_thaw(pool, worker);
        record->next_look_ns = now_ns + ENDS_ITSELF_LOOK_NS;
    } else if (record->messaged) {
        tell(pool, worker);
    } else if (may_open_yet(record, now_ns)) {
        record->next_look_ns = now_ns + LOOK_AGAIN_NS;
    } else if (record->frozen) {
        look_frozen(pool, worker, now_ns);
    } else if (!is_its_turn(pool, worker, now_ns)) {
        record->next_look_ns = now_ns + LOOK_AGAIN_NS;
    } else if (cooperates || seems_to_have_finished(pool, worker, now_ns)) {
        record->next_look_ns = now_ns + FREEZE_LOOK_NS;
        pool_freeze(pool, worker, now_ns);
    } else {
        record->next_look_ns = now_ns + worker->look_again_ns;
    }
}
