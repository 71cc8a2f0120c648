// SPDX-License-Identifier: MIT
// The cluster in one call: what `pando run` does with a program, done by the program.
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster.h"
#include "cpus.h"
#include "error.h"
#include "fd.h"
#include "log.h"
#include "turn.h"

static void stop(pando_cluster *cluster, bool now) {
    struct pool *pool = &cluster->primary.pool;
    bool already = pool->record->stopping;
    if (already && !now) return;
    log_info("%s", now ? "stopping at once" : "stopping: workers finish what they have");
    pool_stop(pool, now);
    primary_wake(&cluster->primary);
}

static void on_signal(uv_signal_t *handle, int signo) {
    pando_cluster *cluster = handle->data;
    struct pool *pool = &cluster->primary.pool;
    switch (signo) {
        case SIGTERM: stop(cluster, false); break;
        case SIGINT:
            stop(cluster, pool->record->interrupted);
            pool->record->interrupted = true;
            break;
        case SIGHUP:
            if (pool->record->stopping) break;
            log_info("HUP: restarting all workers, one after the other");
            pool_restart(pool, -1);
            primary_wake(&cluster->primary);
            break;
        default: break;
    }
}

static void watch_signals(pando_cluster *cluster) {
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        uv_signal_init(cluster->primary.loop, &cluster->signals[i]);
        cluster->signals[i].data = cluster;
        uv_signal_start(&cluster->signals[i], on_signal, signals[i]);
        uv_unref((uv_handle_t *)&cluster->signals[i]);
    }
}

static int start(pando_cluster *cluster, struct pando_error *error) {
    int opened[PANDO_STDIO_COUNT];
    cluster->serving = true;
    watch_signals(cluster);
    int r = engine_open(cluster, error);
    if (r == 0) r = settings_apply(cluster, &cluster->primary.launch, error);
    if (r == 0) r = settings_open_stdio(cluster, opened, error);
    if (r != 0) return r;
    int workers = cluster->options.workers > 0 ? cluster->options.workers : pando_available_cpus();
    log_info("%d worker%s", workers, workers == 1 ? "" : "s");
    pool_begin(&cluster->primary.pool, workers < LAUNCH_WORKERS_MAX ? workers : LAUNCH_WORKERS_MAX, 0);
    primary_wake(&cluster->primary);
    return 0;
}

static int complain(const struct pando_error *error) {
    fprintf(stderr, "pando: %s\n", error->text);
    return 1;
}

static bool needs_pipe(const struct pando_settings *settings) {
    bool pipe = settings->silent;
    for (int i = 0; i < PANDO_STDIO_COUNT; i++) pipe = pipe || settings->stdio[i].kind == PANDO_STDIO_PIPE;
    return pipe;
}

int pando_cluster_serve(const pando_cluster_options *options) {
    struct pando_error error = {0};
    if (options == NULL) return 2;
    if (pando_is_worker() && options->worker != NULL) return options->worker(options->argc, options->argv, options->arg);
    if (needs_pipe(&options->settings)) {
        error_say(&error, EINVAL, "pando_cluster_serve: nobody would read the workers' pipes: use pando_fork for those");
        return complain(&error);
    }
    pando_cluster *cluster = pando_cluster_new_with(options, &error);
    if (cluster == NULL) return complain(&error);
    log_init("primary", "", LOG_FORM_SHORT, LOG_LEVEL_INFO);
    int code = start(cluster, &error) == 0 ? pando_cluster_run(cluster) : complain(&error);
    pando_cluster_free(cluster);
    return code;
}
