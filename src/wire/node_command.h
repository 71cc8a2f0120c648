// SPDX-License-Identifier: MIT
// Is a command line a Node program that can be a worker of Node's cluster? By its words alone.
#pragma once

#include <stdbool.h>

enum node_command {
    NODE_COMMAND_OTHER,      // something else, such as a shell script: it may start Node, or not
    NODE_COMMAND_SCRIPT,     // node app.js
    NODE_COMMAND_NO_SCRIPT,  // node -e CODE, node -, node: Node makes no worker of these
    NODE_COMMAND_WRAPPER,    // npm start, npx, yarn, node --watch, sh -c "npm start": keeps the channel to itself
};

enum node_command node_command_kind(char *const *argv);
// A sentence for the user: why `argv` cannot be a worker of Node's cluster. NULL when it can, or may.
const char *node_command_refusal(char *const *argv);
