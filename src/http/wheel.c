// SPDX-License-Identifier: MIT
#include "wheel.h"

#include "http_limits.h"

void wheel_init(struct wheel *wheel, uint64_t now_ms) {
    for (int i = 0; i < WHEEL_SLOTS; i++) list_init(&wheel->slots[i]);
    wheel->tick = now_ms / LIMIT_TICK_MS;
}

static void hang(struct wheel *wheel, struct wheel_node *node) {
    uint64_t tick = node->deadline_ms / LIMIT_TICK_MS + 1;
    if (tick <= wheel->tick) tick = wheel->tick + 1;
    if (tick > wheel->tick + WHEEL_SLOTS - 1) tick = wheel->tick + WHEEL_SLOTS - 1;
    node->slot_tick = tick;
    list_append(&wheel->slots[tick % WHEEL_SLOTS], &node->link);
}

void wheel_set(struct wheel *wheel, struct wheel_node *node, uint64_t deadline_ms) {
    node->deadline_ms = deadline_ms;
    if (deadline_ms == UINT64_MAX || (node->slot_tick && deadline_ms / LIMIT_TICK_MS + 1 >= node->slot_tick)) return;
    wheel_remove(node);
    node->deadline_ms = deadline_ms;
    hang(wheel, node);
}

void wheel_remove(struct wheel_node *node) {
    list_remove(&node->link);
    node->slot_tick = 0;
    node->deadline_ms = UINT64_MAX;
}

void wheel_turn(struct wheel *wheel, uint64_t now_ms, struct list_node *expired) {
    uint64_t until = now_ms / LIMIT_TICK_MS;
    if (until > wheel->tick + WHEEL_SLOTS) wheel->tick = until - WHEEL_SLOTS;
    while (wheel->tick < until) {
        struct list_node due, *slot = &wheel->slots[++wheel->tick % WHEEL_SLOTS];
        list_init(&due);
        list_splice(&due, slot);
        while (!list_empty(&due)) {
            struct wheel_node *node = list_owner(due.next, struct wheel_node, link);
            list_remove(&node->link);
            node->slot_tick = 0;
            if (node->deadline_ms <= now_ms)
                list_append(expired, &node->link);
            else if (node->deadline_ms != UINT64_MAX)
                hang(wheel, node);
        }
    }
}
