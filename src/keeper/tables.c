// SPDX-License-Identifier: MIT
// The two tables: arrays without holes worth minding, searched from the start. They have a few thousand rows at most.
#include <errno.h>

#include "fd.h"
#include "keeper.h"

struct keeper_child *child_find(pid_t pid, bool exited) {
    for (size_t i = 0; i < keeper.child_end; i++)
        if (pid > 0 && keeper.child[i].pid == pid && keeper.child[i].exited == exited) return &keeper.child[i];
    return NULL;
}

struct keeper_child *child_free_row(void) {
    for (size_t i = 0; i < KEEPER_CHILD_MAX; i++) {
        if (keeper.child[i].pid != 0) continue;
        if (i >= keeper.child_end) keeper.child_end = i + 1;
        return &keeper.child[i];
    }
    return NULL;
}

struct keeper_held *held_find(uint32_t kind, uint64_t key) {
    for (size_t i = 0; i < keeper.held_end; i++)
        if (keeper.held[i].kind == kind && keeper.held[i].key == key) return &keeper.held[i];
    return NULL;
}

int held_put(uint32_t kind, uint64_t key, int *fd) {
    struct keeper_held *row = held_find(kind, key);
    for (size_t i = 0; row == NULL && i < KEEPER_HELD_MAX; i++) {
        if (keeper.held[i].kind != 0) continue;
        if (i >= keeper.held_end) keeper.held_end = i + 1;
        row = &keeper.held[i];
        row->fd = -1;
    }
    if (row == NULL) return -ENFILE;
    fd_close(&row->fd);
    *row = (struct keeper_held){.kind = kind, .key = key, .fd = fd_take(fd)};
    return 0;
}

int held_fd(uint32_t kind, uint64_t key) {
    const struct keeper_held *row = held_find(kind, key);
    return row == NULL ? -1 : row->fd;
}

void held_drop(struct keeper_held *row) {
    if (row == NULL) return;
    fd_close(&row->fd);
    *row = (struct keeper_held){.fd = -1};
}
