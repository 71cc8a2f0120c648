// SPDX-License-Identifier: MIT
// Finishing without losing anything.
#include "scene.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static struct {
    int exits, disconnects, done, listening, failures;
    int code, signal;
    enum pando_voluntary voluntary;
    int exits_when_done;
} seen;

static void on_worker_exit(pando_cluster *cluster, pando_worker *worker, int code, int signo, void *arg) {
    (void)cluster, (void)arg;
    seen.exits++;
    seen.code = code;
    seen.signal = signo;
    seen.voluntary = pando_worker_exited_after_disconnect(worker);
}

static void on_worker_disconnect(pando_cluster *cluster, pando_worker *worker, void *arg) {
    (void)cluster, (void)arg, (void)worker;
    seen.disconnects++;
}

static void on_done(pando_cluster *cluster, void *arg) {
    (void)cluster;
    CHECK(arg == &seen);
    seen.done++;
    seen.exits_when_done = seen.exits;
}

static pando_cluster *watched(int argc, char **argv) {
    scene_address();
    pando_cluster *cluster = scene_cluster(argc, argv);
    pando_on_exit(cluster, on_worker_exit, NULL);
    pando_on_disconnect(cluster, on_worker_disconnect, NULL);
    return cluster;
}

static void fork_workers(pando_cluster *cluster, int count) {
    for (int i = 0; i < count; i++) CHECK(pando_fork(cluster, NULL) != NULL);
}

static void end(pando_cluster *cluster) {
    CHECK_INT(pando_cluster_run(cluster), 0);
    pando_cluster_free(cluster);
}

// ---- workers

static void hello(pando_exchange *exchange, void *arg) {
    char text[32];
    (void)arg;
    int len = snprintf(text, sizeof text, "%d\n", (int)getpid());
    pando_exchange_set_status(exchange, 200, NULL);
    pando_exchange_write(exchange, text, (size_t)len);
    pando_exchange_end(exchange, NULL, 0);
}

// An HTTP server joined to its worker: it drains by itself.
static int http_worker(int argc, char **argv) {
    uv_loop_t *loop = uv_default_loop();
    struct pando_error error = {0};
    pando_self *self;
    (void)argc, (void)argv;
    pando_server *server = pando_server_new(&(struct pando_server_options){.on_request = hello, .loop = loop}, &error);
    if (server == NULL || pando_self_open(&self, &(struct pando_self_options){.loop = loop}, &error) != 0) return 101;
    if (pando_self_serve(self, server, scene_address(), 60000, &error) != 0) return fprintf(stderr, "%s\n", error.text), 102;
    pando_server_run(server, false);
    pando_self_close(self);
    pando_server_free(server);
    uv_loop_close(loop);
    return 0;
}

static int idle_worker(int argc, char **argv) {
    (void)argc, (void)argv;
    uv_loop_t *loop = uv_default_loop();
    pando_self *self;
    if (pando_self_open(&self, &(struct pando_self_options){.loop = loop}, NULL) != 0) return 101;
    uv_run(loop, UV_RUN_DEFAULT);
    pando_self_close(self);
    uv_run(loop, UV_RUN_DEFAULT);
    uv_loop_close(loop);
    return 0;
}

static void say_hello(pando_self *self) { pando_self_send(self, "hello", 5, -1); }

static int greeting_idle_worker(int argc, char **argv) {
    (void)argc, (void)argv;
    uv_loop_t *loop = uv_default_loop();
    pando_self *self;
    if (pando_self_open(&self, &(struct pando_self_options){.loop = loop}, NULL) != 0) return 101;
    say_hello(self);
    uv_run(loop, UV_RUN_DEFAULT);
    pando_self_close(self);
    uv_run(loop, UV_RUN_DEFAULT);
    uv_loop_close(loop);
    return 0;
}

static int http_get(int fd, char *out, size_t size) {
    static const char request[] = "GET / HTTP/1.1\r\nHost: scene\r\n\r\n";
    if (send(fd, request, sizeof request - 1, MSG_NOSIGNAL) < 0) return -errno;
    ssize_t n = recv(fd, out, size - 1, 0);
    if (n <= 0) return n < 0 ? -errno : -ECONNRESET;
    out[n] = '\0';
    return 0;
}

// ---- disconnect: all servers stop, the callback runs, the workers are dead

static void when_all_listen(pando_cluster *cluster, pando_worker *worker, const struct pando_listening *at, void *arg) {
    (void)worker, (void)at;
    if (++seen.listening < *(int *)arg) return;
    char text[512];
    int fd = scene_connect(scene_address());
    CHECK(fd >= 0);
    CHECK_INT(http_get(fd, text, sizeof text), 0);
    close(fd);
    CHECK_INT(pando_disconnect(cluster, on_done, &seen), 0);
    CHECK_INT(pando_worker_count(cluster), 0);
}

static void disconnect_primary(int argc, char **argv) {
    int count = 2;
    pando_cluster *cluster = watched(argc, argv);
    pando_on_listening(cluster, when_all_listen, &count);
    fork_workers(cluster, count);
    end(cluster);
    CHECK_INT(seen.done, 1);
    CHECK_INT(seen.exits, 2);
    CHECK_INT(seen.disconnects, 2);
    CHECK_INT(seen.code, 0);
    CHECK_INT(seen.voluntary, PANDO_VOLUNTARY_YES);
    CHECK_INT(scene_ask(scene_address()), -ECONNREFUSED);
}

// ---- disconnect-before-exit: a worker that has more to do is disconnected before it exits

static pando_worker *kept;
static void kill_kept(pando_cluster *cluster, void *arg) {
    on_done(cluster, arg);
    CHECK_INT(seen.exits, 0);
    CHECK_INT(seen.disconnects, 1);
    CHECK(!pando_worker_is_connected(kept) && !pando_worker_is_dead(kept));
    CHECK_INT(pando_worker_state(kept), PANDO_WORKER_DISCONNECTED);
    CHECK_INT(pando_worker_kill(kept, SIGKILL), 0);
}

static void disconnect_and_kill(pando_cluster *cluster, pando_worker *worker, struct pando_message *message, void *arg) {
    (void)arg, (void)message;
    kept = pando_worker_hold(worker);
    CHECK_INT(pando_disconnect(cluster, kill_kept, &seen), 0);
}

static void before_exit_primary(int argc, char **argv) {
    pando_cluster *cluster = watched(argc, argv);
    pando_on_message(cluster, disconnect_and_kill, NULL);
    fork_workers(cluster, 1);
    CHECK_INT(pando_cluster_run(cluster), 0);
    CHECK_INT(seen.done, 1);
    CHECK_INT(seen.exits, 1);
    CHECK_INT(seen.signal, SIGKILL);
    CHECK_INT(seen.voluntary, PANDO_VOLUNTARY_YES);
    pando_worker_release(kept);
    pando_cluster_free(cluster);
}

// Lives on when the channel is closed.
static int busy_worker(int argc, char **argv) {
    greeting_idle_worker(argc, argv);
    pause();
    return 0;
}

// ---- worker-no-exit: a disconnected worker lives on while it has work

static void no_exit_message(pando_cluster *cluster, pando_worker *worker, struct pando_message *message, void *arg) {
    (void)cluster, (void)message, (void)arg;
    CHECK_INT(pando_worker_disconnect(worker), 0);
}

static void no_exit_disconnect(pando_cluster *cluster, pando_worker *worker, void *arg) {
    on_worker_disconnect(cluster, worker, arg);
    CHECK(!pando_worker_is_dead(worker));
    CHECK_INT(kill(pando_worker_pid(worker), 0), 0);
    close(pando_worker_stdio_take(worker, 3));  // that is what it waits for
}

static void no_exit_primary(int argc, char **argv) {
    pando_cluster *cluster = watched(argc, argv);
    struct pando_settings settings = {0};
    settings.stdio[3].kind = PANDO_STDIO_PIPE;
    CHECK_INT(pando_setup(cluster, &settings), 0);
    pando_on_message(cluster, no_exit_message, NULL);
    pando_on_disconnect(cluster, no_exit_disconnect, NULL);
    fork_workers(cluster, 1);
    end(cluster);
    CHECK_INT(seen.exits, 1);
    CHECK_INT(seen.code, 7);
    CHECK_INT(seen.voluntary, PANDO_VOLUNTARY_YES);
}

static int works_on(int argc, char **argv) {
    char byte;
    (void)argc, (void)argv;
    uv_loop_t *loop = uv_default_loop();
    pando_self *self;
    if (pando_self_open(&self, &(struct pando_self_options){.loop = loop}, NULL) != 0) return 101;
    say_hello(self);
    uv_run(loop, UV_RUN_DEFAULT);
    if (pando_self_is_connected(self)) return 102;
    pando_self_close(self);
    uv_run(loop, UV_RUN_DEFAULT);
    uv_loop_close(loop);
    return read(3, &byte, 1) == 0 ? 7 : 103;
}

// ---- worker-wait-server-close: disconnect waits for open connections

static int held_connection;

static void wait_listening(pando_cluster *cluster, pando_worker *worker, const struct pando_listening *at, void *arg) {
    static const char half[] = "GET / HTTP/1.1\r\nHost: sc";
    (void)cluster, (void)at, (void)arg;
    held_connection = scene_connect(scene_address());
    CHECK(held_connection >= 0);
    CHECK(send(held_connection, half, sizeof half - 1, MSG_NOSIGNAL) > 0);
    CHECK_INT(pando_worker_send(worker, "connected?", 10, -1), 0);
}

static void finish_request(uv_timer_t *timer) {
    char text[512];
    CHECK_INT(seen.disconnects, 0);
    CHECK(send(held_connection, "ene\r\n\r\n", 7, MSG_NOSIGNAL) > 0);
    ssize_t n = recv(held_connection, text, sizeof text - 1, 0);
    CHECK(n > 0);
    text[n] = '\0';
    CHECK(strncmp(text, "HTTP/1.1 200", 12) == 0);
    close(held_connection);
    uv_close((uv_handle_t *)timer, NULL);
}

static uv_timer_t later;
static void wait_message(pando_cluster *cluster, pando_worker *worker, struct pando_message *message, void *arg) {
    (void)arg, (void)message;
    CHECK_INT(pando_worker_disconnect(worker), 0);
    uv_timer_init(pando_cluster_loop(cluster), &later);
    uv_timer_start(&later, finish_request, 50, 0);
}

static void wait_primary(int argc, char **argv) {
    pando_cluster *cluster = watched(argc, argv);
    pando_on_listening(cluster, wait_listening, NULL);
    pando_on_message(cluster, wait_message, NULL);
    fork_workers(cluster, 1);
    end(cluster);
    CHECK_INT(seen.exits, 1);
    CHECK_INT(seen.code, 0);
    CHECK_INT(seen.voluntary, PANDO_VOLUNTARY_YES);
}

static pando_server *asked_server;
static pando_self *asked_self;
static void answer_when_connected(uv_timer_t *timer) {
    if (pando_server_stats(asked_server).connections == 0) return;
    uv_close((uv_handle_t *)timer, NULL);
    say_hello(asked_self);
}

static void on_asked(pando_self *self, struct pando_message *message, void *arg) {
    static uv_timer_t look;
    (void)message, (void)arg;
    asked_self = self;
    uv_timer_init(uv_default_loop(), &look);
    uv_timer_start(&look, answer_when_connected, 0, 1);
}

static int answering_worker(int argc, char **argv) {
    uv_loop_t *loop = uv_default_loop();
    struct pando_error error = {0};
    pando_self *self;
    (void)argc, (void)argv;
    asked_server = pando_server_new(&(struct pando_server_options){.on_request = hello, .loop = loop}, &error);
    if (asked_server == NULL) return 101;
    if (pando_self_open(&self, &(struct pando_self_options){.loop = loop, .on_message = on_asked}, &error) != 0) return 102;
    if (pando_self_serve(self, asked_server, scene_address(), 60000, &error) != 0) return 103;
    pando_server_run(asked_server, false);
    pando_self_close(self);
    pando_server_free(asked_server);
    uv_loop_close(loop);
    return 0;
}

// ---- disconnect-leak: an open connection and a disconnect leave nothing behind

static void leak_primary(int argc, char **argv) {
    for (int round = 0, fds = 0; round < 4; round++) {
        memset(&seen, 0, sizeof seen);
        wait_primary(argc, argv);
        if (round == 1) fds = scene_open_fds();
        if (round > 1) CHECK_INT(scene_open_fds(), fds);
    }
}

// ---- disconnect-race: before listening is done

static void race_primary(int argc, char **argv) {
    pando_cluster *cluster = watched(argc, argv);
    fork_workers(cluster, 4);
    CHECK_INT(pando_disconnect(cluster, on_done, &seen), 0);
    end(cluster);
    CHECK_INT(seen.exits, 4);
    CHECK_INT(seen.disconnects, 4);
    CHECK_INT(seen.done, 1);
    CHECK_INT(seen.voluntary, PANDO_VOLUNTARY_YES);
    CHECK(seen.code == 0 || seen.signal == SIGTERM);
}

// ---- disconnect-idle-worker

static void idle_primary(int argc, char **argv) {
    pando_cluster *cluster = watched(argc, argv);
    pando_on_message(cluster, no_exit_message, NULL);
    fork_workers(cluster, 2);
    end(cluster);
    CHECK_INT(seen.exits, 2);
    CHECK_INT(seen.code, 0);
    CHECK_INT(seen.voluntary, PANDO_VOLUNTARY_YES);
}

// ---- disconnect-with-no-workers

static void no_workers_primary(int argc, char **argv) {
    pando_cluster *cluster = watched(argc, argv);
    CHECK_INT(pando_disconnect(cluster, on_done, &seen), 0);
    CHECK_INT(seen.done, 0);
    CHECK_INT(pando_cluster_run(cluster), 0);
    CHECK_INT(seen.done, 1);
    CHECK_INT(pando_disconnect(cluster, NULL, NULL), 0);
    end(cluster);
    CHECK_INT(seen.done, 1);
}

// ---- concurrent-disconnect: everything is sent to workers that are leaving; nothing crashes

static void concurrent_online(pando_cluster *cluster, pando_worker *worker, void *arg) {
    (void)arg;
    for (pando_worker *each = NULL; (each = pando_worker_next(cluster, each)) != NULL;) {
        int r = pando_worker_send(each, "bye", 3, -1);
        CHECK(r == 0 || r == -EPIPE);
        CHECK_INT(pando_worker_disconnect(each), 0);
    }
    pando_worker_kill(worker, 0);
    int r = pando_worker_send(worker, "bye", 3, -1);
    CHECK(r == 0 || r == -EPIPE);
}

static void concurrent_primary(int argc, char **argv) {
    pando_cluster *cluster = watched(argc, argv);
    pando_on_online(cluster, concurrent_online, NULL);
    fork_workers(cluster, 8);
    end(cluster);
    CHECK_INT(seen.exits, 8);
    CHECK_INT(seen.disconnects, 8);
    CHECK_INT(seen.failures, 0);
}

// ---- kill-disconnect: killing gives exit and disconnect, in either order

static void kill_online(pando_cluster *cluster, pando_worker *worker, void *arg) {
    (void)cluster, (void)arg;
    CHECK_INT(pando_worker_kill(worker, SIGKILL), 0);
}

static void kill_disconnect_primary(int argc, char **argv) {
    pando_cluster *cluster = watched(argc, argv);
    pando_on_online(cluster, kill_online, NULL);
    fork_workers(cluster, 2);
    end(cluster);
    CHECK_INT(seen.exits, 2);
    CHECK_INT(seen.disconnects, 2);
}

// ---- worker-destroy: a kill works on a worker that is connected, and on one that is not any more

static void destroy_said(pando_cluster *cluster, pando_worker *worker, struct pando_message *message, void *arg) {
    (void)cluster, (void)message, (void)arg;
    CHECK_INT(pando_worker_id(worker) == 1 ? pando_worker_kill(worker, SIGTERM) : pando_worker_disconnect(worker), 0);
}

static void destroy_exit(pando_cluster *cluster, pando_worker *worker, int code, int signo, void *arg) {
    bool first = pando_worker_id(worker) == 1;
    on_worker_exit(cluster, worker, code, signo, arg);
    CHECK_INT(code, -1);
    CHECK_INT(signo, first ? SIGTERM : SIGKILL);
    CHECK_INT(pando_worker_exited_after_disconnect(worker), first ? PANDO_VOLUNTARY_NO : PANDO_VOLUNTARY_YES);
}

static void destroy_unconnected(pando_cluster *cluster, pando_worker *worker, void *arg) {
    on_worker_disconnect(cluster, worker, arg);
    CHECK(!pando_worker_is_connected(worker));
    if (pando_worker_id(worker) == 1) return;
    CHECK(!pando_worker_is_dead(worker));
    CHECK_INT(pando_worker_kill(worker, SIGKILL), 0);
}

static void worker_destroy_primary(int argc, char **argv) {
    pando_cluster *cluster = watched(argc, argv);
    pando_on_message(cluster, destroy_said, NULL);
    pando_on_exit(cluster, destroy_exit, NULL);
    pando_on_disconnect(cluster, destroy_unconnected, NULL);
    fork_workers(cluster, 2);
    end(cluster);
    CHECK_INT(seen.exits, 2);
    CHECK_INT(seen.disconnects, 2);
}

// ---- call-and-destroy: a kill after a disconnect is harmless

static void destroy_online(pando_cluster *cluster, pando_worker *worker, void *arg) {
    (void)cluster, (void)arg;
    CHECK_INT(pando_worker_disconnect(worker), 0);
    CHECK_INT(pando_worker_disconnect(worker), 0);
    for (int i = 0; i < 2; i++) {
        int r = pando_worker_kill(worker, 0);
        CHECK(r == 0 || r == -ESRCH);
    }
}

static void destroy_disconnected(pando_cluster *cluster, pando_worker *worker, void *arg) {
    on_worker_disconnect(cluster, worker, arg);
    int r = pando_worker_kill(worker, SIGKILL);
    CHECK(r == 0 || r == -ESRCH);
}

static void destroy_primary(int argc, char **argv) {
    pando_cluster *cluster = watched(argc, argv);
    pando_on_online(cluster, destroy_online, NULL);
    pando_on_disconnect(cluster, destroy_disconnected, NULL);
    fork_workers(cluster, 2);
    end(cluster);
    CHECK_INT(seen.exits, 2);
}

// ---- worker-disconnect: the worker leaves of its own will

static void own_will_primary(int argc, char **argv) {
    pando_cluster *cluster = watched(argc, argv);
    fork_workers(cluster, 2);
    end(cluster);
    CHECK_INT(seen.exits, 2);
    CHECK_INT(seen.disconnects, 2);
    CHECK_INT(seen.code, 0);
    CHECK_INT(seen.voluntary, PANDO_VOLUNTARY_YES);
}

static int told_end;
static void on_self_disconnect(pando_self *self, void *arg) {
    (void)arg;
    told_end += !pando_self_is_connected(self);
}

static int leaving_worker(int argc, char **argv) {
    (void)argc, (void)argv;
    uv_loop_t *loop = uv_default_loop();
    pando_self *self;
    if (pando_self_open(&self, &(struct pando_self_options){.loop = loop, .on_disconnect = on_self_disconnect}, NULL) != 0) return 101;
    if (!pando_self_is_connected(self)) return 102;
    pando_self_disconnect(self);
    pando_self_disconnect(self);
    uv_run(loop, UV_RUN_DEFAULT);
    if (told_end != 1 || pando_self_send(self, "x", 1, -1) != -ENOTCONN) return 103;
    pando_self_close(self);
    uv_run(loop, UV_RUN_DEFAULT);
    uv_loop_close(loop);
    return 0;
}

// ---- worker-disconnect-on-error: a worker that fails and closes its channel by dying

static void on_error_primary(int argc, char **argv) {
    pando_cluster *cluster = watched(argc, argv);
    fork_workers(cluster, 1);
    end(cluster);
    CHECK_INT(seen.code, 1);
    CHECK_INT(seen.disconnects, 1);
    CHECK_INT(seen.voluntary, PANDO_VOLUNTARY_NO);
}

static int failing_worker(int argc, char **argv) {
    (void)argc, (void)argv;
    uv_loop_t *loop = uv_default_loop();
    pando_self *self;
    if (pando_self_open(&self, &(struct pando_self_options){.loop = loop}, NULL) != 0) return 101;
    _exit(1);
}

// ---- a program that knows nothing of its channel is told by TERM, once it has no connection

static void plain_listening(pando_cluster *cluster, pando_worker *worker, const struct pando_listening *at, void *arg) {
    (void)cluster, (void)at, (void)arg;
    CHECK_INT(scene_ask(scene_address()), pando_worker_pid(worker));
    CHECK_INT(pando_worker_disconnect(worker), 0);
}

static void plain_primary(int argc, char **argv) {
    pando_cluster *cluster = watched(argc, argv);
    pando_on_listening(cluster, plain_listening, NULL);
    fork_workers(cluster, 1);
    end(cluster);
    CHECK_INT(seen.signal, SIGTERM);
    CHECK_INT(seen.voluntary, PANDO_VOLUNTARY_YES);
}

const struct scene scenes_disconnect[] = {
    {"disconnect", disconnect_primary, http_worker},
    {"disconnect_before_exit", before_exit_primary, busy_worker},
    {"disconnect_leak", leak_primary, answering_worker},
    {"disconnect_race", race_primary, http_worker},
    {"disconnect_idle_worker", idle_primary, greeting_idle_worker},
    {"disconnect_with_no_workers", no_workers_primary, NULL},
    {"disconnect_of_a_plain_program", plain_primary, NULL},
    {"concurrent_disconnect", concurrent_primary, idle_worker},
    {"kill_disconnect", kill_disconnect_primary, idle_worker},
    {"call_and_destroy", destroy_primary, idle_worker},
    {"worker_destroy", worker_destroy_primary, busy_worker},
    {"worker_disconnect", own_will_primary, leaving_worker},
    {"worker_disconnect_on_error", on_error_primary, failing_worker},
    {"worker_no_exit", no_exit_primary, works_on},
    {"worker_wait_server_close", wait_primary, answering_worker},
};
const size_t scenes_disconnect_count = SCENE_COUNT(scenes_disconnect);
