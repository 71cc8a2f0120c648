// SPDX-License-Identifier: MIT
// Whether the command of a launch can be found and run: asked before anything is started, with the shell's exit codes.
#pragma once

#include "cli.h"
#include "launch.h"

// CLI_OK, or CLI_NOT_FOUND or CLI_NOT_EXECUTABLE after a complaint.
int command_check(const struct cli_verb *verb, const struct launch *launch);
