// SPDX-License-Identifier: MIT
// Ending an instance: a live one by asking it, the workers of a killed one by hand. Used by `stop` and by `run`.
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "client.h"

// Asks the instance to stop and waits until its last process has ended. CLI_OK or the exit code after a complaint.
int ending_live(struct client *client, const struct cli_verb *verb, bool now);

// True when the instance of that name lives without its keeper, which was killed: its primary says so.
bool ending_is_orphan(int home, const char *name);

// Ends the workers on record in NAME.pids that still run: TERM, KILL after ten seconds or, with `now`, at once. Removes
// what the instance left in the folder. The caller holds the lock. How many there were, or -errno when some would not end.
int ending_leftovers(int home, const char *name, bool now);
