// SPDX-License-Identifier: MIT
// A scene is one promise: a primary and its workers, real processes. The same program is both; the scene's name is its first
// argument, so that workers, which are started with the same arguments, find their part.
#pragma once

#include <pando/pando.h>
#include <uv.h>

struct scene {
    const char *name;
    void (*primary)(int argc, char **argv);
    int (*worker)(int argc, char **argv);  // NULL: serve_pids
};

#define SCENE_COUNT(table) (sizeof(table) / sizeof *(table))

// Prints and ends this process, and with it the cluster.
void scene_fail(const char *file, int line, const char *format, ...) __attribute__((noreturn, format(printf, 3, 4)));
#define CHECK(truth)                                                \
    do {                                                            \
        if (!(truth)) scene_fail(__FILE__, __LINE__, "%s", #truth); \
    } while (0)
#define CHECK_INT(got, wanted)                                                                                                    \
    do {                                                                                                                          \
        long long got_ = (long long)(got), wanted_ = (long long)(wanted);                                                         \
        if (got_ != wanted_) scene_fail(__FILE__, __LINE__, "%s is %lld, and should be %s (%lld)", #got, got_, #wanted, wanted_); \
    } while (0)
#define CHECK_TEXT(got, wanted)                                                                                                  \
    do {                                                                                                                         \
        const char *got_ = (got), *wanted_ = (wanted);                                                                           \
        if (got_ == NULL || strcmp(got_, wanted_) != 0)                                                                          \
            scene_fail(__FILE__, __LINE__, "%s is \"%s\", and should be \"%s\"", #got, got_ != NULL ? got_ : "(NULL)", wanted_); \
    } while (0)

void scene_skip(const char *why) __attribute__((noreturn));  // this machine cannot show it

// ---- for primaries

pando_cluster *scene_cluster(int argc, char **argv);  // or it fails
// An address that is this scene's own among all that run: "127.x.y.z:PORT", of the process that began it. Inherited by workers.
const char *scene_address(void);
// A connection, blocking, with time-outs. -errno.
int scene_connect(const char *address);
// What the server there says to one connection: the pid of who answered (serve_pids), or -errno.
int scene_ask(const char *address);
// `work` in a thread, so that the primary can do what the workers wait for; then `done` on the loop.
void scene_in_thread(pando_cluster *cluster, void (*work)(pando_cluster *cluster), void (*done)(pando_cluster *cluster));
void scene_wait_until(bool (*truth)(void *arg), void *arg);  // looks every few milliseconds; fails after a minute
int scene_open_fds(void);                                    // of this process

// ---- for workers

// Listens on $SCENE_ADDRESS (or `address`) with plain socket, bind, listen, and answers each connection with "PID\n".
int serve_pids(int argc, char **argv);
int serve_pids_at(const char *address);
int plain_listen(const char *address);  // "IP:PORT"; a listening socket or -errno
void answer_forever(int listener);      // "PID\n" to each
