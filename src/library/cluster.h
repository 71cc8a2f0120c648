// SPDX-License-Identifier: MIT
// A program that is its own primary: the engine of `pando run` on the program's loop, and Node's view of it.
//
//   public functions -> engine (primary/, cluster/) -> hooks -> queue of events -> the program's callbacks, from the loop alone
#pragma once

#include <pando/cluster.h>
#include <uv.h>

#include "list.h"
#include "primary.h"

enum event_kind {
    EVENT_SETUP,
    EVENT_FORK,
    EVENT_ONLINE,
    EVENT_LISTENING,
    EVENT_MESSAGE,
    EVENT_DISCONNECT,
    EVENT_EXIT,
    EVENT_FAILURE,
    EVENT_WRITABLE
};

struct event {
    struct event *next;
    enum event_kind kind;
    pando_worker *worker;  // held; NULL = of the cluster
    union {
        struct {
            int code, signal;
        } exit;
        struct {
            char text[128], address[112];
            int port, family;
        } listening;
        struct pando_error failure;
        struct pando_message message;  // its data behind the event; fd owned
    };
    char data[];
};

struct pando_worker {
    pando_cluster *cluster;       // borrowed; NULL once that is freed
    struct primary_worker *seen;  // borrowed; NULL once the process has ended
    struct list_node link;        // cluster.workers, until both disconnect and exit are told
    uint64_t id;
    pid_t pid;
    int slot, number, holds;
    enum pando_worker_state state;
    enum pando_voluntary voluntary;
    bool listed;           // pando_worker_get and _next know it
    bool connected, dead;  // as the engine has seen; the events may still be to come
    bool told_disconnect, told_exit;
    int stdio[PANDO_STDIO_COUNT];  // owned; -1 = none
    struct pando_worker_events events;
    void *events_arg, *data;
};

// Settings as strings of our own.
struct settings {
    struct pando_settings now;  // what pando_cluster_settings shows; its pointers are into what follows
    char *exec, *cwd;           // owned
    char **args;                // owned
};

#define CALLBACK(type) \
    struct {           \
        type fn;       \
        void *arg;     \
    }

struct pando_cluster {
    struct primary primary;  // first: hooks get it
    uv_loop_t own_loop;
    bool own_loop_used, engine_open, forked, serving;
    pando_cluster_options options;
    struct settings settings;
    enum pando_policy policy;
    char *keeper_path;  // owned
    uv_process_t keeper;
    bool keeper_used;  // the handle is open
    struct pool_given given;
    int near[PANDO_STDIO_COUNT];                // owned: of the worker that is being started
    pando_worker *started;                      // borrowed: the one that was started last
    pando_worker *by_slot[LAUNCH_WORKERS_MAX];  // borrowed
    struct list_node workers;
    int alive;
    uv_idle_t pending;  // runs while events wait
    struct event *first, **last;
    int depth;       // of callbacks
    bool in_engine;  // what happens now is told later
    bool freed;      // as soon as no callback runs
    bool closed;     // its handles are closing
    bool running;    // in pando_cluster_run, on its own loop
    int closing;     // handles that have to close before it is gone
    bool finished;   // pando_cluster_serve: all has ended
    bool failed;     // something nobody was told of
    int exit_code;   // of pando_cluster_serve
    uv_signal_t signals[3];
    struct pando_error error;
    pando_cluster_fn on_gone;  // of pando_disconnect
    void *on_gone_arg;
    bool disconnecting;
    CALLBACK(pando_settings_fn) on_setup;
    CALLBACK(pando_worker_fn) on_fork, on_online, on_disconnect, on_writable;
    CALLBACK(pando_listening_fn) on_listening;
    CALLBACK(pando_message_fn) on_message;
    CALLBACK(pando_exit_fn) on_exit;
    CALLBACK(pando_failure_fn) on_failure;
};

static inline pando_cluster *cluster_of(struct primary *primary) { return (pando_cluster *)(void *)primary; }

// events.c
struct event *event_add(pando_cluster *cluster, enum event_kind kind, pando_worker *worker, size_t data_len);  // NULL: no memory
void event_fail(pando_cluster *cluster, pando_worker *worker, const struct pando_error *error);
void events_wake(pando_cluster *cluster);  // the loop comes to events_dispatch
void events_dispatch(pando_cluster *cluster);
void events_forget(pando_cluster *cluster);
void event_message_now(pando_worker *worker, struct pando_message *message);

// engine.c
int engine_open(pando_cluster *cluster, struct pando_error *error);  // once; then nothing
void engine_close(pando_cluster *cluster);
void engine_update_ref(pando_cluster *cluster);  // the loop lives as long as a worker does

// worker.c
pando_worker *worker_new(pando_cluster *cluster, struct primary_worker *seen);
void worker_forget(pando_worker *worker);  // the cluster is freed

// settings.c
void settings_init(struct settings *settings, int argc, char **argv);
void settings_deinit(struct settings *settings);
int settings_merge(struct settings *settings, const struct pando_settings *with);  // 0 or -ENOMEM
int settings_apply(const pando_cluster *cluster, struct launch *launch, struct pando_error *error);
int settings_open_stdio(pando_cluster *cluster, int opened[PANDO_STDIO_COUNT], struct pando_error *error);

// keeper_start.c
int keeper_start(pando_cluster *cluster, struct pando_error *error);  // the link is open then
