// SPDX-License-Identifier: MIT
// Whether the command of a launch can be found and run: asked before anything is started, with the shell's exit codes.
#pragma once

#include "buf.h"
#include "cli.h"
#include "launch.h"

// CLI_OK with the file that would be run, absolute unless memory is out; or CLI_NOT_FOUND or CLI_NOT_EXECUTABLE after a complaint.
int command_find(const struct cli_verb *verb, const struct launch *launch, struct buf *out_path);
// The same for who does not need the path.
int command_check(const struct cli_verb *verb, const struct launch *launch);
