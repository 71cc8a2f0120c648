// SPDX-License-Identifier: MIT
#include "worker.h"

#include <assert.h>
#include <stddef.h>

#include "clock.h"
#include "log.h"

const char *const worker_state_name[WORKER_STATE_COUNT] = {
    [WORKER_VACANT] = "vacant",       [WORKER_STARTING] = "starting", [WORKER_SERVING] = "serving",
    [WORKER_DRAINING] = "draining",   [WORKER_BACKOFF] = "backoff",   [WORKER_REPLACING] = "replacing",
    [WORKER_RETIRING] = "retiring",
};

const char *const worker_event_name[WORKER_EVENT_COUNT] = {
    [WORKER_EVENT_START] = "start",
    [WORKER_EVENT_READY] = "ready",
    [WORKER_EVENT_DIED] = "died",
    [WORKER_EVENT_DIED_IN_ROLLOUT] = "died in a roll-out",
    [WORKER_EVENT_DEADLINE] = "deadline",
    [WORKER_EVENT_DEADLINE_IN_ROLLOUT] = "deadline in a roll-out",
    [WORKER_EVENT_DRAIN] = "drain",
    [WORKER_EVENT_HUNG] = "hung",
    [WORKER_EVENT_RECALL] = "recalled",
};

// Every pair that means something; 0 = nothing. The target is stored one up, so that VACANT is not mistaken for nothing.
#define TO(state) (WORKER_##state + 1)
static const unsigned char edge[WORKER_STATE_COUNT][WORKER_EVENT_COUNT] = {
    [WORKER_VACANT] = {[WORKER_EVENT_START] = TO(STARTING)},
    [WORKER_STARTING] = {[WORKER_EVENT_READY] = TO(SERVING),
                         [WORKER_EVENT_DIED] = TO(BACKOFF),
                         [WORKER_EVENT_DIED_IN_ROLLOUT] = TO(VACANT),
                         [WORKER_EVENT_DEADLINE] = TO(STARTING),
                         [WORKER_EVENT_DEADLINE_IN_ROLLOUT] = TO(RETIRING),
                         [WORKER_EVENT_DRAIN] = TO(DRAINING)},
    [WORKER_SERVING] = {[WORKER_EVENT_DIED] = TO(BACKOFF),
                        [WORKER_EVENT_DIED_IN_ROLLOUT] = TO(BACKOFF),
                        [WORKER_EVENT_DRAIN] = TO(DRAINING),
                        [WORKER_EVENT_HUNG] = TO(REPLACING)},
    [WORKER_DRAINING] = {[WORKER_EVENT_DIED] = TO(VACANT),
                         [WORKER_EVENT_DIED_IN_ROLLOUT] = TO(VACANT),
                         [WORKER_EVENT_DEADLINE] = TO(RETIRING),
                         [WORKER_EVENT_DEADLINE_IN_ROLLOUT] = TO(RETIRING),
                         [WORKER_EVENT_RECALL] = TO(SERVING)},
    [WORKER_BACKOFF] = {[WORKER_EVENT_START] = TO(STARTING),
                        [WORKER_EVENT_DEADLINE] = TO(STARTING),
                        [WORKER_EVENT_DEADLINE_IN_ROLLOUT] = TO(STARTING),
                        [WORKER_EVENT_DRAIN] = TO(VACANT)},
    [WORKER_REPLACING] = {[WORKER_EVENT_DIED] = TO(BACKOFF),
                          [WORKER_EVENT_DIED_IN_ROLLOUT] = TO(BACKOFF),
                          [WORKER_EVENT_DRAIN] = TO(RETIRING)},
    [WORKER_RETIRING] = {[WORKER_EVENT_DIED] = TO(VACANT), [WORKER_EVENT_DIED_IN_ROLLOUT] = TO(VACANT)},
};

int worker_next(enum worker_state state, enum worker_event event) { return (int)edge[state][event] - 1; }

// What a person wants to hear about an arrival in a state; the ordinary ones are for `status`, not for the log.
static const struct {
    enum log_level level;
    const char *phrase;
} told[WORKER_STATE_COUNT] = {
    [WORKER_VACANT] = {LOG_LEVEL_DEBUG, "has ended"},
    [WORKER_STARTING] = {LOG_LEVEL_DEBUG, "starts"},
    [WORKER_SERVING] = {LOG_LEVEL_DEBUG, "is ready"},
    [WORKER_DRAINING] = {LOG_LEVEL_DEBUG, "is drained"},
    [WORKER_BACKOFF] = {LOG_LEVEL_WARN, "died"},
    [WORKER_REPLACING] = {LOG_LEVEL_WARN, "is replaced"},
    [WORKER_RETIRING] = {LOG_LEVEL_WARN, "is killed"},
};

void worker_move(struct worker *worker, enum worker_event event, uint64_t now_ns, uint64_t lasts_ns, const char *why) {
    struct record_worker *record = worker->record;
    int next = worker_next((enum worker_state)record->state, event);
    assert(next >= 0);
    record->state = (uint32_t)next;
    record->since_ns = now_ns;
    record->deadline_ns = lasts_ns == CLOCK_NEVER ? CLOCK_NEVER : now_ns + lasts_ns;
    enum log_level level = why != NULL && told[next].level == LOG_LEVEL_DEBUG ? LOG_LEVEL_INFO : told[next].level;
    log_line(level, "worker %d (pid %d) %s%s%s", worker_number(worker), record->pid, told[next].phrase, why != NULL ? ": " : "",
             why != NULL ? why : "");
}
