// SPDX-License-Identifier: MIT
// What the launch_*.c files share; nobody else includes it.
#pragma once

#include "launch.h"

#define LAUNCH_GROUP_MAX 64  // as many as a plan holds (plan.h)
#define LAUNCH_READY_FD_MIN 3
#define LAUNCH_READY_FD_MAX 1023
#define LAUNCH_READY_PATH_MAX 1024

bool launch_ready_path_valid(const char *path);  // may be asked for: absolute, no blanks, not too long

extern const char *const launch_log_name[LAUNCH_LOG_COUNT];

bool launch_name_char(char c);  // may be part of an instance's name

// The index of `text` in a table of names, or -1.
int launch_find_name(const char *const *names, size_t count, const char *text);

// Appends `text` (taken, also on failure; NULL = it could not be allocated) to a NULL-terminated heap array. 0 or -ENOMEM.
int launch_list_add_take(char ***list, char *text);
void launch_list_free(char ***list);

// The instance's name for a command: of the script when the command is an interpreter. Always a valid name.
void launch_name_guess(char *const *argv, const char *directory, char out[static LAUNCH_NAME_MAX + 1]);

// The word of a command line that names its program: "app.js" of `node -r x app.js`. Borrowed; NULL when none does.
const char *launch_command_script(char *const *argv);

// Fills uid, gid, groups, user from "USER[:GROUP]", names or numbers. 0 or -errno.
int launch_set_user(struct launch *launch, const char *text, struct pando_error *error);
