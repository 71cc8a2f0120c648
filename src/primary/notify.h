// SPDX-License-Identifier: MIT
// The workers' NOTIFY_SOCKETs (sd_notify(3)): one datagram socket a slot, in a folder that the workers' user can reach.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "launch.h"

// Makes HOME/NAME.notify for the launch's user. Its path into `out`; "" (and a warning) when that cannot be.
void notify_make_directory(const struct launch *launch, char *out, size_t size);
void notify_remove_directory(const char *directory);
// The bound socket of a slot: new fd, or -errno.
int notify_open_socket(const char *directory, int slot, const struct launch *launch);

// Reads one datagram: 1 = it said READY=1, 0 = something else, -EAGAIN = none left.
int notify_read(int fd);
