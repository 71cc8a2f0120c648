// SPDX-License-Identifier: MIT
// The life of a worker: one table, one writer of the state.
//
//  VACANT --start--> STARTING --ready--> SERVING --drain--> DRAINING --died--> VACANT            the good life
//  STARTING --died--> BACKOFF --deadline--> STARTING        SERVING --died--> BACKOFF            died early / at work
//  STARTING --died in a roll-out--> VACANT                  the roll-out stops, the old serve on
//  STARTING --deadline--> STARTING (warned once)            first start, respawn: it may still come
//  STARTING --deadline in a roll-out--> RETIRING            SERVING --hung--> REPLACING --died--> BACKOFF (no wait)
//  DRAINING --deadline--> RETIRING --died--> VACANT         REPLACING --drain--> RETIRING
//  STARTING --drain--> DRAINING                             BACKOFF --drain--> VACANT
//  DRAINING --recall--> SERVING                             a rollback, before it was told to stop
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "connections.h"
#include "record.h"

enum worker_state {
    WORKER_VACANT,     // no process, none due
    WORKER_STARTING,   // the process runs and is not ready yet
    WORKER_SERVING,    // ready: connections may come
    WORKER_DRAINING,   // finishes what it has; then it is told to stop
    WORKER_BACKOFF,    // died; the next start waits for its time
    WORKER_REPLACING,  // killed because it hung; a successor follows at once
    WORKER_RETIRING,   // killed for good: its time to drain was over
    WORKER_STATE_COUNT
};

enum worker_event {
    WORKER_EVENT_START,
    WORKER_EVENT_READY,
    WORKER_EVENT_DIED,
    WORKER_EVENT_DIED_IN_ROLLOUT,
    WORKER_EVENT_DEADLINE,
    WORKER_EVENT_DEADLINE_IN_ROLLOUT,
    WORKER_EVENT_DRAIN,
    WORKER_EVENT_HUNG,
    WORKER_EVENT_RECALL,
    WORKER_EVENT_COUNT
};

extern const char *const worker_state_name[WORKER_STATE_COUNT];  // lower case: what `status` shows
extern const char *const worker_event_name[WORKER_EVENT_COUNT];

struct worker {
    struct record_worker *record;  // borrowed: the memfd
    int slot;      // its place: of its record, of its sockets, in steering. What the user sees is its number
    int pidfd;     // owned; -1 = no process
    int listener;  // owned; seccomp notifications; -1 = none
    void *watches;  // owned: primary/watch
    struct connections_others others;  // its sockets that are no connections, as far as known
    enum connections found;            // while it is drained: at the last look at its connections
    uint64_t ask_kernel_ns;            // when to ask the kernel about them; 0 = not decided
    unsigned restless_looks;           // so often it was frozen and not at rest
    uint64_t look_again_ns;            // to wait for before the next one
};

// The state that `event` leads to, or -1 when it means nothing in that state.
int worker_next(enum worker_state state, enum worker_event event);

// The one writer of the state. Asserts that the table allows the event; sets `since` and the deadline (`lasts_ns` from
// `now_ns`; CLOCK_NEVER = none); logs the one line, with `why` (may be NULL).
void worker_move(struct worker *worker, enum worker_event event, uint64_t now_ns, uint64_t lasts_ns, const char *why);

// PANDO_WORKER, and SLOT in `pando status`.
static inline int worker_number(const struct worker *worker) { return (int)worker->record->number; }
static inline enum worker_state worker_state(const struct worker *worker) { return (enum worker_state)worker->record->state; }
static inline bool worker_runs(const struct worker *worker) { return worker->record->pid != 0; }
