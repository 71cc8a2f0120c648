// SPDX-License-Identifier: MIT
// One worker as the program sees it.
#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "cluster.h"
#include "courier.h"
#include "fd.h"

// ---- life

// The list's hold is released when both disconnect and exit have been told.
pando_worker *worker_new(pando_cluster *cluster, struct primary_worker *seen) {
    pando_worker *worker = calloc(1, sizeof *worker);
    if (worker == NULL) return NULL;
    worker->cluster = cluster;
    worker->seen = seen;
    worker->id = seen->worker->record->token >> 16;
    worker->pid = seen->worker->record->pid;
    worker->slot = seen->worker->slot;
    worker->number = worker_number(seen->worker);
    worker->holds = 1;
    worker->listed = worker->connected = true;
    for (int i = 0; i < PANDO_STDIO_COUNT; i++) worker->stdio[i] = fd_take(&cluster->near[i]);
    list_append(&cluster->workers, &worker->link);
    return worker;
}

pando_worker *pando_worker_hold(pando_worker *worker) {
    if (worker != NULL) worker->holds++;
    return worker;
}

void pando_worker_release(pando_worker *worker) {
    if (worker == NULL || --worker->holds > 0) return;
    for (int i = 0; i < PANDO_STDIO_COUNT; i++) fd_close(&worker->stdio[i]);
    free(worker);
}

void worker_forget(pando_worker *worker) {
    list_remove(&worker->link);
    if (!worker->dead) worker->cluster->by_slot[worker->slot] = NULL;
    worker->cluster = NULL;
    worker->seen = NULL;
    worker->connected = worker->listed = false;
    pando_worker_release(worker);
}

// ---- looking

uint64_t pando_worker_id(const pando_worker *worker) { return worker != NULL ? worker->id : 0; }
pid_t pando_worker_pid(const pando_worker *worker) { return worker != NULL ? worker->pid : 0; }
int pando_worker_slot(const pando_worker *worker) { return worker != NULL ? worker->number : -1; }
bool pando_worker_is_connected(const pando_worker *worker) { return worker != NULL && worker->connected; }
bool pando_worker_is_dead(const pando_worker *worker) { return worker == NULL || worker->dead || worker->cluster == NULL; }
void *pando_worker_data(const pando_worker *worker) { return worker != NULL ? worker->data : NULL; }

enum pando_worker_state pando_worker_state(const pando_worker *worker) { return worker != NULL ? worker->state : PANDO_WORKER_DEAD; }

enum pando_voluntary pando_worker_exited_after_disconnect(const pando_worker *worker) {
    return worker != NULL ? worker->voluntary : PANDO_VOLUNTARY_UNKNOWN;
}

int pando_worker_stdio(const pando_worker *worker, int number) {
    return worker != NULL && number >= 0 && number < PANDO_STDIO_COUNT ? worker->stdio[number] : -1;
}

int pando_worker_stdio_take(pando_worker *worker, int number) {
    return worker != NULL && number >= 0 && number < PANDO_STDIO_COUNT ? fd_take(&worker->stdio[number]) : -1;
}

void pando_worker_set_data(pando_worker *worker, void *data) {
    if (worker != NULL) worker->data = data;
}

int pando_worker_watch(pando_worker *worker, const struct pando_worker_events *events, void *arg) {
    if (worker == NULL) return -EINVAL;
    worker->events = events != NULL ? *events : (struct pando_worker_events){0};
    worker->events_arg = arg;
    return 0;
}

// By rising id: the list is in the order of their starts.
pando_worker *pando_worker_next(const pando_cluster *cluster, const pando_worker *after) {
    if (cluster == NULL) return NULL;
    for (struct list_node *at = cluster->workers.next; at != &cluster->workers; at = at->next) {
        pando_worker *worker = list_owner(at, pando_worker, link);
        if (worker->listed && (after == NULL || worker->id > after->id)) return worker;
    }
    return NULL;
}

pando_worker *pando_worker_get(const pando_cluster *cluster, uint64_t id) {
    pando_worker *worker = NULL;
    while ((worker = pando_worker_next(cluster, worker)) != NULL && worker->id != id) continue;
    return worker;
}

size_t pando_worker_count(const pando_cluster *cluster) {
    size_t count = 0;
    for (pando_worker *worker = NULL; (worker = pando_worker_next(cluster, worker)) != NULL;) count++;
    return count;
}

// ---- messages

static int send_frame(pando_worker *worker, enum message_kind kind, const void *data, size_t len, int fd) {
    if (worker == NULL || (data == NULL && len > 0)) return -EINVAL;
    if (!worker->connected || worker->seen == NULL) return -EPIPE;
    return courier_put(worker->seen->courier, kind, data, len, fd);
}

int pando_worker_send(pando_worker *worker, const void *data, size_t len, int fd) {
    return send_frame(worker, MESSAGE_BYTES, data, len, fd);
}

int pando_worker_send_json(pando_worker *worker, const struct json_t *json, int fd) {
    char *text = json == NULL ? NULL : json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY);
    if (text == NULL) return -EINVAL;
    int r = send_frame(worker, MESSAGE_JSON, text, strlen(text), fd);
    free(text);
    return r;
}

size_t pando_broadcast(pando_cluster *cluster, const pando_worker *except, const struct pando_message *message) {
    size_t count = 0;
    if (message == NULL) return 0;
    enum message_kind kind = message->is_json ? MESSAGE_JSON : MESSAGE_BYTES;
    for (pando_worker *worker = NULL; (worker = pando_worker_next(cluster, worker)) != NULL;)
        count += worker != except && send_frame(worker, kind, message->data.data, message->data.len, message->fd) >= 0;
    return count;
}

int pando_worker_pause(pando_worker *worker, bool pause) {
    if (worker == NULL) return -EINVAL;
    if (!worker->connected || worker->seen == NULL) return -EPIPE;
    courier_pause(worker->seen->courier, pause);
    return 0;
}

// ---- its end

int pando_worker_disconnect(pando_worker *worker) {
    if (worker == NULL) return -EINVAL;
    if (worker->dead || worker->cluster == NULL) return -ESRCH;
    worker->voluntary = PANDO_VOLUNTARY_YES;
    worker->listed = false;
    if (worker->state < PANDO_WORKER_DISCONNECTING) worker->state = PANDO_WORKER_DISCONNECTING;
    pool_finish(&worker->cluster->primary.pool, worker->seen->worker, CLOCK_NEVER);
    return 0;
}

int pando_worker_kill(pando_worker *worker, int signal) {
    if (worker == NULL || signal < 0) return -EINVAL;
    if (worker->dead || worker->cluster == NULL) return -ESRCH;
    return link_kill(&worker->cluster->primary.link, worker->pid, signal == 0 ? SIGTERM : signal, false);
}
