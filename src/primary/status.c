// SPDX-License-Identifier: MIT
#include "status.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "address.h"
#include "clock.h"
#include "cpus.h"
#include "log.h"
#include "node_command.h"
#include "procinfo.h"
#include "steer.h"
#include "str.h"

enum { CRASH_LOOP_SHOWN = 3 };

static json_t *listen_json(const struct primary *primary) {
    const struct record *record = primary->pool.record;
    json_t *list = json_array();
    uint64_t open = 0;
    for (uint32_t i = 0; i < record->slot_end; i++) open |= record->worker[i].addresses;
    for (uint32_t i = 0; i < record->socket_end; i++)
        if (record->socket[i].used) open |= UINT64_C(1) << record->socket[i].address;
    for (int a = 0; a < RECORD_ADDRESS_MAX; a++) {
        char text[ADDRESS_TEXT_SIZE];
        if ((open >> a & 1) != 0) json_array_append_new(list, json_string(address_text(&record->address[a], text, sizeof text)));
    }
    return list;
}

static json_t *last_exit_json(const struct record_worker *record) {
    if (!record->has_last) return json_null();
    if (record->last_oom) return json_string("out of memory");
    if (record->last_status == KEEPER_STATUS_UNKNOWN) return json_string("unknown");
    if (WIFSIGNALED(record->last_status)) return json_sprintf("signal %s", str_signal(WTERMSIG(record->last_status)));
    return json_sprintf("code %d", WEXITSTATUS(record->last_status));
}

// Since the last time somebody asked (a second ago at least), else since the start.
static double cpu_percent(struct primary_worker *seen, const struct record_worker *record, uint64_t cpu_ns, uint64_t now) {
    if (seen->sampled_ns < record->started_ns) {
        seen->sampled_ns = record->started_ns;
        seen->cpu_ns = 0;
    }
    if (now - seen->sampled_ns >= CLOCK_S && cpu_ns >= seen->cpu_ns) {
        seen->cpu_percent = 100.0 * (double)(cpu_ns - seen->cpu_ns) / (double)(now - seen->sampled_ns);
        seen->sampled_ns = now;
        seen->cpu_ns = cpu_ns;
    }
    return seen->cpu_percent;
}

// With one socket a slot: what it was given, and what it has.
static void add_steering(const struct primary *primary, int slot, json_t *json) {
    struct steer_numbers numbers = steer_numbers(&primary->pool.listeners, slot);
    if (!numbers.known) return;
    json_object_set_new(json, "queue", json_integer(numbers.queued));
    json_object_set_new(json, "connections", json_integer(numbers.live));
    json_object_set_new(json, "total", json_integer((json_int_t)numbers.total));
    json_object_set_new(json, "rescued", json_integer((json_int_t)numbers.moved_away));
    json_object_set_new(json, "weight", json_integer((json_int_t)numbers.weight));
}

// Where the primary passes connections: those that it took.
static void add_passed(const struct primary *primary, const struct primary_worker *seen, json_t *json) {
    if (primary->handoff != NULL && seen != NULL) json_object_set_new(json, "passed", json_integer((json_int_t)seen->node.passed));
}

static json_t *worker_json(struct primary *primary, uint32_t slot, uint64_t now) {
    const struct worker *worker = &primary->pool.worker[slot];
    const struct record_worker *record = worker->record;
    struct primary_worker *seen = primary->worker[slot];
    struct procinfo info = {0};
    bool runs = worker_runs(worker) && procinfo_read(record->pid, &info) == 0;
    json_t *json = json_pack("{s:i, s:o, s:s, s:i, s:f, s:i, s:f, s:I, s:o}", "slot", worker_number(worker), "pid",
                             worker_runs(worker) ? json_integer(record->pid) : json_null(), "state",
                             worker_state_name[record->state], "generation", (int)record->generation, "uptime_s",
                             worker_runs(worker) ? (double)(now - record->started_ns) / 1e9 : 0.0, "restarts",
                             (int)record->restarts, "cpu_percent",
                             runs && seen != NULL ? cpu_percent(seen, record, info.cpu_ns, now) : 0.0, "rss_bytes",
                             (json_int_t)info.rss_bytes, "last_exit", last_exit_json(record));
    bool crash_loop = record->failures >= CRASH_LOOP_SHOWN && record->state != WORKER_SERVING;
    if (json != NULL) add_steering(primary, (int)slot, json);
    if (json != NULL && record->kept) json_object_set_new(json, "kept", json_true());
    if (json != NULL) add_passed(primary, seen, json);
    if (json != NULL && crash_loop) {
        json_object_set_new(json, "crash_loop", json_integer(record->failures));
        json_object_set_new(json, "last_line", json_string(record->tail));
    }
    return json;
}

// In the order of their numbers, whatever their places.
static json_t *workers_json(struct primary *primary, uint64_t now) {
    const struct record *record = primary->pool.record;
    json_t *workers = json_array();
    for (uint32_t number = 0; number < LAUNCH_WORKERS_MAX; number++)
        for (uint32_t i = 0; i < record->slot_end; i++)
            if (record->worker[i].number == number && (record->worker[i].wanted || record->worker[i].state != WORKER_VACANT))
                json_array_append_new(workers, worker_json(primary, i, now));
    return workers;
}

static json_t *rollout_json(const struct record *record) {
    static const char *const phase[] = {[ROLLOUT_FORWARD] = "reload", [ROLLOUT_CANARY] = "canary", [ROLLOUT_BACK] = "going back"};
    if (record->rollout.phase == ROLLOUT_NONE) return json_null();
    return json_pack("{s:s, s:i, s:i}", "phase", phase[record->rollout.phase], "from", (int)record->rollout.from, "to", (int)record->rollout.target);
}

// What is not as it should be since a keeper was killed, and what helps; null = nothing.
static json_t *degraded_json(const struct primary *primary) {
    const struct record *record = primary->pool.record;
    int foreign = 0;
    if (primary->keeper_gone) return json_string("the keeper was killed and could not be replaced: a worker that dies stays dead; stop and start again");
    for (uint32_t i = 0; i < record->slot_end; i++) foreign += record->worker[i].pid != 0 && record->worker[i].foreign;
    if (foreign == 0) return json_null();
    return json_sprintf("the keeper was killed and replaced: %d worker%s from before %s no child of the new one (the exit code may stay "
                        "unknown, what it leaves behind is not reaped here); `pando restart` makes it whole",
                        foreign, foreign == 1 ? "" : "s", foreign == 1 ? "is" : "are");
}

json_t *status_json(struct primary *primary) {
    const struct record *record = primary->pool.record;
    uint64_t now = clock_now_ns();
    json_t *workers = workers_json(primary, now);
    json_t *json = json_pack("{s:s, s:i, s:s, s:i, s:i, s:f, s:o, s:o, s:i, s:o, s:o, s:o}", "name", primary->launch.name, "generation",
                             (int)record->generation, "mode", launch_mode_name[record->mode], "wanted", (int)record->wanted, "ready",
                             pool_ready_count(&primary->pool), "uptime_s", (double)(now - record->started_ns) / 1e9, "listen",
                             listen_json(primary), "keeper_pid",
                             primary->keeper_gone ? json_null() : json_integer(primary->keeper), "primary_pid", (int)getpid(),
                             "workers", workers, "rollout", rollout_json(record), "degraded", degraded_json(primary));
    return json;
}

static json_t *feature(const char *name, const char *state, const char *detail) {
    return json_pack("{s:s, s:s, s:s}", "name", name, "state", state, "detail", detail);
}

static const char *intercept_detail(const struct primary *primary) {
    switch ((enum launch_intercept)primary->pool.record->intercept) {
        case LAUNCH_INTERCEPT_READ: return "the address of each bind is read from the worker, and its own socket is bound";
        case LAUNCH_INTERCEPT_HAND:
            return "workers' memory may not be read here: they are handed their TCP sockets (a few microseconds more a socket; unix "
                   "and UDP sockets are not shared, --own-port has no effect)";
        case LAUNCH_INTERCEPT_NONE: return "--no-intercept: nothing is shared";
        case LAUNCH_INTERCEPT_AUTO:
        case LAUNCH_INTERCEPT_COUNT: break;
    }
    return "";
}

static json_t *cpus_json(void) {
    struct cpus cpus;
    cpus_read(&cpus, "/proc", "");
    return json_pack("{s:i, s:i, s:i, s:i, s:f, s:s, s:s}", "count", cpus.count, "online", cpus.online, "affinity", cpus.affinity,
                     "cpuset", cpus.cpuset, "quota", cpus.quota, "cpuset_source", cpus.cpuset_source, "quota_source",
                     cpus.quota_source);
}

json_t *info_json(struct primary *primary) {
    const struct record *record = primary->pool.record;
    json_t *features = json_array();
    json_array_append_new(features, feature("interception", launch_intercept_name[record->intercept], intercept_detail(primary)));
    json_array_append_new(features, feature("balancing", launch_mode_name[record->mode], record->mode_why));
    json_array_append_new(features, feature("policy", launch_balance_name[primary->launch.balance], ""));
    for (int a = 0; a < RECORD_ADDRESS_MAX; a++) {
        char text[ADDRESS_TEXT_SIZE];
        const struct record_address *at = &record->address[a];
        if (!at->used || !at->listened) continue;
        bool per_slot = listeners_per_slot(&primary->pool.listeners, a, record->generation);
        json_array_append_new(features, feature(address_text(at, text, sizeof text), per_slot ? "one socket a worker" : "shared",
                                                at->steered    ? "each connection is given to a worker by eBPF"
                                                : per_slot     ? "a classic BPF program chooses among the live ones"
                                                               : ""));
    }
    if (primary->launch.node_cluster) {
        const char *refusal = node_command_refusal(primary->launch.argv);
        json_array_append_new(features, feature("Node's cluster", refusal == NULL ? "on" : "off",
                                                refusal == NULL ? "Pando is its primary" : refusal));
    }
    if (primary->pool.no_new_privs)
        json_array_append_new(features, feature("no_new_privs", "set", "setuid programs (sudo, ping) do not work below the workers"));
    uint64_t lost = outlet_lost(primary->output.out);
    if (primary->output.err != primary->output.out) lost += outlet_lost(primary->output.err);
    return json_pack("{s:s, s:s, s:o, s:o, s:i, s:I}", "name", primary->launch.name, "version", PANDO_VERSION, "features", features,
                     "cpus", cpus_json(), "primaries", (int)record->primaries, "lines_lost", (json_int_t)lost);
}
