// SPDX-License-Identifier: MIT
#include "courier.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fd.h"
#include "log.h"

enum { LAST_READS = 64 };

struct courier {
    struct primary_worker *seen;      // borrowed; NULL once the worker has ended
    struct message_channel *channel;  // owned; NULL = closed
    uv_poll_t poll;
    int watched;              // events that the loop watches: to say so again costs two system calls
    struct list_node unsent;  // primary.unsent
    bool drained;             // it was told to finish
    bool paused;
    bool blocked;    // the worker has to read before more can be written
    bool held_back;  // somebody waits for on_writable
    bool finished;   // freed when the handle is closed
};

static const struct courier_events *events_of(const struct courier *courier) {
    static const struct courier_events none = {0};
    const struct courier_events *events = courier->seen->primary->courier_events;
    return events != NULL ? events : &none;
}

// ---- what the loop watches

static void on_poll(uv_poll_t *poll, int status, int events);

static void watch(struct courier *courier) {
    if (courier->channel == NULL) return;
    bool undelivered = !courier->paused && message_channel_has_more(courier->channel);
    int wanted = (courier->paused ? 0 : UV_READABLE) | (courier->blocked || undelivered || courier->held_back ? UV_WRITABLE : 0);
    if (wanted == courier->watched) return;
    courier->watched = wanted;
    if (wanted == 0)
        uv_poll_stop(&courier->poll);
    else
        uv_poll_start(&courier->poll, wanted, on_poll);
}

static void on_handle_closed(uv_handle_t *handle) {
    struct courier *courier = handle->data;
    courier->poll.data = NULL;
    if (courier->finished) free(courier);
}

static void closed(struct courier *courier, int why) {
    if (courier->channel == NULL) return;
    list_remove(&courier->unsent);
    uv_close((uv_handle_t *)&courier->poll, on_handle_closed);
    message_channel_close(courier->channel);
    courier->channel = NULL;
    const struct courier_events *events = events_of(courier);
    if (why != 0) log_warn("worker %d: its channel is closed: it sent what is no message", worker_number(courier->seen->worker));
    if (events->on_closed != NULL) events->on_closed(courier->seen, why);
}

void courier_close(struct courier *courier) {
    if (courier != NULL) closed(courier, 0);
}

bool courier_is_open(const struct courier *courier) { return courier != NULL && courier->channel != NULL; }

// ---- what goes

// A peer that is gone is seen by reading.
static void flush(struct courier *courier) {
    courier->blocked = message_channel_flush(courier->channel) == 1;
    watch(courier);
}

int courier_put(struct courier *courier, enum message_kind kind, const void *data, size_t len, int fd) {
    if (!courier_is_open(courier)) return -EPIPE;
    int r = message_channel_put(courier->channel, kind, 0, data, len, fd);
    // What waits for the end of the turn has not been offered yet.
    if ((r == 1 || r == -EAGAIN) && !courier->blocked) {
        flush(courier);
        if (r == -EAGAIN) r = message_channel_put(courier->channel, kind, 0, data, len, fd);
    }
    if (r == 1 && message_channel_queued(courier->channel) <= MESSAGE_HIGH_WATER) r = 0;
    if (r >= 0 && list_empty(&courier->unsent)) list_append(&courier->seen->primary->unsent, &courier->unsent);
    if (r != 1 && r != -EAGAIN) return r;
    courier->held_back = true;
    watch(courier);
    return r;
}

void courier_flush_all(struct list_node *unsent) {
    while (!list_empty(unsent)) {
        struct courier *courier = list_owner(unsent->next, struct courier, unsent);
        list_remove(&courier->unsent);
        if (message_channel_queued(courier->channel) > 0) flush(courier);
    }
}

bool courier_drain(struct courier *courier) {
    if (!courier_is_open(courier)) return false;
    if (!courier->drained) courier_put(courier, MESSAGE_DRAIN, NULL, 0, -1);
    courier->drained = true;
    return courier->seen->worker->record->opened;
}

// ---- what comes

// It did not read yet when it was told to finish; now it does.
static void on_opened(struct courier *courier) {
    struct worker *worker = courier->seen->worker;
    worker->record->opened = true;
    if (worker_state(worker) != WORKER_DRAINING || worker->record->told || !courier->drained) return;
    pool_thaw(&courier->seen->primary->pool, worker);
    worker->record->bid = true;
}

static void on_listen(struct courier *courier, const struct message *message) {
    struct primary_worker *seen = courier->seen;
    const struct courier_events *events = events_of(courier);
    struct pool *pool = &seen->primary->pool;
    struct message_listen wanted;
    int fd = -EINVAL, row = -1, address;
    if (message->len == sizeof wanted) {
        memcpy(&wanted, message->data, sizeof wanted);
        if (wanted.len > 0)
            row = fd = pool_listen(pool, seen->worker, &wanted, &address);
        else
            fd = events->own_fd != NULL ? events->own_fd(seen, wanted.fd) : -ENOTSUP;
    }
    if (row >= 0) fd = pool->listeners.fd[row];
    int32_t result = fd < 0 ? fd : 0;
    int r = message_channel_put(courier->channel, MESSAGE_LISTENED, message->number, &result, sizeof result, fd);
    flush(courier);
    if (r >= 0 && row >= 0) pool_listening(pool, seen->worker, address, row);
}

static bool on_message(void *arg, struct message *message) {
    struct courier *courier = arg;
    const struct courier_events *events = events_of(courier);
    switch (message->kind) {
        case MESSAGE_ONLINE:
            courier->seen->worker->record->online = true;
            if (events->on_online != NULL) events->on_online(courier->seen);
            break;
        case MESSAGE_OPENED: on_opened(courier); break;
        case MESSAGE_READY: pool_on_ready_sign(&courier->seen->primary->pool, courier->seen->worker); break;
        case MESSAGE_LISTEN: on_listen(courier, message); break;
        case MESSAGE_LEAVING:
            if (events->on_leaving != NULL)
                events->on_leaving(courier->seen);
            else
                pool_on_leaving(&courier->seen->primary->pool, courier->seen->worker);
            courier_put(courier, MESSAGE_LEAVE, NULL, 0, -1);
            break;
        case MESSAGE_BYTES:
        case MESSAGE_JSON:
            if (events->on_message != NULL) events->on_message(courier->seen, message);
            break;
        case MESSAGE_LISTENED:
        case MESSAGE_DRAIN:
        case MESSAGE_LEAVE:
        case MESSAGE_KIND_END: break;
    }
    return !courier->paused;
}

static void read_some(struct courier *courier) {
    if (courier->paused) return;
    int r = message_channel_resume(courier->channel);
    if (r == 1 && courier->channel != NULL && !courier->paused) r = message_channel_on_readable(courier->channel);
    if (courier->channel != NULL && r != 1) closed(courier, r);
}

static void write_some(struct courier *courier) {
    if (courier->channel == NULL) return;
    const struct courier_events *events = events_of(courier);
    courier->blocked = message_channel_flush(courier->channel) == 1;
    bool room = courier->held_back && message_channel_queued(courier->channel) <= MESSAGE_HIGH_WATER;
    if (room) courier->held_back = false;
    if (room && events->on_writable != NULL) events->on_writable(courier->seen);
    watch(courier);
}

static void on_poll(uv_poll_t *poll, int status, int events) {
    struct courier *courier = poll->data;
    struct primary *primary = courier->seen->primary;
    (void)events;
    if (status != 0) courier->watched = 0;  // libuv has stopped it; reading tells what it was
    read_some(courier);
    write_some(courier);
    primary_wake(primary);
}

void courier_pause(struct courier *courier, bool pause) {
    if (!courier_is_open(courier)) return;
    courier->paused = pause;
    watch(courier);
}

// ---- life

struct courier *courier_open(struct primary_worker *seen, int fd_take) {
    struct primary *primary = seen->primary;
    struct courier *courier = calloc(1, sizeof *courier);
    if (courier == NULL || uv_poll_init(primary->loop, &courier->poll, fd_take) != 0) {
        fd_close(&fd_take);
        free(courier);
        return NULL;
    }
    struct message_channel_options options = {
        .message_max = primary->message_max, .queue_max = primary->message_queue_max, .on_message = on_message, .arg = courier};
    courier->seen = seen;
    courier->poll.data = courier;
    list_init(&courier->unsent);
    courier->channel = message_channel_open(fd_take, &options);
    if (courier->channel == NULL) {
        courier->finished = true;
        uv_close((uv_handle_t *)&courier->poll, on_handle_closed);
        return NULL;
    }
    watch(courier);
    return courier;
}

void courier_finish(struct courier *courier) {
    if (courier == NULL) return;
    int r = 1;
    courier->paused = false;
    for (int i = 0; i < LAST_READS && courier->channel != NULL && r == 1; i++) {
        r = message_channel_resume(courier->channel);
        if (r == 1 && courier->channel != NULL) r = message_channel_on_readable(courier->channel);
    }
    closed(courier, 0);
    courier->finished = true;
    if (courier->poll.data == NULL) free(courier);
}
