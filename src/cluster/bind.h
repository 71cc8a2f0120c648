// SPDX-License-Identifier: MIT
// Binding a socket to an address that several workers share.
#pragma once

#include "listener.h"
#include "record.h"

int bind_set_reuseport(int fd, int on);  // 0 or -errno
// Binds `fd` (borrowed). The first of all binds alone, so that a stranger on the port is EADDRINUSE as it should be; only then
// may others join. 0 or -errno.
int bind_in_group(const struct listeners *listeners, int fd, const struct record_address *key);
