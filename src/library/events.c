// SPDX-License-Identifier: MIT
// Events wait in a queue until the loop comes to them, so that no callback runs inside a function of the library, and a
// callback may do anything. Messages go straight to their callback while nothing waits in front of them.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster.h"
#include "fd.h"

static void on_pending(uv_idle_t *idle) {
    pando_cluster *cluster = idle->data;
    events_dispatch(cluster);
    if (cluster->freed) engine_close(cluster);
}

void events_wake(pando_cluster *cluster) { uv_idle_start(&cluster->pending, on_pending); }

struct event *event_add(pando_cluster *cluster, enum event_kind kind, pando_worker *worker, size_t data_len) {
    struct event *event = cluster->freed ? NULL : calloc(1, sizeof *event + data_len);
    if (event == NULL) return NULL;
    event->kind = kind;
    event->worker = pando_worker_hold(worker);
    if (kind == EVENT_MESSAGE) event->message.fd = -1;
    *cluster->last = event;
    cluster->last = &event->next;
    events_wake(cluster);
    return event;
}

void event_fail(pando_cluster *cluster, pando_worker *worker, const struct pando_error *error) {
    cluster->error = *error;
    struct event *event = event_add(cluster, EVENT_FAILURE, worker, 0);
    if (event != NULL) event->failure = *error;
}

static void event_free(struct event *event) {
    if (event->kind == EVENT_MESSAGE) fd_close(&event->message.fd);
    pando_worker_release(event->worker);
    free(event);
}

void events_forget(pando_cluster *cluster) {
    for (struct event *event; (event = cluster->first) != NULL;) {
        cluster->first = event->next;
        event_free(event);
    }
    cluster->last = &cluster->first;
}

// ---- one event

static void tell_worker(pando_cluster *cluster, pando_worker *worker, pando_worker_fn own, pando_worker_fn all, void *arg) {
    if (own != NULL) own(cluster, worker, worker->events_arg);
    if (all != NULL && !cluster->freed) all(cluster, worker, arg);
}

static void tell_listening(pando_cluster *cluster, pando_worker *worker, const struct event *event) {
    struct pando_listening at = {.text = event->listening.text,
                                 .address = event->listening.address,
                                 .port = event->listening.port,
                                 .family = event->listening.family};
    if (worker->state < PANDO_WORKER_LISTENING) worker->state = PANDO_WORKER_LISTENING;
    if (worker->events.on_listening != NULL) worker->events.on_listening(cluster, worker, &at, worker->events_arg);
    if (cluster->on_listening.fn != NULL && !cluster->freed) cluster->on_listening.fn(cluster, worker, &at, cluster->on_listening.arg);
}

static void tell_message(pando_cluster *cluster, pando_worker *worker, struct pando_message *message) {
    if (worker->events.on_message != NULL) worker->events.on_message(cluster, worker, message, worker->events_arg);
    if (cluster->on_message.fn != NULL && !cluster->freed) cluster->on_message.fn(cluster, worker, message, cluster->on_message.arg);
}

static void settle(pando_worker *worker) {
    if (worker->voluntary == PANDO_VOLUNTARY_UNKNOWN) worker->voluntary = PANDO_VOLUNTARY_NO;
}

static void leave_list(pando_worker *worker) {
    if (worker->told_disconnect && worker->told_exit) worker->listed = false;
}

static void tell_disconnect(pando_cluster *cluster, pando_worker *worker) {
    worker->told_disconnect = true;
    if (worker->state != PANDO_WORKER_DEAD) worker->state = PANDO_WORKER_DISCONNECTED;
    settle(worker);
    leave_list(worker);
    tell_worker(cluster, worker, worker->events.on_disconnect, cluster->on_disconnect.fn, cluster->on_disconnect.arg);
}

static void tell_exit(pando_cluster *cluster, pando_worker *worker, int code, int signal) {
    worker->told_exit = true;
    worker->state = PANDO_WORKER_DEAD;
    settle(worker);
    leave_list(worker);
    if (worker->events.on_exit != NULL) worker->events.on_exit(cluster, worker, code, signal, worker->events_arg);
    if (cluster->on_exit.fn != NULL && !cluster->freed) cluster->on_exit.fn(cluster, worker, code, signal, cluster->on_exit.arg);
}

static void tell_failure(pando_cluster *cluster, pando_worker *worker, const struct pando_error *error) {
    pando_failure_fn own = worker != NULL ? worker->events.on_failure : NULL;
    if (own != NULL) own(cluster, worker, error, worker->events_arg);
    if (cluster->on_failure.fn != NULL && !cluster->freed) cluster->on_failure.fn(cluster, worker, error, cluster->on_failure.arg);
    if (own != NULL || cluster->on_failure.fn != NULL || cluster->serving) return;
    cluster->failed = true;
    fprintf(stderr, "pando: %s\n", error->text);
}

static void dispatch(pando_cluster *cluster, struct event *event) {
    pando_worker *worker = event->worker;
    switch (event->kind) {
        case EVENT_SETUP:
            if (cluster->on_setup.fn != NULL) cluster->on_setup.fn(cluster, &cluster->settings.now, cluster->on_setup.arg);
            break;
        case EVENT_FORK: tell_worker(cluster, worker, NULL, cluster->on_fork.fn, cluster->on_fork.arg); break;
        case EVENT_ONLINE:
            if (worker->state == PANDO_WORKER_NONE) worker->state = PANDO_WORKER_ONLINE;
            tell_worker(cluster, worker, worker->events.on_online, cluster->on_online.fn, cluster->on_online.arg);
            break;
        case EVENT_LISTENING: tell_listening(cluster, worker, event); break;
        case EVENT_MESSAGE: tell_message(cluster, worker, &event->message); break;
        case EVENT_DISCONNECT: tell_disconnect(cluster, worker); break;
        case EVENT_EXIT: tell_exit(cluster, worker, event->exit.code, event->exit.signal); break;
        case EVENT_FAILURE: tell_failure(cluster, worker, &event->failure); break;
        case EVENT_WRITABLE:
            tell_worker(cluster, worker, worker->events.on_writable, cluster->on_writable.fn, cluster->on_writable.arg);
            break;
    }
}

// ---- after an event

static bool still_serves(const pando_worker *worker) {
    return !worker->told_exit && !(worker->told_disconnect && worker->voluntary == PANDO_VOLUNTARY_YES);
}

// Nobody accepts there any more, and no callback has started a successor: whoever connects shall hear so.
static void close_unserved(pando_cluster *cluster) {
    for (struct list_node *at = cluster->workers.next; at != &cluster->workers; at = at->next)
        if (still_serves(list_owner(at, pando_worker, link))) return;
    if (cluster->engine_open && !cluster->serving) pool_close_sockets(&cluster->primary.pool);
}

static bool all_disconnected(const pando_cluster *cluster) {
    for (struct list_node *at = cluster->workers.next; at != &cluster->workers; at = at->next)
        if (!list_owner(at, pando_worker, link)->told_disconnect) return false;
    return true;
}

static void finish_disconnect(pando_cluster *cluster) {
    pando_cluster_fn done = cluster->on_gone;
    if (!cluster->disconnecting || !all_disconnected(cluster)) return;
    cluster->disconnecting = false;
    cluster->on_gone = NULL;
    if (done != NULL) done(cluster, cluster->on_gone_arg);
}

static void forget_if_over(pando_worker *worker) {
    if (worker == NULL || !worker->told_disconnect || !worker->told_exit || list_empty(&worker->link)) return;
    list_remove(&worker->link);
    pando_worker_release(worker);
}

static void after(pando_cluster *cluster, const struct event *event) {
    if (event->kind != EVENT_DISCONNECT && event->kind != EVENT_EXIT) return;
    close_unserved(cluster);
    forget_if_over(event->worker);
}

void events_dispatch(pando_cluster *cluster) {
    struct event *event;
    if (cluster->depth > 0) return;
    cluster->depth++;
    while ((event = cluster->first) != NULL && !cluster->freed) {
        cluster->first = event->next;
        if (cluster->first == NULL) cluster->last = &cluster->first;
        dispatch(cluster, event);
        if (!cluster->freed) after(cluster, event);
        event_free(event);
    }
    if (!cluster->freed) finish_disconnect(cluster);
    if (cluster->first == NULL && !cluster->freed) uv_idle_stop(&cluster->pending);
    cluster->depth--;
}

void event_message_now(pando_worker *worker, struct pando_message *message) {
    pando_cluster *cluster = worker->cluster;
    pando_worker_hold(worker);
    events_dispatch(cluster);
    cluster->depth++;
    if (!cluster->freed) tell_message(cluster, worker, message);
    cluster->depth--;
    pando_worker_release(worker);
}
