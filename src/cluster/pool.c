// SPDX-License-Identifier: MIT
#include "pool.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/capability.h>

#include "address.h"
#include "backoff.h"
#include "clock.h"
#include "cpus.h"
#include "fd.h"
#include "intercept_unix.h"
#include "log.h"
#include "procinfo.h"
#include "rollout.h"
#include "steer.h"
#include "str.h"

#define HEALTHY_NS (60 * CLOCK_S)          // served for so long: earlier failures are forgiven
#define ADDRESS_WINDOW_NS (500 * CLOCK_MS)  // the first worker's further addresses count as its generation's
#define SETTLE_NS (20 * CLOCK_MS)           // so long its first addresses are waited for before anyone counts as ready
#define PROBE_AGAIN_NS (100 * CLOCK_MS)
#define SWEEP_NS (5 * CLOCK_S)

enum { CRASH_LOOP_FAILURES = 3 };

// ---- helpers

void pool_move(struct pool *pool, struct worker *worker, enum worker_event event, uint64_t lasts_ns, const char *why) {
    worker_move(worker, event, clock_now_ns(), lasts_ns, why);
    pool_update_live(pool, worker);
    pool->hooks.changed(pool->arg);
}

void pool_update_live(struct pool *pool, struct worker *worker) {
    bool fit = worker_state(worker) == WORKER_SERVING && !worker->record->steered_away && !worker->record->leaving;
    listeners_set_live(&pool->listeners, worker->slot, fit);
}

struct worker *pool_by_token(struct pool *pool, uint64_t token) {
    uint64_t slot = token & 0xffff;
    if (token == 0 || slot >= pool->record->slot_end || pool->worker[slot].record->token != token) return NULL;
    return &pool->worker[slot];
}

// During a roll-out two generations may serve under the same numbers.
int pool_ready_count(const struct pool *pool) {
    int count = 0;
    for (uint32_t i = 0; i < pool->record->slot_end; i++) count += worker_state(&pool->worker[i]) == WORKER_SERVING;
    return count > (int)pool->record->wanted && rollout_runs(pool) ? (int)pool->record->wanted : count;
}

const struct launch *pool_launch_of(const struct pool *pool, const struct worker *worker) {
    return generations_launch(&pool->generations, worker->record->generation);
}

static uint32_t random_bits(void) {
    uint32_t bits = 0;
    if (getrandom(&bits, sizeof bits, GRND_NONBLOCK) != sizeof bits) bits = (uint32_t)clock_now_ns();
    return bits;
}

// ---- the end of the instance

void pool_check_finished(struct pool *pool) {
    if (!pool->record->stopping || pool->finished) return;
    for (uint32_t i = 0; i < pool->record->slot_end; i++)
        if (worker_state(&pool->worker[i]) != WORKER_VACANT) return;
    pool->finished = true;
    pool->hooks.finished(pool->arg, pool->record->exit_code, pool->record->why[0] != '\0' ? pool->record->why : NULL);
}

void pool_give_up(struct pool *pool, int exit_code, const char *why) {
    if (pool->record->stopping) return;
    pool->record->exit_code = exit_code;
    str_copy(pool->record->why, sizeof pool->record->why, why);
    pool_stop(pool, true);
}

// While a first start is awaited by somebody who wants to hear of its failure, rather than see it tried for ever.
static void check_first_start(struct pool *pool, const char *why) {
    if (pool->record->ever_ready || !(pool->launch->fail_fast || (pool->launch->detach && !pool->record->up_told))) return;
    for (uint32_t i = 0; i < pool->record->slot_end; i++)
        if (pool->worker[i].record->wanted && pool->worker[i].record->failures == 0) return;
    pool_give_up(pool, 1, why);
}

// ---- start and ready

static void become_ready(struct pool *pool, struct worker *worker) {
    struct record_worker *record = worker->record;
    pool->record->ever_ready = true;
    record->restarting = false;
    record->restart_due = record->stale;
    pool_move(pool, worker, WORKER_EVENT_READY, CLOCK_NEVER, NULL);
    rollout_note_ready(pool, worker);
    pool_step_restarts(pool);
}

static uint64_t starting_lasts_ns(const struct launch *launch) {
    return launch->ready == LAUNCH_READY_DELAY ? launch->ready_delay_ns : launch->ready_timeout_ns;
}

static void start_failed(struct pool *pool, struct worker *worker, const struct pando_error *error, int exit_code) {
    struct record_worker *record = worker->record;
    bool hopeless = !pool->record->ever_ready && exit_code != 0;
    record->failures++;
    if (rollout_is_new(pool, worker)) {
        pool_move(pool, worker, WORKER_EVENT_DIED_IN_ROLLOUT, CLOCK_NEVER, NULL);
        rollout_fail(pool, worker, error->text);
        return;
    }
    uint64_t wait = backoff_ns(record->failures + 1, random_bits());
    pool_move(pool, worker, WORKER_EVENT_DIED, wait, error->text);
    if (record->restarting) pool_fail_restart(pool, worker, error->text);
    if (hopeless) pool_give_up(pool, exit_code, error->text);
    check_first_start(pool, error->text);
}

void pool_start_slot(struct pool *pool, struct worker *worker, enum worker_event event) {
    struct pando_error error = {0};
    int exit_code = 0;
    bool first = worker->record->started_ns == 0;
    int r = pool_start_process(pool, worker, &error, &exit_code);
    if (r == 0 && !first) worker->record->restarts++;
    const struct launch *launch = pool_launch_of(pool, worker);
    pool_move(pool, worker, event, starting_lasts_ns(launch), NULL);
    // Without interception no `listen` is seen: what runs is taken as ready, unless the user named another sign.
    bool blind = pool->record->intercept == LAUNCH_INTERCEPT_NONE && launch->ready == LAUNCH_READY_LISTEN;
    if (r == 0 && blind) become_ready(pool, worker);
    if (r == 0) return;
    start_failed(pool, worker, &error, exit_code);
}

// The generation is what says that the instance has begun: killed before, a primary leaves nothing that counts.
void pool_begin(struct pool *pool, int workers, int slots) {
    struct pando_error error = {0};
    struct record *record = pool->record;
    int first = slots > workers ? slots : workers;
    // A primary that was killed over this may have made the row.
    int number = (int)record->last_generation;
    if (number == 0) number = generations_add(&pool->generations, NULL, -1, &error);
    if (number < 0) log_error("%s", error.text);
    record->started_ns = clock_now_ns();
    record->wanted = (uint32_t)first;
    record->wanted_then = first > workers ? (uint32_t)workers : 0;
    record->generation = number > 0 ? (uint32_t)number : 1;
    pool_arrange(pool);
    pool->hooks.changed(pool->arg);
}

static void step_scale(struct pool *pool) {
    uint32_t workers = pool->record->wanted_then;
    if (workers == 0 || pool->record->stopping || !pool_is_scaled(pool)) return;
    log_info("scaled to %u workers: the others were for queues that came back", workers);
    pool_scale(pool, (int)workers);
}

bool pool_listens_on_enough(const struct pool *pool, const struct worker *worker) {
    const struct record_worker *record = worker->record;
    const struct record_generation *row = generation_row(pool->record, record->generation);
    bool settled = row != NULL && clock_now_ns() - row->first_ns >= SETTLE_NS;
    return record->first_listen_ns != 0 && settled && (record->addresses & row->addresses) == row->addresses;
}

static void check_ready(struct pool *pool, struct worker *worker) {
    const struct record_worker *record = worker->record;
    const struct launch *launch = pool_launch_of(pool, worker);
    if (worker_state(worker) != WORKER_STARTING) return;
    bool ready = launch->ready == LAUNCH_READY_LISTEN
                     ? pool_listens_on_enough(pool, worker) || (record->ready_sign && record->first_listen_ns == 0)
                     : launch->ready != LAUNCH_READY_DELAY && record->ready_sign;
    if (ready && rollout_missing(pool, worker) == 0) become_ready(pool, worker);
}

void pool_on_ready_sign(struct pool *pool, struct worker *worker) {
    worker->record->ready_sign = true;
    check_ready(pool, worker);
}

static bool is_own_port(const struct pool *pool, int address) {
    int first = pool->launch->own_port, port = address < 0 ? 0 : address_port(&pool->record->address[address]);
    return first > 0 && port >= first && port < first + (int)pool->record->slot_end;
}

// What the first to listen listens on, at first and within half a second, is what its generation listens on.
static void note_generation_address(struct pool *pool, const struct worker *worker, int address, uint64_t now) {
    struct record_generation *row = generation_row(pool->record, worker->record->generation);
    if (pool->record->first_listen_ns == 0) pool->record->first_listen_ns = now;
    if (row == NULL) return;
    if (row->first_ns == 0) {
        row->first_ns = now;
        row->first_token = worker->record->token;
    }
    bool first = row->first_token == worker->record->token && !is_own_port(pool, address);
    if (first && address >= 0 && now - row->first_ns <= ADDRESS_WINDOW_NS) row->addresses |= UINT64_C(1) << address;
}

static void on_listen(void *arg, struct worker *worker, int address, const struct record_address *own) {
    struct pool *pool = arg;
    uint64_t now = pool->intercept.asked_ns;
    if (worker->record->first_listen_ns == 0) worker->record->first_listen_ns = now;
    if (address >= 0) worker->record->addresses |= UINT64_C(1) << address;
    note_generation_address(pool, worker, address, now);
    if (address >= 0) pool_begin_judging(pool, address, worker->record->generation, now);
    pool_update_live(pool, worker);
    const struct record_address *at = address >= 0 ? &pool->record->address[address] : own;
    if (at != NULL && pool->hooks.listening != NULL) pool->hooks.listening(pool->arg, worker, at);
    check_ready(pool, worker);
    pool_unpark(pool);
}

void pool_on_listening(struct pool *pool, struct worker *worker, int address) {
    pool->intercept.asked_ns = clock_now_ns();
    on_listen(pool, worker, address, NULL);
}

// One that stays for longer than its kill time-out is replaced as if by `pando restart`.
void pool_on_leaving(struct pool *pool, struct worker *worker) {
    bool serving = worker_state(worker) == WORKER_SERVING;
    if (!worker->record->leaving && serving) worker->record->deadline_ns = clock_now_ns() + pool->launch->kill_timeout_ns;
    worker->record->leaving = true;
    pool_update_live(pool, worker);
    pool->hooks.changed(pool->arg);
}

static void on_stayed(struct pool *pool, struct worker *worker) {
    worker->record->deadline_ns = CLOCK_NEVER;
    if (!worker->record->leaving) return;
    worker->record->restart_due = true;
    pool_step_restarts(pool);
}

// ---- notifications

static void on_hidden(void *arg, struct worker *worker) {
    struct pool *pool = arg;
    if (worker->record->foreign) {
        log_warn("worker %d hides its memory from the new keeper, which is not its ancestor (Yama): it starts again", worker->slot);
    } else if (pool->record->intercept == LAUNCH_INTERCEPT_READ) {
        pool_set_intercept(pool, LAUNCH_INTERCEPT_HAND);
        log_line(pool->by_hand ? LOG_LEVEL_ERROR : LOG_LEVEL_WARN,
                 "worker %d hides its memory from Pando (it changed its user, or a security module forbids): from now on it is "
                 "handed its sockets when it makes them%s",
                 worker_number(worker), pool->by_hand ? "; this one is killed" : ", and starts again");
    }
    link_kill(pool->link, worker->record->pid, SIGKILL, true);
}

// Whoever drains and was told is left alone otherwise. Another one stops taking connections, and may begin again.
static void on_shut(void *arg, struct worker *worker) {
    struct pool *pool = arg;
    if (worker_state(worker) == WORKER_DRAINING && worker->record->told) pool_wake_threads(pool, worker, clock_now_ns());
}

void pool_attach_intercept(struct pool *pool) {
    pool->intercept.record = pool->record;
    pool->intercept.link = pool->link;
    pool->intercept.listeners = &pool->listeners;
    pool->intercept.launch = pool->launch;
    pool->intercept.arg = pool;
    pool->intercept.on_listen = on_listen;
    pool->intercept.on_shut = on_shut;
    pool->intercept.on_hidden = on_hidden;
}

void pool_unpark(struct pool *pool) {
    pool->unpark_due = true;
    pool->hooks.changed(pool->arg);
}

static void unpark_all(struct pool *pool) {
    pool->unpark_due = false;
    for (uint32_t i = 0; i < pool->record->slot_end; i++) intercept_unpark(&pool->intercept, &pool->worker[i]);
}

void pool_on_notification(struct pool *pool, struct worker *worker) {
    if (!intercept_on_readable(&pool->intercept, worker)) fd_close(&worker->listener);
}

// ---- death

static const char *death_text(const struct record_worker *record, char *out, size_t size) {
    int status = record->last_status;
    if (record->last_oom)
        snprintf(out, size, "killed by the kernel for lack of memory");
    else if (status == KEEPER_STATUS_UNKNOWN)
        snprintf(out, size, "ended, nobody could see how: its keeper had been killed");
    else if (WIFSIGNALED(status))
        snprintf(out, size, "killed by signal %s%s", str_signal(WTERMSIG(status)), WCOREDUMP(status) ? " (core dumped)" : "");
    else
        snprintf(out, size, "ended with code %d", WEXITSTATUS(status));
    return out;
}

static bool killed_for_memory(struct pool *pool, int status) {
    if (status == KEEPER_STATUS_UNKNOWN || !WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) return false;
    long before = pool->oom_kills;
    pool->oom_kills = procinfo_oom_kills();
    return before >= 0 && pool->oom_kills > before;
}

// A ready worker that a person killed has not failed.
static void count_failure(const struct pool *pool, struct worker *worker) {
    struct record_worker *record = worker->record;
    bool served = worker_state(worker) == WORKER_SERVING;
    bool by_hand = served && record->last_status != KEEPER_STATUS_UNKNOWN && WIFSIGNALED(record->last_status) && WTERMSIG(record->last_status) == SIGKILL && !record->last_oom &&
                   pool->oom_kills >= 0;
    bool healthy = served && clock_now_ns() - record->since_ns >= HEALTHY_NS;
    record->failures = by_hand ? 0 : healthy ? 1 : record->failures + 1;
}

static void explain_death(const struct worker *worker, uint64_t wait_ns, char *out, size_t size) {
    const struct record_worker *record = worker->record;
    char how[96], wait[32];
    death_text(record, how, sizeof how);
    bool early = worker_state(worker) == WORKER_STARTING;
    int len = snprintf(out, size, "%s%s", how, early ? " before it was ready" : "");
    if (early && WIFEXITED(record->last_status) && WEXITSTATUS(record->last_status) == 0)
        len += snprintf(out + len, size - (size_t)len,
                        "; a server that puts itself into the background must be told to stay in the foreground");
    if (record->failures >= CRASH_LOOP_FAILURES)
        len += snprintf(out + len, size - (size_t)len, "; crash loop: %u in a row, next start in %s", record->failures,
                        str_duration(wait_ns, wait, sizeof wait));
    if (early && record->tail[0] != '\0') snprintf(out + len, size - (size_t)len, "; it last wrote: %s", record->tail);
}

static void let_go_of_process(struct pool *pool, struct worker *worker) {
    struct record_worker *record = worker->record;
    intercept_forget(&pool->intercept, record->token);
    fd_close(&worker->pidfd);
    fd_close(&worker->listener);
    record->pid = 0;
    if (record->token == pool->record->scout_token) pool->record->scout_token = 0;
    record->token = 0;
    record->parked.id = 0;
    record->frozen = record->steered_away = record->foreign = false;
    record->noticed_ns = record->stuck_ns = record->rescue_ns = 0;
    for (int a = 0; a < RECORD_ADDRESS_MAX; a++) {
        struct record_address *at = &pool->record->address[a];
        if ((record->addresses >> a & 1) != 0 && at->at.any.sa_family == AF_UNIX && !pool->record->stopping)
            intercept_unix_restore(at, pool->launch->has_user ? pool->launch->uid : geteuid());
    }
    record->addresses = record->asked = 0;
    record->keep = record->kept = false;
    pool_unpark(pool);
}

static void after_death(struct pool *pool, struct worker *worker) {
    switch (worker_state(worker)) {
        case WORKER_BACKOFF:
            if (pool->by_hand) {
                pool_move(pool, worker, WORKER_EVENT_DRAIN, CLOCK_NEVER, NULL);
                listeners_close_slot(&pool->listeners, worker->slot);
            } else if (worker->record->deadline_ns <= clock_now_ns()) {
                pool_start_slot(pool, worker, WORKER_EVENT_START);
            }
            break;
        case WORKER_VACANT:
            if (worker->record->wanted)
                pool_start_slot(pool, worker, WORKER_EVENT_START);
            else
                listeners_close_slot(&pool->listeners, worker->slot);
            break;
        case WORKER_STARTING:
        case WORKER_SERVING:
        case WORKER_DRAINING:
        case WORKER_REPLACING:
        case WORKER_RETIRING:
        case WORKER_STATE_COUNT: break;
    }
    pool_check_finished(pool);
}

static uint64_t told_addresses(const struct pool *pool) {
    uint64_t addresses = 0;
    for (uint32_t i = 0; i < pool->record->slot_end; i++)
        if (pool->record->worker[i].told) addresses |= pool->record->worker[i].addresses;
    return addresses;
}

static void died(struct pool *pool, struct worker *worker, int status) {
    struct record_worker *record = worker->record;
    enum worker_state was = worker_state(worker);
    char why[PANDO_ERROR_TEXT_SIZE];
    if (record->cut_short && status != KEEPER_STATUS_UNKNOWN && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) status = pool_launch_of(pool, worker)->stop_signal;
    record->last_status = status;
    pool->hooks.ended(pool->arg, worker);
    if (worker_next(was, WORKER_EVENT_DIED) < 0) {  // a process that its primary did not live to write down
        let_go_of_process(pool, worker);
        after_death(pool, worker);
        return;
    }
    record->has_last = true;
    record->last_oom = killed_for_memory(pool, status);
    bool unexpected = was == WORKER_STARTING || was == WORKER_SERVING;
    if (unexpected) count_failure(pool, worker);
    bool fails_rollout = unexpected && record->failures > 0 && rollout_is_new(pool, worker);
    enum worker_event event = fails_rollout ? WORKER_EVENT_DIED_IN_ROLLOUT : WORKER_EVENT_DIED;
    uint64_t wait = was == WORKER_REPLACING ? 0 : backoff_ns(record->failures, random_bits());
    explain_death(worker, wait, why, sizeof why);
    pool_move(pool, worker, event, worker_next(was, event) == WORKER_BACKOFF ? wait : CLOCK_NEVER, unexpected ? why : NULL);
    uint64_t addresses = record->addresses;
    let_go_of_process(pool, worker);
    listeners_watch_shared(&pool->listeners, addresses & ~told_addresses(pool), false);
    if (!pool->record->stopping) listeners_again_shared(&pool->listeners, addresses);
    if (fails_rollout) rollout_fail(pool, worker, why);
    steer_move_queues(&pool->listeners, worker->slot);
    if (unexpected && record->restarting) pool_fail_restart(pool, worker, why);
    if (unexpected) check_first_start(pool, why);
    after_death(pool, worker);
}

// The keeper forgets only what has been acted on: a primary killed in between is told again.
void pool_on_exited(struct pool *pool, uint64_t token, pid_t pid, int status) {
    struct worker *worker = pool_by_token(pool, token);
    if (worker != NULL && worker->record->pid == pid) died(pool, worker, status);
    link_forget(pool->link, pid);
}

void pool_on_lost(struct pool *pool, struct worker *worker) { died(pool, worker, SIGKILL); }

// ---- deadlines

void pool_retire(struct pool *pool, struct worker *worker, const char *why) {
    pool_move(pool, worker, WORKER_EVENT_DEADLINE, CLOCK_NEVER, why);
    link_kill(pool->link, worker->record->pid, SIGKILL, true);
}

// In a crash loop one worker at a time tries its luck; the others wait for their turn.
static bool probe_is_out(const struct pool *pool) {
    for (uint32_t i = 0; i < pool->record->slot_end; i++) {
        const struct worker *other = &pool->worker[i];
        if (worker_state(other) == WORKER_STARTING && other->record->failures >= CRASH_LOOP_FAILURES) return true;
    }
    return false;
}

static void on_backoff_over(struct pool *pool, struct worker *worker, uint64_t now_ns) {
    if (worker->record->failures >= CRASH_LOOP_FAILURES && probe_is_out(pool))
        worker->record->deadline_ns = now_ns + PROBE_AGAIN_NS;
    else
        pool_start_slot(pool, worker, WORKER_EVENT_DEADLINE);
}

// A program that never listens is ready after all when no other sign was asked for; else it may still come.
static void on_start_late(struct pool *pool, struct worker *worker) {
    struct record_worker *record = worker->record;
    const struct launch *launch = pool_launch_of(pool, worker);
    char limit[32], why[160];
    str_duration(launch->ready_timeout_ns, limit, sizeof limit);
    if (rollout_is_new(pool, worker) && (launch->ready != LAUNCH_READY_DELAY || rollout_missing(pool, worker) != 0)) {
        rollout_late(pool, worker);
    } else if (launch->ready == LAUNCH_READY_DELAY) {
        become_ready(pool, worker);
    } else if (launch->ready == LAUNCH_READY_LISTEN && record->first_listen_ns == 0) {
        log_warn("worker %d (pid %d) has not listened on any address for %s (--ready-timeout): taken as ready, kept running",
                 worker_number(worker), record->pid, limit);
        become_ready(pool, worker);
    } else {
        snprintf(why, sizeof why, "not ready after %s (--ready-timeout): kept running, it may still come", limit);
        pool_move(pool, worker, WORKER_EVENT_DEADLINE, CLOCK_NEVER, why);
        if (pool->launch->detach && !pool->record->up_told && !pool->record->ever_ready) pool_give_up(pool, 1, why);
    }
}

static void on_deadline(struct pool *pool, struct worker *worker, uint64_t now_ns) {
    switch (worker_state(worker)) {
        case WORKER_STARTING: on_start_late(pool, worker); break;
        case WORKER_BACKOFF: on_backoff_over(pool, worker, now_ns); break;
        case WORKER_DRAINING:
            if (worker->record->kept) pool_release_kept(pool, worker);
            else pool_retire(pool, worker, "its time to finish (--kill-timeout) is over");
            break;
        case WORKER_SERVING: on_stayed(pool, worker); break;
        case WORKER_VACANT:
        case WORKER_REPLACING:
        case WORKER_RETIRING:
        case WORKER_STATE_COUNT: worker->record->deadline_ns = CLOCK_NEVER; break;
    }
}

static uint64_t earlier(uint64_t a, uint64_t b) { return a < b ? a : b; }

static uint64_t next_deadline(const struct pool *pool, uint64_t now_ns) {
    uint64_t next = rollout_next(pool);
    for (uint32_t i = 0; i < pool->record->slot_end; i++) {
        const struct record_worker *record = pool->worker[i].record;
        const struct record_generation *row = generation_row(pool->record, record->generation);
        uint64_t settles_ns = row != NULL ? row->first_ns + SETTLE_NS : 0;
        next = earlier(next, record->deadline_ns);
        if (record->state == WORKER_DRAINING && (!record->told || record->frozen)) next = earlier(next, record->next_look_ns);
        if (record->state == WORKER_STARTING && record->first_listen_ns != 0 && settles_ns > now_ns) next = earlier(next, settles_ns);
        bool asks = record->state == WORKER_STARTING && pool_launch_of(pool, &pool->worker[i])->ready == LAUNCH_READY_HTTP;
        if (asks && record->first_listen_ns != 0 && record->ask_ns > now_ns) next = earlier(next, record->ask_ns);
    }
    for (int a = 0; a < RECORD_ADDRESS_MAX; a++) {
        const struct record_address *at = &pool->record->address[a];
        if (at->used && at->listened && !at->judged) next = earlier(next, at->look_ns);
    }
    if (pool->record->intercept == LAUNCH_INTERCEPT_HAND) next = earlier(next, now_ns + SWEEP_NS);
    return earlier(next, pool->listeners.again_ns);
}

// What is frozen was frozen in an earlier tick: nobody can have joined its group since.
const struct procinfo_groups *pool_groups(struct pool *pool) {
    if (!pool->groups_known) {
        procinfo_groups_read(&pool->groups);
        pool->groups_ns = clock_now_ns();
    }
    pool->groups_known = true;
    return &pool->groups;
}

const struct procinfo_groups *pool_recent_groups(struct pool *pool) {
    bool recent = pool->groups_ns != 0 && clock_now_ns() - pool->groups_ns < CLOCK_S;
    return recent ? &pool->groups : pool_groups(pool);
}

uint64_t pool_tick(struct pool *pool, uint64_t now_ns) {
    pool->groups_known = false;
    if (pool->unpark_due) unpark_all(pool);
    if (pool->listeners.again_ns <= now_ns) {
        pool->listeners.again_ns = CLOCK_NEVER;
        if (!pool->record->stopping) listeners_again_shared(&pool->listeners, UINT64_MAX);
    }
    for (uint32_t i = 0; i < pool->record->slot_end; i++) {
        struct worker *worker = &pool->worker[i];
        if (worker_state(worker) == WORKER_DRAINING) pool_drain_look(pool, worker, now_ns);
        pool_check_health(pool, worker, now_ns);
        check_ready(pool, worker);
        if (worker->record->deadline_ns <= now_ns) on_deadline(pool, worker, now_ns);
    }
    pool_judge(pool, now_ns);
    uint64_t again_ns = earlier(pool_rescue(pool, now_ns), steer_look_for_strangers(&pool->listeners, now_ns));
    pool_arrange(pool);
    pool_step_restarts(pool);
    step_scale(pool);
    if (pool->record->intercept == LAUNCH_INTERCEPT_HAND) handed_sweep(&pool->intercept.handed, now_ns);
    return earlier(again_ns, next_deadline(pool, now_ns));
}
