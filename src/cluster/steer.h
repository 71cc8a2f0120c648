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
const char *steer_lacks(const struct listeners *listeners);  // what prepared cannot do here, as a sentence; "" = nothing
void steer_unprepare(struct listeners *listeners);

// A new address that is about to listen for the first time, with this socket of this slot: says whether it gets one socket a
// slot, and who steers.
void steer_new_address(struct listeners *listeners, int address, int slot, int fd);
// Before that socket listens, again or for the first time: 0, or -errno, logged: then it must not.
int steer_add(struct listeners *listeners, int address, int slot, int fd);
void steer_removing(struct listeners *listeners, int row);    // it is about to be closed for good
void steer_forget(struct listeners *listeners, int address);  // no socket of it is left
void steer_update(struct listeners *listeners, int address);  // the live slots, generations or their shares are others now
void steer_update_all(struct listeners *listeners);  // of every address
void steer_choose(struct listeners *listeners, int address);  // without eBPF: from now on among the live ones alone

// Until it is ended, connections from this port go to this row's socket, whoever else would be chosen.
void steer_probe(struct listeners *listeners, int row, uint16_t port);
void steer_probe_end(struct listeners *listeners);

// Is there a queue of this slot's whose connections would wait less elsewhere: a sibling is live, and nobody waits there?
bool steer_can_move(const struct listeners *listeners, int slot);
// Moves what waits in this slot's queues to live siblings. Whoever may accept from them is dead or frozen. 0, or -errno (logged):
// a socket of the slot is no more, and whoever accepts from it waits in vain.
int steer_move_queues(struct listeners *listeners, int slot);
int steer_move_queue(struct listeners *listeners, int row);  // of one socket

struct steer_numbers {
    int queued;                // now, over all addresses
    int live;                  // connections open
    unsigned long total;       // connections that were given to it
    unsigned long moved_away;  // of those, to siblings
    unsigned long opened, cut;  // connections made, and those that ended otherwise than by the worker's doing; 0 when not counted
    unsigned weight;
    bool counted;  // `opened` and `cut` are
    bool known;  // false: not steered by eBPF, only `queued` is
};
struct steer_numbers steer_numbers(const struct listeners *listeners, int slot);

// Queues that do not move, strangers, and a shared socket that was shut down make `wakes` readable: it is not any more, that socket
// listens again, and `each` hears of every slot at the head of whose queue the same connection has waited for the patience or longer.
void steer_take_wakes(struct listeners *listeners, void (*each)(int slot, void *arg), void *arg);
uint64_t steer_waited_ns(const struct listeners *listeners, int slot);  // for how long at least, by the latest look; 0: not
// Warns, once, of sockets of this user's that are in a group and not ours. When to ask again.
uint64_t steer_look_for_strangers(struct listeners *listeners, uint64_t now_ns);

// Adoption: a descriptor of a steering that the keeper held; after all of them steer_adopted, then every socket listens again,
// then what belongs to no socket is removed.
void steer_adopt(struct listeners *listeners, uint64_t key, int fd_take);
void steer_adopted(struct listeners *listeners);
void steer_remove_absent(struct listeners *listeners);
