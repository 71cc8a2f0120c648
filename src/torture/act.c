// SPDX-License-Identifier: MIT
#include "act.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "torture.h"
#include "victim.h"

#define LOOK_NS (10 * CLOCK_MS)
#define RECOVERY_NS (60 * CLOCK_S)
#define PRIMARY_NS (20 * CLOCK_S)
#define VERB_NS (180 * CLOCK_S)
#define KEEPER_LOOK_NS (2 * CLOCK_S)
enum { SCALE_STEP = 2 };

static void kill_worker(struct torture *torture);
static void kill_all(struct torture *torture);
static void kill_primary(struct torture *torture);
static void kill_both(struct torture *torture);
static void restart(struct torture *torture);
static void scale_up(struct torture *torture);
static void scale_down(struct torture *torture);
static void kill_keeper(struct torture *torture);

const struct act_row act_table[ACT_COUNT] = {
    [ACT_WARM_UP] = {"warm-up", "as fast as it can", false, NULL},
    [ACT_STEADY] = {"steady", "steady state", false, NULL},
    [ACT_KILL_WORKER] = {"kill-worker", "a worker killed", false, kill_worker},
    [ACT_KILL_ALL] = {"kill-all", "all workers killed at once", false, kill_all},
    [ACT_KILL_PRIMARY] = {"kill-primary", "the primary killed", false, kill_primary},
    [ACT_KILL_BOTH] = {"kill-both", "primary and a worker killed", false, kill_both},
    [ACT_RESTART] = {"restart", "restart", true, restart},
    [ACT_SCALE_UP] = {"scale-up", "scaled up", false, scale_up},
    [ACT_SCALE_DOWN] = {"scale-down", "scaled down", true, scale_down},
    [ACT_KILL_KEEPER] = {"kill-keeper", "the keeper killed", false, kill_keeper},
};

// ---- looking and waiting

static double ms_since(uint64_t ns) { return (double)(clock_now_ns() - ns) / 1e6; }

static bool is_interrupted(const struct torture *torture) { return torture->interrupt.signo != 0; }

typedef bool (*condition_fn)(const struct status *status, const void *arg);

// Until the condition holds for the status, which is in `out` then. False when it did not within that time, or the user has had enough.
static bool wait_status(struct torture *torture, struct status *out, uint64_t patience_ns, condition_fn holds, const void *arg) {
    for (uint64_t end = clock_now_ns() + patience_ns; clock_now_ns() < end;) {
        if (status_read(&torture->instance, out) == 0 && holds(out, arg)) return true;
        if (!interrupt_sleep(&torture->interrupt, LOOK_NS)) return false;
    }
    return false;
}

static bool is_whole(const struct status *status, const void *arg) {
    (void)arg;
    return status->wanted > 0 && status->ready == status->wanted;
}

// All workers serve, as before each act.
static bool wait_whole(struct torture *torture, struct status *out) {
    if (wait_status(torture, out, RECOVERY_NS, is_whole, NULL)) return true;
    if (!is_interrupted(torture))
        torture_broken(torture, "not all workers are ready again after %d s (%d of %d)", (int)(RECOVERY_NS / CLOCK_S), out->ready, out->wanted);
    return false;
}

// A worker that is another process now although nobody touched it: it ended by itself, or Pando ended it unasked.
void act_look_at_untouched(struct torture *torture, const struct status *before, const struct status *after, int touched) {
    for (int i = 0; i < before->workers; i++) {
        const struct status_worker *old = &before->worker[i], *now = status_worker(after, old->slot);
        if (old->slot == touched || old->pid == 0 || (now && now->pid == old->pid)) continue;
        const char *exit = now ? now->last_exit : "";
        if (!now || strcmp(exit, "signal KILL") == 0 || strcmp(exit, "signal TERM") == 0) {
            torture_broken(torture, "worker %d (pid %d) was ended although nobody asked for it (%s)", old->slot, (int)old->pid, exit);
            continue;
        }
        torture->crashes++;
        torture_tell(torture, "worker %d (pid %d) ended by itself: %s", old->slot, (int)old->pid, exit);
    }
}

static void end_primary(struct torture *torture, const struct status *before) {
    kill(before->primary, SIGKILL);
    torture->killed_primaries++;
}

static bool has_new_primary(const struct status *status, const void *arg) {
    const struct status *before = arg;
    return status->primary != before->primary && status->primary != 0;
}

static bool wait_primary(struct torture *torture, const struct status *before, struct status *after) {
    if (wait_status(torture, after, PRIMARY_NS, has_new_primary, before)) return true;
    if (!is_interrupted(torture)) torture_broken(torture, "no new primary answers %d s after the old one was killed", (int)(PRIMARY_NS / CLOCK_S));
    return false;
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
    if (wait_status(torture, after, RECOVERY_NS, is_replaced, &wanted)) return true;
    if (!is_interrupted(torture))
        torture_broken(torture, "worker %d (pid %d) is not replaced %d s after it was killed", slot, (int)pid, (int)(RECOVERY_NS / CLOCK_S));
    return false;
}

static void kill_worker(struct torture *torture) {
    struct status before, after;
    if (!wait_whole(torture, &before)) return;
    const struct status_worker *victim = pick_worker(torture, &before);
    int inside = end_workers(torture, &victim->pid, 1);
    uint64_t killed_ns = clock_now_ns();
    if (inside < 0 || !wait_replaced(torture, &after, victim->slot, victim->pid)) return;
    torture_tell(torture, "kill -9 worker %d (pid %d), %d requests inside: replaced after %.0f ms", victim->slot, (int)victim->pid, inside,
                 ms_since(killed_ns));
    act_look_at_untouched(torture, &before, &after, victim->slot);
}

static bool are_all_others(const struct status *status, const void *arg) {
    const struct status *before = arg;
    if (!is_whole(status, NULL)) return false;
    for (int i = 0; i < before->workers; i++) {
        const struct status_worker *now = status_worker(status, before->worker[i].slot);
        if (now && now->pid == before->worker[i].pid) return false;
    }
    return true;
}

static void kill_all(struct torture *torture) {
    struct status before, after;
    pid_t pids[STATUS_WORKERS_MAX];
    if (!wait_whole(torture, &before)) return;
    for (int i = 0; i < before.workers; i++) pids[i] = before.worker[i].pid;
    int inside = end_workers(torture, pids, before.workers);
    uint64_t killed_ns = clock_now_ns();
    if (inside < 0) return;
    if (wait_status(torture, &after, RECOVERY_NS, are_all_others, &before))
        torture_tell(torture, "kill -9 all %d workers at once, %d requests inside: all replaced after %.0f ms", before.workers, inside,
                     ms_since(killed_ns));
    else if (!is_interrupted(torture))
        torture_broken(torture, "not all of %d killed workers are replaced after %d s", before.workers, (int)(RECOVERY_NS / CLOCK_S));
}

static void kill_primary(struct torture *torture) {
    struct status before, after;
    if (!wait_whole(torture, &before)) return;
    uint64_t killed_ns = clock_now_ns();
    end_primary(torture, &before);
    if (!wait_primary(torture, &before, &after)) return;
    torture_tell(torture, "kill -9 the primary (pid %d): another one answers after %.0f ms", (int)before.primary, ms_since(killed_ns));
    act_look_at_untouched(torture, &before, &after, -1);
}

static void kill_both(struct torture *torture) {
    struct status before, after;
    if (!wait_whole(torture, &before)) return;
    const struct status_worker *victim = pick_worker(torture, &before);
    uint64_t killed_ns = clock_now_ns();
    end_primary(torture, &before);
    int inside = end_workers(torture, &victim->pid, 1);
    if (inside < 0 || !wait_primary(torture, &before, &after) || !wait_replaced(torture, &after, victim->slot, victim->pid)) return;
    torture_tell(torture, "kill -9 the primary (pid %d) and worker %d (pid %d), %d requests inside: both replaced after %.0f ms",
                 (int)before.primary, victim->slot, (int)victim->pid, inside, ms_since(killed_ns));
    act_look_at_untouched(torture, &before, &after, victim->slot);
}

// Runs a verb that must succeed. False when it did not, after saying so.
static bool must(struct torture *torture, char *const *words) {
    struct verb verb;
    instance_verb(&torture->instance, words, VERB_NS, &verb);
    if (verb.end == VERB_ENDED && verb.code == 0) return true;
    const char *word = words[1] ? words[1] : "";
    if (verb.end == VERB_ENDED)
        torture_broken(torture, "`pando %s %s` failed with exit code %d: %s", words[0], word, verb.code, verb.text);
    else if (verb.end == VERB_TOO_SLOW)
        torture_broken(torture, "`pando %s %s` has not ended after %d s", words[0], word, (int)(VERB_NS / CLOCK_S));
    else if (verb.end == VERB_FAILED)
        torture_tell(torture, "`pando %s %s` could not be started: %s", words[0], word, strerror(verb.code));
    return false;
}

static void restart(struct torture *torture) {
    struct status before, after;
    if (!wait_whole(torture, &before)) return;
    uint64_t begun_ns = clock_now_ns();
    if (!must(torture, (char *[]){(char[]){"restart"}, NULL}) || !wait_whole(torture, &after)) return;
    torture_tell(torture, "pando restart: %d workers replaced one after the other in %.0f ms", before.workers, ms_since(begun_ns));
    if (!are_all_others(&after, &before)) torture_broken(torture, "`pando restart` left a worker as it was");
}

static void scale(struct torture *torture, int by) {
    struct status before, after;
    char operand[16];
    snprintf(operand, sizeof operand, "%+d", by);
    if (!wait_whole(torture, &before)) return;
    uint64_t begun_ns = clock_now_ns();
    if (!must(torture, (char *[]){(char[]){"scale"}, operand, NULL}) || !wait_whole(torture, &after)) return;
    torture_tell(torture, "pando scale %s: %d workers after %.0f ms", operand, after.wanted, ms_since(begun_ns));
    if (after.wanted != before.wanted + by)
        torture_broken(torture, "`pando scale %s` made %d workers of %d", operand, after.wanted, before.wanted);
}

static void scale_up(struct torture *torture) { scale(torture, SCALE_STEP); }

static void scale_down(struct torture *torture) { scale(torture, -SCALE_STEP); }

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
    if (!wait_whole(torture, &before) || before.keeper == 0) return;
    uint64_t killed_ns = clock_now_ns();
    kill(before.keeper, SIGKILL);
    torture->killed_keepers++;
    if (wait_status(torture, &after, KEEPER_LOOK_NS, has_keeper, &before)) {
        torture_tell(torture, "kill -9 the keeper (pid %d): another one after %.0f ms", (int)before.keeper, ms_since(killed_ns));
    } else if (!is_interrupted(torture)) {
        torture->keeper_gone = true;
        torture_tell(torture, "kill -9 the keeper (pid %d): the workers serve on without one", (int)before.keeper);
        if (!wait_status(torture, &after, PRIMARY_NS, answers, NULL)) torture_broken(torture, "no primary answers after the keeper was killed");
    }
    if (!is_interrupted(torture)) act_look_at_untouched(torture, &before, &after, -1);
}

void act_do(struct torture *torture, enum act act) {
    load_set_phase(torture->load, act);
    torture->times[act]++;
    act_table[act].run(torture);
}
