// SPDX-License-Identifier: MIT
// The beginning of a pool: how to intercept here, and the taking over of what a dead primary left.
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/capability.h>

#include "clock.h"
#include "cpus.h"
#include "fd.h"
#include "intercept_unix.h"
#include "log.h"
#include "pool.h"
#include "procinfo.h"
#include "rollout.h"
#include "seccomp_notify.h"
#include "steer.h"
#include "str.h"

static bool has_capability(int capability) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {0};
    if (syscall(SYS_capget, &header, data) != 0) return false;
    return (data[capability / 32].effective >> (capability % 32) & 1) != 0;
}

// Duplicating one's own descriptor is always allowed, unless the system call itself is filtered, as in stock containers.
static bool may_getfd(void) {
    scoped_fd pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
    scoped_fd copy = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, pidfd, 0);
    return copy >= 0;
}

static enum launch_intercept choose(const struct launch *launch) {
    if (launch->intercept != LAUNCH_INTERCEPT_AUTO) return launch->intercept;
    bool foreign = launch->has_user && launch->uid != geteuid() && !has_capability(CAP_SYS_PTRACE);
    return foreign || !may_getfd() ? LAUNCH_INTERCEPT_HAND : LAUNCH_INTERCEPT_READ;
}

// Slot mode wherever it works, unless the user says otherwise. What only slot mode can do is refused where it does not.
static int choose_mode(struct pool *pool, struct pando_error *error) {
    struct record *record = pool->record;
    const struct launch *launch = pool->launch;
    struct pando_error why = {0};
    bool wanted = launch->mode != LAUNCH_MODE_PULL && record->intercept != LAUNCH_INTERCEPT_NONE;
    int r = wanted ? steer_prepare(&pool->listeners, &why) : -EINVAL;
    bool blind = r == 0 && !pool->listeners.sees_queues;
    if (blind && launch->mode == LAUNCH_MODE_AUTO && launch->balance == LAUNCH_BALANCE_AUTO) {
        r = error_say(&why, EPERM, "one socket each would be worse: no queue that does not move would be seen (that needs CAP_PERFMON)");
        steer_unprepare(&pool->listeners);
    }
    if (!wanted) str_copy(why.text, sizeof why.text, launch->mode == LAUNCH_MODE_PULL ? "asked for by --balance-mode" : "nothing is intercepted");
    if (r != 0 && launch->mode == LAUNCH_MODE_SLOT)
        return error_say(error, ENOTSUP, "--balance-mode slot: %s", why.text);
    if (r != 0 && launch->balance == LAUNCH_BALANCE_RR && !launch_is_node_cluster(launch))
        return error_say(error, ENOTSUP, "--balance rr: only slot mode can take exact turns, and it is not in force: %s", why.text);
    record->mode = r == 0 ? LAUNCH_MODE_SLOT : LAUNCH_MODE_PULL;
    str_copy(record->mode_why, sizeof record->mode_why, r == 0 ? "eBPF steering works here" : why.text);
    const char *lacks = steer_lacks(&pool->listeners);
    if (r == 0 && lacks[0] != '\0')
        snprintf(record->mode_why, sizeof record->mode_why, "eBPF steering works here, but %s%s", lacks, blind ? "; nobody is rescued" : "");
    if (blind && r == 0 && pool->listeners.patience_ns > 0)
        log_warn("no connection will be taken back from a stuck worker: seeing that one is stuck needs CAP_PERFMON");
    return 0;
}

int pool_set_intercept(struct pool *pool, enum launch_intercept intercept) {
    free(pool->filter);
    pool->filter = NULL;
    pool->filter_count = 0;
    pool->filter_shut_down = 0;
    pool->record->intercept = intercept;
    pool->filter_flags = notify_filter_flags();
    pool->no_new_privs = !has_capability(CAP_SYS_ADMIN);
    if (intercept == LAUNCH_INTERCEPT_NONE) {
        pool->no_new_privs = false;
        return 0;
    }
    enum notify_filter kind = intercept == LAUNCH_INTERCEPT_HAND ? NOTIFY_FILTER_HAND : NOTIFY_FILTER_READ;
    return notify_filter_build(kind, 0, &pool->filter, &pool->filter_count);
}

// Copies of a program listen at the same descriptor, and no connection has its number while it is open.
static uint64_t expected_numbers(struct record *record, uint32_t generation) {
    const struct record_generation *own = generation_row(record, generation), *serving = generation_row(record, record->generation);
    if (own != NULL && own->listening != 0) return own->listening;
    return serving != NULL ? serving->listening : 0;
}

// Who shuts down a socket that it shares would shut it down for all: that is answered without doing it (intercept.c). Only for the
// numbers at which a listener is expected: many programs shut down each of their connections, and a notification is dear.
int pool_fit_filter(struct pool *pool, const struct worker *worker) {
    struct sock_filter *filter = NULL;
    size_t count = 0;
    if (pool->record->intercept != LAUNCH_INTERCEPT_READ || pool->record->mode != LAUNCH_MODE_PULL) return 0;
    uint64_t shut_down = expected_numbers(pool->record, worker->record->generation);
    if (shut_down == pool->filter_shut_down) return 0;
    int r = notify_filter_build(NOTIFY_FILTER_READ, shut_down, &filter, &count);
    if (r != 0) return r;
    free(pool->filter);
    pool->filter = filter;
    pool->filter_count = count;
    pool->filter_shut_down = shut_down;
    return 0;
}

int pool_fit_intercept(struct pool *pool) {
    bool must_hand = pool->record->intercept == LAUNCH_INTERCEPT_READ && choose(pool->launch) == LAUNCH_INTERCEPT_HAND;
    return must_hand ? pool_set_intercept(pool, LAUNCH_INTERCEPT_HAND) : 0;
}

int pool_open(struct pool *pool, struct pando_error *error) {
    struct record *record = pool->record;
    struct cpus cpus;
    cpus_read(&cpus, "/proc", "");
    pool->cpus = cpus.count;
    pool->oom_kills = procinfo_oom_kills();
    for (uint32_t i = 0; i < LAUNCH_WORKERS_MAX; i++)
        pool->worker[i] = (struct worker){.record = &record->worker[i], .slot = (int)i, .pidfd = -1, .listener = -1};
    generations_init(&pool->generations, record, pool->link, pool->launch);
    listeners_init(&pool->listeners, record, pool->link, pool->launch);
    pool_attach_intercept(pool);
    int r = intercept_init(&pool->intercept);
    if (r != 0) return error_set(error, -r, "start: make an epoll instance");
    r = pool_set_intercept(pool, record->intercept != LAUNCH_INTERCEPT_AUTO ? record->intercept : choose(pool->launch));
    if (r != 0) return error_set(error, -r, "start: build the seccomp filter");
    return record->mode != LAUNCH_MODE_AUTO ? 0 : choose_mode(pool, error);
}

void pool_close(struct pool *pool) {
    if (pool->record == NULL) return;
    bool opened = pool->worker[0].record != NULL;
    for (uint32_t i = 0; i < LAUNCH_WORKERS_MAX && opened; i++) {
        fd_close(&pool->worker[i].pidfd);
        fd_close(&pool->worker[i].listener);
    }
    if (opened) {
        pool_release_paths(pool);
        generations_deinit(&pool->generations);
        listeners_deinit(&pool->listeners);
        handed_deinit(&pool->intercept.handed);
    }
    procinfo_groups_deinit(&pool->groups);
    free(pool->filter);
    pool->filter = NULL;
    munmap(pool->record, sizeof *pool->record);
    pool->record = NULL;
}

// ---- adoption

struct worker *pool_adopt(struct pool *pool, const struct keeper_message *child, int pidfd_take, int listener_take) {
    struct worker *worker = pool_by_token(pool, child->key);
    if (worker == NULL) {
        // Spawned by a primary that died before it wrote that down: nobody knows it, nobody has heard of it.
        link_kill(pool->link, child->pid, SIGKILL, true);
        fd_close(&pidfd_take);
        fd_close(&listener_take);
        return NULL;
    }
    worker->record->pid = child->pid;
    worker->record->foreign = child->foreign;
    worker->pidfd = pidfd_take;
    worker->listener = listener_take;
    return worker;
}

// What it will listen on is a descriptor that the primary before us had.
static void start_again(struct pool *pool, struct worker *worker) {
    log_info("worker %d starts again: the sockets that it was handed went with the last primary", worker->slot);
    link_kill(pool->link, worker->record->pid, SIGKILL, true);
}

// Idempotent: each step may have been done already, by a primary that was killed right after it.
static void reconcile_worker(struct pool *pool, struct worker *worker) {
    struct record_worker *record = worker->record;
    if (record->pid != 0 && worker->pidfd < 0) record->pid = 0;
    if (record->pid == 0) record->token = 0;
    record->ask_ns = 0;
    if (!record->kept) pool_thaw(pool, worker);
    if (record->told) listeners_watch_shared(&pool->listeners, record->addresses, true);
    intercept_resume(&pool->intercept, worker);
    switch (worker_state(worker)) {
        case WORKER_VACANT:
            if (record->pid != 0) link_kill(pool->link, record->pid, SIGKILL, true);
            else if (record->wanted && !pool->record->stopping) pool_start_slot(pool, worker, WORKER_EVENT_START);
            else listeners_close_slot(&pool->listeners, worker->slot);
            break;
        case WORKER_STARTING:
            if (record->pid == 0) pool_on_lost(pool, worker);
            else if (record->intercept == LAUNCH_INTERCEPT_HAND && record->first_listen_ns == 0) start_again(pool, worker);
            break;
        case WORKER_SERVING:
        case WORKER_DRAINING:
            if (record->pid == 0) pool_on_lost(pool, worker);
            break;
        case WORKER_REPLACING:
        case WORKER_RETIRING:
            if (record->pid == 0) pool_on_lost(pool, worker);
            else link_kill(pool->link, record->pid, SIGKILL, true);
            break;
        case WORKER_BACKOFF:
            if (record->pid != 0) link_kill(pool->link, record->pid, SIGKILL, true);
            break;
        case WORKER_STATE_COUNT: break;
    }
}

void pool_reconcile(struct pool *pool) {
    listeners_reconcile(&pool->listeners);
    for (uint32_t i = 0; i < pool->record->slot_end; i++) reconcile_worker(pool, &pool->worker[i]);
    pool->record->notified_token = 0;
    if (pool->record->stopping) pool_stop(pool, false);
    pool_unpark(pool);
    pool_arrange(pool);
    pool_step_restarts(pool);
    pool_check_finished(pool);
}

void pool_release_paths(struct pool *pool) {
    uid_t uid = pool->launch->has_user ? pool->launch->uid : geteuid();
    for (int a = 0; a < RECORD_ADDRESS_MAX; a++) {
        const struct record_address *at = &pool->record->address[a];
        if (at->used && at->listened && at->at.any.sa_family == AF_UNIX) intercept_unix_release(at, uid);
    }
}
