// SPDX-License-Identifier: MIT
// Sockets: shared between workers, refused where they should be.
#include "scene.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static struct {
    int exits, codes[16], listening, ports[16], messages;
    pando_worker *workers[16];
} seen;

static void on_worker_exit(pando_cluster *cluster, pando_worker *worker, int code, int signo, void *arg) {
    (void)cluster, (void)signo, (void)worker, (void)arg;
    seen.codes[seen.exits++] = code;
}

static pando_cluster *watched(int argc, char **argv) {
    scene_address();
    pando_cluster *cluster = scene_cluster(argc, argv);
    pando_on_exit(cluster, on_worker_exit, NULL);
    return cluster;
}

static void end(pando_cluster *cluster, int exits) {
    CHECK_INT(pando_cluster_run(cluster), 0);
    CHECK_INT(seen.exits, exits);
    pando_cluster_free(cluster);
}

static void stop(pando_cluster *cluster) { CHECK_INT(pando_disconnect(cluster, NULL, NULL), 0); }

// ---- errors of bind arrive in the worker: its exit code is the errno

static int exit_with_errno(int argc, char **argv) {
    (void)argc, (void)argv;
    int fd = plain_listen(scene_address());
    return fd < 0 ? -fd : 0;
}

static int exit_with_errno_channel(int argc, char **argv) {
    (void)argc, (void)argv;
    pando_self *self;
    struct pando_error error = {0};
    if (pando_self_open(&self, NULL, &error) != 0) return 200;
    int fd = pando_self_listen(self, scene_address(), 0, &error);
    if (fd < 0 && (error.code != -fd || strstr(error.text, scene_address()) == NULL)) return 201;
    pando_self_close(self);
    return fd < 0 ? -fd : 0;
}

// ---- eaddrinuse, ipc-throw: the port is the primary's own; trying again later is possible

static void in_use_primary(int argc, char **argv) {
    pando_cluster *cluster = watched(argc, argv);
    int own = plain_listen(scene_address());
    CHECK(own >= 0);
    CHECK(pando_fork(cluster, NULL) != NULL);
    CHECK_INT(pando_cluster_run(cluster), 0);
    CHECK_INT(seen.codes[0], EADDRINUSE);
    close(own);
    CHECK(pando_fork(cluster, NULL) != NULL);
    end(cluster, 2);
    CHECK_INT(seen.codes[1], 0);
}

static void in_use_none_primary(int argc, char **argv) {
    setenv("PANDO_POLICY", "none", 1);
    in_use_primary(argc, argv);
}

// ---- eaccess

static void unix_denied_primary(int argc, char **argv) {
    char folder[] = "/tmp/pando-scene-XXXXXX", address[128];
    CHECK(mkdtemp(folder) != NULL);
    snprintf(address, sizeof address, "unix:%s/sock", folder);
    setenv("SCENE_ADDRESS", address, 1);
    pando_cluster *cluster = watched(argc, argv);
    if (geteuid() == 0) {
        CHECK_INT(pando_setup(cluster, &(struct pando_settings){.set_user = true, .uid = 65534, .gid = 65534, .cwd = "/"}), 0);
        CHECK(chmod(folder, 0755) == 0);
    } else {
        CHECK(chmod(folder, 0500) == 0);
    }
    CHECK(pando_fork(cluster, NULL) != NULL);
    end(cluster, 1);
    CHECK_INT(seen.codes[0], EACCES);
    rmdir(folder);
}

// ---- bind-privileged-port

static bool low_ports_are_free(void) {
    int first = 1024;
    FILE *file = fopen("/proc/sys/net/ipv4/ip_unprivileged_port_start", "r");
    if (file == NULL) return false;
    int got = fscanf(file, "%d", &first);
    fclose(file);
    return got == 1 && first <= 81;
}

static void privileged_primary(int argc, char **argv) {
    char address[64];
    snprintf(address, sizeof address, "%.*s:81", (int)(strrchr(scene_address(), ':') - scene_address()), scene_address());
    setenv("SCENE_ADDRESS", address, 1);
    if (low_ports_are_free()) scene_skip("ip_unprivileged_port_start allows everybody every port here");
    if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0)) scene_skip("this root may not become an ordinary user");
    pando_cluster *cluster = watched(argc, argv);
    CHECK(pando_fork(cluster, NULL) != NULL);
    CHECK_INT(pando_cluster_run(cluster), 0);
    CHECK_INT(seen.codes[0], EACCES);
    end(cluster, 1);
}

static void privileged_none_primary(int argc, char **argv) {
    setenv("PANDO_POLICY", "none", 1);
    privileged_primary(argc, argv);
}

// ---- bind-twice: two clusters on one port; the second hears EADDRINUSE

static pando_cluster *second;
static void start_second(pando_cluster *cluster, pando_worker *worker, const struct pando_listening *at, void *arg) {
    (void)cluster, (void)worker, (void)at, (void)arg;
    CHECK(pando_fork(second, (char *[]){"SCENE_SECOND=1", NULL}) != NULL);
}

static void second_exit(pando_cluster *cluster, pando_worker *worker, int code, int signo, void *arg) {
    (void)cluster, (void)worker, (void)signo;
    seen.messages = code;
    stop(arg);
}

static void twice_primary(int argc, char **argv) {
    uv_loop_t loop;
    uv_loop_init(&loop);
    pando_cluster_options options = {.argc = argc, .argv = argv, .loop = &loop};
    scene_address();
    pando_cluster *first = pando_cluster_new_with(&options, NULL);
    second = pando_cluster_new_with(&options, NULL);
    CHECK(first != NULL && second != NULL);
    pando_on_listening(first, start_second, NULL);
    pando_on_exit(second, second_exit, first);
    CHECK(pando_fork(first, NULL) != NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    CHECK_INT(seen.messages, EADDRINUSE);
    pando_cluster_free(first);
    pando_cluster_free(second);
    CHECK_INT(uv_run(&loop, UV_RUN_DEFAULT), 0);
    CHECK_INT(uv_loop_close(&loop), 0);
}

static int serve_or_errno(int argc, char **argv) {
    return getenv("SCENE_SECOND") != NULL ? exit_with_errno(argc, argv) : serve_pids(argc, argv);
}

// ---- listening-port: also for port 0 the event has the number; over the channel it is the same one in all workers

static void ask_ports(pando_cluster *cluster) {
    char address[64];
    (void)cluster;
    for (int i = 0; i < seen.listening; i++) {
        snprintf(address, sizeof address, "127.0.0.1:%d", seen.ports[i]);
        CHECK(scene_ask(address) > 0);
    }
}

static void port_listening(pando_cluster *cluster, pando_worker *worker, const struct pando_listening *at, void *arg) {
    char address[64];
    (void)worker;
    CHECK_INT(at->family, AF_INET);
    CHECK_TEXT(at->address, "127.0.0.1");
    CHECK(at->port > 0);
    snprintf(address, sizeof address, "127.0.0.1:%d", at->port);
    CHECK_TEXT(at->text, address);
    seen.ports[seen.listening++] = at->port;
    if (seen.listening == *(int *)arg) scene_in_thread(cluster, ask_ports, stop);
}

static void port_primary(int argc, char **argv) {
    int wanted = 1;
    pando_cluster *cluster = watched(argc, argv);
    pando_on_listening(cluster, port_listening, &wanted);
    CHECK(pando_fork(cluster, NULL) != NULL);
    end(cluster, 1);
}

static int port_worker(int argc, char **argv) { return (void)argc, (void)argv, serve_pids_at("127.0.0.1:0"); }

// A worker that answers on what the channel gives it, for each of `addresses`.
static uv_poll_t polls[4];
static void on_connection(uv_poll_t *poll, int status, int events) {
    uv_os_fd_t listener;
    char text[32];
    (void)status, (void)events;
    uv_fileno((uv_handle_t *)poll, &listener);
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0) return;
    int len = snprintf(text, sizeof text, "%d\n", (int)getpid());
    if (send(fd, text, (size_t)len, MSG_NOSIGNAL) < 0) perror("send");
    close(fd);
}

static int listeners[4], listener_count;
static void close_all(pando_self *self, void *arg) {
    (void)arg;
    for (int i = 0; i < listener_count; i++) {
        uv_close((uv_handle_t *)&polls[i], NULL);
        close(listeners[i]);
    }
    pando_self_disconnect(self);
}

static int channel_worker(const char *const *addresses, int count) {
    uv_loop_t *loop = uv_default_loop();
    struct pando_error error = {0};
    pando_self *self;
    if (pando_self_open(&self, &(struct pando_self_options){.loop = loop, .on_draining = close_all}, &error) != 0) return 200;
    for (int i = 0; i < count; i++) {
        listeners[i] = pando_self_listen(self, addresses[i], 0, &error);
        if (listeners[i] < 0) return fprintf(stderr, "%s\n", error.text), -listeners[i];
        listener_count++;
        uv_poll_init(loop, &polls[i], listeners[i]);
        uv_poll_start(&polls[i], UV_READABLE, on_connection);
    }
    uv_run(loop, UV_RUN_DEFAULT);
    pando_self_close(self);
    uv_run(loop, UV_RUN_DEFAULT);
    uv_loop_close(loop);
    return 0;
}

static int zeroes_worker(int argc, char **argv) {
    (void)argc, (void)argv;
    return channel_worker((const char *[]){"127.0.0.1:0", "127.0.0.1:0"}, 2);
}

static void zeroes_primary(int argc, char **argv) {
    int wanted = 4;
    pando_cluster *cluster = watched(argc, argv);
    pando_on_listening(cluster, port_listening, &wanted);
    CHECK(pando_fork(cluster, NULL) != NULL);
    CHECK(pando_fork(cluster, NULL) != NULL);
    end(cluster, 2);
    int different = 0, ports[4];
    for (int i = 0; i < 4; i++) {
        bool known = false;
        for (int k = 0; k < different; k++) known = known || ports[k] == seen.ports[i];
        if (!known) ports[different++] = seen.ports[i];
    }
    CHECK_INT(different, 2);
    CHECK(seen.codes[0] == 0 && seen.codes[1] == 0);
}

// ---- all workers answer on one port; a successor too

enum { WORKERS = 3 };
static pid_t asked[WORKERS + 1];
static int asked_count;

static void ask_until_all(pando_cluster *cluster) {
    bool answered[WORKERS] = {false};
    (void)cluster;
    for (int i = 0, left = WORKERS; left > 0; i++) {
        CHECK(i < 20000);
        int pid = scene_ask(scene_address());
        CHECK(pid > 0);
        for (int k = 0; k < WORKERS; k++)
            if (asked[k] == pid && !answered[k]) answered[k] = true, left--;
    }
}

static void all_answered(pando_cluster *cluster) {
    if (seen.listening == WORKERS)
        CHECK_INT(pando_worker_kill(pando_worker_next(cluster, NULL), SIGKILL), 0);
    else
        stop(cluster);
}

static void shared_listening(pando_cluster *cluster, pando_worker *worker, const struct pando_listening *at, void *arg) {
    (void)worker, (void)arg;
    CHECK_TEXT(at->text, scene_address());
    if (++seen.listening < WORKERS) return;
    asked_count = 0;
    for (pando_worker *each = NULL; (each = pando_worker_next(cluster, each)) != NULL;) asked[asked_count++] = pando_worker_pid(each);
    CHECK_INT(asked_count, WORKERS);
    scene_in_thread(cluster, ask_until_all, all_answered);
}

static void shared_exit(pando_cluster *cluster, pando_worker *worker, int code, int signo, void *arg) {
    on_worker_exit(cluster, worker, code, signo, arg);
    if (seen.exits == 1) CHECK(pando_fork(cluster, NULL) != NULL);
}

static void shared_primary(int argc, char **argv) {
    pando_cluster *cluster = watched(argc, argv);
    pando_on_listening(cluster, shared_listening, NULL);
    pando_on_exit(cluster, shared_exit, NULL);
    for (int i = 0; i < WORKERS; i++) CHECK(pando_fork(cluster, NULL) != NULL);
    end(cluster, WORKERS + 1);
    CHECK_INT(scene_ask(scene_address()), -ECONNREFUSED);
}

static void shared_none_primary(int argc, char **argv) {
    setenv("PANDO_POLICY", "none", 1);
    shared_primary(argc, argv);
}

static int shared_channel_worker(int argc, char **argv) {
    (void)argc, (void)argv;
    return channel_worker((const char *[]){scene_address()}, 1);
}

// ---- port-reuse-between-workers: twice in one worker fails, the others are not affected

static int duplicate_worker(int argc, char **argv) {
    (void)argc, (void)argv;
    pando_self *self;
    if (pando_self_open(&self, NULL, NULL) != 0) return 200;
    int first = plain_listen(scene_address());
    if (first < 0 || plain_listen(scene_address()) != -EADDRINUSE) return 100;
    if (pando_self_send(self, "tried", 5, -1) != 0) return 201;
    answer_forever(first);
    return 0;
}

static int duplicate_channel_worker(int argc, char **argv) {
    (void)argc, (void)argv;
    pando_self *self;
    struct pando_error error = {0};
    if (pando_self_open(&self, NULL, NULL) != 0) return 200;
    int first = pando_self_listen(self, scene_address(), 0, &error);
    if (first < 0 || pando_self_listen(self, scene_address(), 0, &error) != -EADDRINUSE || error.code != EADDRINUSE) return 100;
    if (pando_self_send(self, "tried", 5, -1) != 0) return 201;
    answer_forever(first);
    return 0;
}

static void ask_often(pando_cluster *cluster) {
    (void)cluster;
    for (int i = 0; i < 20; i++) CHECK(scene_ask(scene_address()) > 0);
}

static void kill_all(pando_cluster *cluster) {
    for (pando_worker *each = NULL; (each = pando_worker_next(cluster, each)) != NULL;) CHECK_INT(pando_worker_kill(each, SIGTERM), 0);
}

static void duplicate_message(pando_cluster *cluster, pando_worker *worker, struct pando_message *message, void *arg) {
    (void)worker, (void)message, (void)arg;
    if (++seen.messages == 2) scene_in_thread(cluster, ask_often, kill_all);
}

static void duplicate_primary(int argc, char **argv) {
    pando_cluster *cluster = watched(argc, argv);
    pando_on_message(cluster, duplicate_message, NULL);
    for (int i = 0; i < 2; i++) CHECK(pando_fork(cluster, NULL) != NULL);
    end(cluster, 2);
    CHECK(seen.codes[0] == -1 && seen.codes[1] == -1);
}

// ---- server-restart: a worker closes and listens on the same port again, also after another one died

static int restart_worker(int argc, char **argv) {
    (void)argc, (void)argv;
    for (int i = 0; i < 3; i++) {
        int fd = plain_listen(scene_address());
        if (fd < 0) return -fd;
        close(fd);
    }
    return serve_pids(argc, argv);
}

static int restart_channel_worker(int argc, char **argv) {
    (void)argc, (void)argv;
    pando_self *self;
    if (pando_self_open(&self, NULL, NULL) != 0) return 200;
    for (int i = 0; i < 4; i++) {
        int fd = pando_self_listen(self, scene_address(), 0, NULL);
        if (fd < 0) return -fd;
        if (i == 3) answer_forever(fd);
        close(fd);
    }
    return 0;
}

static void restart_listening(pando_cluster *cluster, pando_worker *worker, const struct pando_listening *at, void *arg) {
    (void)worker, (void)at, (void)arg, (void)cluster;
    if (++seen.listening == 4) CHECK_INT(pando_worker_kill(worker, SIGKILL), 0);
    if (seen.listening < 8) return;
    for (int i = 0; i < 10; i++) CHECK_INT(scene_ask(scene_address()), pando_worker_pid(worker));
    CHECK_INT(pando_worker_kill(worker, SIGKILL), 0);
}

static void restart_exit(pando_cluster *cluster, pando_worker *worker, int code, int signo, void *arg) {
    on_worker_exit(cluster, worker, code, signo, arg);
    CHECK_INT(signo, SIGKILL);
    if (seen.exits == 1) CHECK(pando_fork(cluster, NULL) != NULL);
}

static void restart_primary(int argc, char **argv) {
    pando_cluster *cluster = watched(argc, argv);
    pando_on_listening(cluster, restart_listening, NULL);
    pando_on_exit(cluster, restart_exit, NULL);
    CHECK(pando_fork(cluster, NULL) != NULL);
    end(cluster, 2);
}

static void restart_none_primary(int argc, char **argv) {
    setenv("PANDO_POLICY", "none", 1);
    restart_primary(argc, argv);
}

// ---- a container as it comes: workers of another user, and no right to look into them

static bool nobody_may_run_this(void) {
    int status;
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        bool may = setgroups(0, NULL) == 0 && setgid(65534) == 0 && setuid(65534) == 0 && access("/proc/self/exe", X_OK) == 0;
        char path[4096] = "";
        ssize_t len = readlink("/proc/self/exe", path, sizeof path - 1);
        _exit(may && len > 0 && access(path, X_OK) == 0 ? 0 : 1);
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    return status == 0;
}

static void drop_ptrace(void) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    CHECK(syscall(SYS_capget, &header, data) == 0);
    unsigned bit = 1u << CAP_SYS_PTRACE;
    data[0].effective &= ~bit;
    data[0].permitted &= ~bit;
    data[0].inheritable &= ~bit;
    CHECK(syscall(SYS_capset, &header, data) == 0);
}

static void container_primary(int argc, char **argv) {
    if (geteuid() != 0) scene_skip("only root can change the user");
    if (!nobody_may_run_this()) scene_skip("user 65534 may not run this file");
    drop_ptrace();
    pando_cluster *cluster = watched(argc, argv);
    pando_on_listening(cluster, shared_listening, NULL);
    pando_on_exit(cluster, shared_exit, NULL);
    CHECK_INT(pando_setup(cluster, &(struct pando_settings){.set_user = true, .uid = 65534, .gid = 65534}), 0);
    for (int i = 0; i < WORKERS; i++) CHECK(pando_fork(cluster, NULL) != NULL);
    end(cluster, WORKERS + 1);
}

// ---- net-listen: listen without an address: a port that the system chooses, on all of them

static int unbound_worker(int argc, char **argv) {
    (void)argc, (void)argv;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || listen(fd, 511) != 0) return 100;
    answer_forever(fd);
    return 0;
}

static void unbound_listening(pando_cluster *cluster, pando_worker *worker, const struct pando_listening *at, void *arg) {
    (void)worker, (void)arg;
    CHECK_INT(at->family, AF_INET);
    CHECK_TEXT(at->address, "0.0.0.0");
    CHECK(at->port > 0);
    seen.ports[seen.listening++] = at->port;
    scene_in_thread(cluster, ask_ports, kill_all);
}

static void unbound_primary(int argc, char **argv) {
    pando_cluster *cluster = watched(argc, argv);
    pando_on_listening(cluster, unbound_listening, NULL);
    CHECK(pando_fork(cluster, NULL) != NULL);
    end(cluster, 1);
}

// ---- scheduling policies: exact turns and one worker a client, where the kernel can; else the first fork says why it cannot

static pid_t policy_pids[WORKERS];
static enum pando_policy policy;

static bool asked_by_policy(void) {
    int who[10 * WORKERS];
    bool kept = true;
    for (int i = 0; i < 10 * WORKERS; i++) {
        int pid = scene_ask(scene_address());
        for (who[i] = 0; who[i] < WORKERS && policy_pids[who[i]] != pid;) who[i]++;
        CHECK(who[i] < WORKERS);
        for (int before = 1; before <= WORKERS && before <= i; before++)
            kept = kept && (who[i] == who[i - before]) == (policy != PANDO_SCHED_RR || before == WORKERS);
    }
    return kept;
}

// A worker that gets no processor for some milliseconds loses what waits for it to another, whatever the policy: then once more.
static void ask_by_policy(pando_cluster *cluster) {
    bool kept = false;
    (void)cluster;
    for (int i = 0; i < 20 && !kept; i++) kept = asked_by_policy();
    CHECK(kept);
}

static void policy_listening(pando_cluster *cluster, pando_worker *worker, const struct pando_listening *at, void *arg) {
    (void)at, (void)arg;
    policy_pids[seen.listening++] = pando_worker_pid(worker);
    if (seen.listening == WORKERS) scene_in_thread(cluster, ask_by_policy, kill_all);
}

static void by_policy(int argc, char **argv, enum pando_policy wanted) {
    pando_cluster *cluster = watched(argc, argv);
    policy = wanted;
    pando_on_listening(cluster, policy_listening, NULL);
    CHECK_INT(pando_set_policy(cluster, wanted), 0);
    if (pando_fork(cluster, NULL) == NULL) {
        CHECK_INT(errno, ENOTSUP);
        CHECK(strstr(pando_cluster_error(cluster)->text, "slot mode") != NULL);
        printf("the kernel's steering is not to be had here: %s\n", pando_cluster_error(cluster)->text);
        pando_cluster_free(cluster);
        return;
    }
    for (int i = 1; i < WORKERS; i++) CHECK(pando_fork(cluster, NULL) != NULL);
    end(cluster, WORKERS);
}

static void rr_primary(int argc, char **argv) { by_policy(argc, argv, PANDO_SCHED_RR); }

static void sticky_primary(int argc, char **argv) {
    pando_cluster *cluster = scene_cluster(argc, argv);
    CHECK_INT(pando_set_policy(cluster, PANDO_SCHED_RR), 0);
    if (pando_fork(cluster, NULL) == NULL) scene_skip(pando_cluster_error(cluster)->text);
    pando_cluster_free(cluster);
    by_policy(argc, argv, PANDO_SCHED_STICKY);
}

// ---- net-listen: dual stack, v6 only, relative path, backlog

static bool has_ipv6(void) {
    int fd = scene_connect("[::1]:9");  // refused, or there is no IPv6
    if (fd >= 0) close(fd);
    return fd == -ECONNREFUSED || fd >= 0;
}

static void dual_listening(pando_cluster *cluster, pando_worker *worker, const struct pando_listening *at, void *arg) {
    char address[64];
    (void)arg, (void)worker;
    CHECK_INT(at->family, AF_INET6);
    snprintf(address, sizeof address, "127.0.0.1:%d", at->port);
    CHECK(scene_ask(address) > 0);
    snprintf(address, sizeof address, "[::1]:%d", at->port);
    CHECK(scene_ask(address) > 0);
    if (++seen.listening == 2) stop(cluster);
}

static void dual_primary(int argc, char **argv) {
    if (!has_ipv6()) scene_skip("no IPv6 here");
    pando_cluster *cluster = watched(argc, argv);
    pando_on_listening(cluster, dual_listening, NULL);
    for (int i = 0; i < 2; i++) CHECK(pando_fork(cluster, NULL) != NULL);
    end(cluster, 2);
    CHECK(seen.codes[0] == 0 && seen.codes[1] == 0);
}

static int dual_worker(int argc, char **argv) { return (void)argc, (void)argv, channel_worker((const char *[]){"0"}, 1); }

static void v6only_listening(pando_cluster *cluster, pando_worker *worker, const struct pando_listening *at, void *arg) {
    char address[64];
    (void)arg, (void)worker;
    CHECK_INT(at->family, AF_INET6);
    snprintf(address, sizeof address, "127.0.0.1:%d", at->port);
    CHECK_INT(scene_ask(address), -ECONNREFUSED);
    snprintf(address, sizeof address, "[::1]:%d", at->port);
    CHECK(scene_ask(address) > 0);
    if (++seen.listening == 2) stop(cluster);
}

static void v6only_primary(int argc, char **argv) {
    if (!has_ipv6()) scene_skip("no IPv6 here");
    pando_cluster *cluster = watched(argc, argv);
    pando_on_listening(cluster, v6only_listening, NULL);
    for (int i = 0; i < 2; i++) CHECK(pando_fork(cluster, NULL) != NULL);
    end(cluster, 2);
    CHECK(seen.codes[0] == 0 && seen.codes[1] == 0);
}

static void v6only_none_primary(int argc, char **argv) {
    setenv("PANDO_POLICY", "none", 1);
    v6only_primary(argc, argv);
}

static int v6only_worker(int argc, char **argv) { return (void)argc, (void)argv, channel_worker((const char *[]){"[::]:0"}, 1); }

static int connect_unix(const char *path) {
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    char text[32] = "";
    snprintf(at.sun_path, sizeof at.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    if (connect(fd, (struct sockaddr *)&at, sizeof at) != 0) return close(fd), -errno;
    ssize_t n = recv(fd, text, sizeof text - 1, 0);
    close(fd);
    return n > 0 ? atoi(text) : -ECONNRESET;
}

static void path_listening(pando_cluster *cluster, pando_worker *worker, const struct pando_listening *at, void *arg) {
    (void)worker;
    CHECK_INT(at->family, AF_UNIX);
    CHECK_INT(at->port, -1);
    CHECK_TEXT(at->text, arg);
    CHECK(connect_unix(arg) > 0);
    if (++seen.listening == 2) stop(cluster);
}

static void path_primary(int argc, char **argv) {
    char folder[] = "/tmp/pando-scene-XXXXXX", path[128];
    CHECK(mkdtemp(folder) != NULL);
    snprintf(path, sizeof path, "%s/app.sock", folder);
    pando_cluster *cluster = watched(argc, argv);
    CHECK_INT(pando_setup(cluster, &(struct pando_settings){.cwd = folder}), 0);
    pando_on_listening(cluster, path_listening, path);
    for (int i = 0; i < 2; i++) CHECK(pando_fork(cluster, NULL) != NULL);
    end(cluster, 2);
    CHECK(seen.codes[0] == 0 && seen.codes[1] == 0);
    unlink(path);
    CHECK(rmdir(folder) == 0);  // and nothing else is in it
}

static int path_worker(int argc, char **argv) { return (void)argc, (void)argv, channel_worker((const char *[]){"unix:app.sock"}, 1); }

// Nobody accepts: so many wait in the queue as were asked for, and no connection is refused.
static int queued[600];
static void backlog_listening(pando_cluster *cluster, pando_worker *worker, const struct pando_listening *at, void *arg) {
    (void)at, (void)arg, (void)cluster;
    int wanted = 300, limit = 128;
    FILE *file = fopen("/proc/sys/net/core/somaxconn", "r");
    if (file != NULL && fscanf(file, "%d", &limit) == 1 && limit < wanted) wanted = limit;
    if (file != NULL) fclose(file);
    for (int i = 0; i < wanted; i++) CHECK((queued[i] = scene_connect(scene_address())) >= 0);
    for (int i = 0; i < wanted; i++) close(queued[i]);
    CHECK_INT(pando_worker_kill(worker, SIGKILL), 0);
}

static void backlog_primary(int argc, char **argv) {
    pando_cluster *cluster = watched(argc, argv);
    pando_on_listening(cluster, backlog_listening, NULL);
    CHECK(pando_fork(cluster, NULL) != NULL);
    end(cluster, 1);
}

static int backlog_worker(int argc, char **argv) {
    (void)argc, (void)argv;
    pando_self *self;
    if (pando_self_open(&self, NULL, NULL) != 0 || pando_self_listen(self, scene_address(), 300, NULL) < 0) return 1;
    for (;;) pause();
}

// ---- net-server-drop-connection: what one worker has no room for, another takes

static int held[4], held_pids[4];

static int worker_of_connection(int fd) {
    static const char request[] = "GET / HTTP/1.1\r\nHost: scene\r\n\r\n";
    char text[512];
    int pid = -1;
    CHECK(send(fd, request, sizeof request - 1, MSG_NOSIGNAL) > 0);
    ssize_t n = recv(fd, text, sizeof text - 1, 0);
    CHECK(n > 0);
    text[n] = '\0';
    const char *header = strstr(text, "X-Pid: ");
    CHECK(header != NULL && sscanf(header, "X-Pid: %d", &pid) == 1);
    return pid;
}

static void take_all_room(pando_cluster *cluster) {
    (void)cluster;
    for (int i = 0; i < 4; i++) {  // each worker has room for one
        held[i] = scene_connect(scene_address());
        CHECK(held[i] >= 0);
        held_pids[i] = worker_of_connection(held[i]);
        for (int k = 0; k < i; k++) CHECK(held_pids[k] != held_pids[i]);
    }
    int late = scene_connect(scene_address());  // waits until one has
    CHECK(late >= 0);
    close(held[2]);
    CHECK_INT(worker_of_connection(late), held_pids[2]);
    close(late);
    for (int i = 0; i < 4; i++)
        if (i != 2) close(held[i]);
}

static void room_listening(pando_cluster *cluster, pando_worker *worker, const struct pando_listening *at, void *arg) {
    (void)worker, (void)at, (void)arg;
    if (++seen.listening == 4) scene_in_thread(cluster, take_all_room, stop);
}

static void room_primary(int argc, char **argv) {
    pando_cluster *cluster = watched(argc, argv);
    pando_on_listening(cluster, room_listening, NULL);
    for (int i = 0; i < 4; i++) CHECK(pando_fork(cluster, NULL) != NULL);
    end(cluster, 4);
    for (int i = 0; i < 4; i++) CHECK_INT(seen.codes[i], 0);
}

static void say_pid(pando_exchange *exchange, void *arg) {
    char text[32];
    snprintf(text, sizeof text, "%d", (int)getpid());
    pando_exchange_set_status(exchange, 200, NULL);
    pando_exchange_add_header(exchange, PANDO_STR("X-Pid"), pando_str_of(text));
    pando_exchange_end(exchange, NULL, 0);
    (void)arg;
}

static int room_worker(int argc, char **argv) {
    uv_loop_t *loop = uv_default_loop();
    struct pando_error error = {0};
    pando_self *self;
    (void)argc, (void)argv;
    pando_server *server =
        pando_server_new(&(struct pando_server_options){.on_request = say_pid, .loop = loop, .max_connections = 1}, &error);
    if (server == NULL || pando_self_open(&self, &(struct pando_self_options){.loop = loop}, &error) != 0) return 101;
    if (pando_self_serve(self, server, scene_address(), 60000, &error) != 0) return 102;
    pando_server_run(server, false);
    pando_self_close(self);
    pando_server_free(server);
    uv_loop_close(loop);
    return 0;
}

// ---- shared-leak: a worker that dies in mid-connection leaks nothing in the primary

static void leak_listening(pando_cluster *cluster, pando_worker *worker, const struct pando_listening *at, void *arg) {
    (void)cluster, (void)at, (void)arg;
    char byte;
    int fd = scene_connect(scene_address());
    CHECK(fd >= 0);
    CHECK_INT(recv(fd, &byte, 1, 0), 1);
    CHECK_INT(pando_worker_kill(worker, SIGKILL), 0);
    if (recv(fd, &byte, 1, 0) < 0) CHECK_INT(errno, ECONNRESET);
    close(fd);
}

static void leak_exit(pando_cluster *cluster, pando_worker *worker, int code, int signo, void *arg) {
    static int fds;
    on_worker_exit(cluster, worker, code, signo, arg);
    if (seen.exits == 4) fds = scene_open_fds();
    if (seen.exits > 4) CHECK_INT(scene_open_fds(), fds);
    if (seen.exits < 10) CHECK(pando_fork(cluster, NULL) != NULL);
}

static void leak_primary(int argc, char **argv) {
    pando_cluster *cluster = watched(argc, argv);
    pando_on_listening(cluster, leak_listening, NULL);
    pando_on_exit(cluster, leak_exit, NULL);
    CHECK(pando_fork(cluster, NULL) != NULL);
    end(cluster, 10);
}

static int accept_and_hold(int argc, char **argv) {
    (void)argc, (void)argv;
    int listener = plain_listen(scene_address());
    for (;;) {
        fcntl(listener, F_SETFL, fcntl(listener, F_GETFL) & ~O_NONBLOCK);
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0 || send(fd, "x", 1, MSG_NOSIGNAL) != 1) return 1;
    }
}

// ---- accept-fail: a worker that has no descriptor left does not harm the others

static void starved_listening(pando_cluster *cluster, pando_worker *worker, const struct pando_listening *at, void *arg) {
    (void)worker, (void)at, (void)arg;
    if (++seen.listening == 2) scene_in_thread(cluster, ask_often, kill_all);
}

static void starved_primary(int argc, char **argv) {
    setenv("PANDO_POLICY", "none", 1);  // whoever can take it does
    pando_cluster *cluster = watched(argc, argv);
    pando_on_listening(cluster, starved_listening, NULL);
    CHECK(pando_fork(cluster, (char *[]){"SCENE_STARVED=1", NULL}) != NULL);
    CHECK(pando_fork(cluster, NULL) != NULL);
    end(cluster, 2);
}

static int starved_worker(int argc, char **argv) {
    (void)argc, (void)argv;
    int listener = plain_listen(scene_address());
    if (listener < 0) return 1;
    struct rlimit none = {.rlim_cur = 3, .rlim_max = 3};
    if (getenv("SCENE_STARVED") != NULL) setrlimit(RLIMIT_NOFILE, &none);
    answer_forever(listener);
    return 0;
}

// ---- listen-fd-cluster: a listening descriptor of the primary's is used by workers

static void fd_listening_message(pando_cluster *cluster, pando_worker *worker, struct pando_message *message, void *arg) {
    (void)worker, (void)message, (void)arg;
    if (++seen.messages == 2) scene_in_thread(cluster, ask_often, kill_all);
}

static void fd_primary(int argc, char **argv) {
    char entry[32];
    pando_cluster *cluster = watched(argc, argv);
    int fd = plain_listen(scene_address());
    CHECK(fd >= 0);
    snprintf(entry, sizeof entry, "SCENE_FD=fd:%d", fd);
    pando_on_message(cluster, fd_listening_message, NULL);
    for (int i = 0; i < 2; i++) CHECK(pando_fork(cluster, (char *[]){entry, NULL}) != NULL);
    end(cluster, 2);
    close(fd);
}

static int fd_worker(int argc, char **argv) {
    (void)argc, (void)argv;
    pando_self *self;
    if (pando_self_open(&self, NULL, NULL) != 0) return 200;
    if (pando_self_listen(self, "fd:9999", 0, NULL) != -EBADF) return 201;
    int fd = pando_self_listen(self, getenv("SCENE_FD"), 0, NULL);
    if (fd < 0) return -fd;
    pando_self_send(self, "listening", 9, -1);
    answer_forever(fd);
    return 0;
}

const struct scene scenes_listen[] = {
    {"eaddrinuse", in_use_primary, exit_with_errno},
    {"ipc_throw", in_use_primary, exit_with_errno_channel},
    {"shared_handle_bind_error", in_use_none_primary, exit_with_errno_channel},
    {"eaccess", unix_denied_primary, exit_with_errno_channel},
    {"bind_privileged_port", privileged_primary, exit_with_errno},
    {"shared_handle_bind_privileged_port", privileged_none_primary, exit_with_errno_channel},
    {"bind_twice", twice_primary, serve_or_errno},
    {"listening_port", port_primary, port_worker},
    {"listening_port_zero_is_shared", zeroes_primary, zeroes_worker},
    {"shared_port", shared_primary, NULL},
    {"shared_port_none", shared_none_primary, NULL},
    {"shared_port_over_the_channel", shared_primary, shared_channel_worker},
    {"shared_port_over_the_channel_none", shared_none_primary, shared_channel_worker},
    {"shared_port_of_another_user", container_primary, NULL},
    {"port_reuse_between_workers", duplicate_primary, duplicate_worker},
    {"port_reuse_between_workers_over_the_channel", duplicate_primary, duplicate_channel_worker},
    {"server_restart", restart_primary, restart_worker},
    {"server_restart_none", restart_none_primary, restart_worker},
    {"server_restart_over_the_channel", restart_primary, restart_channel_worker},
    {"net_listen", unbound_primary, unbound_worker},
    {"scheduling_policy_rr", rr_primary, NULL},
    {"scheduling_policy_sticky", sticky_primary, NULL},
    {"net_listen_ipv6only_false", dual_primary, dual_worker},
    {"net_listen_ipv6only", v6only_primary, v6only_worker},
    {"net_listen_ipv6only_none", v6only_none_primary, v6only_worker},
    {"net_listen_relative_path", path_primary, path_worker},
    {"net_listen_backlog", backlog_primary, backlog_worker},
    {"net_server_drop_connection", room_primary, room_worker},
    {"shared_leak", leak_primary, accept_and_hold},
    {"accept_fail", starved_primary, starved_worker},
    {"listen_fd_cluster", fd_primary, fd_worker},
};
const size_t scenes_listen_count = SCENE_COUNT(scenes_listen);
