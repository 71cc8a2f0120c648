// SPDX-License-Identifier: MIT
// `run -d`: the log file, the child that becomes the keeper, and the wait for its first words.
#pragma once

#include "cli.h"
#include "launch.h"

// Opens the log file, by default NAME.log where this user's logs belong, and notes its absolute path in `launch`.
// A descriptor, or -errno after a complaint.
int detach_open_log(struct launch *launch, const struct cli_verb *verb);

// In the child: a session of its own, no input, output to the log.
int detach_enter(int log);

// In the parent: waits for word on the pipe (inherit.h) and tells the user. The exit code.
int detach_wait(const struct launch *launch, const struct cli_verb *verb, int ready, int log, int home);
