// SPDX-License-Identifier: MIT
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>

#include "procinfo.h"

static int add(struct procinfo_groups *groups, struct procinfo_member member) {
    if (groups->len == groups->cap) {
        size_t cap = groups->cap * 2 + 256;
        struct procinfo_member *grown = realloc(groups->member, cap * sizeof *grown);
        if (grown == NULL) return -ENOMEM;
        groups->member = grown;
        groups->cap = cap;
    }
    groups->member[groups->len++] = member;
    return 0;
}

static int compare(const void *a, const void *b) {
    const struct procinfo_member *left = a, *right = b;
    return (left->pgrp > right->pgrp) - (left->pgrp < right->pgrp);
}

int procinfo_groups_read(struct procinfo_groups *groups) {
    DIR *proc = opendir("/proc");
    int r = proc == NULL ? -errno : 0;
    groups->len = 0;
    for (struct dirent *entry; r == 0 && (entry = readdir(proc)) != NULL;) {
        pid_t pid = atoi(entry->d_name), pgrp = pid > 0 ? procinfo_pgrp(pid) : -1;
        if (pgrp >= 0) r = add(groups, (struct procinfo_member){.pgrp = pgrp, .pid = pid});
    }
    if (proc != NULL) closedir(proc);
    if (groups->len > 0) qsort(groups->member, groups->len, sizeof *groups->member, compare);
    return r;
}

void procinfo_groups_each(const struct procinfo_groups *groups, pid_t pgrp, bool (*each)(pid_t pid, void *arg), void *arg) {
    size_t low = 0, high = groups->len;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (groups->member[middle].pgrp < pgrp)
            low = middle + 1;
        else
            high = middle;
    }
    for (size_t i = low; i < groups->len && groups->member[i].pgrp == pgrp; i++)
        if (!each(groups->member[i].pid, arg)) return;
}

void procinfo_groups_deinit(struct procinfo_groups *groups) {
    free(groups->member);
    *groups = (struct procinfo_groups){0};
}
