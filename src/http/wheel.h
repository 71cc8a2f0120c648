// SPDX-License-Identifier: MIT
// A timer wheel with lazy re-arming: putting a deadline off costs a store; the node moves when its old slot comes round.
#pragma once

#include <stdint.h>

#include "list.h"

enum { WHEEL_SLOTS = 512 };  // times LIMIT_TICK_MS: the horizon; later deadlines come round again

struct wheel {
    struct list_node slots[WHEEL_SLOTS];
    uint64_t tick;  // the last one done
};

struct wheel_node {
    struct list_node link;  // wheel.slots
    uint64_t deadline_ms;   // UINT64_MAX: none
    uint64_t slot_tick;     // where it hangs; 0: nowhere
};

void wheel_init(struct wheel *wheel, uint64_t now_ms);
static inline void wheel_node_init(struct wheel_node *node) {
    list_init(&node->link);
    node->deadline_ms = UINT64_MAX;
    node->slot_tick = 0;
}
void wheel_set(struct wheel *wheel, struct wheel_node *node, uint64_t deadline_ms);
void wheel_remove(struct wheel_node *node);
// Moves every node whose deadline has passed to `expired`.
void wheel_turn(struct wheel *wheel, uint64_t now_ms, struct list_node *expired);
