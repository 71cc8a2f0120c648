// SPDX-License-Identifier: MIT
// The primary's memory: everything it must know after it was killed, in a memfd that the keeper holds. The primary writes
// it as it goes; a successor maps it and is where the other was. What only this process can know (descriptors, watches)
// is not here: the keeper hands the descriptors back.
#pragma once

#include <linux/seccomp.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "error.h"
#include "launch.h"

#define RECORD_MAGIC UINT64_C(0x50616e646f526563)  // "PandoRec"
#ifndef RECORD_VERSION
#define RECORD_VERSION 7
#endif
#define RECORD_ADDRESS_MAX 64     // addresses that workers bind; a bit each in a 64-bit mask
#define RECORD_SOCKET_MAX 4096    // listening sockets of all addresses
#define RECORD_GENERATIONS 8      // the one that serves, the one before, the next, and those whose last workers still drain
#define RECORD_BOUND_MAX 1024     // bound sockets of workers, the oldest forgotten first
#define RECORD_NODE_DATA_SIZE 512
#define RECORD_HANDED_MAX 512     // sockets handed to workers and not yet listening or connected
#define RECORD_CANARY_ROUND_PARTS 5          // a round of its trial: four parts with its share, one without
#define RECORD_CANARY_ROUNDS_MOST_PERCENT 80  // for so large a share it gets all connections in the four parts
#define RECORD_TAIL_SIZE 256      // of what a worker wrote last, for the story of its death

struct record_worker {
    uint32_t state;  // enum worker_state; worker_move() alone writes it
    int32_t pid;     // 0 = no process
    uint64_t token;  // names this incarnation of the process; 0 = none
    uint32_t number;      // what the user sees as its slot: PANDO_WORKER; during a roll-out two have the same
    uint32_t generation;
    uint32_t intercept;  // enum launch_intercept: the way its filter was made for
    uint32_t restarts;  // processes started here, less the first
    uint32_t failures;  // in a row; decides the wait before the next start
    uint64_t since_ns;  // of the present state
    uint64_t started_ns;
    uint64_t start_ticks;      // of the process, as in /proc/PID/stat: with the pid it names it for ever
    uint64_t deadline_ns;      // of the present state; CLOCK_NEVER = none
    uint64_t first_listen_ns;  // 0 = this process has not listened yet
    uint64_t addresses;        // bit a: it listens on record.address[a]
    uint64_t asked;            // bit a: it was given record.address[a] through its channel, and has not closed it
    struct seccomp_notif parked;  // a call of it that waits for a verdict on another worker; id 0 = none
    uint64_t next_look_ns;     // while it is drained or watched: when to look at it again
    uint64_t ask_ns;           // while it starts: when to ask it by HTTP (again); CLOCK_NEVER = it is being asked
    uint32_t answers;          // how often it has answered well
    uint64_t told_ns;          // when it got its stop signal
    uint64_t frozen_ns;        // when it was stopped, for that or for a rescue
    uint64_t noticed_ns;       // when its queue was seen not to move; 0 = it moves, or nothing waits
    uint64_t noticed_cpu_ns;   // processor time it had used by then
    uint64_t accepted;         // from its queues by then
    uint64_t stuck_ns;         // since when it is known to be stuck; 0 = it is not
    uint64_t stuck_cpu_ns;     // processor time all processes of it had used by then
    uint64_t stuck_throttled;  // how often its cgroups' quota had been used up by then
    uint64_t rescue_ns;        // when the next rescue may be tried
    uint64_t emptied_ns;       // when its queue was taken from it
    uint32_t probes;           // how often it got connections since it is stuck, to see what becomes of them
    uint64_t opened_before, cut_before;  // connections of its place until the canary began: made; ended by other than the worker
    int32_t last_status;       // as from waitpid(2), or KEEPER_STATUS_UNKNOWN
    bool has_last, last_oom;
    bool foreign;        // a child of a keeper that was killed, not of the present one
    bool wanted;         // there shall be a worker here
    bool keep;           // once drained it is frozen and kept for a rollback
    bool kept;           // it is
    bool stale;          // it accepts from a socket that no client finds any more: restarted as soon as it is ready
    bool restart_due;    // `pando restart` has not come to it yet
    bool restarting;     // ended for that; its successor is not ready yet
    bool frozen;         // stopped by us: thaw it, whatever happens
    bool told;           // draining: it has got its stop signal
    bool shuts_down_unasked;  // a shutdown(2) of a listener that it shares is done without Pando being asked
    bool cut_short;      // told, and it handles no stop signal: it got SIGKILL in its place, see drain.c
    bool online;         // it is linked with libpando, and said that it runs
    bool opened;         // it reads the channel it has to the primary: told there to finish, it ends by itself
    bool bid;            // draining: its channel has heard that it shall end: there is no way back
    bool messaged;       // draining: it has no connection left; the signal follows at next_look_ns
    bool leaving;        // it said that it leaves of its own accord: no more connections for it
    bool ready_sign;     // READY=1 or the newline came
    bool steered_away;   // stuck: nothing new goes there until it waits for connections again
    char tail[RECORD_TAIL_SIZE];
};

// A bound socket of a worker, from `bind` to the worker's end: who binds twice must hear EADDRINUSE.
struct record_bound {
    uint64_t token;  // 0 = free
    uint64_t inode;  // of the program's own socket
    int32_t address;
};

// What a program bound: one SO_REUSEPORT group, or one unix path.
struct record_address {
    bool used, listened;
    bool per_slot;  // one socket a slot instead of one a generation, for all generations: slot mode, or as the supervisor passed them
    bool steered;   // by eBPF
    bool for_all;   // one socket for all generations: a unix path, one that is passed, or where no program can choose (MPTCP, UDP that was asked for)
    bool fixed;     // its one socket came from the supervisor, and no other can join it: whoever binds this gets that one
    bool unblocked; // and was made non-blocking for good: see judge.c
    bool passed;    // its connections are accepted by the primary and passed to the workers, in turn
    uint32_t pair;  // the system chose the port; this was the pair-th such wish of each worker. 0 = a port that was named
    bool strangers_warned;
    bool judged;       // how its workers wait makes no difference
    uint8_t v6only;
    int32_t type;      // SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET
    uint32_t look_generation;  // whose workers are looked at
    uint32_t look_count;
    uint64_t look_ns;  // when to look how they wait; CLOCK_NEVER = not to be looked at
    uint64_t strangers_ns;  // since when its group has had sockets that are not ours; 0 = it has not
    uint64_t bound_ns;
    char node_data[RECORD_NODE_DATA_SIZE];  // what Node's workers share there (TLS ticket keys), as JSON; "" = nothing
    socklen_t len;
    union {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;  // an absolute path, or an abstract name
        struct sockaddr_storage storage;
    } at;
};


// What the supervisor keeps of a socket row (store.c).
struct record_stored {
    bool there;
    uint32_t index;  // with the row's number: its name there
    uint64_t inode;  // of which socket
};

// A listening socket of ours. Its row number is its key with the keeper.
struct record_socket {
    bool used;
    bool given;         // by the supervisor, which keeps it itself
    bool live;         // steering may choose it
    bool closing;      // listeners_close was begun
    bool closed;       // its worker has closed it and lives: not live until it asks again
    uint8_t address;
    int32_t slot;      // -1: shared by its generation
    uint32_t generation;
    uint32_t index;    // place in the kernel's group: order of listen(2), swap-with-last on close
    uint64_t inode;
    struct record_stored stored;  // outlives `used`, until the supervisor has let go of it
};

// One version of command, environment and options, as long as it has workers or may be asked for again.
struct record_generation {
    uint32_t number;       // 0 = this row is free
    uint64_t addresses;    // bit a: what its first ready worker listened on
    uint64_t first_ns;     // its first listen
    uint64_t first_token;  // whose that was
    uint64_t judged;       // bit a: its listener there was seen to be non-blocking, or how its workers wait has been seen
    uint64_t per_slot;     // bit a: they poll, then accept on a blocking listener: one socket each there
    uint64_t listening;    // bit n: at descriptor n one of its workers listens
    bool answered;         // by HTTP: its first worker said that it is ready
    uint32_t left_over;    // its last workers are gone: connections that waited then
    uint64_t turned_ns;    // since when its shared sockets get no more connections; 0 = they do
    bool settled;          // and those that were under way then have come
    uint64_t settle_look_ns;  // when to look for these again
};

enum rollout_phase {
    ROLLOUT_NONE,
    ROLLOUT_FORWARD,  // from `from` to `target`
    ROLLOUT_CANARY,   // `target` gets a share, and is watched
    ROLLOUT_BACK,     // it failed: `target` is the old generation again
};

struct record_cuts {
    uint64_t opened, cut;  // connections
};

// A change of generation under way, or how the last one went. See rollout.c.
struct record_rollout {
    uint32_t phase;           // enum rollout_phase
    uint32_t from, target;    // generations
    uint32_t serial;          // counts roll-outs, so that whoever waits knows its own
    bool turned;              // new connections go to the target alone
    bool failed;              // the last one did
    bool again;               // a restart: the same version under a new number
    int32_t failed_number;    // whose failure that was; -1 = nobody's in particular
    uint32_t surge;           // workers that start at a time
    uint64_t stable_ns;       // how long one must have served to count
    uint32_t canary_percent;  // of new connections; 0 = no canary
    uint64_t canary_for_ns, canary_until_ns;  // 0 = it has not begun
    uint64_t canary_free_ns, old_free_ns;     // when nobody was last seen to wait for the canary, for the old generation
    uint64_t canary_round_ns;  // 0 = it gets its share all the time; see canary.h
    bool canary_paused;       // now it gets none
    struct record_cuts canary_counts, with_canary, without_canary;  // the namespace's when last looked; since it began
    uint64_t keep_ns;         // how long the old generation is kept for a rollback
    uint64_t began_ns;
    uint64_t moved_before;    // connections moved from queue to queue until then
    uint64_t served_before, reset_before;  // connections accepted and reset in this network namespace until then
    char why[512];            // it failed
};

struct record {
    uint64_t magic;
    uint32_t version, size;
    uint32_t generation;       // the one that serves
    uint32_t previous;         // the one before; 0 = none
    uint32_t last_generation;  // the highest number given
    uint32_t wanted;           // workers
    uint32_t wanted_then;      // workers, once all of `wanted` are ready: more slots came back with their queues; 0 = as they are
    uint32_t slot_end;         // slots from here on were never used
    uint32_t socket_end;       // the same for socket rows
    uint32_t intercept;        // enum launch_intercept in force, never AUTO
    uint32_t mode;             // enum launch_mode in force, AUTO only before the first start
    char mode_why[160];        // why it is that one
    uint32_t primaries;        // started so far
    uint64_t next_incarnation;
    uint64_t started_ns;
    uint64_t first_listen_ns;  // of any worker ever
    struct record_generation generations[RECORD_GENERATIONS];
    struct record_rollout rollout;
    uint64_t scout_token;  // where sockets are handed out: the worker that binds alone until it listens
    bool ever_ready, stopping, port_zero_warned, unknown_warned, up_told;
    bool reloading;    // the supervisor is waiting for the end of a reload
    bool interrupted;  // one INT was heard: the next one means at once
    int32_t exit_code;
    char why[PANDO_ERROR_TEXT_SIZE];  // the instance gives up; "" = it was asked to stop
    uint64_t notified_token;        // whose notification is in `notified`; 0 = none is being answered
    struct seccomp_notif notified;  // received straight into here, so that the next primary can answer it
    uint32_t keepers_lost;     // killed, and replaced by a primary
    bool upgrading;            // to another program; an answer is owed for it
    uint64_t upgrade_inode;    // of that program
    char upgrade_from[32];     // the version that ran before
    char program[1024];        // path that `pando upgrade` looks at
    uint32_t bound_next;
    struct record_bound bound[RECORD_BOUND_MAX];
    struct record_worker worker[LAUNCH_WORKERS_MAX];
    struct record_address address[RECORD_ADDRESS_MAX];
    struct record_socket socket[RECORD_SOCKET_MAX];
};

int record_create(struct record **out_record, int *out_memfd);  // zeroed, version set; the mapping lives as long as the process
void record_clear(struct record *record);  // as if it were just created
int record_map(int memfd, struct record **out_record);          // -EPROTO when it is not one of ours
int record_examine(int memfd);                                  // the same, without mapping it
