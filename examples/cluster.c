// SPDX-License-Identifier: MIT
// A cluster that never dies: one worker a processor, all on one port; when one ends, a new one takes its place.
//
//     cc cluster.c -o cluster $(pkg-config --cflags --libs pando) && ./cluster 3000
#include <pando/pando.h>
#include <stdio.h>
#include <unistd.h>

static void hello(pando_exchange *exchange, void *arg) {
    (void)arg;
    pando_exchange_set_status(exchange, 200, NULL);
    pando_exchange_end(exchange, "hello world\n", 12);
}

// What a worker does: ordinary single-process server code.
static int serve(const char *port) {
    struct pando_error error;
    pando_server *server = pando_server_new(&(struct pando_server_options){.on_request = hello}, &error);
    if (server == NULL || pando_server_listen(server, port, &error) != 0) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    printf("[INFO] Created Worker | pid = %d\n", getpid());
    fflush(stdout);
    int code = pando_server_run(server, true);
    pando_server_free(server);
    return code;
}

static void on_worker_exit(pando_cluster *cluster, pando_worker *worker, int code, int signal, void *arg) {
    (void)code, (void)signal, (void)arg;
    printf("[ERROR] Worker Died | pid = %d\n", pando_worker_pid(worker));
    fflush(stdout);
    pando_fork(cluster, NULL);
}

int main(int argc, char **argv) {
    if (!pando_is_primary()) return serve(argc > 1 ? argv[1] : "3000");
    pando_cluster *cluster = pando_cluster_new(argc, argv);
    pando_on_exit(cluster, on_worker_exit, NULL);
    for (int i = 0; i < pando_available_cpus(); i++) pando_fork(cluster, NULL);
    return pando_cluster_run(cluster);
}
