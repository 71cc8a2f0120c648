// SPDX-License-Identifier: MIT
// What nobody should do, and what must not hurt.
#include "scene.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static struct {
    int exits, code, signal, messages, disconnects, failures, lost;
    size_t bytes;
} seen;

static void on_worker_exit(pando_cluster *cluster, pando_worker *worker, int code, int signo, void *arg) {
    (void)cluster, (void)worker, (void)arg;
    seen.exits++;
    seen.code = code;
    seen.signal = signo;
}

static void on_worker_disconnect(pando_cluster *cluster, pando_worker *worker, void *arg) {
    (void)cluster, (void)worker, (void)arg;
    seen.disconnects++;
}

static void on_failure(pando_cluster *cluster, pando_worker *worker, const struct pando_error *error, void *arg) {
    (void)cluster, (void)worker, (void)arg;
    CHECK(error->code > 0 && error->text[0] != '\0');
    seen.failures++;
}

static pando_cluster *watched(int argc, char **argv) {
    pando_cluster *cluster = scene_cluster(argc, argv);
    pando_on_exit(cluster, on_worker_exit, NULL);
    pando_on_disconnect(cluster, on_worker_disconnect, NULL);
    pando_on_failure(cluster, on_failure, NULL);
    return cluster;
}

static void end(pando_cluster *cluster, int exits) {
    CHECK_INT(pando_cluster_run(cluster), 0);
    CHECK_INT(seen.exits, exits);
    pando_cluster_free(cluster);
}

// ---- fork in a worker

static void fork_in_worker_primary(int argc, char **argv) {
    pando_cluster *cluster = watched(argc, argv);
    CHECK(pando_fork(cluster, NULL) != NULL);
    end(cluster, 1);
    CHECK_INT(seen.code, 33);
}

static int fork_in_worker(int argc, char **argv) {
    struct pando_error error = {0};
    if (pando_cluster_new(argc, argv) != NULL || errno != EPERM) return 1;
    if (pando_cluster_new_with(&(pando_cluster_options){.argc = argc, .argv = argv}, &error) != NULL) return 2;
    if (error.code != EPERM || strstr(error.text, "worker") == NULL) return 3;
    if (pando_fork(NULL, NULL) != NULL || errno != EINVAL) return 4;
    return 33;
}

// ---- NULLs

static void nulls_primary(int argc, char **argv) {
    struct pando_error error = {0};
    (void)argc, (void)argv;
    CHECK(pando_fork(NULL, NULL) == NULL);
    CHECK_INT(errno, EINVAL);
    CHECK_INT(pando_cluster_run(NULL), 1);
    pando_cluster_free(NULL);
    CHECK_INT(pando_setup(NULL, NULL), -EINVAL);
    CHECK_INT(pando_disconnect(NULL, NULL, NULL), -EINVAL);
    CHECK_INT(pando_set_policy(NULL, PANDO_SCHED_RR), -EINVAL);
    CHECK(pando_cluster_loop(NULL) == NULL && pando_cluster_error(NULL) == NULL && pando_cluster_settings(NULL) == NULL);
    CHECK(pando_worker_get(NULL, 1) == NULL && pando_worker_next(NULL, NULL) == NULL);
    CHECK_INT(pando_worker_count(NULL), 0);
    CHECK_INT(pando_broadcast(NULL, NULL, NULL), 0);
    pando_on_setup(NULL, NULL, NULL);
    pando_on_fork(NULL, NULL, NULL);
    pando_on_exit(NULL, NULL, NULL);
    CHECK_INT(pando_worker_id(NULL), 0);
    CHECK_INT(pando_worker_pid(NULL), 0);
    CHECK_INT(pando_worker_slot(NULL), -1);
    CHECK_INT(pando_worker_state(NULL), PANDO_WORKER_DEAD);
    CHECK(!pando_worker_is_connected(NULL) && pando_worker_is_dead(NULL));
    CHECK_INT(pando_worker_exited_after_disconnect(NULL), PANDO_VOLUNTARY_UNKNOWN);
    CHECK_INT(pando_worker_send(NULL, "x", 1, -1), -EINVAL);
    CHECK_INT(pando_worker_send_json(NULL, NULL, -1), -EINVAL);
    CHECK_INT(pando_worker_pause(NULL, true), -EINVAL);
    CHECK_INT(pando_worker_disconnect(NULL), -EINVAL);
    CHECK_INT(pando_worker_kill(NULL, 0), -EINVAL);
    CHECK_INT(pando_worker_watch(NULL, NULL, NULL), -EINVAL);
    CHECK_INT(pando_worker_stdio(NULL, 1), -1);
    CHECK_INT(pando_worker_stdio_take(NULL, 1), -1);
    CHECK(pando_worker_data(NULL) == NULL && pando_worker_hold(NULL) == NULL);
    pando_worker_set_data(NULL, NULL);
    pando_worker_release(NULL);
    CHECK_INT(pando_cluster_serve(NULL), 2);

    pando_cluster *cluster = pando_cluster_new_with(NULL, &error);
    CHECK(cluster != NULL);
    CHECK_INT(pando_cluster_run(cluster), 0);
    pando_cluster_free(cluster);
    CHECK(pando_cluster_new_with(&(pando_cluster_options){.max_message_bytes = UINT32_MAX}, &error) == NULL);
    CHECK_INT(error.code, EINVAL);
    CHECK(pando_cluster_new_with(&(pando_cluster_options){.workers = -1}, &error) == NULL);

    pando_self *self = NULL;  // without a primary
    CHECK_INT(pando_self_open(NULL, NULL, &error), -EINVAL);
    CHECK_INT(pando_self_open(&self, NULL, &error), 0);
    for (int i = 0; i < 2; i++) {
        CHECK(!pando_self_is_connected(self));
        CHECK_INT(pando_self_fd(self), -1);
        CHECK_INT(pando_self_send(self, "x", 1, -1), -ENOTCONN);
        CHECK_INT(pando_self_ready(self), 0);
        pando_self_dispatch(self);
        pando_self_disconnect(self);
        CHECK(!pando_self_wants_write(self));
        CHECK_INT(pando_self_listen(self, NULL, 0, &error), -EINVAL);
        CHECK_INT(pando_self_listen(self, "fd:3", 0, &error), -ENOTCONN);
        CHECK_INT(pando_self_listen(self, "70000", 0, &error), -EINVAL);
        CHECK_INT(pando_self_listen(self, "host:port", 0, &error), -EINVAL);
        CHECK_INT(pando_self_listen(self, "unix:", 0, &error), -ENAMETOOLONG);
        CHECK_INT(pando_self_serve(self, NULL, "0", 0, &error), -EINVAL);
        int fd = pando_self_listen(self, "127.0.0.1:0", 0, &error);
        CHECK(fd >= 0);
        close(fd);
        pando_self_close(self);
        self = NULL;
    }
}

// ---- the channel: half a frame, unknown frames, a descriptor that was announced and did not come, and one that was not announced

enum { CHANNEL = 6 };
struct frame {
    uint32_t len;
    uint8_t kind, flags;
    uint16_t number;
    char data[16];
};

static void bogus_primary(int argc, char **argv) {
    pando_cluster *cluster = watched(argc, argv);
    char which[] = "SCENE_BOGUS=0";
    for (; which[12] < '6'; which[12]++) CHECK(pando_fork(cluster, (char *[]){which, NULL}) != NULL);
    end(cluster, 6);
    CHECK_INT(seen.failures, 6);
    CHECK_INT(seen.disconnects, 6);
}

static int bogus_worker(int argc, char **argv) {
    static char noise[5000];
    struct frame frame = {.kind = 9};
    char byte;
    (void)argc, (void)argv;
    switch (getenv("SCENE_BOGUS")[0]) {
        case '0': send(CHANNEL, &frame, 3, 0); break;
        case '1':
            frame.len = 100;
            send(CHANNEL, &frame, 20, 0);
            break;
        case '2':
            frame.len = UINT32_MAX;
            send(CHANNEL, &frame, 20, 0);
            break;
        case '3':
            frame.kind = 200;
            send(CHANNEL, &frame, 8, 0);
            break;
        case '4':
            frame.flags = 0x80;
            send(CHANNEL, &frame, 8, 0);
            break;
        case '5':
            memset(noise, 0xff, sizeof noise);
            send(CHANNEL, noise, sizeof noise, 0);
            break;
        default: return 1;
    }
    while (recv(CHANNEL, &byte, 1, 0) > 0) continue;  // until the primary has closed it
    return 0;
}

// ---- over the limit: refused to the sender; a sender that has no such limit is a stranger to the protocol

enum { SMALL = 100 };
static char over[2 * SMALL];

static void over_online(pando_cluster *cluster, pando_worker *worker, void *arg) {
    (void)cluster, (void)arg;
    CHECK_INT(pando_worker_send(worker, over, SMALL + 1, -1), -EMSGSIZE);
    CHECK_INT(pando_worker_send(worker, over, SMALL, -1), 0);
}

static void over_message(pando_cluster *cluster, pando_worker *worker, struct pando_message *message, void *arg) {
    (void)cluster, (void)worker, (void)arg;
    CHECK_INT(message->data.len, SMALL);
    seen.messages++;
}

static void over_primary(int argc, char **argv) {
    struct pando_error error = {0};
    pando_cluster *cluster =
        pando_cluster_new_with(&(pando_cluster_options){.argc = argc, .argv = argv, .max_message_bytes = SMALL}, &error);
    CHECK(cluster != NULL);
    pando_on_online(cluster, over_online, NULL);
    pando_on_message(cluster, over_message, NULL);
    pando_on_exit(cluster, on_worker_exit, NULL);
    pando_on_disconnect(cluster, on_worker_disconnect, NULL);
    pando_on_failure(cluster, on_failure, NULL);
    CHECK(pando_fork(cluster, NULL) != NULL);
    end(cluster, 1);
    CHECK_INT(seen.code, 0);
    CHECK_INT(seen.messages, 1);
    CHECK_INT(seen.failures, 1);
    CHECK_INT(seen.disconnects, 1);
}

static int over_worker(int argc, char **argv) {
    (void)argc, (void)argv;
    pando_self *self;
    if (pando_self_open(&self, &(struct pando_self_options){.max_message_bytes = SMALL, .stay = true}, NULL) != 0) return 101;
    if (pando_self_send(self, over, SMALL + 1, -1) != -EMSGSIZE) return 102;
    if (pando_self_send(self, over, SMALL, -1) != 0) return 103;
    struct frame frame = {.len = SMALL + 1, .kind = 9};
    struct iovec parts[2] = {{&frame, 8}, {over, SMALL + 1}};
    if (writev(CHANNEL, parts, 2) != 8 + SMALL + 1) return 104;
    while (pando_self_is_connected(self)) {  // until the primary has closed it
        poll(&(struct pollfd){.fd = CHANNEL, .events = POLLIN}, 1, -1);
        pando_self_dispatch(self);
    }
    pando_self_close(self);
    return 0;
}

static void handle_message(pando_cluster *cluster, pando_worker *worker, struct pando_message *message, void *arg) {
    (void)cluster, (void)arg, (void)worker;
    CHECK_INT(message->fd, -1);
    if (message->data.len == 3) seen.lost += message->fd_was_lost;
    seen.messages++;
}

static void no_fd_primary(int argc, char **argv) {
    pando_cluster *cluster = watched(argc, argv);
    pando_on_message(cluster, handle_message, NULL);
    CHECK(pando_fork(cluster, NULL) != NULL);
    end(cluster, 1);
    CHECK_INT(seen.messages, 2);
    CHECK_INT(seen.lost, 1);
    CHECK_INT(seen.failures, 0);
}

static int no_fd_worker(int argc, char **argv) {
    (void)argc, (void)argv;
    struct frame announced = {.len = 3, .kind = 9, .flags = 1, .data = "abc"};
    struct frame plain = {.len = 4, .kind = 9, .data = "abcd"};
    if (send(CHANNEL, &announced, 8 + 3, 0) != 11) return 1;
    struct iovec part = {&plain, 8 + 4};
    char control[CMSG_SPACE(sizeof(int))] = {0};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    int fd = 0;
    *header = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    return sendmsg(CHANNEL, &message, 0) == 12 ? 0 : 2;
}

// ---- a worker that floods: all of it arrives, and none of it piles up

enum { FLOOD_MESSAGES = 20000, FLOOD_BYTES = 4096 };

static long resident_kb(void) {
    long kb = -1;
    char line[256];
    FILE *file = fopen("/proc/self/status", "r");
    CHECK(file != NULL);
    while (fgets(line, sizeof line, file) != NULL) sscanf(line, "VmRSS: %ld kB", &kb);
    fclose(file);
    return kb;
}

static void flood_message(pando_cluster *cluster, pando_worker *worker, struct pando_message *message, void *arg) {
    (void)cluster, (void)worker, (void)arg;
    CHECK_INT(message->data.len, FLOOD_BYTES);
    seen.messages++;
}

static void flood_primary(int argc, char **argv) {
    pando_cluster *cluster = watched(argc, argv);
    pando_on_message(cluster, flood_message, NULL);
    CHECK(pando_fork(cluster, NULL) != NULL);
    long before = resident_kb();
    end(cluster, 1);
    CHECK_INT(seen.code, 0);
    CHECK_INT(seen.messages, FLOOD_MESSAGES);
    CHECK(resident_kb() - before < 32 * 1024);  // of 80 MB that came
}

static int flooding_worker(int argc, char **argv) {
    static char data[FLOOD_BYTES];
    (void)argc, (void)argv;
    pando_self *self;
    if (pando_self_open(&self, NULL, NULL) != 0) return 101;
    for (int sent = 0; sent < FLOOD_MESSAGES;) {
        int r = pando_self_send(self, data, sizeof data, -1);
        if (r < 0 && r != -EAGAIN) return 102;
        sent += r >= 0;
        if (r != 0) pando_self_dispatch(self);
    }
    while (pando_self_wants_write(self)) pando_self_dispatch(self);
    pando_self_close(self);
    return 0;
}

// ---- no descriptor left: in the primary, in the worker

static void fill_descriptors(int spare) {
    struct rlimit few = {.rlim_cur = 256, .rlim_max = 256};
    int last = -1, fd;
    CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
    while ((fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0) last = fd;
    for (int i = 0; i < spare; i++) close(last - i);
}

static void limit_online(pando_cluster *cluster, pando_worker *worker, void *arg) {
    (void)arg;
    fill_descriptors(0);
    CHECK_INT(pando_worker_send(worker, "x", 1, 0), -EMFILE);
    CHECK(pando_fork(cluster, NULL) == NULL);
    CHECK_INT(errno, EMFILE);
    CHECK_INT(pando_worker_send(worker, "y", 1, -1), 0);
    CHECK_INT(pando_worker_disconnect(worker), 0);
}

static void limit_primary(int argc, char **argv) {
    pando_cluster *cluster = watched(argc, argv);
    pando_on_online(cluster, limit_online, NULL);
    CHECK(pando_fork(cluster, NULL) != NULL);
    end(cluster, 1);
    CHECK_INT(seen.code, 0);
    CHECK_INT(seen.failures, 1);
}

static void expect_y(pando_self *self, struct pando_message *message, void *arg) {
    (void)self, (void)arg;
    if (message->data.len != 1 || message->data.data[0] != 'y' || message->fd != -1) exit(110);
}

static int y_worker(int argc, char **argv) {
    (void)argc, (void)argv;
    uv_loop_t *loop = uv_default_loop();
    pando_self *self;
    if (pando_self_open(&self, &(struct pando_self_options){.loop = loop, .on_message = expect_y}, NULL) != 0) return 101;
    uv_run(loop, UV_RUN_DEFAULT);
    pando_self_close(self);
    uv_run(loop, UV_RUN_DEFAULT);
    uv_loop_close(loop);
    return 0;
}

static void lost_message(pando_cluster *cluster, pando_worker *worker, struct pando_message *message, void *arg) {
    (void)cluster, (void)arg;
    if (message->data.data[0] == 'f') {  // full: it has no descriptor left
        CHECK_INT(pando_worker_send(worker, "x", 1, 0), 0);
        CHECK_INT(pando_worker_send(worker, "z", 1, -1), 0);
        return;
    }
    CHECK(message->data.data[0] == 'l');
    seen.lost++;
    CHECK_INT(pando_worker_disconnect(worker), 0);
}

static void lost_primary(int argc, char **argv) {
    pando_cluster *cluster = watched(argc, argv);
    pando_on_message(cluster, lost_message, NULL);
    CHECK(pando_fork(cluster, NULL) != NULL);
    end(cluster, 1);
    CHECK_INT(seen.code, 0);
    CHECK_INT(seen.lost, 1);
}

static int lost_in_worker;
static void expect_lost(pando_self *self, struct pando_message *message, void *arg) {
    (void)arg;
    if (message->data.data[0] == 'x') {
        if (message->fd != -1 || !message->fd_was_lost) exit(110);
        lost_in_worker++;
    } else if (lost_in_worker == 1 && pando_self_send(self, "lost", 4, -1) != 0) {
        exit(111);
    }
}

static int lost_worker(int argc, char **argv) {
    (void)argc, (void)argv;
    uv_loop_t *loop = uv_default_loop();
    pando_self *self;
    if (pando_self_open(&self, &(struct pando_self_options){.loop = loop, .on_message = expect_lost}, NULL) != 0) return 101;
    uv_run(loop, UV_RUN_NOWAIT);
    fill_descriptors(0);
    pando_self_send(self, "full", 4, -1);
    uv_run(loop, UV_RUN_DEFAULT);
    pando_self_close(self);
    uv_run(loop, UV_RUN_DEFAULT);
    uv_loop_close(loop);
    return 0;
}

// ---- callbacks that fork, kill, disconnect, free

static void busy_online(pando_cluster *cluster, pando_worker *worker, void *arg) {
    (void)arg;
    if (pando_worker_id(worker) < 6) CHECK(pando_fork(cluster, NULL) != NULL);
    int r = pando_worker_send(worker, "y", 1, -1);
    CHECK(r == 0 || r == -EPIPE);  // another's exit may have ended it already
    r = pando_worker_disconnect(worker);
    CHECK(r == 0 || r == -ESRCH);
    for (int i = 0; i < 2; i++) {
        r = pando_worker_kill(worker, 0);
        CHECK(r == 0 || r == -ESRCH);
    }
}

static void busy_exit(pando_cluster *cluster, pando_worker *worker, int code, int signo, void *arg) {
    on_worker_exit(cluster, worker, code, signo, arg);
    if (pando_worker_id(worker) < 6) CHECK(pando_fork(cluster, NULL) != NULL);
    for (pando_worker *each = NULL; (each = pando_worker_next(cluster, each)) != NULL;) pando_worker_disconnect(each);
    CHECK_INT(pando_disconnect(cluster, NULL, NULL), 0);
}

static void busy_primary(int argc, char **argv) {
    pando_cluster *cluster = watched(argc, argv);
    pando_on_online(cluster, busy_online, NULL);
    pando_on_exit(cluster, busy_exit, NULL);
    for (int i = 0; i < 3; i++) CHECK(pando_fork(cluster, NULL) != NULL);
    CHECK_INT(pando_cluster_run(cluster), 0);
    CHECK(seen.exits >= 6);
    CHECK_INT(pando_worker_count(cluster), 0);
    pando_cluster_free(cluster);
}

static void free_message(pando_cluster *cluster, pando_worker *worker, struct pando_message *message, void *arg) {
    (void)worker, (void)arg;
    CHECK_INT(message->data.len, 4);
    seen.messages++;
    pando_cluster_free(cluster);
    CHECK(pando_fork(cluster, NULL) == NULL);
}

static pando_worker *held;
static void free_message_primary(int argc, char **argv) {
    pando_cluster *cluster = watched(argc, argv);
    pando_on_message(cluster, free_message, NULL);
    held = pando_worker_hold(pando_fork(cluster, NULL));
    CHECK(pando_fork(cluster, NULL) != NULL);
    pid_t pid = pando_worker_pid(held);
    CHECK_INT(pando_cluster_run(cluster), 0);
    CHECK_INT(seen.messages, 1);
    CHECK(kill(pid, 0) != 0 && errno == ESRCH);
    CHECK(pando_worker_is_dead(held));
    CHECK_INT(pando_worker_send(held, "x", 1, -1), -EPIPE);
    CHECK_INT(pando_worker_kill(held, 0), -ESRCH);
    pando_worker_release(held);
}

static void free_fork(pando_cluster *cluster, pando_worker *worker, void *arg) {
    (void)worker, (void)arg;
    seen.messages++;
    pando_cluster_free(cluster);
}

static void free_fork_primary(int argc, char **argv) {
    uv_loop_t loop;
    uv_loop_init(&loop);
    pando_cluster *cluster = pando_cluster_new_with(&(pando_cluster_options){.argc = argc, .argv = argv, .loop = &loop}, NULL);
    pando_on_fork(cluster, free_fork, NULL);
    for (int i = 0; i < 3; i++) CHECK(pando_fork(cluster, NULL) != NULL);
    CHECK_INT(uv_run(&loop, UV_RUN_DEFAULT), 0);
    CHECK_INT(seen.messages, 1);
    CHECK_INT(uv_loop_close(&loop), 0);
}

static int chatty_worker(int argc, char **argv) {
    (void)argc, (void)argv;
    uv_loop_t *loop = uv_default_loop();
    pando_self *self;
    if (pando_self_open(&self, &(struct pando_self_options){.loop = loop}, NULL) != 0) return 101;
    for (int i = 0; i < 100; i++) pando_self_send(self, "chat", 4, -1);
    uv_run(loop, UV_RUN_DEFAULT);
    return 0;
}

// ---- exit inside a callback: the workers end

static void exit_online(pando_cluster *cluster, pando_worker *worker, void *arg) {
    (void)cluster, (void)arg;
    if (write(*(int *)arg, &(pid_t){pando_worker_pid(worker)}, sizeof(pid_t)) < 0) _exit(9);
    _exit(7);
}

static bool is_gone(void *arg) { return kill(*(pid_t *)arg, 0) != 0 && errno == ESRCH; }

static void exit_primary(int argc, char **argv) {
    int ends[2], status;
    pid_t worker = 0;
    CHECK(pipe(ends) == 0);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        pando_cluster *cluster = watched(argc, argv);
        pando_on_online(cluster, exit_online, &ends[1]);
        CHECK(pando_fork(cluster, NULL) != NULL);
        pando_cluster_run(cluster);
        _exit(1);
    }
    CHECK_INT(read(ends[0], &worker, sizeof worker), (int)sizeof worker);
    CHECK_INT(waitpid(pid, &status, 0), pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    scene_wait_until(is_gone, &worker);
}

// ---- the keeper is killed: the workers serve on, it is told, no other can be started

static void keeper_listening(pando_cluster *cluster, pando_worker *worker, const struct pando_listening *at, void *arg) {
    char path[64], line[128];
    int keeper = -1;
    (void)at, (void)arg, (void)cluster;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pando_worker_pid(worker));
    FILE *file = fopen(path, "r");
    CHECK(file != NULL);
    while (fgets(line, sizeof line, file) != NULL) sscanf(line, "PPid: %d", &keeper);
    fclose(file);
    CHECK_INT(kill(keeper, SIGKILL), 0);
}

static void keeper_failure(pando_cluster *cluster, pando_worker *worker, const struct pando_error *error, void *arg) {
    on_failure(cluster, worker, error, arg);
    if (seen.failures > 1) return;
    pando_worker *left = pando_worker_next(cluster, NULL);
    CHECK_INT(scene_ask(scene_address()), pando_worker_pid(left));
    CHECK(pando_fork(cluster, NULL) == NULL);
    CHECK_INT(errno, EPIPE);
    CHECK_INT(kill(pando_worker_pid(left), SIGKILL), 0);
}

static void keeper_primary(int argc, char **argv) {
    scene_address();
    pando_cluster *cluster = watched(argc, argv);
    pando_on_listening(cluster, keeper_listening, NULL);
    pando_on_failure(cluster, keeper_failure, NULL);
    CHECK(pando_fork(cluster, NULL) != NULL);
    end(cluster, 1);
    CHECK_INT(seen.failures, 2);
    CHECK_INT(seen.code, -1);
    CHECK_INT(seen.signal, -1);
}

// ---- without a keeper to start

static void no_keeper_primary(int argc, char **argv) {
    pando_cluster_options options = {.argc = argc, .argv = argv, .keeper = "/no/such/keeper"};
    pando_cluster *cluster = pando_cluster_new_with(&options, NULL);
    pando_on_failure(cluster, on_failure, NULL);
    for (int i = 0; i < 2; i++) {
        CHECK(pando_fork(cluster, NULL) == NULL);
        CHECK_INT(errno, ENOENT);
        CHECK(strstr(pando_cluster_error(cluster)->text, "/no/such/keeper") != NULL);
    }
    CHECK_INT(pando_cluster_run(cluster), 0);
    CHECK_INT(seen.failures, 2);
    pando_on_failure(cluster, NULL, NULL);
    CHECK(pando_fork(cluster, NULL) == NULL);
    CHECK_INT(pando_cluster_run(cluster), 1);
    pando_cluster_free(cluster);
    options.keeper = "/bin/true";
    cluster = pando_cluster_new_with(&options, NULL);
    CHECK(pando_fork(cluster, NULL) == NULL);
    CHECK_INT(pando_cluster_run(cluster), 1);
    CHECK(pando_fork(cluster, NULL) == NULL);
    pando_cluster_free(cluster);
}

const struct scene scenes_bad_input[] = {
    {"fork_in_a_worker", fork_in_worker_primary, fork_in_worker},
    {"nulls", nulls_primary, NULL},
    {"invalid_message", bogus_primary, bogus_worker},
    {"a_message_over_the_limit", over_primary, over_worker},
    {"a_handle_with_no_descriptor", no_fd_primary, no_fd_worker},
    {"a_worker_that_floods", flood_primary, flooding_worker},
    {"no_descriptor_left_in_the_primary", limit_primary, y_worker},
    {"no_descriptor_left_in_a_worker", lost_primary, lost_worker},
    {"callbacks_that_fork_kill_and_disconnect", busy_primary, y_worker},
    {"free_inside_a_message", free_message_primary, chatty_worker},
    {"free_inside_an_event", free_fork_primary, chatty_worker},
    {"exit_inside_a_callback", exit_primary, y_worker},
    {"keeper_killed", keeper_primary, NULL},
    {"no_keeper", no_keeper_primary, NULL},
};
const size_t scenes_bad_input_count = SCENE_COUNT(scenes_bad_input);
