// SPDX-License-Identifier: MIT
#include "act.h"

#include <signal.h>
#include <stdlib.h>

#include "clock.h"
#include "look.h"
#include "torture.h"
#include "victim.h"

#define RECOVERY_NS (60 * CLOCK_S)
#define PRIMARY_NS (20 * CLOCK_S)
#define KEEPER_LOOK_NS (2 * CLOCK_S)

static void kill_worker(struct torture *torture);
static void kill_all(struct torture *torture);
static void kill_primary(struct torture *torture);
static void kill_both(struct torture *torture);
static void kill_keeper(struct torture *torture);

const struct act_row act_table[ACT_COUNT] = {
    [ACT_WARM_UP] = {"warm-up", "as fast as it can", false, NULL},
    [ACT_STEADY] = {"steady", "steady state", false, NULL},
    [ACT_KILL_WORKER] = {"kill-worker", "a worker killed", false, kill_worker},
    [ACT_KILL_ALL] = {"kill-all", "all workers killed at once", false, kill_all},
    [ACT_KILL_PRIMARY] = {"kill-primary", "the primary killed", false, kill_primary},
    [ACT_KILL_BOTH] = {"kill-both", "primary and a worker killed", false, kill_both},
    [ACT_RESTART] = {"restart", "restart", true, act_restart},
    [ACT_SCALE_UP] = {"scale-up", "scaled up", false, act_scale_up},
    [ACT_SCALE_DOWN] = {"scale-down", "scaled down", true, act_scale_down},
    [ACT_RELOAD] = {"reload", "reload", true, act_reload},
    [ACT_ROLLBACK] = {"rollback", "rollback", true, act_rollback},
    [ACT_RELOAD_BROKEN] = {"reload-broken", "reload of a broken version", true, act_reload_broken},
    [ACT_RELOAD_KILL] = {"reload-kill", "primary killed in a reload", true, act_reload_kill},
    [ACT_UPGRADE] = {"upgrade", "Pando upgraded", false, act_upgrade},
    [ACT_KILL_KEEPER] = {"kill-keeper", "the keeper killed", false, kill_keeper},
};

static void end_primary(struct torture *torture, const struct status *before) {
    kill(before->primary, SIGKILL);
    torture->killed_primaries++;
}

static const struct status_worker *pick_worker(struct torture *torture, const struct status *status) {
    return &status->worker[(unsigned)rand_r(&torture->chance) % (unsigned)status->workers];
}

// ---- the acts

// Requests inside, or -1 after a complaint.
static int end_workers(struct torture *torture, const pid_t *pids, int count) {
    struct pando_error error;
    int inside = victims_kill(torture->load, torture->port, pids, count, &error);
    if (inside < 0) {
        torture_tell(torture, "nothing was killed: %s", error.text);
        return -1;
    }
    torture->killed_workers += (unsigned)count;
    return inside;
}

struct replaced {
    int slot;
    pid_t pid;
};

static bool is_replaced(const struct status *status, const void *arg) {
    const struct replaced *wanted = arg;
    const struct status_worker *worker = status_worker(status, wanted->slot);
    return worker && worker->serving && worker->pid != wanted->pid && worker->pid != 0;
}

static bool wait_replaced(struct torture *torture, struct status *after, int slot, pid_t pid) {
    struct replaced wanted = {slot, pid};
    if (look_until(torture, after, RECOVERY_NS, is_replaced, &wanted)) return true;
    if (!look_interrupted(torture))
        torture_broken(torture, "worker %d (pid %d) is not replaced %d s after it was killed", slot, (int)pid,
                       (int)(RECOVERY_NS / CLOCK_S));
    return false;
}

static void kill_worker(struct torture *torture) {
    struct status before, after;
    if (!look_whole(torture, &before)) return;
    const struct status_worker *victim = pick_worker(torture, &before);
    int inside = end_workers(torture, &victim->pid, 1);
    uint64_t killed_ns = clock_now_ns();
    if (inside < 0 || !wait_replaced(torture, &after, victim->slot, victim->pid)) return;
    torture_tell(torture, "kill -9 worker %d (pid %d), %d requests inside: replaced after %.0f ms", victim->slot, (int)victim->pid, inside,
                 look_ms_since(killed_ns));
    look_at_untouched(torture, &before, &after, victim->slot);
}

static void kill_all(struct torture *torture) {
    struct status before, after;
    pid_t pids[STATUS_WORKERS_MAX];
    if (!look_whole(torture, &before)) return;
    for (int i = 0; i < before.workers; i++) pids[i] = before.worker[i].pid;
    int inside = end_workers(torture, pids, before.workers);
    uint64_t killed_ns = clock_now_ns();
    if (inside < 0) return;
    if (look_until(torture, &after, RECOVERY_NS, look_all_others, &before))
        torture_tell(torture, "kill -9 all %d workers at once, %d requests inside: all replaced after %.0f ms", before.workers, inside,
                     look_ms_since(killed_ns));
    else if (!look_interrupted(torture))
        torture_broken(torture, "not all of %d killed workers are replaced after %d s", before.workers, (int)(RECOVERY_NS / CLOCK_S));
}

static void kill_primary(struct torture *torture) {
    struct status before, after;
    if (!look_whole(torture, &before)) return;
    uint64_t killed_ns = clock_now_ns();
    end_primary(torture, &before);
    if (!look_primary(torture, &before, &after)) return;
    torture_tell(torture, "kill -9 the primary (pid %d): another one answers after %.0f ms", (int)before.primary, look_ms_since(killed_ns));
    look_at_untouched(torture, &before, &after, -1);
}

static void kill_both(struct torture *torture) {
    struct status before, after;
    if (!look_whole(torture, &before)) return;
    const struct status_worker *victim = pick_worker(torture, &before);
    uint64_t killed_ns = clock_now_ns();
    end_primary(torture, &before);
    int inside = end_workers(torture, &victim->pid, 1);
    if (inside < 0 || !look_primary(torture, &before, &after) || !wait_replaced(torture, &after, victim->slot, victim->pid)) return;
    torture_tell(torture, "kill -9 the primary (pid %d) and worker %d (pid %d), %d requests inside: both replaced after %.0f ms",
                 (int)before.primary, victim->slot, (int)victim->pid, inside, look_ms_since(killed_ns));
    look_at_untouched(torture, &before, &after, victim->slot);
}

static bool has_keeper(const struct status *status, const void *arg) {
    const struct status *before = arg;
    return status->keeper != 0 && status->keeper != before->keeper;
}

static bool answers(const struct status *status, const void *arg) {
    (void)arg;
    return status->primary != 0;
}

// The workers must serve on. Whether they have a keeper again, or none and are no longer replaced, is the limit that Pando documents.
static void kill_keeper(struct torture *torture) {
    struct status before, after;
    if (!look_whole(torture, &before) || before.keeper == 0) return;
    uint64_t killed_ns = clock_now_ns();
    kill(before.keeper, SIGKILL);
    torture->killed_keepers++;
    if (look_until(torture, &after, KEEPER_LOOK_NS, has_keeper, &before)) {
        torture_tell(torture, "kill -9 the keeper (pid %d): another one after %.0f ms", (int)before.keeper, look_ms_since(killed_ns));
    } else if (!look_interrupted(torture)) {
        torture_tell(torture, "kill -9 the keeper (pid %d): the workers serve on without one", (int)before.keeper);
        if (!look_until(torture, &after, PRIMARY_NS, answers, NULL))
            torture_broken(torture, "no primary answers after the keeper was killed");
    }
    if (!look_interrupted(torture)) look_at_untouched(torture, &before, &after, -1);
}

// What is up comes down again, and what was reloaded is rolled back: of such a pair the one whose turn it is.
static enum act whose_turn(const struct torture *torture, enum act act) {
    if (act == ACT_SCALE_UP || act == ACT_SCALE_DOWN)
        return torture->times[ACT_SCALE_UP] > torture->times[ACT_SCALE_DOWN] ? ACT_SCALE_DOWN : ACT_SCALE_UP;
    if (act == ACT_RELOAD || act == ACT_ROLLBACK) return torture->can_roll_back ? ACT_ROLLBACK : ACT_RELOAD;
    return act;
}

bool act_is_wanted(const struct torture *torture, enum act act) {
    uint32_t only = torture->options.only;
    const uint32_t pairs[] = {1U << ACT_SCALE_UP | 1U << ACT_SCALE_DOWN, 1U << ACT_RELOAD | 1U << ACT_ROLLBACK};
    if (only == 0) return true;
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++)
        if (only & pairs[i]) only |= pairs[i];
    return only >> act & 1;
}

void act_do(struct torture *torture, enum act act) {
    act = whose_turn(torture, act);
    load_set_phase(torture->load, act);
    torture->times[act]++;
    act_table[act].run(torture);
}
