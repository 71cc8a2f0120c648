// SPDX-License-Identifier: MIT
// What is done to an instance while it is under load: one row each. Every act ends with the instance whole again, or with a broken promise.
#pragma once

#include <stdbool.h>

struct torture;

enum act {
    ACT_WARM_UP,  // the first ones are no acts, but times that the load's figures are kept apart for
    ACT_STEADY,
    ACT_KILL_WORKER,
    ACT_KILL_ALL,
    ACT_KILL_PRIMARY,
    ACT_KILL_BOTH,
    ACT_RESTART,
    ACT_SCALE_UP,
    ACT_SCALE_DOWN,
    ACT_RELOAD,
    ACT_ROLLBACK,
    ACT_RELOAD_BROKEN,
    ACT_RELOAD_KILL,
    ACT_UPGRADE,
    ACT_KILL_KEEPER,  // the last: what it leaves is not what others start with
    ACT_COUNT,
};

#define ACT_FIRST ACT_KILL_WORKER

struct act_row {
    const char *name;                      // as in --only
    const char *title;                     // as in the table
    bool drains;                           // Pando stops workers in it, which must cost no request
    void (*run)(struct torture *torture);  // NULL: nothing is done
};

extern const struct act_row act_table[ACT_COUNT];

bool act_is_wanted(const struct torture *torture, enum act act);  // by --only
// Does it, with the load's figures counted for it from here on; or its counterpart, where that must come first (down after up).
void act_do(struct torture *torture, enum act act);

// The acts that are verbs of the command line (act_verbs.c).
void act_restart(struct torture *torture);
void act_scale_up(struct torture *torture);
void act_scale_down(struct torture *torture);
void act_reload(struct torture *torture);
void act_rollback(struct torture *torture);
void act_reload_broken(struct torture *torture);
void act_reload_kill(struct torture *torture);
void act_upgrade(struct torture *torture);
