// SPDX-License-Identifier: MIT
// What libpando costs: messages of 32 bytes between a primary and a worker, their round trip, and the time from pando_fork to the
// worker's online. One program, one worker at a time; the medians of five runs each. Beside it what the machine takes to start and end
// this very program without any cluster: libraries are loaded, pages are mapped, and nothing more.
#include <pando/pando.h>
#include <stdio.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <uv.h>

enum { RUNS = 5, MESSAGES = 1000000, ROUND_TRIPS = 20000, FORKS = 60, SIZE = 32 };

static const char message[SIZE] = "a message of thirty-two bytes.";

// ---- the worker: echoes, or counts to the end and says so

static bool echoes;
static long came;

static void on_worker_message(pando_self *self, struct pando_message *got, void *arg) {
    (void)arg;
    if (echoes)
        pando_self_send(self, got->data.data, got->data.len, -1);
    else if (++came == MESSAGES)
        pando_self_send(self, "all", 3, -1);
}

static long pushed;
static void push(pando_self *self, void *arg) {
    (void)arg;
    while (pushed < MESSAGES && pando_self_send(self, message, SIZE, -1) >= 0) pushed++;
}

static int worker(const char *what) {
    uv_loop_t *loop = uv_default_loop();
    pando_self *self;
    struct pando_self_options options = {.loop = loop, .on_message = on_worker_message, .on_writable = push};
    echoes = strcmp(what, "echo") == 0;
    if (pando_self_open(&self, &options, NULL) != 0) return 1;
    if (strcmp(what, "push") == 0) push(self, NULL);
    return uv_run(loop, UV_RUN_DEFAULT);
}

// ---- the primary

static struct {
    const char *what;
    long sent, came;
    uint64_t begun_ns, ended_ns, sample[ROUND_TRIPS];
    size_t samples;
} now;

static void send_all(pando_cluster *cluster, pando_worker *to, void *arg) {
    (void)cluster, (void)arg;
    while (now.sent < MESSAGES && pando_worker_send(to, message, SIZE, -1) >= 0) now.sent++;
}

static void round_trip(pando_worker *with) {
    now.begun_ns = pando_now_ns();
    pando_worker_send(with, message, SIZE, -1);
}

static void on_online(pando_cluster *cluster, pando_worker *online, void *arg) {
    uint64_t at = pando_now_ns();
    if (strcmp(now.what, "fork") == 0) {
        now.sample[now.samples++] = at - now.begun_ns;
        pando_worker_kill(online, 9);
        return;
    }
    now.begun_ns = at;
    if (strcmp(now.what, "echo") == 0) round_trip(online);
    if (strcmp(now.what, "count") == 0) send_all(cluster, online, arg);
}

static void on_message(pando_cluster *cluster, pando_worker *from, struct pando_message *got, void *arg) {
    (void)cluster, (void)got, (void)arg;
    if (strcmp(now.what, "echo") == 0) {
        now.sample[now.samples++] = pando_now_ns() - now.begun_ns;
        if (now.samples < ROUND_TRIPS)
            round_trip(from);
        else
            pando_worker_kill(from, 9);
    } else if (strcmp(now.what, "count") == 0 || ++now.came == MESSAGES) {
        now.ended_ns = pando_now_ns();
        pando_worker_kill(from, 9);
    }
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double percentile(double *values, size_t count, double p) {
    qsort(values, count, sizeof *values, compare);
    return values[(size_t)((double)(count - 1) * p)];
}

static pando_cluster *cluster_for(int argc, char **argv, const char *what) {
    pando_cluster *cluster = pando_cluster_new(argc, argv);
    pando_setup(cluster, &(struct pando_settings){.args = (char *[]){(char *)(uintptr_t)what, NULL}});
    pando_on_online(cluster, on_online, NULL);
    pando_on_message(cluster, on_message, NULL);
    pando_on_writable(cluster, send_all, NULL);
    return cluster;
}

static void run_once(pando_cluster *cluster, const char *what) {
    now.what = what;
    now.sent = now.came = 0;
    now.samples = 0;
    now.begun_ns = pando_now_ns();
    pando_fork(cluster, NULL);
    pando_cluster_run(cluster);
}

static void throughput(int argc, char **argv, const char *what, const char *title) {
    double rate[RUNS];
    pando_cluster *cluster = cluster_for(argc, argv, what);
    for (int i = 0; i < RUNS; i++) {
        run_once(cluster, what);
        rate[i] = MESSAGES * 1e9 / (double)(now.ended_ns - now.begun_ns);
    }
    printf("  %-44s %12.0f a second\n", title, percentile(rate, RUNS, 0.5));
    pando_cluster_free(cluster);
}

static void print_times(const char *title, double *us, size_t count) {
    double median = percentile(us, count, 0.5), p99 = percentile(us, count, 0.99);
    printf("  %-44s %9.1f us median %9.1f us p99\n", title, median, p99);
}

static void round_trips(int argc, char **argv) {
    static double us[ROUND_TRIPS * RUNS];
    size_t count = 0;
    pando_cluster *cluster = cluster_for(argc, argv, "echo");
    for (int i = 0; i < RUNS; i++) {
        run_once(cluster, "echo");
        for (size_t k = 0; k < now.samples; k++) us[count++] = (double)now.sample[k] / 1e3;
    }
    print_times("round trip", us, count);
    pando_cluster_free(cluster);
}

static void forks(int argc, char **argv) {
    double us[FORKS];
    pando_cluster *cluster = cluster_for(argc, argv, "echo");
    run_once(cluster, "fork");  // the first one starts the keeper, too
    printf("  %-44s %9.1f us\n", "the first pando_fork to online (keeper and all)", (double)now.sample[0] / 1e3);
    for (int i = 0; i < FORKS; i++) {
        run_once(cluster, "fork");
        us[i] = (double)now.sample[0] / 1e3;
    }
    print_times("pando_fork to online", us, FORKS);
    pando_cluster_free(cluster);
}

// The yardstick.
static void bare_starts(char **argv) {
    double us[FORKS];
    extern char **environ;
    for (int i = 0; i < FORKS; i++) {
        pid_t pid;
        uint64_t begun_ns = pando_now_ns();
        if (posix_spawn(&pid, "/proc/self/exe", NULL, NULL, (char *[]){argv[0], (char[]){"nothing"}, NULL}, environ) != 0) return;
        waitpid(pid, NULL, 0);
        us[i] = (double)(pando_now_ns() - begun_ns) / 1e3;
    }
    print_times("this program, started and ended by itself", us, FORKS);
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "nothing") == 0) return 0;
    if (pando_is_worker()) return worker(argc > 1 ? argv[1] : "echo");
    printf("libpando: messages of %d bytes; medians of %d runs\n\n", SIZE, RUNS);
    throughput(argc, argv, "count", "messages, primary to worker");
    throughput(argc, argv, "push", "messages, worker to primary");
    round_trips(argc, argv);
    forks(argc, argv);
    bare_starts(argv);
    return 0;
}
