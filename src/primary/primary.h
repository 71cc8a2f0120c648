// SPDX-License-Identifier: MIT
// The primary: the brain of an instance, and disposable. One root structure; the parts that know a piece of it get that.
#pragma once

#include <stdbool.h>
#include <sys/types.h>
#include <uv.h>

#include "launch.h"
#include "list.h"
#include "output.h"
#include "pool.h"
#include "watch.h"
#include "worker_channel.h"

struct control;
struct courier;
struct courier_events;
struct primary;
struct upgrade;

enum upgrade_state { UPGRADE_NONE, UPGRADE_RUNNING, UPGRADE_DONE, UPGRADE_REFUSED };

// Where the command and a program that is its own primary (libpando) differ.
struct primary_role {
    void (*on_signal)(struct primary *primary, int signo, bool from_kernel);  // somebody signalled the keeper
    void (*on_keeper_gone)(struct primary *primary);
    void (*after_tick)(struct primary *primary);
};

#define NODE_FLIGHT_MAX 8

// A connection that was passed to a worker and not answered yet. Our duplicate, in case it is refused or the worker dies.
struct node_flight {
    int fd;  // owned
    int row;
    uint64_t seq, since_ns;
};

// A worker's side of Node's protocol. What must survive the primary is in the channel's state (node.c).
struct node_worker {
    uint64_t seq;         // of our next message to it
    struct node_flight flight[NODE_FLIGHT_MAX];
    int flights;
    uint64_t passed;      // connections that it took
    uint64_t refused_ns;  // until when it is taken as full
    bool throttled;       // not read while another worker is slow to take what it sends
    bool stalled;         // has not taken what others send for a while: they do not wait for it
    unsigned long lost;   // messages for it that there was no room for
};

// What the loop watches for one worker. Its address lives in struct worker.watches.
struct primary_worker {
    struct primary *primary;
    struct worker *worker;
    struct stream *out, *err;
    struct watch *listener, *ready_pipe;  // the listener's descriptor is a duplicate of the worker's
    struct worker_channel *channel;       // owned; NULL = none, or closed by the worker
    struct courier *courier;              // owned; the same for a worker that is linked with libpando
    enum launch_channel channel_kind;
    struct node_worker node;              // with a channel of Node's
    uint64_t cpu_ns, sampled_ns;          // for `status`
    double cpu_percent;
};

struct health;

struct primary {
    const struct primary_role *role;  // borrowed
    struct health *health;  // owned; a worker is being asked whether it is ready; NULL = none is
    uv_loop_t *loop;        // borrowed
    uv_prepare_t before_wait;
    uv_timer_t timer, up_timer;
    struct link link;
    struct launch launch;
    struct pool pool;
    struct output output;
    struct control *control;  // owned
    struct handoff *handoff;    // owned; NULL until connections are passed
    struct messages *messages;  // owned; what workers sent
    struct supervisor *supervisor;  // owned; NULL = none
    int given_count, given_slots;   // sockets that it passed on, and slots that got one of their own
    struct worker_channel_memory *channel_memory;  // one a slot; mapped for the life of the process
    const struct courier_events *courier_events;  // borrowed; NULL = nobody listens
    size_t message_max, message_queue_max;        // of couriers; 0 = the defaults
    struct list_node unsent;                      // couriers with something to send
    struct watch *channel;
    struct watch *notify_socket[LAUNCH_WORKERS_MAX];
    struct primary_worker *worker[LAUNCH_WORKERS_MAX];  // owned; made when a slot first runs
    struct watch *handed, *wakes;
    struct upgrade *upgrade;  // owned; NULL = none is under way
    enum upgrade_state upgrade_state;
    char upgrade_why[PANDO_ERROR_TEXT_SIZE];
    int lock, ready;      // descriptors; -1 = none
    bool adopted_record;  // some primary was here before
    pid_t keeper;
    bool changed;      // the pool wants its tick
    bool room;         // workers have taken connections that were passed to them: more can follow
    int inner_looks;   // how often an inner cluster was looked for
    bool pids_changed; // NAME.pids is to be written
    bool keeper_gone;  // nobody spawns any more
    bool finished;
};

// For control.c: the wishes of a client.
void primary_stop(struct primary *primary, bool now);
void primary_wake(struct primary *primary);  // the pool wants its tick
