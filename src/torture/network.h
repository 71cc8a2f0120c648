// SPDX-License-Identifier: MIT
// A private network: a network namespace with nothing in it but loopback, so that the load meets nobody else, every port is
// free, and the kernel's counters count this run alone.
#pragma once

#include <stdbool.h>

#include "error.h"

enum network {
    NETWORK_SHARED,        // the one that the caller is in
    NETWORK_PRIVATE,       // a network namespace of our own (CAP_SYS_ADMIN)
    NETWORK_PRIVATE_USER,  // the same inside a user namespace of our own, in which the caller, no root, keeps his user id and sees no other
};

// Moves this process, which must have one thread, and its later children into one where that is possible. `error` says why not.
enum network network_enter(struct pando_error *error);

// How many accepted connections programs of this network have closed with unread data, or after data came too late (RFC 1122, 4.2.2.13):
// each is a reset that the other side sees although somebody had accepted it. -1 when unknown.
long network_aborts(void);
