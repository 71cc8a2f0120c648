// SPDX-License-Identifier: MIT
// What `pando status --json` says about the instance, asked on its control socket (docs/control.md).
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "instance.h"

enum { STATUS_WORKERS_MAX = 256, STATUS_ADDRESSES_MAX = 16 };

struct status_worker {
    int slot, generation;
    pid_t pid;  // 0 = none
    bool serving;
    char last_exit[32];  // "signal KILL", "code 1"; "" = none yet
};

struct status {
    pid_t keeper, primary;  // keeper 0: there is none any more
    int wanted, ready, generation;
    bool rolling;  // a reload is under way
    char mode[8];
    int addresses;
    char address[STATUS_ADDRESSES_MAX][64];
    int workers;  // without those that leave (draining, retiring), or are kept, frozen, for a rollback
    struct status_worker worker[STATUS_WORKERS_MAX];
};

// 0, or -errno when nobody gave a sensible answer within two seconds: a primary may have been killed that moment.
int status_read(struct instance *instance, struct status *out);
// The worker in a slot, or NULL.
const struct status_worker *status_worker(const struct status *status, int slot);
