// SPDX-License-Identifier: MIT
// Start and adoption are the same: what the keeper holds is taken over; on the first start that is next to nothing.
#pragma once

#include "error.h"
#include "primary.h"

// Says HELLO, takes everything over, makes what is missing, and opens the pool. 0 or -errno, with the reason in `error`.
int adopt(struct primary *primary, struct pando_error *error);
// The sockets that the supervisor gave are rows with workers now: the keeper's own duplicates go.
void adopt_given_done(struct primary *primary);
// NAME.pids: who runs, for whoever comes after a SIGKILL of keeper and primary.
void adopt_write_pids(const struct primary *primary);
