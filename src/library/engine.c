// SPDX-License-Identifier: MIT
// The engine under a cluster: opened by the first fork, driven by the loop, its hooks become events.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "address.h"
#include "clock.h"
#include "cluster.h"
#include "courier.h"
#include "error.h"
#include "fd.h"
#include "log.h"
#include "orphan.h"
#include "str.h"
#include "turn.h"
#include "watches.h"

static pando_worker *worker_of(const struct primary_worker *seen) { return cluster_of(seen->primary)->by_slot[seen->worker->slot]; }

// A keeper that is gone tells nothing any more: then the timer looks who still lives.
void engine_update_ref(pando_cluster *cluster) {
    struct primary *primary = &cluster->primary;
    bool needed = cluster->alive > 0 || (cluster->serving && !cluster->finished);
    watch_ref(primary->channel, needed);
    if (needed && primary->keeper_gone)
        uv_ref((uv_handle_t *)&primary->timer);
    else
        uv_unref((uv_handle_t *)&primary->timer);
}

// ---- hooks of the pool

static void on_started(void *arg, struct worker *worker, struct pool_fds *fds) {
    pando_cluster *cluster = arg;
    watches_start(&cluster->primary, worker, fds);
    struct primary_worker *seen = watches_of(&cluster->primary, worker);
    cluster->started = seen == NULL ? NULL : worker_new(cluster, seen);
    cluster->by_slot[worker->slot] = cluster->started;
    if (cluster->started == NULL) {
        link_kill(&cluster->primary.link, worker->record->pid, SIGKILL, true);
        return;
    }
    cluster->alive++;
    engine_update_ref(cluster);
    event_add(cluster, EVENT_FORK, cluster->started, 0);
}

static void on_ended(void *arg, struct worker *engine_worker) {
    pando_cluster *cluster = arg;
    pando_worker *worker = cluster->by_slot[engine_worker->slot];
    int status = engine_worker->record->last_status;
    cluster->in_engine = true;
    watches_end(&cluster->primary, engine_worker);
    cluster->in_engine = false;
    if (worker == NULL) return;
    cluster->by_slot[engine_worker->slot] = NULL;
    worker->dead = true;
    worker->seen = NULL;
    cluster->alive--;
    engine_update_ref(cluster);
    if (worker->connected) event_add(cluster, EVENT_DISCONNECT, worker, 0);
    worker->connected = false;
    struct event *event = event_add(cluster, EVENT_EXIT, worker, 0);
    if (event == NULL) return;
    bool unknown = cluster->primary.keeper_gone;
    event->exit.code = !unknown && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    event->exit.signal = unknown ? -1 : WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void describe(struct event *event, const struct record_address *at) {
    char *out = event->listening.address;
    size_t size = sizeof event->listening.address;
    address_text(at, event->listening.text, sizeof event->listening.text);
    event->listening.port = address_port(at);
    event->listening.family = at->at.any.sa_family;
    if (at->at.any.sa_family == AF_INET)
        inet_ntop(AF_INET, &at->at.in.sin_addr, out, (socklen_t)size);
    else if (at->at.any.sa_family == AF_INET6)
        inet_ntop(AF_INET6, &at->at.in6.sin6_addr, out, (socklen_t)size);
    else
        str_copy(out, size, event->listening.text);
}

static void on_listening(void *arg, struct worker *worker, const struct record_address *at) {
    pando_cluster *cluster = arg;
    pando_worker *shown = cluster->by_slot[worker->slot];
    struct event *event = shown == NULL ? NULL : event_add(cluster, EVENT_LISTENING, shown, 0);
    if (event != NULL) describe(event, at);
}

static bool on_draining(void *arg, struct worker *worker) { return watches_drain(arg, worker); }
static uint64_t on_telling(void *arg, struct worker *worker) { return (void)arg, (void)worker, 0; }
static void on_changed(void *arg) { primary_wake(arg); }

static void on_finished(void *arg, int exit_code, const char *why) {
    pando_cluster *cluster = arg;
    if (!cluster->serving) return;
    cluster->finished = true;
    cluster->exit_code = exit_code;
    engine_update_ref(cluster);
    if (why != NULL) log_error("gives up: %s", why);
}

// ---- events of the channels

static void on_online(struct primary_worker *seen) {
    if (worker_of(seen) != NULL) event_add(cluster_of(seen->primary), EVENT_ONLINE, worker_of(seen), 0);
}

static void on_leaving(struct primary_worker *seen) {
    pando_worker *worker = worker_of(seen);
    if (worker == NULL) return;
    worker->voluntary = PANDO_VOLUNTARY_YES;
    if (cluster_of(seen->primary)->serving)
        pool_on_leaving(&seen->primary->pool, seen->worker);
    else
        pool_finish(&seen->primary->pool, seen->worker, CLOCK_NEVER);
}

static void on_message(struct primary_worker *seen, struct message *message) {
    pando_worker *worker = worker_of(seen);
    if (worker == NULL) return;
    struct pando_message shown = {.data = {message->data, message->len},
                                  .is_json = message->kind == MESSAGE_JSON,
                                  .fd_was_lost = message->has_fd && message->fd < 0,
                                  .fd = fd_take(&message->fd)};
    if (!worker->cluster->in_engine) {
        event_message_now(worker, &shown);
        fd_close(&shown.fd);
        return;
    }
    struct event *event = event_add(worker->cluster, EVENT_MESSAGE, worker, message->len);
    if (event == NULL) {
        fd_close(&shown.fd);
        return;
    }
    if (message->len > 0) memcpy(event->data, message->data, message->len);
    event->message = shown;
    event->message.data.data = event->data;
}

static void on_writable(struct primary_worker *seen) {
    if (worker_of(seen) != NULL) event_add(cluster_of(seen->primary), EVENT_WRITABLE, worker_of(seen), 0);
}

static void on_closed(struct primary_worker *seen, int why) {
    pando_worker *worker = worker_of(seen);
    if (worker == NULL || !worker->connected) return;
    struct pando_error error = {0};
    worker->connected = false;
    if (why != 0) {
        error_say(&error, -why, "worker %llu (pid %d): its channel was closed: it sent what is no message", (unsigned long long)worker->id,
                  (int)worker->pid);
        event_fail(worker->cluster, worker, &error);
    }
    event_add(worker->cluster, EVENT_DISCONNECT, worker, 0);
}

static int own_fd(struct primary_worker *seen, int number) {
    (void)seen;
    return number >= 0 && fcntl(number, F_GETFD) >= 0 ? number : -EBADF;
}

static const struct courier_events courier_events = {.on_online = on_online,
                                                     .on_leaving = on_leaving,
                                                     .on_message = on_message,
                                                     .on_writable = on_writable,
                                                     .on_closed = on_closed,
                                                     .own_fd = own_fd};

// ---- the role

// The program gets its own signals; those sent to its keeper are not for us.
static void on_signal(struct primary *primary, int signo, bool from_kernel) { (void)primary, (void)signo, (void)from_kernel; }

static void on_keeper_gone(struct primary *primary) {
    struct pando_error error;
    error_say(&error, EPIPE, "the keeper (pid %d) was killed: the workers that run serve on, and no other can be started",
              (int)primary->keeper);
    event_fail(cluster_of(primary), NULL, &error);
    engine_update_ref(cluster_of(primary));
    primary_wake(primary);
}

static void after_tick(struct primary *primary) { (void)primary; }

static const struct primary_role role = {.on_signal = on_signal, .on_keeper_gone = on_keeper_gone, .after_tick = after_tick};

// ---- handles

static void on_handle_closed(uv_handle_t *handle) {
    pando_cluster *cluster = handle->data;
    if (--cluster->closing > 0 || !cluster->freed || cluster->own_loop_used) return;
    free(cluster);
}

static void close_handle(pando_cluster *cluster, uv_handle_t *handle) {
    handle->data = cluster;
    cluster->closing++;
    uv_close(handle, on_handle_closed);
}

static void stop_turn(pando_cluster *cluster) {
    struct primary *primary = &cluster->primary;
    watch_close(primary->handed);
    watch_close(primary->wakes);
    watch_close(primary->channel);
    primary->handed = primary->wakes = primary->channel = NULL;
    close_handle(cluster, (uv_handle_t *)&primary->before_wait);
    close_handle(cluster, (uv_handle_t *)&primary->timer);
}

// ---- opening

static void choose_policy(const pando_cluster *cluster, struct launch *launch) {
    switch (cluster->policy) {
        case PANDO_SCHED_AUTO: break;
        case PANDO_SCHED_NONE: launch->mode = LAUNCH_MODE_PULL; break;
        case PANDO_SCHED_RR: launch->balance = LAUNCH_BALANCE_RR; break;
        case PANDO_SCHED_RANDOM: launch->balance = LAUNCH_BALANCE_RANDOM; break;
        case PANDO_SCHED_STICKY: launch->balance = LAUNCH_BALANCE_STICKY; break;
    }
}

static void fill_launch(const pando_cluster *cluster, struct launch *launch) {
    struct rlimit files;
    launch_init(launch);
    str_copy(launch->name, sizeof launch->name, "cluster");
    choose_policy(cluster, launch);
    launch->channel = LAUNCH_CHANNEL_PANDO;
    if (cluster->options.ready_timeout_ms > 0) launch->ready_timeout_ns = cluster->options.ready_timeout_ms * CLOCK_MS;
    if (cluster->options.kill_timeout_ms > 0) launch->kill_timeout_ns = cluster->options.kill_timeout_ms * CLOCK_MS;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        launch->nofile_soft = files.rlim_cur;
        launch->nofile_hard = files.rlim_max;
    }
}

static int open_pool(pando_cluster *cluster, struct pando_error *error) {
    struct primary *primary = &cluster->primary;
    scoped_fd memfd = -1;
    int r = record_create(&primary->pool.record, &memfd);
    if (r != 0) return error_set(error, -r, "start the cluster: make its record");
    primary->pool.record->started_ns = clock_now_ns();
    return pool_open(&primary->pool, error);
}

static void prepare(pando_cluster *cluster) {
    struct primary *primary = &cluster->primary;
    uv_loop_t *loop = primary->loop;
    memset(primary, 0, sizeof *primary);  // of an attempt that failed
    primary->loop = loop;
    primary->role = &role;
    primary->courier_events = &courier_events;
    primary->message_max = cluster->options.max_message_bytes;
    primary->message_queue_max = cluster->options.max_queued_bytes;
    primary->lock = primary->ready = -1;
    link_init(&primary->link, -1);
    primary->link.alone = true;
    list_init(&primary->unsent);
    primary->pool.link = &primary->link;
    primary->pool.launch = &primary->launch;
    primary->pool.given = &cluster->given;
    primary->pool.arg = primary;
    primary->pool.hooks = (struct pool_hooks){.started = on_started,
                                              .ended = on_ended,
                                              .listening = on_listening,
                                              .draining = on_draining,
                                              .telling = on_telling,
                                              .changed = on_changed,
                                              .finished = on_finished};
    for (int i = 0; i < POOL_GIVEN_FD_MAX; i++) cluster->given.fd[i] = -1;
}

// The keeper ends when its channel does; surviving workers keep it.
static void undo(pando_cluster *cluster) {
    pid_t keeper = cluster->primary.keeper;
    pool_close(&cluster->primary.pool);
    link_deinit(&cluster->primary.link);
    cluster->primary.launch.envp = NULL;  // the process's own
    launch_deinit(&cluster->primary.launch);
    if (keeper > 0 && !cluster->options.survive) waitpid(keeper, NULL, 0);
    cluster->primary.keeper = 0;
}

int engine_open(pando_cluster *cluster, struct pando_error *error) {
    struct primary *primary = &cluster->primary;
    if (cluster->engine_open) return 0;
    if (cluster->closing > 0) return error_say(error, EAGAIN, "start the cluster: an attempt that failed is still being cleared away");
    prepare(cluster);
    fill_launch(cluster, &primary->launch);
    int r = keeper_start(cluster, error);
    if (r == 0) r = open_pool(cluster, error);
    if (r == 0 && (r = turn_start(primary)) != 0) {
        error_set(error, -r, "start the cluster: watch its descriptors");
        stop_turn(cluster);
    }
    if (r != 0) {
        undo(cluster);
        if (cluster->keeper_used) close_handle(cluster, (uv_handle_t *)&cluster->keeper);
        return r;
    }
    uv_unref((uv_handle_t *)&primary->before_wait);
    watch_ref(primary->handed, false);
    watch_ref(primary->wakes, false);
    cluster->engine_open = true;
    engine_update_ref(cluster);
    return 0;
}

// ---- closing

static void stop_engine(pando_cluster *cluster) {
    struct primary *primary = &cluster->primary;
    if (!primary->keeper_gone && !cluster->options.survive) link_quit(&primary->link, 0);
    cluster->in_engine = true;
    for (uint32_t i = 0; i < primary->pool.record->slot_end; i++) {
        watches_end(primary, &primary->pool.worker[i]);
        free(primary->worker[i]);
        primary->worker[i] = NULL;
    }
    cluster->in_engine = false;
    stop_turn(cluster);
    close_handle(cluster, (uv_handle_t *)&cluster->keeper);
    undo(cluster);
}

void engine_close(pando_cluster *cluster) {
    if (cluster->closed) return;
    cluster->closed = cluster->freed = true;
    events_forget(cluster);
    while (!list_empty(&cluster->workers)) worker_forget(list_owner(cluster->workers.next, pando_worker, link));
    close_handle(cluster, (uv_handle_t *)&cluster->pending);
    for (size_t i = 0; cluster->serving && i < sizeof cluster->signals / sizeof *cluster->signals; i++)
        close_handle(cluster, (uv_handle_t *)&cluster->signals[i]);
    if (cluster->engine_open) stop_engine(cluster);
    cluster->engine_open = false;
    for (int i = 0; i < PANDO_STDIO_COUNT; i++) fd_close(&cluster->near[i]);
    settings_deinit(&cluster->settings);
    free(cluster->keeper_path);
    cluster->keeper_path = NULL;
}
