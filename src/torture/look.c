// SPDX-License-Identifier: MIT
#include "look.h"

#include <string.h>

#include "clock.h"

#define LOOK_NS (10 * CLOCK_MS)
#define RECOVERY_NS (60 * CLOCK_S)
#define PRIMARY_NS (20 * CLOCK_S)

double look_ms_since(uint64_t ns) { return (double)(clock_now_ns() - ns) / 1e6; }

bool look_interrupted(const struct torture *torture) { return torture->interrupt.signo != 0; }

bool look_until(struct torture *torture, struct status *out, uint64_t patience_ns, look_fn holds, const void *arg) {
    for (uint64_t end = clock_now_ns() + patience_ns; clock_now_ns() < end;) {
        if (status_read(&torture->instance, out) == 0 && holds(out, arg)) return true;
        if (!interrupt_sleep(&torture->interrupt, LOOK_NS)) return false;
    }
    return false;
}

static bool is_whole(const struct status *status, const void *arg) {
    (void)arg;
    return status->wanted > 0 && status->ready == status->wanted && !status->rolling && status->workers > 0;
}

bool look_whole(struct torture *torture, struct status *out) {
    if (look_until(torture, out, RECOVERY_NS, is_whole, NULL)) return true;
    if (!look_interrupted(torture))
        torture_broken(torture, "not all workers are ready again after %d s (%d of %d)", (int)(RECOVERY_NS / CLOCK_S), out->ready,
                       out->wanted);
    return false;
}

void look_at_untouched(struct torture *torture, const struct status *before, const struct status *after, int touched) {
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

static bool has_new_primary(const struct status *status, const void *arg) {
    const struct status *before = arg;
    return status->primary != before->primary && status->primary != 0;
}

bool look_primary(struct torture *torture, const struct status *before, struct status *after) {
    if (look_until(torture, after, PRIMARY_NS, has_new_primary, before)) return true;
    if (!look_interrupted(torture))
        torture_broken(torture, "no new primary answers %d s after the old one was killed", (int)(PRIMARY_NS / CLOCK_S));
    return false;
}

bool look_all_others(const struct status *status, const void *arg) {
    const struct status *before = arg;
    if (!is_whole(status, NULL)) return false;
    for (int i = 0; i < before->workers; i++) {
        const struct status_worker *now = status_worker(status, before->worker[i].slot);
        if (now && now->pid == before->worker[i].pid) return false;
    }
    return true;
}
