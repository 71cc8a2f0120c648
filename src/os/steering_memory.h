// SPDX-License-Identifier: MIT
// What steering.c and the eBPF program share: one block of memory that both map. User space writes a bank that is not in
// force and turns `current`; the program counts.
#pragma once

#include <stdint.h>

#define STEERING_MEMORY_MAGIC UINT64_C(0x50616e646f537465)  // "PandoSte"
#define STEERING_MEMORY_VERSION 2

enum {
    STEERING_SLOTS = 1024,  // a power of two: the program masks with it
    STEERING_CLASSES = 8,   // different weights at a time
};

enum steering_policy {
    STEERING_AUTO,  // fewest waiting to be accepted, then fewest open connections; ties take turns
    STEERING_RR,    // in turn, exactly
    STEERING_RANDOM,
    STEERING_STICKY,  // by the client's address
    STEERING_POLICY_COUNT
};

// Why the program runs. A connection is chosen for at its SYN; while SYN cookies are sent, again at the ACK that brings the
// cookie back. Each has turns of its own, or every other slot would get nothing.
enum steering_event { STEERING_SYN, STEERING_ACK, STEERING_MOVE, STEERING_EVENTS };

// Slots of one weight. Classes take turns exactly by their shares; within a class the policy decides.
struct steering_class {
    uint32_t first, count;  // order[first .. first + count)
    uint32_t weight;
    uint32_t end;  // of its part of a round of turns: it begins where the class before ends
};

//   order:  | class 0 | class 1 | ... | lobby? | members steered away |
//           0                       fit                          members
struct steering_bank {
    uint32_t classes, fit, members;
    uint32_t has_lobby;      // order[fit] is where connections wait when nobody is fit
    uint32_t round, stride;  // turns of a round; turn t goes to the class at t * stride % round (coprime: each place once a round)
    struct steering_class class[STEERING_CLASSES];
    uint16_t order[STEERING_SLOTS];
};

// What is asked of a slot at every choice.
struct steering_seat {
    uint64_t address;  // of its struct sock in the kernel; 0 = none
    int32_t live;      // open connections; by the program
    int32_t spare;
};

struct steering_tally {
    uint64_t chosen[STEERING_EVENTS];
    uint64_t moved_in, moved_out;  // whole connections; what still shakes hands is counted where that ends
    uint64_t opened;
    uint64_t cut;  // ended otherwise than by the worker's close or shutdown
    uint64_t spare;
};

struct steering_memory {
    uint64_t magic;
    uint32_t version, size;
    // set by user space
    uint32_t slots, policy, current;
    uint32_t lobby, moving;   // the slot whose queue is being moved; STEERING_SLOTS = none, for both
    uint32_t probe_slot;      // where a connection from `probe_port` (network byte order; 0 = none) goes, fit or not
    uint32_t probe_port;
    uint32_t looks, counts;   // whether queues are looked at, connections counted
    uint8_t moving_name[28];  // where that slot's socket is bound: as long as a sockaddr_in6
    uint32_t moving_name_len;
    uint64_t patience_ns;  // how often queues are looked at while anything waits; 0 = never
    // set by the program
    uint32_t members;    // sockets in the group, strangers included; 0 = not known
    int32_t moved_live;  // entries in the map `moved`
    uint32_t watching;   // the timer runs
    uint64_t zero;        // always
    uint64_t number[2];  // scratch
    uint64_t turn[STEERING_EVENTS];
    uint64_t cursor[STEERING_EVENTS][STEERING_CLASSES];
    struct steering_bank bank[2];
    struct steering_seat seat[STEERING_SLOTS];
    uint32_t counted[STEERING_SLOTS];  // the same, counted anew by steering_recount
    uint64_t cookie[STEERING_SLOTS];   // SO_COOKIE of the slot's socket; 0 = none
    uint64_t head[STEERING_SLOTS];     // names the connection that waited longest at the last look; 0 = none
    uint32_t waits[STEERING_SLOTS];    // looks in a row that found the same one there
    uint16_t weight[STEERING_SLOTS];   // by user space
    struct steering_tally tally[STEERING_SLOTS];
};
