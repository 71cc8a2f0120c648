// SPDX-License-Identifier: MIT
#include "cluster.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "clock.h"
#include "cpus.h"
#include "error.h"
#include "fd.h"
#include "log.h"
#include "turn.h"

int pando_available_cpus(void) {
    struct cpus cpus;
    cpus_read(&cpus, "/proc", "");
    return cpus.count;
}

// ---- life

static enum pando_policy policy_from_environment(void) {
    static const struct {
        const char *name;
        enum pando_policy policy;
    } known[] = {{"none", PANDO_SCHED_NONE}, {"rr", PANDO_SCHED_RR}, {"random", PANDO_SCHED_RANDOM}, {"sticky", PANDO_SCHED_STICKY}};
    const char *wish = getenv("PANDO_POLICY") != NULL ? getenv("PANDO_POLICY") : getenv("NODE_CLUSTER_SCHED_POLICY");
    for (size_t i = 0; wish != NULL && i < sizeof known / sizeof *known; i++)
        if (strcmp(wish, known[i].name) == 0) return known[i].policy;
    return PANDO_SCHED_AUTO;
}

static int check_options(const pando_cluster_options *options, struct pando_error *error) {
    if (pando_is_worker()) return error_say(error, EPERM, "make a cluster: this process is itself a worker, and only a primary forks");
    if (options->max_message_bytes > MESSAGE_BYTES_MAX)
        return error_say(error, EINVAL, "make a cluster: max_message_bytes is at most %d", MESSAGE_BYTES_MAX);
    if ((unsigned)options->policy > PANDO_SCHED_STICKY)
        return error_say(error, EINVAL, "make a cluster: no such policy: %d", options->policy);
    if (options->workers < 0 || options->workers > LAUNCH_WORKERS_MAX)
        return error_say(error, EINVAL, "make a cluster: workers: give 0 to %d", LAUNCH_WORKERS_MAX);
    return 0;
}

static int choose_loop(pando_cluster *cluster) {
    cluster->primary.loop = cluster->options.loop;
    if (cluster->primary.loop != NULL) return 0;
    int r = uv_loop_init(&cluster->own_loop);
    if (r != 0) return r;
    cluster->own_loop_used = true;
    cluster->primary.loop = &cluster->own_loop;
    return 0;
}

static int make(pando_cluster *cluster, struct pando_error *error) {
    const pando_cluster_options *options = &cluster->options;
    settings_init(&cluster->settings, options->argc, options->argv);
    if (settings_merge(&cluster->settings, &options->settings) != 0) return error_set(error, ENOMEM, "make a cluster");
    if (options->keeper != NULL && (cluster->keeper_path = strdup(options->keeper)) == NULL)
        return error_set(error, ENOMEM, "make a cluster");
    int r = choose_loop(cluster);
    if (r != 0) return error_set(error, -r, "make a cluster: open its loop");
    uv_idle_init(cluster->primary.loop, &cluster->pending);
    cluster->pending.data = cluster;
    return 0;
}

pando_cluster *pando_cluster_new_with(const pando_cluster_options *options, struct pando_error *error) {
    static const pando_cluster_options defaults = {0};
    if (options == NULL) options = &defaults;
    if (check_options(options, error) != 0) return NULL;
    pando_cluster *cluster = calloc(1, sizeof *cluster);
    if (cluster == NULL) {
        error_set(error, ENOMEM, "make a cluster");
        return NULL;
    }
    cluster->options = *options;
    cluster->policy = options->policy == PANDO_SCHED_AUTO ? policy_from_environment() : options->policy;
    cluster->last = &cluster->first;
    list_init(&cluster->workers);
    for (int i = 0; i < PANDO_STDIO_COUNT; i++) cluster->near[i] = -1;
    if (make(cluster, error) != 0) {
        settings_deinit(&cluster->settings);
        free(cluster->keeper_path);
        free(cluster);
        return NULL;
    }
    log_init("primary", "", LOG_FORM_SHORT, LOG_LEVEL_ERROR);
    return cluster;
}

pando_cluster *pando_cluster_new(int argc, char **argv) {
    struct pando_error error = {0};
    pando_cluster *cluster = pando_cluster_new_with(&(pando_cluster_options){.argc = argc, .argv = argv}, &error);
    if (cluster == NULL) errno = error.code;
    return cluster;
}

// The own loop has run out: nothing of the cluster is left in it.
static void finish_own_loop(pando_cluster *cluster) {
    while (cluster->closing > 0 && uv_run(&cluster->own_loop, UV_RUN_DEFAULT) != 0) continue;
    uv_run(&cluster->own_loop, UV_RUN_DEFAULT);
    uv_loop_close(&cluster->own_loop);
    free(cluster);
}

int pando_cluster_run(pando_cluster *cluster) {
    if (cluster == NULL) return 1;
    bool own = cluster->own_loop_used;
    cluster->running = own;
    uv_run(cluster->primary.loop, UV_RUN_DEFAULT);
    if (!own) return 0;  // what was freed in a callback is gone
    cluster->running = false;
    int code = cluster->failed ? 1 : cluster->exit_code;
    if (cluster->freed) finish_own_loop(cluster);
    return code;
}

void pando_cluster_free(pando_cluster *cluster) {
    if (cluster == NULL || cluster->closed) return;
    bool inside = cluster->depth > 0 || cluster->in_engine;
    cluster->freed = true;
    if (inside || cluster->running) {
        events_wake(cluster);
        return;
    }
    bool own = cluster->own_loop_used;
    engine_close(cluster);
    if (own) finish_own_loop(cluster);
}

struct uv_loop_s *pando_cluster_loop(pando_cluster *cluster) {
    return cluster != NULL ? cluster->primary.loop : NULL;
}
const struct pando_error *pando_cluster_error(const pando_cluster *cluster) { return cluster != NULL ? &cluster->error : NULL; }

// ---- settings

int pando_setup(pando_cluster *cluster, const struct pando_settings *settings) {
    if (cluster == NULL) return -EINVAL;
    int r = settings != NULL ? settings_merge(&cluster->settings, settings) : 0;
    if (r == 0 && event_add(cluster, EVENT_SETUP, NULL, 0) == NULL) r = -ENOMEM;
    return r;
}

const struct pando_settings *pando_cluster_settings(const pando_cluster *cluster) {
    return cluster != NULL ? &cluster->settings.now : NULL;
}

int pando_set_policy(pando_cluster *cluster, enum pando_policy policy) {
    if (cluster == NULL || (unsigned)policy > PANDO_SCHED_STICKY) return -EINVAL;
    if (cluster->engine_open) return -EBUSY;
    cluster->policy = policy;
    return 0;
}

enum pando_policy pando_cluster_policy(const pando_cluster *cluster) { return cluster != NULL ? cluster->policy : PANDO_SCHED_AUTO; }

// ---- forking

static int fork_it(pando_cluster *cluster, char *const *env, struct pando_error *error) {
    int opened[PANDO_STDIO_COUNT];
    int r = cluster->freed ? error_say(error, ESHUTDOWN, "start a worker: the cluster is freed") : engine_open(cluster, error);
    if (r != 0) return r;
    if (cluster->primary.keeper_gone) return error_say(error, EPIPE, "start a worker: the keeper was killed");
    r = settings_apply(cluster, &cluster->primary.launch, error);
    if (r == 0) r = settings_open_stdio(cluster, opened, error);
    if (r == 0) {
        cluster->given.env = env;
        cluster->started = NULL;
        if (pool_fork(&cluster->primary.pool, error) == NULL || cluster->started == NULL) r = error->code != 0 ? -error->code : -ENOMEM;
        cluster->given.env = NULL;
        for (int i = 0; i < PANDO_STDIO_COUNT; i++) fd_close(&opened[i]);
    }
    for (int i = 0; i < PANDO_STDIO_COUNT; i++) fd_close(&cluster->near[i]);
    primary_wake(&cluster->primary);
    return r;
}

pando_worker *pando_fork(pando_cluster *cluster, char *const *env) {
    struct pando_error error = {0};
    if (cluster == NULL) {
        errno = EINVAL;
        return NULL;
    }
    if (fork_it(cluster, env, &error) == 0) return cluster->started;
    if (error.code == 0) error_set(&error, ENOMEM, "start a worker");
    event_fail(cluster, NULL, &error);
    errno = error.code;
    return NULL;
}

int pando_disconnect(pando_cluster *cluster, pando_cluster_fn done, void *arg) {
    if (cluster == NULL) return -EINVAL;
    for (pando_worker *worker = NULL; (worker = pando_worker_next(cluster, worker)) != NULL;) pando_worker_disconnect(worker);
    cluster->disconnecting = true;
    cluster->on_gone = done;
    cluster->on_gone_arg = arg;
    events_wake(cluster);
    return 0;
}

// ---- events

#define ON(event, type)                                                 \
    void pando_on_##event(pando_cluster *cluster, type fn, void *arg) { \
        if (cluster == NULL) return;                                    \
        cluster->on_##event.fn = fn;                                    \
        cluster->on_##event.arg = arg;                                  \
    }

ON(setup, pando_settings_fn)
ON(fork, pando_worker_fn)
ON(online, pando_worker_fn)
ON(listening, pando_listening_fn)
ON(message, pando_message_fn)
ON(disconnect, pando_worker_fn)
ON(exit, pando_exit_fn)
ON(writable, pando_worker_fn)
ON(failure, pando_failure_fn)
