// SPDX-License-Identifier: MIT
// The supervisor's file descriptor store (sd_pid_notify_with_fds(3)): duplicates of our listening sockets, which it hands to
// the instance that it starts after this one was killed, with all that waits in their queues.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "listener.h"

#define STORE_NAME_SIZE 64

// Makes the store hold what there is. 0, or -errno with the rest left for the next call.
int store_update(struct listeners *listeners);

// What a name in the store says. False: the name is not of our making.
bool store_name_read(const char *name, int *out_row, uint32_t *out_index);
void store_name_write(char out[static STORE_NAME_SIZE], int row, uint32_t index);
