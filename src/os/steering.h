// SPDX-License-Identifier: MIT
// Which socket of an SO_REUSEPORT group gets the next connection: an eBPF program decides, before the connection exists.
//
//     steering_open(&steering, &(struct steering_options){.slots = 64, .policy = STEERING_AUTO}, &error);
//     steering_add(steering, 0, fd0, &error);   // each slot's socket, listening; steered away from until it has a weight
//     steering_add(steering, 1, fd1, &error);
//     steering_set_weight(steering, 0, 1);      // its worker is ready: connections come from now on
//     steering_set_weight(steering, 1, 1);
//     ...
//     steering_set_weight(steering, 0, 0);      // worker 0 died or is stuck (frozen now): nothing more goes there,
//     steering_move_queue(steering, 0, fd0, &count, &error);  // and what waits there goes to the others
//
// One `struct steering` an address. The kernel needs nobody to steer on; whoever holds the descriptors of steering_export can
// go on where this process stopped. Not for two threads at a time.
//
// While no slot is fit connections wait in the lobby, else with the members in turn; none is refused.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "error.h"
#include "steering_memory.h"

#define STEERING_SLOT_MAX STEERING_SLOTS
#define STEERING_WEIGHT_MAX UINT16_MAX

struct steering;

// Keys of the descriptors that make up a steering. They keep their numbers.
enum steering_fd {
    STEERING_FD_MEMORY,
    STEERING_FD_SOCKETS,
    STEERING_FD_TAGS,
    STEERING_FD_MOVED,
    STEERING_FD_CHOOSE,
    STEERING_FD_LEARN,
    STEERING_FD_RECOUNT,
    STEERING_FD_COUNT_LINK,
    STEERING_FD_WATCH,
    STEERING_FD_WATCHES,
    STEERING_FD_WAKES,
    STEERING_FD_COUNT
};

struct steering_options {
    unsigned slots;  // numbered from 0; at most STEERING_SLOT_MAX
    enum steering_policy policy;
};

// Of one slot since steering_open. opened + moved_in - moved_out - what waits in its queue = what was accepted.
struct steering_counts {
    uint64_t chosen;               // at a SYN, whether or not a connection came of it
    uint64_t by_cookie;            // again, at the ACK that returned a SYN cookie (or at a stray ACK)
    uint64_t moved_in, moved_out;  // from queue to queue
    bool counted;                  // the rest is known here; else 0
    uint64_t opened;               // connections made, and of these
    uint64_t cut;                  // those that ended otherwise than by the worker's close or shutdown
    int live;                      // the worker has not closed yet, queued ones included
};

// Whether all this works here: loads and attaches the program, and takes it off again (some 0.1 s). 0 or -errno with the sentence.
int steering_probe(struct pando_error *error);

int steering_open(struct steering **out, const struct steering_options *options, struct pando_error *error);
// Goes on with what another process opened. Consumes the descriptors (-1 = none), on failure too. Traffic is not disturbed.
// Afterwards steering_add each socket again, before anybody calls listen on it, and steering_remove the slots that are no
// more: that finishes what was interrupted. -EPROTO: another version's. Its sockets are out of it then, so that another
// steering can have them; until they are added to one the kernel's hash chooses.
int steering_import(struct steering **out, int fds_take[static STEERING_FD_COUNT], struct pando_error *error);
void steering_export(const struct steering *steering, int out_fds[static STEERING_FD_COUNT]);  // borrowed; -1 = none
// The kernel goes on steering as it was told last, by the sockets alone; it counts and watches only while a duplicate of the
// descriptors is open. NULL is fine.
void steering_close(struct steering *steering);
// What this steering cannot do here, as a sentence ("auto goes by ..."); "" = nothing. Static.
const char *steering_lacks(const struct steering *steering);

// `fd`: a socket of the group, bound, with SO_REUSEPORT (borrowed; keep it open). It is made to listen when it does not yet:
// so, all its connections are counted. The first one says which group. Repeating it is harmless, and puts the program back
// should somebody have replaced it. -EOPNOTSUPP: an MPTCP socket, which no eBPF program can choose.
int steering_add(struct steering *steering, unsigned slot, int fd, struct pando_error *error);
// Before its last descriptor is closed. Its weight becomes 0. What was queued there moves at that close.
void steering_remove(struct steering *steering, unsigned slot);

// Shares of new connections: exact over each round of turns (in sticky by the hash of clients); 0 = steered away. At most
// STEERING_CLASSES different ones at a time, else -E2BIG and nothing changed. In force for the next SYN; handshakes under way
// still end where they began.
int steering_set_weight(struct steering *steering, unsigned slot, unsigned weight);
int steering_set_weights(struct steering *steering, const uint16_t *weights);  // of all slots, at once
unsigned steering_weight(const struct steering *steering, unsigned slot);
void steering_set_lobby(struct steering *steering, int slot);  // where connections wait when no slot is fit; -1 = none
// Until it is set otherwise, connections from this port (0 = none) go to this slot, fit or not: to ask its worker whether it is.
void steering_set_probe(struct steering *steering, unsigned slot, uint16_t port);
void steering_set_policy(struct steering *steering, enum steering_policy policy);

// Moves what waits in the slot's queue to fit slots. Steers away, waits for handshakes under way (0.1 to 2 ms of the caller's
// time; slower ones still end in this slot's queue), and then for a few microseconds the socket does not listen: the caller
// has frozen whoever may accept from it. 0 with how many went (may be NULL), -EAGAIN when no other slot is fit: nothing was
// done. After another failure the slot is removed and its socket may not listen any more: end its worker.
int steering_move_queue(struct steering *steering, unsigned slot, int fd, unsigned *out_moved, struct pando_error *error);

// From now on the kernel looks at the queues every `patience_ns` while anything waits in one, and makes the descriptor of
// steering_wake_fd readable when a connection was found waiting at the head of the same queue twice: nothing was accepted
// there for as long (to twice as long). Again at 2, 4, 8 ... times that, while it lasts. 0: no more. -EOPNOTSUPP.
int steering_watch(struct steering *steering, uint64_t patience_ns);
// It becomes readable for that, and when the group has got more sockets: time to ask for strangers.
int steering_wake_fd(const struct steering *steering);  // borrowed; poll it, then steering_wake_take
void steering_wake_take(struct steering *steering);     // not readable any more; look at the slots after this
// For how long at least the slot's longest waiting connection has waited by the latest look, in steps of the patience.
uint64_t steering_waited_ns(const struct steering *steering, unsigned slot);

struct steering_counts steering_counts(const struct steering *steering, unsigned slot);
// Sockets in the group that were never added here, a stranger's of the same uid for one; as of the latest connection.
// One of our own between listen and steering_add counts too: ask twice. 0 also when that is not known.
unsigned steering_strangers(const struct steering *steering);
// Compares the live counts with the connections there are, and corrects those of slots where nothing opened or closed
// meanwhile. Takes tens of ms. How many were wrong, or -errno.
int steering_recount(struct steering *steering);
