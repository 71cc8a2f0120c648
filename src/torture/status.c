// SPDX-License-Identifier: MIT
#include "status.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "buf.h"
#include "fd.h"
#include "home.h"
#include "str.h"

#define ANSWER_MAX (4U << 20)
#define PATIENCE_S 2

static const char request[] = "{\"verb\": \"status\"}\n";

// Up to the end of the line. 0 or -errno.
static int read_line(int fd, struct buf *line) {
    char data[8192];
    while (line->len == 0 || line->data[line->len - 1] != '\n') {
        ssize_t got = recv(fd, data, sizeof data, 0);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return got < 0 ? -errno : -ECONNRESET;
        buf_append(line, data, (size_t)got);
        if (line->failed || line->len > ANSWER_MAX) return -EMSGSIZE;
    }
    return 0;
}

static int ask(int home, struct buf *line) {
    struct timeval limit = {.tv_sec = PATIENCE_S};
    scoped_fd fd = home_connect(home, INSTANCE_NAME);
    if (fd < 0) return fd;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (send(fd, request, strlen(request), MSG_NOSIGNAL) < 0) return -errno;
    return read_line(fd, line);
}

static int number(const json_t *object, const char *key) { return (int)json_integer_value(json_object_get(object, key)); }

static void copy_text(char *out, size_t size, const json_t *value) {
    const char *text = json_string_value(value);
    str_copy(out, size, text ? text : "");
}

static bool leaves(const json_t *worker) {
    const char *state = json_string_value(json_object_get(worker, "state"));
    bool is_leaving = state && (strcmp(state, "draining") == 0 || strcmp(state, "retiring") == 0);
    return is_leaving || json_is_true(json_object_get(worker, "kept"));
}

static void read_worker(const json_t *json, struct status_worker *out) {
    const char *state = json_string_value(json_object_get(json, "state"));
    *out = (struct status_worker){.slot = number(json, "slot"),
                                  .generation = number(json, "generation"),
                                  .pid = number(json, "pid"),
                                  .serving = state && strcmp(state, "serving") == 0};
    copy_text(out->last_exit, sizeof out->last_exit, json_object_get(json, "last_exit"));
}

static void read_status(const json_t *json, struct status *out) {
    size_t i;
    json_t *value;
    *out = (struct status){.keeper = number(json, "keeper_pid"),
                           .primary = number(json, "primary_pid"),
                           .wanted = number(json, "wanted"),
                           .ready = number(json, "ready"),
                           .generation = number(json, "generation"),
                           .rolling = json_is_object(json_object_get(json, "rollout"))};
    copy_text(out->mode, sizeof out->mode, json_object_get(json, "mode"));
    json_array_foreach(json_object_get(json, "listen"), i, value) {
        if (out->addresses == STATUS_ADDRESSES_MAX) break;
        copy_text(out->address[out->addresses++], sizeof out->address[0], value);
    }
    json_array_foreach(json_object_get(json, "workers"), i, value) {
        if (out->workers == STATUS_WORKERS_MAX) break;
        if (leaves(value)) continue;
        read_worker(value, &out->worker[out->workers++]);
    }
}

int status_read(struct instance *instance, struct status *out) {
    scoped_buf line = {0};
    int err = ask(instance->home, &line);
    if (err) return err;
    json_t *answer = json_loadb(line.data, line.len, 0, NULL);
    const json_t *result = json_object_get(answer, "result");
    err = json_is_object(result) ? 0 : -EPROTO;
    if (!err) read_status(result, out);
    json_decref(answer);
    return err;
}

const struct status_worker *status_worker(const struct status *status, int slot) {
    for (int i = 0; i < status->workers; i++)
        if (status->worker[i].slot == slot) return &status->worker[i];
    return NULL;
}
