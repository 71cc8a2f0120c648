// SPDX-License-Identifier: MIT
// Node's cluster for C: the primary's side. One process becomes many behind one port; the workers are this program, run again.
//
//     if (!pando_is_primary()) return serve(3000);            // ordinary single-process server code
//     pando_cluster *cluster = pando_cluster_new(argc, argv);
//     pando_on_exit(cluster, fork_again, NULL);
//     for (int i = 0; i < pando_available_cpus(); i++) pando_fork(cluster, NULL);
//     return pando_cluster_run(cluster);
//
// It is the engine of `pando run`: a small process of its own (pando-keeper) starts the workers and holds their sockets; bind and listen
// of a worker lead to a shared socket, and the kernel spreads the connections. docs/from-node.md has the way from JavaScript.
//
// Threads: a cluster and its workers belong to the thread of their loop, and every function here to that thread, unless it says otherwise.
// Callbacks are never called from inside a function of this header except pando_cluster_run and uv_run; in a callback everything is
// allowed, pando_cluster_free included. NULL for a cluster or worker: -EINVAL, NULL, false, or nothing happens.
// Every int is 0 or -errno unless said otherwise.
#ifndef PANDO_CLUSTER_H
#define PANDO_CLUSTER_H

#include <pando/types.h>
#include <pando/worker.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct uv_loop_s;
struct json_t;
typedef struct pando_cluster pando_cluster;
// One worker process. Valid until both its disconnect and its exit have been told and those callbacks have returned; longer while held.
typedef struct pando_worker pando_worker;

// Processors that this process may use: affinity, cpuset and cgroup quota. At least 1. Thread-safe.
PANDO_API int pando_available_cpus(void);

// ---- settings

// Who gets the next connection. Only the kernel's steering (pando info) can take exact turns: where it is not to be had, the first fork
// under PANDO_SCHED_RR fails with -ENOTSUP and says why.
enum pando_policy {
    PANDO_SCHED_AUTO,  // the environment's NODE_CLUSTER_SCHED_POLICY or PANDO_POLICY; else fewest waiting, fewest open, in turn
    PANDO_SCHED_NONE,  // whoever takes it first
    PANDO_SCHED_RR,    // in turn
    PANDO_SCHED_RANDOM,
    PANDO_SCHED_STICKY,  // by the client's address
};

enum pando_stdio_kind {
    PANDO_STDIO_DEFAULT,  // 0: /dev/null; 1 and 2: the primary's; others: closed
    PANDO_STDIO_INHERIT,  // the primary's descriptor of that number
    PANDO_STDIO_PIPE,     // a socket pair; the primary's end is pando_worker_stdio
    PANDO_STDIO_NULL,
    PANDO_STDIO_FD,  // `fd`, borrowed for each fork
};
struct pando_stdio {
    enum pando_stdio_kind kind;
    int fd;
};
#define PANDO_STDIO_COUNT 6  // numbers 0 to 5

// What later forks start. pando_setup changes what is set here (not NULL, not 0) and leaves the rest as it was.
struct pando_settings {
    const char *exec;   // path, or name in PATH; at first this program's own executable
    char *const *args;  // without argv[0], NULL-terminated; at first this program's own
    const char *cwd;    // at first the primary's
    bool set_user;      // `uid`, `gid` are set; the supplementary groups are dropped
    uid_t uid;
    gid_t gid;
    bool silent;  // 1 and 2 are pipes, as far as `stdio` does not say otherwise
    struct pando_stdio stdio[PANDO_STDIO_COUNT];
};

typedef struct pando_cluster_options {
    int argc;  // main's; borrowed for the call
    char **argv;
    struct uv_loop_s *loop;  // borrowed; NULL: one of its own
    struct pando_settings settings;
    enum pando_policy policy;
    // Workers live on when the primary has ended in whatever way (nobody replaces them then). Else they end with it.
    bool survive;
    uint32_t max_message_bytes;  // 0: 64 KiB
    uint32_t max_queued_bytes;   // 0: 1 MiB that one worker has not taken yet
    const char *keeper;          // path of pando-keeper; NULL: $PANDO_KEEPER, beside this library, where it was installed, in PATH
    uint32_t ready_timeout_ms;   // 0: 60 s. A worker that has not listened by then counts as ready; with pando_cluster_serve it is logged
    // For pando_cluster_serve alone:
    int workers;                                      // 0: one a processor
    uint32_t kill_timeout_ms;                         // 0: 30 s. A worker that is to finish is killed then
    int (*worker)(int argc, char **argv, void *arg);  // what a worker does; NULL: pando_cluster_serve is only called in the primary
    void *arg;
} pando_cluster_options;

// ---- life

// Nothing is started before the first fork. NULL in a worker, without memory, or when the loop cannot be made; errno says which
// (EPERM in a worker).
PANDO_API pando_cluster *pando_cluster_new(int argc, char **argv);
PANDO_API pando_cluster *pando_cluster_new_with(const pando_cluster_options *options, struct pando_error *error);
// Runs the loop until no worker and nothing else of it is left. 0, or 1 when something failed that no pando_on_failure was told.
PANDO_API int pando_cluster_run(pando_cluster *cluster);
// Ends what still runs (with survive: lets go of it). Workers and their pointers are gone.
PANDO_API void pando_cluster_free(pando_cluster *cluster);
PANDO_API struct uv_loop_s *pando_cluster_loop(pando_cluster *cluster);
// Why the last call that failed did.
PANDO_API const struct pando_error *pando_cluster_error(const pando_cluster *cluster);

// Everything in one call: starts the workers, replaces those that die (at once, then with growing waits), stops gracefully on TERM and INT
// (the second INT: at once), restarts one after the other on HUP. In a worker it calls options->worker. An exit status.
PANDO_API int pando_cluster_serve(const pando_cluster_options *options);

// ---- forking

// Cumulative; for later forks. The event setup follows. Copies.
PANDO_API int pando_setup(pando_cluster *cluster, const struct pando_settings *settings);
PANDO_API const struct pando_settings *pando_cluster_settings(const pando_cluster *cluster);  // effective; until the next pando_setup
PANDO_API int pando_set_policy(pando_cluster *cluster, enum pando_policy policy);             // -EBUSY after the first fork
PANDO_API enum pando_policy pando_cluster_policy(const pando_cluster *cluster);

// A new worker: settings, and "NAME=VALUE" pairs on top of the environment (NULL-terminated; NULL: none). NULL when it could not be
// started: pando_cluster_error says why, and so does the event failure.
PANDO_API pando_worker *pando_fork(pando_cluster *cluster, char *const *env);
PANDO_API pando_worker *pando_worker_get(const pando_cluster *cluster, uint64_t id);  // NULL: gone, or never was
// All workers by rising id: NULL begins. In between any of them may leave.
PANDO_API pando_worker *pando_worker_next(const pando_cluster *cluster, const pando_worker *after);
PANDO_API size_t pando_worker_count(const pando_cluster *cluster);

// Every worker is told to finish; `done` (may be NULL) is called when none is left. Without workers it is called too.
typedef void (*pando_cluster_fn)(pando_cluster *cluster, void *arg);
PANDO_API int pando_disconnect(pando_cluster *cluster, pando_cluster_fn done, void *arg);

// ---- events

struct pando_listening {
    const char *text;     // "0.0.0.0:3000", "[::]:3000", "/run/app.sock"
    const char *address;  // without port
    int port;             // -1: a unix socket
    int family;           // AF_INET, AF_INET6, AF_UNIX
};

typedef void (*pando_settings_fn)(pando_cluster *cluster, const struct pando_settings *settings, void *arg);
typedef void (*pando_worker_fn)(pando_cluster *cluster, pando_worker *worker, void *arg);
typedef void (*pando_listening_fn)(pando_cluster *cluster, pando_worker *worker, const struct pando_listening *at, void *arg);
typedef void (*pando_message_fn)(pando_cluster *cluster, pando_worker *worker, struct pando_message *message, void *arg);
typedef void (*pando_exit_fn)(pando_cluster *cluster, pando_worker *worker, int code, int signal, void *arg);
typedef void (*pando_failure_fn)(pando_cluster *cluster, pando_worker *worker, const struct pando_error *error, void *arg);

// One callback an event; the last one set counts, NULL takes it back. Order of a worker's events: fork, online, listening and messages;
// disconnect and exit in either order.
PANDO_API void pando_on_setup(pando_cluster *cluster, pando_settings_fn fn, void *arg);
PANDO_API void pando_on_fork(pando_cluster *cluster, pando_worker_fn fn, void *arg);
PANDO_API void pando_on_online(pando_cluster *cluster, pando_worker_fn fn,
                               void *arg);  // it runs; only programs linked with libpando say so
PANDO_API void pando_on_listening(pando_cluster *cluster, pando_listening_fn fn, void *arg);
PANDO_API void pando_on_message(pando_cluster *cluster, pando_message_fn fn, void *arg);
PANDO_API void pando_on_disconnect(pando_cluster *cluster, pando_worker_fn fn, void *arg);  // its channel is closed
// It has ended: an exit code and signal 0, or code -1 and the signal. Both -1: its keeper was killed, and nobody knows.
PANDO_API void pando_on_exit(pando_cluster *cluster, pando_exit_fn fn, void *arg);
PANDO_API void pando_on_writable(pando_cluster *cluster, pando_worker_fn fn, void *arg);  // after a send that said 1 or -EAGAIN
// What Node calls error. `worker` is NULL when it is about none. Without this callback it is written to standard error.
PANDO_API void pando_on_failure(pando_cluster *cluster, pando_failure_fn fn, void *arg);

// The same events of one worker, each just before the cluster's. NULL members are not called.
struct pando_worker_events {
    pando_worker_fn on_online, on_disconnect, on_writable;
    pando_listening_fn on_listening;
    pando_message_fn on_message;
    pando_exit_fn on_exit;
    pando_failure_fn on_failure;
};
PANDO_API int pando_worker_watch(pando_worker *worker, const struct pando_worker_events *events, void *arg);  // copied

// ---- one worker

enum pando_worker_state {
    PANDO_WORKER_NONE,  // started
    PANDO_WORKER_ONLINE,
    PANDO_WORKER_LISTENING,
    PANDO_WORKER_DISCONNECTING,  // told to finish
    PANDO_WORKER_DISCONNECTED,   // its channel is closed
    PANDO_WORKER_DEAD,
};
// Did it end of its own will, or the primary's (disconnect), or by accident? Unknown until it disconnects or ends.
enum pando_voluntary { PANDO_VOLUNTARY_UNKNOWN, PANDO_VOLUNTARY_NO, PANDO_VOLUNTARY_YES };

PANDO_API uint64_t pando_worker_id(const pando_worker *worker);  // 1, 2, 3, ...; never used twice. 0: NULL
PANDO_API pid_t pando_worker_pid(const pando_worker *worker);    // stays after its end; 0: NULL
PANDO_API int pando_worker_slot(const pando_worker *worker);     // PANDO_WORKER in its environment
PANDO_API enum pando_worker_state pando_worker_state(const pando_worker *worker);
PANDO_API bool pando_worker_is_connected(const pando_worker *worker);
PANDO_API bool pando_worker_is_dead(const pando_worker *worker);
PANDO_API enum pando_voluntary pando_worker_exited_after_disconnect(const pando_worker *worker);
PANDO_API int pando_worker_stdio(const pando_worker *worker, int number);  // the primary's end of a pipe, non-blocking, borrowed; -1: none
PANDO_API int pando_worker_stdio_take(pando_worker *worker, int number);   // the same, the caller's
PANDO_API void pando_worker_set_data(pando_worker *worker, void *data);
PANDO_API void *pando_worker_data(const pando_worker *worker);
PANDO_API pando_worker *pando_worker_hold(pando_worker *worker);  // it is valid until released; returns it
PANDO_API void pando_worker_release(pando_worker *worker);

// With a duplicate of `fd` (-1: none). 0; 1: taken, but hold back until writable (more than 128 KiB wait); -EAGAIN: not taken, the queue is
// full; -EMSGSIZE: over the limit; -EPIPE: it is dead or disconnected; -EMFILE: no descriptor left to hold `fd` by. What is sent leaves
// together when the loop comes to wait.
PANDO_API int pando_worker_send(pando_worker *worker, const void *data, size_t len, int fd);
PANDO_API int pando_worker_send_json(pando_worker *worker, const struct json_t *json, int fd);  // borrowed. -EINVAL: not serialisable
// The same message to all connected workers but `except` (may be NULL): how many took it.
PANDO_API size_t pando_broadcast(pando_cluster *cluster, const pando_worker *except, const struct pando_message *message);
// Reads no more messages of this worker for now; once its queue is full, its sends say so.
PANDO_API int pando_worker_pause(pando_worker *worker, bool pause);

// Gets no more connections; finishes those it has; then its channel closes and, with nothing left to do, it ends. A program that never
// opened its channel is told by TERM once it has no connection. exited_after_disconnect is yes from now on, and it is no longer among the
// workers.
PANDO_API int pando_worker_disconnect(pando_worker *worker);
PANDO_API int pando_worker_kill(pando_worker *worker, int signal);  // 0: TERM. -ESRCH: dead already

#ifdef __cplusplus
}
#endif
#endif
