// SPDX-License-Identifier: MIT
// Messages, both ways, with descriptors, within bounds.
#include "scene.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct { int exits, code, messages, own, writable; } seen;

static void on_worker_exit(pando_cluster *cluster, pando_worker *worker, int code, int signo, void *arg) {
    (void)cluster, (void)worker, (void)arg;
    CHECK_INT(signo, 0);
    seen.exits++;
    seen.code += code;
}

static pando_cluster *watched(int argc, char **argv, pando_message_fn on_message) {
    pando_cluster *cluster = scene_cluster(argc, argv);
    pando_on_exit(cluster, on_worker_exit, NULL);
    pando_on_message(cluster, on_message, &seen);
    return cluster;
}

static void end(pando_cluster *cluster, int exits) {
    CHECK_INT(pando_cluster_run(cluster), 0);
    CHECK_INT(seen.exits, exits);
    CHECK_INT(seen.code, 0);
    pando_cluster_free(cluster);
}

static bool is(const struct pando_message *message, const char *text) {
    return message->data.len == strlen(text) && memcmp(message->data.data, text, message->data.len) == 0;
}

// ---- a worker with a callback for messages, on a loop

typedef void (*self_message_fn)(pando_self *self, struct pando_message *message, void *arg);

static int worker_with(self_message_fn on_message, void (*begin)(pando_self *self)) {
    uv_loop_t *loop = uv_default_loop();
    pando_self *self;
    if (pando_self_open(&self, &(struct pando_self_options){.loop = loop, .on_message = on_message}, NULL) != 0) return 101;
    if (begin != NULL) begin(self);
    uv_run(loop, UV_RUN_DEFAULT);
    pando_self_close(self);
    uv_run(loop, UV_RUN_DEFAULT);
    uv_loop_close(loop);
    return 0;
}

static void say_ready(pando_self *self) {
    if (pando_self_send(self, "ready", 5, -1) != 0) exit(112);
}

// ---- message: both ways, per worker and cluster-wide; bytes and JSON

static void own_message(pando_cluster *cluster, pando_worker *worker, struct pando_message *message, void *arg) {
    (void)cluster, (void)worker, (void)message;
    CHECK(arg == &seen);
    CHECK_INT(seen.own, seen.messages);
    seen.own++;
}

static void echo_answers(pando_cluster *cluster, pando_worker *worker, struct pando_message *message, void *arg) {
    (void)cluster;
    CHECK(arg == &seen);
    switch (seen.messages++) {
        case 0: CHECK(is(message, "hello") && !message->is_json); break;
        case 1: CHECK(message->data.len == 3 && memcmp(message->data.data, "\0\n\xff", 3) == 0); break;
        case 2: CHECK(message->data.len == 0); break;
        case 3: {
            json_t *json = pando_message_json(message);
            CHECK(message->is_json && json_integer_value(json_object_get(json, "answer")) == 42);
            json_decref(json);
            CHECK_INT(pando_worker_disconnect(worker), 0);
            break;
        }
        default: CHECK(false);
    }
}

static void message_online(pando_cluster *cluster, pando_worker *worker, void *arg) {
    (void)cluster, (void)arg;
    json_t *json = json_pack("{s:i}", "answer", 42);
    CHECK_INT(pando_worker_send(worker, "hello", 5, -1), 0);
    CHECK_INT(pando_worker_send(worker, "\0\n\xff", 3, -1), 0);
    CHECK_INT(pando_worker_send(worker, NULL, 0, -1), 0);
    CHECK_INT(pando_worker_send_json(worker, json, -1), 0);
    json_decref(json);
}

static void message_primary(int argc, char **argv) {
    pando_cluster *cluster = watched(argc, argv, echo_answers);
    pando_on_online(cluster, message_online, NULL);
    pando_worker *worker = pando_fork(cluster, NULL);
    CHECK_INT(pando_worker_watch(worker, &(struct pando_worker_events){.on_message = own_message}, &seen), 0);
    end(cluster, 1);
    CHECK_INT(seen.messages, 4);
    CHECK_INT(seen.own, 4);
}

static void echo(pando_self *self, struct pando_message *message, void *arg) {
    (void)arg;
    json_t *json = message->is_json ? pando_message_json(message) : NULL;
    int r = json != NULL ? pando_self_send_json(self, json, message->fd)
                         : pando_self_send(self, message->data.data, message->data.len, message->fd);
    json_decref(json);
    if (r != 0) exit(110);
}

static int echo_worker(int argc, char **argv) { return (void)argc, (void)argv, worker_with(echo, NULL); }

// ---- before it is online: what was sent waits

static void early_primary(int argc, char **argv) {
    pando_cluster *cluster = watched(argc, argv, echo_answers);
    pando_worker *worker = pando_fork(cluster, NULL);
    CHECK_INT(pando_worker_watch(worker, &(struct pando_worker_events){.on_message = own_message}, &seen), 0);
    message_online(cluster, worker, NULL);
    end(cluster, 1);
    CHECK_INT(seen.messages, 4);
}

// ---- net-send: a socket goes to a worker, which answers on it; and one comes back

static int ours;

static void socket_came(pando_cluster *cluster, pando_worker *worker, struct pando_message *message, void *arg) {
    char text[8] = "";
    (void)cluster, (void)arg;
    CHECK(is(message, "take this") && !message->fd_was_lost);
    int fd = pando_message_take_fd(message);
    CHECK(fd >= 0 && message->fd == -1 && pando_message_take_fd(message) == -1);
    CHECK((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    CHECK_INT(recv(ours, text, 4, 0), 4);  // what the worker wrote into its copy
    CHECK_TEXT(text, "pong");
    CHECK_INT(send(fd, "back", 4, 0), 4);
    CHECK_INT(recv(ours, text, 4, 0), 4);
    CHECK_TEXT(text, "back");
    close(fd);
    close(ours);
    seen.messages++;
    CHECK_INT(pando_worker_disconnect(worker), 0);
}

static void send_socket(pando_cluster *cluster, pando_worker *worker, void *arg) {
    int pair[2];
    (void)cluster, (void)arg;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    ours = pair[0];
    CHECK_INT(pando_worker_send(worker, "ping", 4, pair[1]), 0);
    close(pair[1]);
}

static void send_back(pando_self *self, struct pando_message *message, void *arg) {
    (void)arg;
    if (!is(message, "ping") || message->fd < 0 || send(message->fd, "pong", 4, 0) != 4) exit(110);
    if (pando_self_send(self, "take this", 9, message->fd) != 0) exit(111);
}

static void net_send_primary(int argc, char **argv) {
    pando_cluster *cluster = watched(argc, argv, socket_came);
    pando_on_online(cluster, send_socket, NULL);
    CHECK(pando_fork(cluster, NULL) != NULL);
    end(cluster, 1);
    CHECK_INT(seen.messages, 1);
}

static int net_send_worker(int argc, char **argv) { return (void)argc, (void)argv, worker_with(send_back, NULL); }

// ---- send-handle-twice: the same socket twice; the worker has two of it, each its own

static void twice_came(pando_cluster *cluster, pando_worker *worker, struct pando_message *message, void *arg) {
    char text[8] = "";
    (void)cluster, (void)arg;
    CHECK(is(message, "both"));
    CHECK_INT(recv(ours, text, sizeof text, MSG_WAITALL), 2);  // one byte into each; then the last of them was closed
    CHECK_TEXT(text, "12");
    close(ours);
    seen.messages++;
    CHECK_INT(pando_worker_disconnect(worker), 0);
}

static void send_twice(pando_cluster *cluster, pando_worker *worker, void *arg) {
    int pair[2];
    (void)cluster, (void)arg;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    ours = pair[0];
    for (int i = 0; i < 2; i++) CHECK_INT(pando_worker_send(worker, "take", 4, pair[1]), 0);
    CHECK_INT(close(pair[1]), 0);  // what was sent is a duplicate
}

static void twice_primary(int argc, char **argv) {
    pando_cluster *cluster = watched(argc, argv, twice_came);
    pando_on_online(cluster, send_twice, NULL);
    CHECK(pando_fork(cluster, NULL) != NULL);
    end(cluster, 1);
    CHECK_INT(seen.messages, 1);
}

static void take_both(pando_self *self, struct pando_message *message, void *arg) {
    static int first = -1;
    (void)arg;
    int fd = pando_message_take_fd(message);
    if (fd < 0) exit(110);
    if (first < 0) {
        first = fd;
        return;
    }
    if (fd == first || send(first, "1", 1, 0) != 1 || close(first) != 0 || send(fd, "2", 1, 0) != 1 || close(fd) != 0) exit(111);
    if (pando_self_send(self, "both", 4, -1) != 0) exit(112);
}

static int twice_worker(int argc, char **argv) { return (void)argc, (void)argv, worker_with(take_both, NULL); }

// ---- send-socket-to-worker-http-server: the primary accepts, a worker's HTTP server answers

enum { SENT_CONNECTIONS = 20 };
static char http_answers[SENT_CONNECTIONS][256];
static uv_poll_t accepting;
static int acceptor;

static void ask_by_http(pando_cluster *cluster) {
    static const char request[] = "GET / HTTP/1.1\r\nHost: scene\r\nConnection: close\r\n\r\n";
    (void)cluster;
    for (int i = 0; i < SENT_CONNECTIONS; i++) {
        int fd = scene_connect(scene_address());
        CHECK(fd >= 0);
        CHECK(send(fd, request, sizeof request - 1, MSG_NOSIGNAL) > 0);
        CHECK(recv(fd, http_answers[i], sizeof http_answers[i] - 1, MSG_WAITALL) > 0);
        close(fd);
    }
}

static void http_asked(pando_cluster *cluster) {
    for (int i = 0; i < SENT_CONNECTIONS; i++) {
        char wanted[32];
        snprintf(wanted, sizeof wanted, "\r\n\r\nworker %d", i % 2 + 1);
        CHECK(strncmp(http_answers[i], "HTTP/1.1 200", 12) == 0 && strstr(http_answers[i], wanted) != NULL);
    }
    uv_close((uv_handle_t *)&accepting, NULL);
    close(acceptor);
    CHECK_INT(pando_disconnect(cluster, NULL, NULL), 0);
}

static void pass_connection(uv_poll_t *poll, int status, int events) {
    pando_cluster *cluster = poll->data;
    (void)status, (void)events;
    int fd = accept4(acceptor, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) return;
    CHECK_INT(pando_worker_send(pando_worker_get(cluster, (uint64_t)(seen.own++ % 2 + 1)), "connection", 10, fd), 0);
    close(fd);
}

static void http_ready(pando_cluster *cluster, pando_worker *worker, struct pando_message *message, void *arg) {
    (void)worker, (void)arg;
    CHECK(is(message, "ready"));
    if (++seen.messages < 2) return;
    acceptor = plain_listen(scene_address());
    CHECK(acceptor >= 0);
    accepting.data = cluster;
    uv_poll_init(pando_cluster_loop(cluster), &accepting, acceptor);
    uv_poll_start(&accepting, UV_READABLE, pass_connection);
    scene_in_thread(cluster, ask_by_http, http_asked);
}

static void http_primary(int argc, char **argv) {
    scene_address();
    pando_cluster *cluster = watched(argc, argv, http_ready);
    for (int i = 0; i < 2; i++) CHECK(pando_fork(cluster, NULL) != NULL);
    end(cluster, 2);
    CHECK_INT(seen.own, SENT_CONNECTIONS);
}

static pando_server *http_server;
static void say_id(pando_exchange *exchange, void *arg) {
    static char text[32];
    (void)arg;
    snprintf(text, sizeof text, "worker %d", (int)pando_self_id());
    pando_exchange_set_status(exchange, 200, NULL);
    pando_exchange_end(exchange, text, strlen(text));
}

static void serve_connection(pando_self *self, struct pando_message *message, void *arg) {
    (void)self, (void)arg;
    if (!is(message, "connection") || pando_server_serve_fd_take(http_server, pando_message_take_fd(message)) != 0) exit(110);
}

static int http_worker(int argc, char **argv) {
    (void)argc, (void)argv;
    uv_loop_t *loop = uv_default_loop();
    pando_self *self;
    http_server = pando_server_new(&(struct pando_server_options){.on_request = say_id, .loop = loop}, NULL);
    if (http_server == NULL) return 101;
    if (pando_self_open(&self, &(struct pando_self_options){.loop = loop, .on_message = serve_connection}, NULL) != 0) return 102;
    say_ready(self);
    uv_run(loop, UV_RUN_DEFAULT);
    pando_self_close(self);
    pando_server_free(http_server);
    uv_run(loop, UV_RUN_DEFAULT);
    return uv_loop_close(loop) == 0 ? 0 : 103;
}

// ---- send-deadlock: descriptors cross in both directions at once

enum { CROSSINGS = 200 };
static struct stat sent;

static void crossing_came(pando_cluster *cluster, pando_worker *worker, struct pando_message *message, void *arg) {
    struct stat came;
    (void)cluster, (void)arg;
    CHECK(message->fd >= 0 && fstat(message->fd, &came) == 0 && came.st_ino == sent.st_ino);
    if (++seen.messages == CROSSINGS) CHECK_INT(pando_worker_disconnect(worker), 0);
}

static void crossing_online(pando_cluster *cluster, pando_worker *worker, void *arg);

static int next_crossing, crossing_fd;
static void send_crossings(pando_worker *worker) {
    while (next_crossing < CROSSINGS) {
        int r = pando_worker_send(worker, "x", 1, crossing_fd);
        if (r == -EAGAIN) return;  // goes on when it is writable
        CHECK(r == 0 || r == 1);
        next_crossing++;
    }
}

static void crossing_writable(pando_cluster *cluster, pando_worker *worker, void *arg) {
    (void)cluster, (void)arg;
    send_crossings(worker);
}

static void crossing_online(pando_cluster *cluster, pando_worker *worker, void *arg) {
    (void)cluster, (void)arg;
    send_crossings(worker);
}

static void crossing_primary(int argc, char **argv) {
    pando_cluster *cluster = watched(argc, argv, crossing_came);
    crossing_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    CHECK(fstat(crossing_fd, &sent) == 0);
    pando_on_online(cluster, crossing_online, NULL);
    pando_on_writable(cluster, crossing_writable, NULL);
    CHECK(pando_fork(cluster, NULL) != NULL);
    end(cluster, 1);
    CHECK_INT(seen.messages, CROSSINGS);
    CHECK_INT(next_crossing, CROSSINGS);
}

static int echoes_owed;
static void echo_later(pando_self *self, struct pando_message *message, void *arg) {
    (void)arg;
    static int fd = -1;
    if (message->fd < 0) exit(110);
    if (fd < 0) fd = pando_message_take_fd(message);
    echoes_owed++;
    while (echoes_owed > 0 && pando_self_send(self, "x", 1, fd) >= 0) echoes_owed--;
}

static int crossing_worker(int argc, char **argv) { return (void)argc, (void)argv, worker_with(echo_later, NULL); }

// ---- send-handle-large-payload: the largest message, with a descriptor

enum { LARGEST = 64 * 1024 };
static char large[LARGEST + 1];

static void large_came(pando_cluster *cluster, pando_worker *worker, struct pando_message *message, void *arg) {
    struct stat came;
    (void)cluster, (void)arg;
    CHECK_INT(message->data.len, LARGEST);
    CHECK(memcmp(message->data.data, large, LARGEST) == 0);
    CHECK(message->fd >= 0 && fstat(message->fd, &came) == 0 && came.st_ino == sent.st_ino);
    seen.messages++;
    CHECK_INT(pando_worker_disconnect(worker), 0);
}

static void large_online(pando_cluster *cluster, pando_worker *worker, void *arg) {
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    (void)cluster, (void)arg;
    CHECK(fstat(fd, &sent) == 0);
    CHECK_INT(pando_worker_send(worker, large, LARGEST + 1, fd), -EMSGSIZE);
    CHECK_INT(pando_worker_send(worker, large, LARGEST, fd), 0);
    close(fd);
}

static void large_primary(int argc, char **argv) {
    for (size_t i = 0; i < sizeof large; i++) large[i] = (char)(i * 7 + i / 256);
    pando_cluster *cluster = watched(argc, argv, large_came);
    pando_on_online(cluster, large_online, NULL);
    CHECK(pando_fork(cluster, NULL) != NULL);
    end(cluster, 1);
    CHECK_INT(seen.messages, 1);
}

// ---- relay and broadcast

enum { RELAY_WORKERS = 3 };

static void relay(pando_cluster *cluster, pando_worker *worker, struct pando_message *message, void *arg) {
    (void)arg;
    if (is(message, "ready") && ++seen.messages == RELAY_WORKERS) {
        struct pando_message go = {.data = PANDO_STR("go"), .fd = -1};
        CHECK_INT(pando_broadcast(cluster, NULL, &go), RELAY_WORKERS);
    } else if (is(message, "hi")) {
        CHECK_INT(pando_broadcast(cluster, worker, message), RELAY_WORKERS - 1);
    }
}

static void relay_primary(int argc, char **argv) {
    pando_cluster *cluster = watched(argc, argv, relay);
    for (int i = 0; i < RELAY_WORKERS; i++) CHECK(pando_fork(cluster, NULL) != NULL);
    end(cluster, RELAY_WORKERS);
}

static int greetings;
static void greet(pando_self *self, struct pando_message *message, void *arg) {
    (void)arg;
    if (is(message, "go") && pando_self_send(self, "hi", 2, -1) != 0) exit(110);
    if (is(message, "hi") && ++greetings == RELAY_WORKERS - 1) pando_self_disconnect(self);
}
static int relay_worker(int argc, char **argv) { return (void)argc, (void)argv, worker_with(greet, say_ready); }

// ---- back-pressure is visible to the sender, and the queue has a ceiling

static void fill(pando_cluster *cluster, pando_worker *worker, void *arg) {
    static char chunk[1024];
    int r = 0, full = 0, taken = 0;
    (void)cluster, (void)arg;
    for (int i = 0; i < 4096 && r != -EAGAIN; i++) {
        r = pando_worker_send(worker, chunk, sizeof chunk, -1);
        CHECK(r == 0 || r == 1 || r == -EAGAIN);
        full += r == 1;
        taken += r >= 0;
    }
    CHECK_INT(r, -EAGAIN);
    CHECK(full > 0 && taken > full);
    CHECK(taken * (int)sizeof chunk <= 2 * 1024 * 1024);  // the queue's 1 MiB, and what the kernel took
    CHECK_INT(kill(pando_worker_pid(worker), SIGCONT), 0);
}

static void full_message(pando_cluster *cluster, pando_worker *worker, struct pando_message *message, void *arg) {
    (void)message;
    CHECK_INT(kill(pando_worker_pid(worker), SIGSTOP), 0);
    char path[64], state = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pando_worker_pid(worker));
    while (state != 'T') {
        FILE *file = fopen(path, "r");
        CHECK(file != NULL && fscanf(file, "%*d (%*[^)]) %c", &state) == 1);
        fclose(file);
    }
    fill(cluster, worker, arg);
}

static void full_writable(pando_cluster *cluster, pando_worker *worker, void *arg) {
    (void)cluster, (void)arg;
    CHECK_INT(pando_worker_send(worker, "there is room again", 19, -1), 0);
    seen.writable++;
    CHECK_INT(pando_worker_disconnect(worker), 0);
}

static void full_primary(int argc, char **argv) {
    pando_cluster *cluster = watched(argc, argv, full_message);
    pando_on_writable(cluster, full_writable, NULL);
    CHECK(pando_fork(cluster, NULL) != NULL);
    end(cluster, 1);
    CHECK_INT(seen.writable, 1);
}

static void swallow(pando_self *self, struct pando_message *message, void *arg) { (void)self, (void)message, (void)arg; }
static int swallowing_worker(int argc, char **argv) { return (void)argc, (void)argv, worker_with(swallow, say_ready); }

// ---- a worker that is paused feels it

enum { PAUSED_MAX = 4096 };

static void paused_message(pando_cluster *cluster, pando_worker *worker, struct pando_message *message, void *arg) {
    (void)cluster, (void)arg;
    seen.messages++;
    if (is(message, "begin")) CHECK_INT(pando_worker_pause(worker, true), 0);
}

static void resume(uv_timer_t *timer) {
    pando_cluster *cluster = timer->data;
    pando_worker *worker = pando_worker_next(cluster, NULL);
    char byte;
    if (read(pando_worker_stdio(worker, 3), &byte, 1) != 1) return;  // it says there that its queue is full
    CHECK_INT(seen.messages, 1);
    CHECK_INT(pando_worker_pause(worker, false), 0);
    uv_close((uv_handle_t *)timer, NULL);
}

static void pause_primary(int argc, char **argv) {
    uv_timer_t timer;
    pando_cluster *cluster = watched(argc, argv, paused_message);
    struct pando_settings settings = {0};
    settings.stdio[3].kind = PANDO_STDIO_PIPE;
    CHECK_INT(pando_setup(cluster, &settings), 0);
    uv_timer_init(pando_cluster_loop(cluster), &timer);
    timer.data = cluster;
    uv_timer_start(&timer, resume, 5, 5);
    CHECK(pando_fork(cluster, NULL) != NULL);
    end(cluster, 1);
    CHECK(seen.messages > 1000 && seen.messages < PAUSED_MAX);
}

static void leave_when_writable(pando_self *self, void *arg) { (void)arg, pando_self_disconnect(self); }

static int pushing_worker(int argc, char **argv) {
    static char chunk[1024];
    (void)argc, (void)argv;
    uv_loop_t *loop = uv_default_loop();
    pando_self *self;
    if (pando_self_open(&self, &(struct pando_self_options){.loop = loop, .on_writable = leave_when_writable}, NULL) != 0) return 101;
    int r = pando_self_send(self, "begin", 5, -1);
    for (int i = 0; i < PAUSED_MAX && r >= 0; i++) r = pando_self_send(self, chunk, sizeof chunk, -1);
    if (r != -EAGAIN) return 102;
    if (write(3, "f", 1) != 1) return 103;
    uv_run(loop, UV_RUN_DEFAULT);
    pando_self_close(self);
    uv_run(loop, UV_RUN_DEFAULT);
    uv_loop_close(loop);
    return 0;
}

// ---- without a loop of libuv: poll and dispatch

static void poll_primary(int argc, char **argv) {
    pando_cluster *cluster = watched(argc, argv, echo_answers);
    pando_on_online(cluster, message_online, NULL);
    CHECK(pando_fork(cluster, NULL) != NULL);
    seen.own = 0;
    end(cluster, 1);
    CHECK_INT(seen.messages, 4);
}

static int polling_worker(int argc, char **argv) {
    (void)argc, (void)argv;
    pando_self *self;
    if (pando_self_open(&self, &(struct pando_self_options){.on_message = echo}, NULL) != 0) return 101;
    while (pando_self_is_connected(self)) {
        fd_set readable, writable;
        int fd = pando_self_fd(self);
        FD_ZERO(&readable);
        FD_ZERO(&writable);
        FD_SET(fd, &readable);
        if (pando_self_wants_write(self)) FD_SET(fd, &writable);
        if (select(fd + 1, &readable, &writable, NULL, NULL) > 0) pando_self_dispatch(self);
    }
    pando_self_close(self);
    return 0;
}

const struct scene scenes_message[] = {
    {"message", message_primary, echo_worker},
    {"message_before_online", early_primary, echo_worker},
    {"message_without_libuv", poll_primary, polling_worker},
    {"message_relay", relay_primary, relay_worker},
    {"message_back_pressure", full_primary, swallowing_worker},
    {"message_pause", pause_primary, pushing_worker},
    {"net_send", net_send_primary, net_send_worker},
    {"send_handle_twice", twice_primary, twice_worker},
    {"send_socket_to_worker_http_server", http_primary, http_worker},
    {"send_deadlock", crossing_primary, crossing_worker},
    {"send_handle_large_payload", large_primary, echo_worker},
};
const size_t scenes_message_count = SCENE_COUNT(scenes_message);
