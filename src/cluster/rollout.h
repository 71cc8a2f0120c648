// SPDX-License-Identifier: MIT
// A change of generation: the next one starts first, the old one leaves when it is not needed any more, and comes back when
// the next one fails.
//
//   FORWARD --all of the target proven--> NONE (it serves)      --one fails--> BACK --all of the old serve--> NONE (as before)
//   CANARY --its time is over, it did no worse--> FORWARD       --it did worse, or fails--> BACK
//
// Nothing here is a sequence of steps that could be cut short: pool_arrange() looks at what there is, compares it with what
// shall be, and does the next thing. A primary that takes over calls it and goes on.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "error.h"
#include "pool.h"

struct rollout_wish {
    struct launch *launch_take;  // the next generation's
    int memfd;                   // borrowed; sealed: the same
    uint32_t canary_percent;     // 0 = none
    uint64_t canary_for_ns;
};

// Makes the workers what they shall be: as many as wanted, of the generation that shall serve. Idempotent.
void pool_arrange(struct pool *pool);

int rollout_begin(struct pool *pool, const struct rollout_wish *wish, struct pando_error *error);  // 0 or -errno
// Back to the previous generation: at once when its workers are kept, else it starts anew, under a new number.
int rollout_back(struct pool *pool, struct pando_error *error);
// The same version once more, with new workers, under a new number. What `rollout_back` leads to stays. 0 or -errno.
int rollout_again(struct pool *pool, struct pando_error *error);
void rollout_abort(struct pool *pool, const char *why);  // the one that runs fails, for this reason

bool rollout_runs(const struct pool *pool);
// It runs no more, and nobody of another generation is left but those kept for a rollback.
bool rollout_is_over(const struct pool *pool);
uint64_t rollout_next(const struct pool *pool);  // when time alone changes something

// Since it began: connections that queues gave to others, and, by the kernel's counters of this network namespace (other
// programs in it included), connections accepted and reset.
struct rollout_sums {
    uint64_t moved, served, reset;
};
struct rollout_sums rollout_sums(const struct pool *pool);

// For the life of a worker. New: of the generation that is being rolled out.
bool rollout_is_new(const struct pool *pool, const struct worker *worker);
uint64_t rollout_missing(const struct pool *pool, const struct worker *worker);  // addresses of the old one that this new one lacks
void rollout_fail(struct pool *pool, const struct worker *worker, const char *why);
void rollout_note_ready(struct pool *pool, const struct worker *worker);
void rollout_late(struct pool *pool, struct worker *worker);  // new, and not ready in time

// A stream socket that all workers of a generation share, beside those of other generations in one group: new connections are turned
// from one to the other.
bool rollout_is_turned(const struct record *record, const struct record_socket *socket);
bool rollout_turns(const struct pool *pool);  // there is one
// To the log and to whoever waits for the end of it.
void rollout_say(struct pool *pool, const char *format, ...) __attribute__((format(printf, 2, 3)));
