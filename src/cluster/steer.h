// SPDX-License-Identifier: MIT
// Which of an address's sockets gets the next connection, when there is one a slot. Slot mode: an eBPF program (os/steering.h).
// Without privileges: a classic one that chooses among the live ones, at random or by the client's address.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "error.h"
#include "listener.h"

#define STEER_SLOT_NONE (-1)

// Opens what the first address will need, ahead of time (it takes a while), and so learns whether this can work here.
// 0, or -errno with the reason; the record's mode then has to be pull.
int steer_prepare(struct listeners *listeners, struct pando_error *error);

// A new address that listens for the first time, with this socket: says whether it gets one socket a slot, and who steers.
void steer_new_address(struct listeners *listeners, int address, int fd);
void steer_added(struct listeners *listeners, int row);     // that row's socket listens now
void steer_removing(struct listeners *listeners, int row);  // it is about to be closed for good
void steer_forget(struct listeners *listeners, int address);  // no socket of it is left
void steer_update(struct listeners *listeners, int address);  // the live slots are others now

// Moves what waits in this slot's queues to live siblings. Whoever may accept from them is dead or frozen. How many went.
unsigned steer_move_queues(struct listeners *listeners, int slot);

struct steer_numbers {
    int queued;                // now, over all addresses
    int live;                  // connections open
    unsigned long total;       // connections that were given to it
    unsigned long moved_away;  // of those, to siblings
    unsigned weight;
    bool known;  // false: not steered by eBPF, only `queued` is
};
struct steer_numbers steer_numbers(const struct listeners *listeners, int slot);
unsigned steer_strangers(const struct listeners *listeners, int address);

// Adoption: a descriptor of a steering that the keeper held; after all of them and all sockets, steer_adopted.
void steer_adopt(struct listeners *listeners, uint64_t key, int fd_take);
void steer_adopted(struct listeners *listeners);
