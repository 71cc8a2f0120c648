// SPDX-License-Identifier: MIT
// An intrusive, circular, doubly linked list. A node not in a list points at itself.
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct list_node {
    struct list_node *prev, *next;
};

#define list_owner(node, type, member) ((type *)(void *)((char *)(node)-offsetof(type, member)))

static inline void list_init(struct list_node *node) { node->prev = node->next = node; }
static inline bool list_empty(const struct list_node *head) { return head->next == head; }
static inline void list_remove(struct list_node *node) {
    node->prev->next = node->next;
    node->next->prev = node->prev;
    list_init(node);
}
static inline void list_append(struct list_node *head, struct list_node *node) {
    node->prev = head->prev;
    node->next = head;
    head->prev->next = node;
    head->prev = node;
}
// Moves all of `from` to the end of `to`.
static inline void list_splice(struct list_node *to, struct list_node *from) {
    if (list_empty(from)) return;
    from->next->prev = to->prev;
    from->prev->next = to;
    to->prev->next = from->next;
    to->prev = from->prev;
    list_init(from);
}
