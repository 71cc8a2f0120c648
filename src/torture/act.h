// SPDX-License-Identifier: MIT
// What is done to an instance while it is under load: one row each. Every act ends with the instance whole again, or with a broken promise.
#pragma once

#include <stdbool.h>

struct torture;
struct status;

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
    ACT_KILL_KEEPER,  // the last: what it leaves is not what others start with
    ACT_COUNT,
};

#define ACT_FIRST ACT_KILL_WORKER

struct act_row {
    const char *name;   // as in --only
    const char *title;  // as in the table
    bool drains;        // Pando stops workers in it, which must cost no request
    void (*run)(struct torture *torture);  // NULL: nothing is done
};

extern const struct act_row act_table[ACT_COUNT];

// Does it, with the load's figures counted for it from here on.
void act_do(struct torture *torture, enum act act);
// Workers that are another process now although nobody touched them (but the one in slot `touched`): what became of them is told.
void act_look_at_untouched(struct torture *torture, const struct status *before, const struct status *after, int touched);
