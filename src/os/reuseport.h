// SPDX-License-Identifier: MIT
// Groups of sockets that share an address (SO_REUSEPORT), and the classic BPF program that picks a member without privileges.
#pragma once

#include <stddef.h>
#include <stdint.h>

#define REUSEPORT_CHOICE_MAX 256

enum reuseport_policy {
    REUSEPORT_RANDOM,
    REUSEPORT_STICKY,  // by the client's address; a change of the members moves only the clients of those that came or went
};

struct reuseport_member {
    unsigned index;  // in group order: that of listen(2), swap-with-last on close
    unsigned slot;   // who it is, whatever its index: clients stick to this
};

// Connections from this port go to that member, whoever else would be chosen.
struct reuseport_probe {
    uint16_t port;  // 0 = none
    unsigned index;
};

// Attaches to the group of `fd` (any member will do) a program that picks one of `members`. 0 or -errno. An index outside
// the group makes the kernel hash over all members: the caller sees to it that it cannot happen.
int reuseport_choose(int fd, enum reuseport_policy policy, const struct reuseport_member *members, size_t count,
                     struct reuseport_probe probe);
