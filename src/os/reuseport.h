// SPDX-License-Identifier: MIT
// Groups of sockets that share an address (SO_REUSEPORT), and the classic BPF program that picks a member without privileges.
#pragma once

#include <stddef.h>

#define REUSEPORT_CHOICE_MAX 1024

// Attaches to the group of `fd` (any member will do) a program that returns a random one of `indexes` (group order: that of
// listen(2), swap-with-last on close). One index: always that. 0 or -errno. An index outside the group makes the kernel
// hash over all members: the caller sees to it that it cannot happen.
int reuseport_choose(int fd, const unsigned *indexes, size_t count);
