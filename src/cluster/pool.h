// SPDX-License-Identifier: MIT
// All workers of an instance: who shall run, who runs, what happens when one comes or goes. Policy without a loop: the
// primary reports events and asks for the next deadline; what only it can do comes back through the hooks.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/filter.h>

#include "error.h"
#include "generation.h"
#include "intercept.h"
#include "launch.h"
#include "link.h"
#include "message.h"
#include "listener.h"
#include "procinfo.h"
#include "record.h"
#include "worker.h"

// Descriptors of a freshly started worker; the hook's to keep.
struct pool_fds {
    int out, err;    // read ends of its standard output and error
    int ready_pipe;  // --ready fd=N; else -1
    int channel;     // our end of the worker's channel; else -1
};

// What a program that forks its own workers (libpando) gives them, in place of pipes that the primary reads.
enum { POOL_GIVEN_FD_MAX = 6 };
struct pool_given {
    int fd[POOL_GIVEN_FD_MAX];  // borrowed: becomes the worker's descriptor of that number; -1 = none (0: /dev/null)
    char *const *env;           // on top of the launch's; NULL = nothing
};

struct pool_hooks {
    void (*started)(void *arg, struct worker *worker, struct pool_fds *fds_take);
    void (*ended)(void *arg, struct worker *worker);  // its process is gone, `last_status` says how; before the state moves
    // It listens on `at` (valid for the call). NULL: not of interest.
    void (*listening)(void *arg, struct worker *worker, const struct record_address *at);
    void (*changed)(void *arg);                       // some state moved: whoever waits may look
    // Asks whoever accepts from the socket of this row, by HTTP, on behalf of this worker: pool_on_health tells what came of it.
    // False: not now, another one is being asked.
    bool (*check_health)(void *arg, struct worker *worker, int row);
    void (*progress)(void *arg, const char *line);    // of a roll-out, for whoever asked for it
    // It is drained and nothing more can come to it: its channel may be told. True: it was, and there is no way back.
    bool (*draining)(void *arg, struct worker *worker);
    // It is told to stop, while it is frozen: its channel may be told. How long its stop signal is to wait; 0 = not at all.
    uint64_t (*telling)(void *arg, struct worker *worker);
    void (*finished)(void *arg, int exit_code, const char *why);      // the instance is over; `why` NULL = as asked
};

struct pool {
    struct record *record;        // borrowed
    struct link *link;            // borrowed
    const struct launch *launch;  // borrowed: of `run`; what a generation may change is in pool_launch_of
    struct generations generations;
    struct listeners listeners;
    struct intercept intercept;
    struct worker worker[LAUNCH_WORKERS_MAX];
    struct sock_filter *filter;  // owned; NULL without interception
    size_t filter_count;
    uint64_t filter_shut_down;  // descriptor numbers whose shutdown it notifies of
    unsigned filter_flags;
    bool no_new_privs;
    int cpus;  // processors this process may use
    char notify_directory[108];  // "" = NOTIFY_SOCKETs are not possible here
    bool by_hand;  // its program forks the workers: nobody else starts or ends one
    const struct pool_given *given;  // borrowed; NULL = pipes and a channel that outlive this primary
    struct pool_hooks hooks;
    void *arg;       // of the hooks
    long oom_kills;   // seen so far; -1 = the system does not say
    bool finished;    // the hook was called
    bool unpark_due;
    struct procinfo_groups groups;  // owned; read at most once a tick
    uint64_t groups_ns;  // when
    bool groups_known;
    uint64_t arranged_ns;  // when pool_arrange last looked: what it saw then decides when to look again
    char restart_why[300];            // `pando restart` was given up; "" = it was not
};

// `pool` is zeroed storage with launch, record, link, hooks and arg set. Chooses how to intercept, unless the record knows.
int pool_open(struct pool *pool, struct pando_error *error);
void pool_close(struct pool *pool);  // half-open is fine; the record too is gone
// The first start of the instance. `slots` have sockets with queues already (given.h): so many workers run at first.
void pool_begin(struct pool *pool, int workers, int slots);

// Events.
void pool_on_exited(struct pool *pool, uint64_t token, pid_t pid, int status);
void pool_on_notification(struct pool *pool, struct worker *worker);  // its listener is readable
void pool_on_listening(struct pool *pool, struct worker *worker, int address);  // its channel says that it accepts there now
void pool_on_leaving(struct pool *pool, struct worker *worker);  // its channel says that it takes no more connections and will end
void pool_on_ready_sign(struct pool *pool, struct worker *worker);    // READY=1, or the newline
void pool_on_health(struct pool *pool, struct worker *worker, uint64_t token, bool ready);  // the answer: 2xx, or anything else
uint64_t pool_tick(struct pool *pool, uint64_t now_ns);               // does what is due; the next deadline

// A worker that is not replaced when it ends, in a free slot. NULL with the reason in `error`.
struct worker *pool_fork(struct pool *pool, struct pando_error *error);
// It finishes what it has, and is killed after `lasts_ns` (CLOCK_NEVER: never). False when it is doing so already, or is gone.
bool pool_finish(struct pool *pool, struct worker *worker, uint64_t lasts_ns);
// What a worker linked with libpando asks for: the row of a socket that listens there, or -errno; and, when that has been sent to it:
int pool_listen(struct pool *pool, struct worker *worker, const struct message_listen *wanted, int *out_address);
void pool_listening(struct pool *pool, struct worker *worker, int address, int row);
void pool_close_sockets(struct pool *pool);  // all of them: no worker is left, and none is to come

// Adoption: a child that the keeper has (pidfd and listener become the pool's), then, after all of them, the reconciling.
struct worker *pool_adopt(struct pool *pool, const struct keeper_message *child, int pidfd_take, int listener_take);
void pool_reconcile(struct pool *pool);

// Wishes. They are begun here; `changed` is called as they come true.
void pool_scale(struct pool *pool, int workers);
// -1 = all: one after the other where each has a socket of its own, else by a roll-out of the same version. A worker that ends beside others that
// go on pulling from the same socket may take a connection with it, unless its program takes care; where new ones have a socket of
// their own, the old ones are out of the way first.
void pool_restart(struct pool *pool, int number);
void pool_stop(struct pool *pool, bool now);
bool pool_is_scaled(const struct pool *pool);
const struct launch *pool_launch_of(const struct pool *pool, const struct worker *worker);
bool pool_is_restarted(const struct pool *pool);

void pool_release_paths(struct pool *pool);  // the end: second names of unix sockets
int pool_ready_count(const struct pool *pool);
struct worker *pool_by_token(struct pool *pool, uint64_t token);

// Between the files of the pool.
void pool_drain(struct pool *pool, struct worker *worker, const char *why);  // wish.c
void pool_recall(struct pool *pool, struct worker *worker);  // drain.c: DRAINING and not told yet: it serves again
void pool_release_kept(struct pool *pool, struct worker *worker);  // drain.c: it is not needed for a rollback any more
void pool_move(struct pool *pool, struct worker *worker, enum worker_event event, uint64_t lasts_ns, const char *why);
void pool_start_slot(struct pool *pool, struct worker *worker, enum worker_event event);
void pool_retire(struct pool *pool, struct worker *worker, const char *why);  // DRAINING: its time is over
void pool_give_up(struct pool *pool, int exit_code, const char *why);
void pool_check_finished(struct pool *pool);
void pool_step_restarts(struct pool *pool);
void pool_fail_restart(struct pool *pool, const struct worker *worker, const char *why);
void pool_attach_intercept(struct pool *pool);                                     // its borrowed members and callbacks
int pool_set_intercept(struct pool *pool, enum launch_intercept intercept);        // for the workers to come
int pool_fit_intercept(struct pool *pool);                                         // the same, to what the launch wants now
int pool_fit_filter(struct pool *pool, const struct worker *worker);               // the same filter, for this worker
void pool_on_lost(struct pool *pool, struct worker *worker);                       // its process is gone, nobody knows how
// start.c. On failure `out_exit_code` is that of an instance that can never start; untouched when trying again may help.
int pool_start_process(struct pool *pool, struct worker *worker, struct pando_error *error, int *out_exit_code);
void pool_judge(struct pool *pool, uint64_t now_ns);  // judge.c: how do its programs wait?
void pool_begin_judging(struct pool *pool, int address, uint32_t generation, uint64_t now_ns);  // one of it listens there
void pool_unpark(struct pool *pool);  // what parked calls wait for may be there: the next tick decides them again
uint64_t pool_rescue(struct pool *pool, uint64_t now_ns);  // rescue.c: workers whose queues do not move; when to look again
void pool_on_wakes(struct pool *pool);                     // `listeners.wakes` is readable
bool pool_group_is_stopped(const struct procinfo_groups *groups, pid_t pgrp);
const struct procinfo_groups *pool_groups(struct pool *pool);  // who is in which process group, as of this tick
const struct procinfo_groups *pool_recent_groups(struct pool *pool);  // the same, up to a second old
void pool_freeze(struct pool *pool, struct worker *worker, uint64_t now_ns);
void pool_wake_threads(struct pool *pool, struct worker *worker, uint64_t now_ns);  // drain.c: told already, it is stopped and continued
void pool_update_live(struct pool *pool, struct worker *worker);  // tells steering whether this slot is fit
void pool_check_health(struct pool *pool, struct worker *worker, uint64_t now_ns);  // health.c: is it ready? (--ready http=PATH)
bool pool_listens_on_enough(const struct pool *pool, const struct worker *worker);
void pool_drain_look(struct pool *pool, struct worker *worker, uint64_t now_ns);  // drain.c
void pool_thaw(struct pool *pool, struct worker *worker);
