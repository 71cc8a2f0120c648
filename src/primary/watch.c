// SPDX-License-Identifier: MIT
#include "watch.h"

#include <stdlib.h>
#include <unistd.h>

#include "fd.h"

struct watch {
    uv_poll_t poll;
    int fd;  // owned
    watch_fn on_readable;
    void *arg;
};

static void on_poll(uv_poll_t *poll, int status, int events) {
    struct watch *watch = poll->data;
    (void)status;  // errors show when the descriptor is read
    (void)events;
    watch->on_readable(watch->arg, watch->fd);
}

struct watch *watch_open(uv_loop_t *loop, int fd_take, watch_fn on_readable, void *arg) {
    struct watch *watch = calloc(1, sizeof *watch);
    if (watch == NULL || uv_poll_init(loop, &watch->poll, fd_take) != 0) {
        fd_close(&fd_take);
        free(watch);
        return NULL;
    }
    watch->fd = fd_take;
    watch->on_readable = on_readable;
    watch->arg = arg;
    watch->poll.data = watch;
    uv_poll_start(&watch->poll, UV_READABLE | UV_DISCONNECT, on_poll);
    return watch;
}

void watch_pause(struct watch *watch, bool pause) {
    if (watch == NULL) return;
    if (pause)
        uv_poll_stop(&watch->poll);
    else
        uv_poll_start(&watch->poll, UV_READABLE | UV_DISCONNECT, on_poll);
}

void watch_ref(struct watch *watch, bool ref) {
    if (watch == NULL) return;
    if (ref)
        uv_ref((uv_handle_t *)&watch->poll);
    else
        uv_unref((uv_handle_t *)&watch->poll);
}

int watch_fd(const struct watch *watch) { return watch->fd; }

static void on_closed(uv_handle_t *handle) {
    struct watch *watch = handle->data;
    free(watch);
}

void watch_close(struct watch *watch) {
    if (watch == NULL) return;
    uv_poll_stop(&watch->poll);
    uv_close((uv_handle_t *)&watch->poll, on_closed);
    fd_close(&watch->fd);
}
