// SPDX-License-Identifier: MIT
// What is to be said follows from the record; what was said is known here. Whatever differs is said, and tried again while the
// supervisor does not take it. The keeper is the one that speaks: it is the process that the supervisor knows.
#include "supervisor.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "log.h"
#include "primary.h"
#include "store.h"
#include "str.h"

enum { RETRY_MS = 100 };

enum phase { PHASE_NONE, PHASE_STARTING, PHASE_READY, PHASE_RELOADING, PHASE_STOPPING };

struct supervisor {
    struct primary *primary;  // borrowed
    uv_timer_t watchdog, retry;
    enum phase said;
    char status[80];  // said last
    pid_t main_pid;   // to be told; 0 = it is known
    bool gone;        // nobody listens (any more)
    bool complained;
};

static int say(struct supervisor *supervisor, const char *format, ...) {
    char text[CHANNEL_DATA_SIZE];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return supervisor->primary->keeper_gone ? -EPIPE : link_notify(&supervisor->primary->link, text, -1);
}

// ---- what there is to say

static enum phase phase_of(const struct record *record) {
    if (record->stopping) return PHASE_STOPPING;
    if (!record->up_told) return PHASE_STARTING;
    return record->reloading ? PHASE_RELOADING : PHASE_READY;
}

static int say_ready(struct supervisor *supervisor) {
    if (supervisor->main_pid == 0) return say(supervisor, "READY=1");
    return say(supervisor, "READY=1\nMAINPID=%d", (int)supervisor->main_pid);
}

static int say_phase(struct supervisor *supervisor, enum phase phase) {
    switch (phase) {
        case PHASE_READY: return say_ready(supervisor);
        case PHASE_RELOADING:  // the time tells this reload from an earlier one
            return say(supervisor, "RELOADING=1\nMONOTONIC_USEC=%llu", (unsigned long long)(clock_now_ns() / CLOCK_US));
        case PHASE_STOPPING: return say(supervisor, "STOPPING=1");
        case PHASE_NONE:
        case PHASE_STARTING: break;
    }
    return 0;
}

// Who must be ready before a reload can begin: that order is the supervisor's.
static int update_phase(struct supervisor *supervisor) {
    enum phase phase = phase_of(supervisor->primary->pool.record);
    int r = 0;
    if (phase == supervisor->said) return 0;
    if (phase == PHASE_RELOADING && supervisor->said < PHASE_READY) r = say_phase(supervisor, PHASE_READY);
    if (r == 0) r = say_phase(supervisor, phase);
    if (r == 0) supervisor->said = phase;
    return r;
}

static int update_status(struct supervisor *supervisor) {
    const struct record *record = supervisor->primary->pool.record;
    char text[sizeof supervisor->status];
    snprintf(text, sizeof text, "%s%d of %u workers ready",
             record->stopping    ? "stopping: "
             : record->reloading ? "reloading: "
                                 : "",
             pool_ready_count(&supervisor->primary->pool), record->wanted);
    if (strcmp(text, supervisor->status) == 0) return 0;
    int r = say(supervisor, "STATUS=%s", text);
    if (r == 0) str_copy(supervisor->status, sizeof supervisor->status, text);
    return r;
}

// ---- saying it

static void on_retry(uv_timer_t *timer) { supervisor_update(timer->data); }

static void failed(struct supervisor *supervisor, int r) {
    if (r == -EPIPE || r == -ENOTCONN) supervisor->gone = true;
    if (supervisor->gone) return;
    uv_timer_start(&supervisor->retry, on_retry, RETRY_MS, 0);
    if (r == -EAGAIN || supervisor->complained) return;
    supervisor->complained = true;
    log_warn("telling the supervisor by NOTIFY_SOCKET: %s; trying on", strerror(-r));
}

void supervisor_update(struct supervisor *supervisor) {
    if (supervisor == NULL || supervisor->gone) return;
    int r = update_phase(supervisor);
    if (r == 0) r = update_status(supervisor);
    if (r == 0) r = store_update(&supervisor->primary->pool.listeners);
    if (r != 0) failed(supervisor, r);
}

void supervisor_reloading(struct supervisor *supervisor) {
    if (supervisor == NULL) return;
    supervisor->primary->pool.record->reloading = true;
    if (supervisor->said == PHASE_RELOADING) supervisor->said = PHASE_READY;  // asked again, it wants to hear it again
    supervisor_update(supervisor);
}

void supervisor_ready(struct supervisor *supervisor) {
    if (supervisor == NULL) return;
    supervisor->primary->pool.record->reloading = false;
    supervisor_update(supervisor);
}

void supervisor_finished(struct supervisor *supervisor, const char *why) {
    supervisor_update(supervisor);
    if (supervisor != NULL && !supervisor->gone && why != NULL) say(supervisor, "STATUS=%.100s", why);
}

// ---- life

// One that is lost for a full queue is made up for by the next.
static void on_watchdog(uv_timer_t *timer) { say(timer->data, "WATCHDOG=1"); }

// sd_watchdog_enabled(3): half of the time is the interval.
static void start_watchdog(struct supervisor *supervisor) {
    const char *period = getenv("WATCHDOG_USEC"), *whose = getenv("WATCHDOG_PID");
    long usec, pid = supervisor->primary->keeper;
    if (period == NULL || (whose != NULL && str_parse_number(whose, 1, INT32_MAX, &pid) != 0) || pid != supervisor->primary->keeper) return;
    if (str_parse_number(period, 1, INT64_MAX / 2, &usec) != 0) {
        log_warn("WATCHDOG_USEC=%s: not a number of microseconds: the supervisor's watchdog is not served", period);
        return;
    }
    uint64_t interval_ms = (uint64_t)usec / 2000;
    uv_timer_start(&supervisor->watchdog, on_watchdog, 0, interval_ms > 0 ? interval_ms : 1);
}

// A script may stand between the supervisor and the keeper.
static pid_t untold_main_pid(const struct primary *primary) {
    const char *text = getenv("SYSTEMD_EXEC_PID");
    long pid;
    if (text == NULL || str_parse_number(text, 1, INT32_MAX, &pid) != 0) return 0;
    return pid == primary->keeper ? 0 : primary->keeper;
}

struct supervisor *supervisor_open(struct primary *primary) {
    const char *socket = getenv("NOTIFY_SOCKET");
    if (socket == NULL || *socket == '\0') return NULL;
    struct supervisor *supervisor = calloc(1, sizeof *supervisor);
    if (supervisor == NULL) {
        log_error("the supervisor is told nothing: out of memory");
        return NULL;
    }
    supervisor->primary = primary;
    supervisor->main_pid = untold_main_pid(primary);
    uv_timer_init(primary->loop, &supervisor->watchdog);
    uv_timer_init(primary->loop, &supervisor->retry);
    supervisor->watchdog.data = supervisor->retry.data = supervisor;
    start_watchdog(supervisor);
    supervisor_update(supervisor);
    return supervisor;
}
