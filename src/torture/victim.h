// SPDX-License-Identifier: MIT
// Killing workers so that it is known which connections die with them: freeze, look, kill. A worker is its whole process group, since Pando
// ends the group when the worker has died.
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "error.h"
#include "load.h"

// Kills these workers with SIGKILL, all at the same time. Requests to `port` that were under way inside them, which the load has been told;
// or -errno with a sentence when they could not be frozen or looked at (then nothing was killed). A worker that is gone already is fine.
int victims_kill(struct load *load, uint16_t port, const pid_t *pids, int count, struct pando_error *error);
