// SPDX-License-Identifier: MIT
#include "canary.h"

#include <stdio.h>

#include "clock.h"
#include "procinfo.h"
#include "rollout.h"
#include "steer.h"
#include "str.h"

#define LOOK_NS (100 * CLOCK_MS)
#define HANGS_NS (5 * CLOCK_S)  // so long, or for half of its time, its clients wait: it hangs
#define LEAST_CONNECTIONS 20    // fewer say nothing
#define ROUNDS 10               // of a time with its share and one without
#define ROUND_LEAST_NS (200 * CLOCK_MS)
#define ROUND_MOST_NS (5 * CLOCK_S)
// So many connections cut off may be chance: at the end, and before it, where one looks again and again.
#define CHANCE_AT_THE_END 2.0
#define CHANCE_BEFORE 10.0
#define CHANCE_DEVIATIONS 4.0  // and so many standard deviations of what is inferred

struct cuts {
    double opened, cut;
};

// Of the canary's connections and the others, and the variance of what is only inferred of the first.
struct tally {
    struct cuts new, old;
    double variance;
};

uint32_t canary_workers(const struct pool *pool) {
    uint32_t count = (pool->record->wanted * pool->record->rollout.canary_percent + 50) / 100;
    return count < 1 ? 1 : count > pool->record->wanted ? pool->record->wanted : count;
}

// ---- what was cut off: counted for each worker

static bool counts_workers(const struct pool *pool) {
    for (uint32_t i = 0; i < pool->record->slot_end; i++)
        if (steer_numbers(&pool->listeners, (int)i).counted) return true;
    return false;
}

static void begin_counts(struct pool *pool) {
    for (uint32_t i = 0; i < pool->record->slot_end; i++) {
        struct steer_numbers numbers = steer_numbers(&pool->listeners, (int)i);
        pool->record->worker[i].opened_before = numbers.opened;
        pool->record->worker[i].cut_before = numbers.cut;
    }
}

static struct cuts count_cuts(const struct pool *pool, uint32_t generation) {
    struct cuts cuts = {0};
    for (uint32_t i = 0; i < pool->record->slot_end; i++) {
        const struct record_worker *record = &pool->record->worker[i];
        struct steer_numbers numbers = steer_numbers(&pool->listeners, (int)i);
        if (record->generation != generation || record->state != WORKER_SERVING) continue;
        cuts.opened += (double)(numbers.opened - record->opened_before);
        cuts.cut += (double)(numbers.cut - record->cut_before);
    }
    return cuts;
}

// ---- what was cut off: inferred from rounds

static bool goes_by_rounds(const struct pool *pool) { return pool->record->rollout.canary_round_ns != 0; }

static void take_counts(struct record_rollout *rollout) {
    struct record_cuts now = {0}, *cuts = rollout->canary_paused ? &rollout->without_canary : &rollout->with_canary;
    if (procinfo_tcp_counts(&now.opened, &now.cut) != 0) return;
    cuts->opened += now.opened - rollout->canary_counts.opened;
    cuts->cut += now.cut - rollout->canary_counts.cut;
    rollout->canary_counts = now;
}

// Where most connections are to be the canary's anyway, there is too little left to compare with.
static void begin_rounds(struct pool *pool) {
    struct record_rollout *rollout = &pool->record->rollout;
    uint64_t round_ns = rollout->canary_for_ns / ROUNDS;
    bool known = procinfo_tcp_counts(&rollout->canary_counts.opened, &rollout->canary_counts.cut) == 0;
    if (!known || counts_workers(pool) || !rollout_turns(pool) || rollout->canary_percent > RECORD_CANARY_ROUNDS_MOST_PERCENT) return;
    rollout->canary_round_ns = round_ns < ROUND_LEAST_NS ? ROUND_LEAST_NS : round_ns > ROUND_MOST_NS ? ROUND_MOST_NS : round_ns;
}

static uint64_t into_round_ns(const struct record_rollout *rollout, uint64_t now_ns) {
    return (now_ns + rollout->canary_for_ns - rollout->canary_until_ns) % rollout->canary_round_ns;
}

static uint64_t pause_ns(const struct record_rollout *rollout) {
    return rollout->canary_round_ns / RECORD_CANARY_ROUND_PARTS * (RECORD_CANARY_ROUND_PARTS - 1);
}

static uint64_t next_turn_ns(const struct record_rollout *rollout, uint64_t now_ns) {
    uint64_t into_ns = into_round_ns(rollout, now_ns);
    return now_ns + (into_ns < pause_ns(rollout) ? pause_ns(rollout) : rollout->canary_round_ns) - into_ns;
}

static void turn_round(struct pool *pool) {
    struct record_rollout *rollout = &pool->record->rollout;
    bool pause = into_round_ns(rollout, pool->arranged_ns) >= pause_ns(rollout);
    take_counts(rollout);
    if (pause == rollout->canary_paused) return;
    rollout->canary_paused = pause;
    steer_update_all(&pool->listeners);
}

// Of the connections made while it got its share, so many were its own; and of those cut off then, what the others do not explain. Both
// rates are of counts that come by chance: their variance is their number.
static struct tally infer(const struct record_rollout *rollout) {
    const struct record_cuts *with = &rollout->with_canary, *without = &rollout->without_canary;
    double share = (double)rollout->canary_percent / 100 * RECORD_CANARY_ROUND_PARTS / (RECORD_CANARY_ROUND_PARTS - 1);
    double of_old = without->opened > 0 ? (double)without->cut / (double)without->opened : 0;
    struct tally tally = {.old = {(double)without->opened, (double)without->cut}};
    tally.new.opened = share * (double)with->opened;
    double of_others = of_old * ((double)with->opened - tally.new.opened);
    tally.new.cut = (double)with->cut > of_others ? (double)with->cut - of_others : 0;
    double factor = without->opened > 0 ? (double)with->opened / (double)without->opened : 0;
    tally.variance = (double)with->cut + factor * factor * (double)without->cut;
    if (without->opened < LEAST_CONNECTIONS) tally.new.opened = 0;  // nothing to compare with
    return tally;
}

// ---- the trial

void canary_begin(struct pool *pool) {
    struct record_rollout *rollout = &pool->record->rollout;
    char time[32];
    begin_counts(pool);
    begin_rounds(pool);
    for (uint32_t i = 0; i < pool->record->socket_end; i++) {
        struct record_socket *socket = &pool->record->socket[i];
        if (rollout_is_turned(pool->record, socket) && socket->generation == rollout->target) socket->live = true;
    }
    rollout->canary_free_ns = rollout->old_free_ns = clock_now_ns();
    rollout->canary_until_ns = clock_now_ns() + rollout->canary_for_ns;
    steer_update_all(&pool->listeners);
    rollout_say(pool, "generation %u gets %u %% of new connections for %s; judged by %s", rollout->target, rollout->canary_percent,
                str_duration(rollout->canary_for_ns, time, sizeof time),
                counts_workers(pool)   ? "crashes, hangs and connections cut off"
                : goes_by_rounds(pool) ? "crashes, hangs and, comparing times with it and without, connections cut off"
                                       : "crashes and hangs; connections cut off cannot be told apart here");
}

static bool somebody_waits(const struct pool *pool, uint32_t generation) {
    for (uint32_t i = 0; i < pool->record->socket_end; i++) {
        const struct record_socket *socket = &pool->record->socket[i];
        if (socket->used && socket->live && socket->generation == generation && listeners_queued(&pool->listeners, (int)i) > 0) return true;
    }
    return false;
}

// Slot mode takes the queue of a stuck worker away, so that it cannot be seen there.
static const struct worker *find_stuck(const struct pool *pool, uint32_t generation, uint64_t lasts_ns) {
    for (uint32_t i = 0; i < pool->record->slot_end; i++) {
        const struct record_worker *record = &pool->record->worker[i];
        bool stuck = record->stuck_ns != 0 && pool->arranged_ns - record->stuck_ns >= lasts_ns;
        if (record->generation == generation && record->state == WORKER_SERVING && stuck) return &pool->worker[i];
    }
    return NULL;
}

// Longer than the old generation, on the same machine with the same clients.
static bool hangs(struct pool *pool, struct canary_reason *out) {
    struct record_rollout *rollout = &pool->record->rollout;
    uint64_t now = pool->arranged_ns, half_ns = rollout->canary_for_ns / 2, most_ns = half_ns < HANGS_NS ? half_ns : HANGS_NS;
    char time[32];
    if (!somebody_waits(pool, rollout->target)) rollout->canary_free_ns = now;
    if (!somebody_waits(pool, rollout->from)) rollout->old_free_ns = now;
    const struct worker *stuck = find_stuck(pool, rollout->target, most_ns);
    bool waited_for = now - rollout->canary_free_ns >= most_ns && now - rollout->old_free_ns < most_ns;
    if (!waited_for && (stuck == NULL || find_stuck(pool, rollout->from, most_ns) != NULL)) return false;
    out->worker = stuck;
    snprintf(out->text, sizeof out->text, "the canary hangs: for %s connections wait for it, and not for the old generation",
             str_duration(most_ns, time, sizeof time));
    return true;
}

static double share_cut(struct cuts cuts) { return cuts.opened > 0 ? cuts.cut / cuts.opened : 0; }

static bool is_cut_off(const struct pool *pool, const struct tally *tally, double chance, struct canary_reason *out) {
    double of_new = share_cut(tally->new), of_old = share_cut(tally->old);
    double excess = tally->new.cut - 2 * of_old * tally->new.opened - chance;
    if (tally->new.opened < LEAST_CONNECTIONS || excess <= 0) return false;
    if (excess * excess <= CHANCE_DEVIATIONS * CHANCE_DEVIATIONS * tally->variance) return false;
    snprintf(out->text, sizeof out->text, "the canary was cut off from %.2f %% of its %.0f connections, the old generation from %.2f %% of %.0f%s",
             of_new < 1 ? 100 * of_new : 100, tally->new.opened, of_old < 1 ? 100 * of_old : 100, tally->old.opened,
             goes_by_rounds(pool) ? " (by times with it and without)" : "");
    return true;
}

static void praise(const struct pool *pool, const struct tally *tally, struct canary_reason *out) {
    if (counts_workers(pool))
        snprintf(out->text, sizeof out->text, "the canary did no worse (%.0f connections, %.0f cut off; the old generation %.0f, %.0f): it is promoted",
                 tally->new.opened, tally->new.cut, tally->old.opened, tally->old.cut);
    else if (goes_by_rounds(pool) && tally->new.opened >= LEAST_CONNECTIONS)
        snprintf(out->text, sizeof out->text, "the canary did no worse (some %.0f connections; %llu of %llu were cut off with it, %llu of %llu without): "
                 "it is promoted", tally->new.opened, (unsigned long long)pool->record->rollout.with_canary.cut,
                 (unsigned long long)pool->record->rollout.with_canary.opened, (unsigned long long)pool->record->rollout.without_canary.cut,
                 (unsigned long long)pool->record->rollout.without_canary.opened);
    else
        str_copy(out->text, sizeof out->text, "the canary neither crashed nor hung: it is promoted");
}

enum canary_verdict canary_look(struct pool *pool, struct canary_reason *out) {
    struct record_rollout *rollout = &pool->record->rollout;
    *out = (struct canary_reason){0};
    if (hangs(pool, out)) return CANARY_FAILED;
    if (goes_by_rounds(pool)) turn_round(pool);
    struct tally tally = {.new = count_cuts(pool, rollout->target), .old = count_cuts(pool, rollout->from)};
    if (goes_by_rounds(pool)) tally = infer(rollout);
    bool over = clock_now_ns() >= rollout->canary_until_ns;
    if (is_cut_off(pool, &tally, over ? CHANCE_AT_THE_END : CHANCE_BEFORE, out)) return CANARY_FAILED;
    if (over) praise(pool, &tally, out);
    return over ? CANARY_PASSED : CANARY_ON_TRIAL;
}

uint64_t canary_next(const struct pool *pool) {
    const struct record_rollout *rollout = &pool->record->rollout;
    uint64_t next = pool->arranged_ns + LOOK_NS;
    if (goes_by_rounds(pool) && next_turn_ns(rollout, pool->arranged_ns) < next) next = next_turn_ns(rollout, pool->arranged_ns);
    return next < rollout->canary_until_ns ? next : rollout->canary_until_ns;
}
