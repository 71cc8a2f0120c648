// SPDX-License-Identifier: MIT
// What a worker is, how it comes and goes.
#include "scene.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

// ---- basic: flags, events and settings are right in both roles

static struct {
    int setup, fork, online, listening, disconnect, exit;
    uint64_t id;
} basic;

static void basic_setup(pando_cluster *cluster, const struct pando_settings *settings, void *arg) {
    CHECK(settings == pando_cluster_settings(cluster));
    CHECK(arg == &basic);
    basic.setup++;
}

static void basic_fork(pando_cluster *cluster, pando_worker *worker, void *arg) {
    CHECK(arg == &basic && basic.setup == 1 && basic.online == 0);
    CHECK(pando_worker_get(cluster, pando_worker_id(worker)) == worker);
    CHECK_INT(pando_worker_state(worker), PANDO_WORKER_NONE);
    basic.fork++;
    basic.id = pando_worker_id(worker);
}

static void basic_online(pando_cluster *cluster, pando_worker *worker, void *arg) {
    (void)cluster, (void)arg;
    CHECK(basic.fork == 1 && basic.listening == 0);
    CHECK_INT(pando_worker_id(worker), basic.id);
    CHECK_INT(pando_worker_state(worker), PANDO_WORKER_ONLINE);
    basic.online++;
}

static void basic_listening(pando_cluster *cluster, pando_worker *worker, const struct pando_listening *at, void *arg) {
    (void)cluster, (void)arg;
    CHECK(basic.online == 1);
    CHECK_INT(pando_worker_state(worker), PANDO_WORKER_LISTENING);
    CHECK_TEXT(at->text, scene_address());
    CHECK_INT(at->port, 7000);
    CHECK(pando_worker_is_connected(worker) && !pando_worker_is_dead(worker));
    CHECK_INT(scene_ask(scene_address()), pando_worker_pid(worker));
    basic.listening++;
    CHECK_INT(pando_worker_kill(worker, 0), 0);
}

static void basic_disconnect(pando_cluster *cluster, pando_worker *worker, void *arg) {
    (void)cluster, (void)arg;
    CHECK(!pando_worker_is_connected(worker));
    basic.disconnect++;
}

static void basic_exit(pando_cluster *cluster, pando_worker *worker, int code, int signo, void *arg) {
    (void)arg;
    CHECK_INT(code, -1);
    CHECK_INT(signo, SIGTERM);
    CHECK(pando_worker_is_dead(worker) && !pando_worker_is_connected(worker));
    CHECK_INT(pando_worker_state(worker), PANDO_WORKER_DEAD);
    CHECK_INT(pando_worker_exited_after_disconnect(worker), PANDO_VOLUNTARY_NO);
    if (basic.disconnect == 1) CHECK(pando_worker_get(cluster, basic.id) == NULL);
    basic.exit++;
}

static void basic_primary(int argc, char **argv) {
    CHECK(pando_is_primary() && !pando_is_worker());
    CHECK_INT(pando_self_slot(), -1);
    CHECK_INT(pando_self_id(), 0);
    scene_address();
    pando_cluster *cluster = scene_cluster(argc, argv);
    CHECK(pando_worker_next(cluster, NULL) == NULL);
    CHECK_INT(pando_cluster_policy(cluster), PANDO_SCHED_AUTO);
    pando_on_setup(cluster, basic_setup, &basic);
    pando_on_fork(cluster, basic_fork, &basic);
    pando_on_online(cluster, basic_online, &basic);
    pando_on_listening(cluster, basic_listening, &basic);
    pando_on_disconnect(cluster, basic_disconnect, &basic);
    pando_on_exit(cluster, basic_exit, &basic);
    CHECK_INT(pando_setup(cluster, NULL), 0);
    CHECK_INT(basic.setup, 0);
    pando_worker *worker = pando_fork(cluster, NULL);
    CHECK(worker != NULL && basic.fork == 0);
    CHECK_INT(pando_worker_id(worker), 1);
    CHECK_INT(pando_set_policy(cluster, PANDO_SCHED_RANDOM), -EBUSY);
    CHECK_INT(pando_cluster_run(cluster), 0);
    CHECK(basic.setup == 1 && basic.fork == 1 && basic.online == 1 && basic.listening == 1 && basic.disconnect == 1 && basic.exit == 1);
    CHECK_INT(pando_worker_count(cluster), 0);
    pando_cluster_free(cluster);
}

static int basic_worker(int argc, char **argv) {
    if (pando_is_primary() || !pando_is_worker() || pando_self_slot() != 0 || pando_self_id() != 1) return 101;
    if (pando_self_count() != 1 || pando_self_generation() != 1) return 102;
    return serve_pids(argc, argv);
}

// ---- exits

static struct {
    int exits, code, signal, disconnects;
    enum pando_voluntary voluntary;
} end;

static void note_exit(pando_cluster *cluster, pando_worker *worker, int code, int signo, void *arg) {
    (void)cluster, (void)arg;
    end.exits++;
    end.code = code;
    end.signal = signo;
    end.voluntary = pando_worker_exited_after_disconnect(worker);
}

static void note_disconnect(pando_cluster *cluster, pando_worker *worker, void *arg) {
    (void)cluster, (void)arg, (void)worker;
    end.disconnects++;
}

static void run_one(pando_cluster *cluster) {
    pando_on_exit(cluster, note_exit, NULL);
    pando_on_disconnect(cluster, note_disconnect, NULL);
    CHECK(pando_fork(cluster, NULL) != NULL);
    CHECK_INT(pando_cluster_run(cluster), 0);
    CHECK_INT(end.exits, 1);
    CHECK_INT(end.disconnects, 1);
}

static void death_primary(int argc, char **argv) {
    pando_cluster *cluster = scene_cluster(argc, argv);
    run_one(cluster);
    CHECK_INT(end.code, 42);
    CHECK_INT(end.signal, 0);
    CHECK_INT(end.voluntary, PANDO_VOLUNTARY_NO);
    pando_cluster_free(cluster);
}

static int return_42(int argc, char **argv) { return (void)argc, (void)argv, 42; }

static void exit_primary(int argc, char **argv) {
    scene_address();
    death_primary(argc, argv);
    CHECK_INT(scene_ask(scene_address()), -ECONNREFUSED);
}

static int listen_and_return_42(int argc, char **argv) {
    (void)argc, (void)argv;
    return plain_listen(scene_address()) >= 0 ? 42 : 1;
}

// ---- worker-events: each once, the worker's before the cluster's

static char order[64];
static void note(char what) { order[strlen(order)] = what; }
static void own_online(pando_cluster *cluster, pando_worker *worker, void *arg) { (void)cluster, (void)worker, (void)arg, note('o'); }
static void all_online(pando_cluster *cluster, pando_worker *worker, void *arg) { (void)cluster, (void)worker, (void)arg, note('O'); }
static void all_fork(pando_cluster *cluster, pando_worker *worker, void *arg) { (void)cluster, (void)worker, (void)arg, note('F'); }
static void own_disconnect(pando_cluster *cluster, pando_worker *worker, void *arg) { (void)cluster, (void)worker, (void)arg, note('d'); }
static void all_disconnect(pando_cluster *cluster, pando_worker *worker, void *arg) { (void)cluster, (void)worker, (void)arg, note('D'); }
static void own_exit(pando_cluster *cluster, pando_worker *worker, int code, int signo, void *arg) {
    (void)cluster, (void)worker, (void)signo;
    CHECK_INT(code, 42);
    CHECK(arg == order);
    note('e');
}
static void all_exit(pando_cluster *cluster, pando_worker *worker, int code, int signo, void *arg) {
    (void)cluster, (void)worker, (void)code, (void)signo, (void)arg, note('E');
}

static void events_primary(int argc, char **argv) {
    pando_cluster *cluster = scene_cluster(argc, argv);
    pando_on_fork(cluster, all_fork, NULL);
    pando_on_online(cluster, all_online, NULL);
    pando_on_disconnect(cluster, all_disconnect, NULL);
    pando_on_exit(cluster, all_exit, NULL);
    pando_worker *worker = pando_fork(cluster, NULL);
    struct pando_worker_events events = {.on_online = own_online, .on_disconnect = own_disconnect, .on_exit = own_exit};
    CHECK_INT(pando_worker_watch(worker, &events, order), 0);
    CHECK_INT(pando_cluster_run(cluster), 0);
    if (strcmp(order, "FoOdDeE") != 0) CHECK_TEXT(order, "FoOeEdD");
    pando_cluster_free(cluster);
}

// ---- forced exit: not voluntary after a crash; voluntary after disconnect

static void crash_primary(int argc, char **argv) {
    pando_cluster *cluster = scene_cluster(argc, argv);
    run_one(cluster);
    CHECK_INT(end.signal, SIGKILL);
    CHECK_INT(end.voluntary, PANDO_VOLUNTARY_NO);
    pando_cluster_free(cluster);
}

static int kill_itself(int argc, char **argv) {
    (void)argc, (void)argv;
    kill(getpid(), SIGKILL);
    return 1;
}

static void disconnect_when_online(pando_cluster *cluster, pando_worker *worker, void *arg) {
    (void)cluster, (void)arg;
    CHECK_INT(pando_worker_exited_after_disconnect(worker), PANDO_VOLUNTARY_UNKNOWN);
    CHECK_INT(pando_worker_disconnect(worker), 0);
    CHECK_INT(pando_worker_exited_after_disconnect(worker), PANDO_VOLUNTARY_YES);
}

static void forced_exit_primary(int argc, char **argv) {
    pando_cluster *cluster = scene_cluster(argc, argv);
    pando_on_online(cluster, disconnect_when_online, NULL);
    run_one(cluster);
    CHECK_INT(end.voluntary, PANDO_VOLUNTARY_YES);
    pando_cluster_free(cluster);
}

// A worker that does nothing but read its channel.
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

// ---- predicates, before and after

static void predicates_exit(pando_cluster *cluster, pando_worker *worker, int code, int signo, void *arg) {
    CHECK(pando_worker_is_dead(worker));
    CHECK(!pando_worker_is_connected(worker));
    note_exit(cluster, worker, code, signo, arg);
}

static void predicates_primary(int argc, char **argv) {
    pando_cluster *cluster = scene_cluster(argc, argv);
    pando_worker *worker = pando_fork(cluster, NULL);
    CHECK(pando_worker_is_connected(worker) && !pando_worker_is_dead(worker));
    pando_on_online(cluster, disconnect_when_online, NULL);
    pando_on_exit(cluster, predicates_exit, NULL);
    pando_worker_hold(worker);
    CHECK_INT(pando_cluster_run(cluster), 0);
    CHECK_INT(end.exits, 1);
    CHECK(pando_worker_is_dead(worker));
    CHECK_INT(pando_worker_send(worker, "x", 1, -1), -EPIPE);
    CHECK_INT(pando_worker_disconnect(worker), -ESRCH);
    CHECK_INT(pando_worker_kill(worker, 0), -ESRCH);
    pando_worker_release(worker);
    pando_cluster_free(cluster);
}

// ---- kill

static int kill_with;

static void kill_when_online(pando_cluster *cluster, pando_worker *worker, void *arg) {
    (void)cluster, (void)arg;
    CHECK_INT(pando_worker_kill(worker, kill_with), 0);
    CHECK_INT(pando_worker_exited_after_disconnect(worker), PANDO_VOLUNTARY_UNKNOWN);
}

static void kill_by(int argc, char **argv, int signo, int wanted) {
    pando_cluster *cluster = scene_cluster(argc, argv);
    kill_with = signo;
    pando_on_online(cluster, kill_when_online, NULL);
    run_one(cluster);
    CHECK_INT(end.signal, wanted);
    CHECK_INT(end.code, -1);
    CHECK_INT(end.voluntary, PANDO_VOLUNTARY_NO);
    pando_cluster_free(cluster);
}

static void kill_primary(int argc, char **argv) { kill_by(argc, argv, 0, SIGTERM); }
static void kill_signal_primary(int argc, char **argv) { kill_by(argc, argv, SIGUSR2, SIGUSR2); }
static void kill_loop_primary(int argc, char **argv) { kill_by(argc, argv, 0, SIGTERM); }

static int spin(int argc, char **argv) {
    (void)argc, (void)argv;
    for (volatile unsigned long i = 0;; i++) continue;
    return 0;
}

// ---- a worker can message as its first action

static void first_message(pando_cluster *cluster, pando_worker *worker, struct pando_message *message, void *arg) {
    (void)arg;
    CHECK_INT(message->data.len, 5);
    CHECK(memcmp(message->data.data, "first", 5) == 0);
    CHECK(pando_worker_get(cluster, pando_worker_id(worker)) == worker);
    end.exits = 100;
}

static void init_primary(int argc, char **argv) {
    pando_cluster *cluster = scene_cluster(argc, argv);
    pando_on_message(cluster, first_message, NULL);
    CHECK(pando_fork(cluster, NULL) != NULL);
    CHECK_INT(pando_cluster_run(cluster), 0);
    CHECK_INT(end.exits, 100);
    pando_cluster_free(cluster);
}

static int send_first(int argc, char **argv) {
    pando_self *self;
    (void)argc, (void)argv;
    if (pando_self_open(&self, NULL, NULL) != 0) return 101;
    if (pando_self_send(self, "first", 5, -1) != 0) return 102;
    pando_self_close(self);
    return 0;
}

// ---- ids

static void ids_primary(int argc, char **argv) {
    pando_cluster *cluster = scene_cluster(argc, argv);
    uint64_t last = 0;
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 2; i++) {
            pando_worker *worker = pando_fork(cluster, NULL);
            CHECK(worker != NULL);
            CHECK(pando_worker_id(worker) > last);
            last = pando_worker_id(worker);
        }
        CHECK_INT(pando_worker_count(cluster), 2);
        CHECK(pando_worker_get(cluster, last - 1) == pando_worker_next(cluster, NULL));
        CHECK_INT(pando_cluster_run(cluster), 0);
        CHECK_INT(pando_worker_count(cluster), 0);
    }
    CHECK_INT(last, 6);
    pando_cluster_free(cluster);
}

// ---- the primary is killed, or ends: so do the workers

static void tell_pid(pando_cluster *cluster, pando_worker *worker, const struct pando_listening *at, void *arg) {
    (void)cluster, (void)at, (void)arg;
    printf("%d\n", (int)pando_worker_pid(worker));
    fflush(stdout);
}

static void inner_cluster(int argc, char **argv, bool survive) {
    struct pando_error error;
    pando_cluster *cluster = pando_cluster_new_with(&(pando_cluster_options){.argc = argc, .argv = argv, .survive = survive}, &error);
    CHECK(cluster != NULL);
    pando_on_listening(cluster, tell_pid, NULL);
    for (int i = 0; i < 2; i++) CHECK(pando_fork(cluster, NULL) != NULL);
    pando_cluster_run(cluster);
}

static void inner_primary(int argc, char **argv) { inner_cluster(argc, argv, false); }
static void inner_survive(int argc, char **argv) { inner_cluster(argc, argv, true); }

static void on_usr1(int signo) {
    (void)signo;
    exit(3);
}

static void inner_exits(int argc, char **argv) {
    signal(SIGUSR1, on_usr1);
    inner_cluster(argc, argv, false);
}

static pid_t start_inner(const char *name, pid_t pids[2]) {
    int ends[2];
    CHECK(pipe(ends) == 0);
    scene_address();
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        dup2(ends[1], STDOUT_FILENO);
        close(ends[0]);
        close(ends[1]);
        execl("/proc/self/exe", "scenes", name, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    FILE *out = fdopen(ends[0], "r");
    for (int i = 0; i < 2; i++) CHECK(fscanf(out, "%d", &pids[i]) == 1);
    fclose(out);
    return pid;
}

static bool is_gone(void *arg) { return kill(*(pid_t *)arg, 0) != 0 && errno == ESRCH; }
static bool port_is_closed(void *arg) { return (void)arg, scene_ask(scene_address()) == -ECONNREFUSED; }

static void end_inner(const char *name, int signo) {
    pid_t pids[2], pid = start_inner(name, pids);
    CHECK(scene_ask(scene_address()) > 0);
    CHECK_INT(kill(pid, signo), 0);
    CHECK_INT(waitpid(pid, NULL, 0), pid);
    for (int i = 0; i < 2; i++) scene_wait_until(is_gone, &pids[i]);
    scene_wait_until(port_is_closed, NULL);
}

static void primary_killed(int argc, char **argv) {
    (void)argc, (void)argv;
    end_inner("inner_primary", SIGKILL);
}

static void primary_exits(int argc, char **argv) {
    (void)argc, (void)argv;
    end_inner("inner_exits", SIGUSR1);
}

static pid_t parent_of(pid_t pid) {
    char path[64], line[128];
    int parent = -1;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *file = fopen(path, "r");
    CHECK(file != NULL);
    while (fgets(line, sizeof line, file) != NULL) sscanf(line, "PPid: %d", &parent);
    fclose(file);
    return parent;
}

static void survive_primary(int argc, char **argv) {
    (void)argc, (void)argv;
    pid_t pids[2], pid = start_inner("inner_survive", pids), keeper = parent_of(pids[0]);
    CHECK_INT(kill(pid, SIGKILL), 0);
    CHECK_INT(waitpid(pid, NULL, 0), pid);
    for (int i = 0; i < 20; i++) {
        int who = scene_ask(scene_address());
        CHECK(who == pids[0] || who == pids[1]);
    }
    CHECK_INT(kill(pids[0], SIGKILL), 0);
    scene_wait_until(is_gone, &pids[0]);
    for (int i = 0; i < 20; i++) CHECK_INT(scene_ask(scene_address()), pids[1]);
    CHECK_INT(kill(keeper, SIGTERM), 0);
    scene_wait_until(is_gone, &pids[1]);
    scene_wait_until(is_gone, &keeper);
}

// ---- one call

static void serve_primary(int argc, char **argv) {
    pando_cluster_options options = {.argc = argc, .argv = argv, .workers = 2};
    exit(pando_cluster_serve(&options));
}

static bool somebody_answers(void *arg) { return *(int *)arg = scene_ask(scene_address()), *(int *)arg > 0; }

static void one_call_primary(int argc, char **argv) {
    (void)argc, (void)argv;
    scene_address();
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        execl("/proc/self/exe", "scenes", "inner_serve", (char *)NULL);
        _exit(127);
    }
    int who = 0, next = 0, status;
    scene_wait_until(somebody_answers, &who);
    for (int i = 0; i < 5; i++) {
        CHECK_INT(kill(who, SIGKILL), 0);
        scene_wait_until(is_gone, &who);
        scene_wait_until(somebody_answers, &next);
        CHECK(next != who);
        who = next;
    }
    CHECK_INT(kill(pid, SIGTERM), 0);
    CHECK_INT(waitpid(pid, &status, 0), pid);
    CHECK_INT(status, 0);
    scene_wait_until(is_gone, &who);
    scene_wait_until(port_is_closed, NULL);
}

// ---- the caller's loop, with other things on it

static int ticks;
static void on_tick(uv_timer_t *timer) {
    if (++ticks == 3) uv_close((uv_handle_t *)timer, NULL);
}

static void own_loop_primary(int argc, char **argv) {
    uv_loop_t loop;
    uv_timer_t timer;
    uv_loop_init(&loop);
    uv_timer_init(&loop, &timer);
    uv_timer_start(&timer, on_tick, 1, 1);
    pando_cluster *cluster = pando_cluster_new_with(&(pando_cluster_options){.argc = argc, .argv = argv, .loop = &loop}, NULL);
    CHECK(cluster != NULL && pando_cluster_loop(cluster) == &loop);
    run_one(cluster);
    CHECK_INT(ticks, 3);
    pando_cluster_free(cluster);
    CHECK_INT(uv_run(&loop, UV_RUN_DEFAULT), 0);
    CHECK_INT(uv_loop_close(&loop), 0);
}

const struct scene scenes_basic[] = {
    {"basic", basic_primary, basic_worker},
    {"worker_death", death_primary, return_42},
    {"worker_exit", exit_primary, listen_and_return_42},
    {"worker_events", events_primary, return_42},
    {"worker_forced_exit_crash", crash_primary, kill_itself},
    {"worker_forced_exit_disconnect", forced_exit_primary, idle_worker},
    {"worker_isconnected_isdead", predicates_primary, idle_worker},
    {"worker_kill", kill_primary, idle_worker},
    {"worker_kill_signal", kill_signal_primary, idle_worker},
    {"kill_infinite_loop", kill_loop_primary, spin},
    {"worker_init", init_primary, send_first},
    {"worker_constructor", ids_primary, return_42},
    {"primary_kill", primary_killed, NULL},
    {"primary_error", primary_exits, NULL},
    {"survive", survive_primary, NULL},
    {"one_call", one_call_primary, NULL},
    {"own_loop", own_loop_primary, return_42},
    {"inner_primary", inner_primary, NULL},
    {"inner_exits", inner_exits, NULL},
    {"inner_survive", inner_survive, NULL},
    {"inner_serve", serve_primary, NULL},
};
const size_t scenes_basic_count = SCENE_COUNT(scenes_basic);
