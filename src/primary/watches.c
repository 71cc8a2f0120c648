// SPDX-License-Identifier: MIT
#include "watches.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "courier.h"
#include "fd.h"
#include "log.h"
#include "node.h"
#include "notify.h"

struct primary_worker *watches_of(struct primary *primary, struct worker *worker) {
    struct primary_worker **seen = &primary->worker[worker->slot];
    if (*seen == NULL) *seen = calloc(1, sizeof **seen);
    if (*seen == NULL) return NULL;
    (*seen)->primary = primary;
    (*seen)->worker = worker;
    return *seen;
}

// ---- notifications of bind, listen and socket

static void on_listener(void *arg, int fd) {
    struct primary_worker *seen = arg;
    (void)fd;
    pool_on_notification(&seen->primary->pool, seen->worker);
    node_on_system_call(seen);
    if (seen->worker->listener < 0) {  // no process of it is left
        watch_close(seen->listener);
        seen->listener = NULL;
    }
    primary_wake(seen->primary);
}

void watches_add_listener(struct primary *primary, struct worker *worker) {
    struct primary_worker *seen = watches_of(primary, worker);
    if (seen == NULL || worker->listener < 0) return;
    int fd = fcntl(worker->listener, F_DUPFD_CLOEXEC, 0);
    if (fd >= 0) seen->listener = watch_open(primary->loop, fd, on_listener, seen);
    if (seen->listener == NULL) log_error("worker %d: cannot watch its system calls: %s", worker_number(worker), strerror(errno));
}

// ---- readiness

static void on_ready_pipe(void *arg, int fd) {
    struct primary_worker *seen = arg;
    char bytes[64];
    ssize_t n = read(fd, bytes, sizeof bytes);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n > 0 && memchr(bytes, '\n', (size_t)n) != NULL) pool_on_ready_sign(&seen->primary->pool, seen->worker);
    if (n <= 0) watch_pause(seen->ready_pipe, true);
    primary_wake(seen->primary);
}

static void on_notify_socket(void *arg, int fd) {
    struct worker *worker = arg;
    struct primary_worker *seen = worker->watches;
    int said;
    while ((said = notify_read(fd)) >= 0)
        if (said == 1 && seen != NULL && worker_runs(worker)) pool_on_ready_sign(&seen->primary->pool, worker);
    if (seen != NULL) primary_wake(seen->primary);
}

void watches_notify_socket(struct primary *primary, int slot, int fd_take) {
    struct worker *worker = &primary->pool.worker[slot];
    if (primary->notify_socket[slot] != NULL || primary->pool.notify_directory[0] == '\0') {
        fd_close(&fd_take);
        return;
    }
    if (fd_take < 0) {
        fd_take = notify_open_socket(primary->pool.notify_directory, slot, &primary->launch);
        if (fd_take >= 0) link_hold(&primary->link, HELD_NOTIFY_SOCKET, (uint64_t)slot, fd_take);
    }
    if (fd_take < 0)
        log_warn("worker %d: no NOTIFY_SOCKET: %s", slot, strerror(-fd_take));
    else
        primary->notify_socket[slot] = watch_open(primary->loop, fd_take, on_notify_socket, worker);
}

// ---- its channel

static void open_channel(struct primary_worker *seen, int fd_take) {
    struct primary *primary = seen->primary;
    int slot = seen->worker->slot, type = SOCK_STREAM;
    socklen_t len = sizeof type;
    getsockopt(fd_take, SOL_SOCKET, SO_TYPE, &type, &len);
    enum launch_channel kind = type == SOCK_STREAM ? LAUNCH_CHANNEL_NODE : LAUNCH_CHANNEL_PANDO;
    seen->channel_kind = kind;
    if (kind == LAUNCH_CHANNEL_PANDO) {
        seen->courier = courier_open(seen, fd_take);
        if (seen->courier == NULL) log_error("worker %d: cannot watch its channel: out of memory", worker_number(seen->worker));
        return;
    }
    seen->channel = worker_channel_open(primary->loop, fd_take, seen->worker->record->token, &primary->channel_memory[slot], &node_events, seen);
    node_begin(seen);
    if (seen->channel == NULL) log_error("worker %d: cannot watch its channel: out of memory", slot);
}

void watches_resume_channels(struct primary *primary) {
    for (uint32_t i = 0; i < primary->pool.record->slot_end; i++)
        if (primary->worker[i] != NULL && primary->worker[i]->channel != NULL) worker_channel_resume(primary->worker[i]->channel);
}

bool watches_drain(struct primary *primary, struct worker *worker) {
    const struct primary_worker *seen = primary->worker[worker->slot];
    return seen != NULL && courier_drain(seen->courier);
}

// ---- a process comes and goes

void watches_start(struct primary *primary, struct worker *worker, struct pool_fds *fds) {
    struct primary_worker *seen = watches_of(primary, worker);
    if (seen == NULL) return;
    worker->watches = seen;
    pid_t pid = worker->record->pid;
    char *tail = worker->record->tail;
    if (fds->out >= 0) seen->out = stream_open(&primary->output, primary->loop, worker_number(worker), pid, false, fd_take(&fds->out), tail);
    if (fds->err >= 0) seen->err = stream_open(&primary->output, primary->loop, worker_number(worker), pid, true, fd_take(&fds->err), tail);
    if (fds->ready_pipe >= 0) seen->ready_pipe = watch_open(primary->loop, fd_take(&fds->ready_pipe), on_ready_pipe, seen);
    if (fds->channel >= 0) open_channel(seen, fd_take(&fds->channel));
    watches_add_listener(primary, worker);
    watches_notify_socket(primary, worker->slot, -1);
}

void watches_end(struct primary *primary, struct worker *worker) {
    struct primary_worker *seen = primary->worker[worker->slot];
    uint64_t token = worker->record->token;
    link_drop(&primary->link, HELD_OUTPUT, token << 1);
    link_drop(&primary->link, HELD_OUTPUT, token << 1 | 1);
    link_drop(&primary->link, HELD_READY_PIPE, token);
    link_drop(&primary->link, HELD_CHANNEL, token);
    if (seen == NULL) return;
    stream_finish(seen->out);
    stream_finish(seen->err);
    worker_channel_drain(seen->channel);
    courier_finish(seen->courier);
    seen->courier = NULL;
    node_end(seen);
    watch_close(seen->listener);
    watch_close(seen->ready_pipe);
    seen->out = seen->err = NULL;
    seen->listener = seen->ready_pipe = NULL;
}
