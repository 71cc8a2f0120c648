// SPDX-License-Identifier: MIT
// A client is in one of four conditions: talking (requests are answered as they come), waiting (its wish was begun, the
// answer follows when it has come true), following (output lines go to it), or being closed.
#include "control.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "buf.h"
#include "clock.h"
#include "fd.h"
#include "json_text.h"
#include "log.h"
#include "messages.h"
#include "primary.h"
#include "reload.h"
#include "rollout.h"
#include "status.h"
#include "upgrade.h"

enum { CLIENT_MAX = 128, REQUEST_MAX = 64 * 1024, FOLLOW_QUEUE_MAX = 1 << 20, LINES_DEFAULT = 1000, LINES_MAX = 100000 };
#define HALF_LINE_MS 10000

enum waiting { WAITING_NOT, WAITING_SCALE, WAITING_RESTART, WAITING_STOP, WAITING_TURN, WAITING_RELOAD, WAITING_ROLLBACK, WAITING_UPGRADE };

struct client {
    uv_pipe_t pipe;
    uv_timer_t patience;  // half a line is not waited for for ever
    struct control *control;
    struct client *next;
    struct buf in;
    enum waiting waiting;
    int number;  // what the answer to a wish names
    json_t *request;  // owned; a reload that waits for its turn
    uint32_t serial;  // of the roll-out that is waited for
    bool served;      // that one has come to its good end; its old workers may still be leaving
    bool follows, follows_messages, closing;
    int open_handles;
    unsigned long lost;
};

struct control {
    struct primary *primary;  // borrowed
    uv_pipe_t listener;
    struct client *first;
    size_t count;
};

// ---- writing

struct write {
    uv_write_t request;
    char *data;  // owned
};

static void on_written(uv_write_t *request, int status) {
    struct write *write = (struct write *)request;
    (void)status;
    free(write->data);
    free(write);
}

static void send_bytes(struct client *client, char *text_take, size_t len) {
    struct write *write = client->closing || text_take == NULL ? NULL : malloc(sizeof *write);
    if (write == NULL) {
        free(text_take);
        return;
    }
    write->data = text_take;
    uv_buf_t buf = uv_buf_init(text_take, (unsigned)len);
    if (uv_write(&write->request, (uv_stream_t *)&client->pipe, &buf, 1, on_written) != 0) on_written(&write->request, 0);
}

static void send_json(struct client *client, json_t *json_take) {
    char *text = json_take == NULL ? NULL : json_dumps(json_take, JSON_COMPACT);
    size_t len = text == NULL ? 0 : strlen(text);
    char *line = text == NULL ? NULL : realloc(text, len + 2);
    json_decref(json_take);
    if (line == NULL) return;
    line[len] = '\n';
    line[len + 1] = '\0';
    send_bytes(client, line, len + 1);
}

static void send_result(struct client *client, json_t *result_take) {
    send_json(client, json_pack("{s:b, s:o}", "ok", 1, "result", result_take));
}

static void send_error(struct client *client, int code, const char *format, ...) {
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    send_json(client, json_pack("{s:b, s:i, s:s}", "ok", 0, "code", code, "error", text));
}

// ---- closing

static void on_closed(uv_handle_t *handle) {
    struct client *client = handle->data;
    if (--client->open_handles > 0) return;
    struct client **link = &client->control->first;
    while (*link != client) link = &(*link)->next;
    *link = client->next;
    client->control->count--;
    buf_deinit(&client->in);
    json_decref(client->request);
    free(client);
}

static void client_close(struct client *client) {
    if (client->closing) return;
    client->closing = true;
    uv_close((uv_handle_t *)&client->pipe, on_closed);
    uv_close((uv_handle_t *)&client->patience, on_closed);
}

static void on_shutdown(uv_shutdown_t *request, int status) {
    (void)status;
    client_close(request->data);
    free(request);
}

// What was written still arrives.
static void client_close_gently(struct client *client) {
    uv_shutdown_t *request = calloc(1, sizeof *request);
    if (request == NULL) {
        client_close(client);
        return;
    }
    request->data = client;
    if (uv_shutdown(request, (uv_stream_t *)&client->pipe, on_shutdown) == 0) return;
    free(request);
    client_close(client);
}

// ---- verbs

static void verb_status(struct client *client, const json_t *request) {
    (void)request;
    send_result(client, status_json(client->control->primary));
}

static void verb_info(struct client *client, const json_t *request) {
    (void)request;
    send_result(client, info_json(client->control->primary));
}

static void verb_ping(struct client *client, const json_t *request) {
    struct primary *primary = client->control->primary;
    (void)request;
    send_result(client, json_pack("{s:o, s:i, s:s}", "pid", primary->keeper_gone ? json_null() : json_integer(primary->keeper),
                                  "primary", (int)getpid(), "version", PANDO_VERSION));
}

static bool busy_with_the_end(struct client *client, const char *verb) {
    struct primary *primary = client->control->primary;
    if (primary->pool.record->stopping)
        send_error(client, 1, "%s: the instance is being stopped", verb);
    else if (primary->keeper_gone)
        send_error(client, 1, "%s: the keeper was killed: no worker can be started; `pando stop`, then `pando run` again", verb);
    else
        return false;
    return true;
}

// A number, or "+N", "-N" beside what there is. -1 = neither.
static long wanted_workers(const struct primary *primary, const json_t *workers) {
    if (json_is_integer(workers)) return (long)json_integer_value(workers);
    const char *text = json_string_value(workers);
    if (text == NULL || (text[0] != '+' && text[0] != '-')) return -1;
    char *end;
    errno = 0;
    long change = strtol(text, &end, 10);
    if (errno != 0 || end == text + 1 || *end != '\0' || change > LAUNCH_WORKERS_MAX || change < -LAUNCH_WORKERS_MAX) return -1;
    return (long)primary->pool.record->wanted + change;
}

static void verb_scale(struct client *client, const json_t *request) {
    struct primary *primary = client->control->primary;
    long workers = wanted_workers(primary, json_object_get(request, "workers"));
    if (busy_with_the_end(client, "scale")) return;
    if (workers < 1 || workers > LAUNCH_WORKERS_MAX) {
        send_error(client, 2, "scale: %ld workers: give a number from 1 to %d, or +N or -N that leads to one", workers,
                   LAUNCH_WORKERS_MAX);
        return;
    }
    log_info("scaled from %u to %ld workers", primary->pool.record->wanted, workers);
    client->waiting = WAITING_SCALE;
    client->number = (int)workers;
    pool_scale(&primary->pool, (int)workers);
}

static void verb_restart(struct client *client, const json_t *request) {
    struct primary *primary = client->control->primary;
    const json_t *slot = json_object_get(request, "slot");
    if (busy_with_the_end(client, "restart")) return;
    bool restarts = rollout_runs(&primary->pool) && primary->pool.record->rollout.again;
    if (rollout_runs(&primary->pool) && !restarts) {
        send_error(client, 1, "restart: a reload is under way: it replaces all workers anyway");
        return;
    }
    bool known = slot == NULL || (json_is_integer(slot) && json_integer_value(slot) >= 0 &&
                                  json_integer_value(slot) < primary->pool.record->wanted);
    if (!known) {
        char *text = json_dumps(slot, JSON_COMPACT | JSON_ENCODE_ANY);
        send_error(client, 2, "restart: no slot %.40s: `pando status` lists them", text != NULL ? text : "");
        free(text);
        return;
    }
    client->waiting = WAITING_RESTART;
    client->number = slot != NULL ? 1 : (int)primary->pool.record->wanted;
    log_info("restarting %s", slot != NULL ? "one worker" : "all workers");
    if (!restarts) pool_restart(&primary->pool, slot != NULL ? (int)json_integer_value(slot) : -1);
    primary_wake(primary);
}

static void verb_reload(struct client *client, const json_t *request) {
    struct primary *primary = client->control->primary;
    if (busy_with_the_end(client, "reload")) return;
    if (json_is_true(json_object_get(request, "abort")) && rollout_runs(&primary->pool))
        rollout_abort(&primary->pool, "cancelled: another reload was asked for");
    client->request = json_deep_copy(request);
    client->waiting = WAITING_TURN;
    primary_wake(primary);
}

static void verb_rollback(struct client *client, const json_t *request) {
    struct primary *primary = client->control->primary;
    struct pando_error error = {0};
    (void)request;
    if (busy_with_the_end(client, "rollback")) return;
    if (rollout_runs(&primary->pool)) {
        rollout_abort(&primary->pool, "cancelled: a rollback was asked for");
    } else if (rollout_back(&primary->pool, &error) != 0) {
        send_error(client, 1, "rollback: %s", error.text);
        return;
    }
    client->waiting = WAITING_ROLLBACK;
    client->served = false;
    client->serial = primary->pool.record->rollout.serial;
    primary_wake(primary);
}

// For whoever asked for a reload and lost the primary that did it.
static void verb_rollout(struct client *client, const json_t *request) {
    struct primary *primary = client->control->primary;
    (void)request;
    client->waiting = WAITING_RELOAD;
    client->serial = primary->pool.record->rollout.serial;
    primary_wake(primary);
}

static void verb_upgrade(struct client *client, const json_t *request) {
    struct primary *primary = client->control->primary;
    const json_t *program = json_object_get(request, "program");
    if (busy_with_the_end(client, "upgrade")) return;
    if (program != NULL && (!json_is_string(program) || json_string_value(program)[0] != '/')) {
        send_error(client, 2, "upgrade: program: give an absolute path");
        return;
    }
    if (!upgrade_begin(primary, json_string_value(program)))
        send_error(client, 1, "upgrade: another one is under way");
    else
        client->waiting = WAITING_UPGRADE;
}

static void verb_stop(struct client *client, const json_t *request) {
    const json_t *now = json_object_get(request, "now");
    if (now != NULL && !json_is_boolean(now)) {
        send_error(client, 2, "stop: now: give true or false");
        return;
    }
    client->waiting = WAITING_STOP;
    primary_stop(client->control->primary, json_is_true(now));
}

static void add_line(void *lines, const char *line, size_t len) {
    json_t *text = json_text(line, len);
    if (text != NULL) json_array_append_new(lines, text);
}

static void verb_logs(struct client *client, const json_t *request) {
    const json_t *count = json_object_get(request, "lines"), *follow = json_object_get(request, "follow");
    json_int_t wanted = count == NULL ? LINES_DEFAULT : json_is_integer(count) ? json_integer_value(count) : -1;
    if (wanted < 0 || wanted > LINES_MAX) {
        send_error(client, 2, "logs: lines: give a number from 0 to %d", LINES_MAX);
        return;
    }
    if (follow != NULL && !json_is_boolean(follow)) {
        send_error(client, 2, "logs: follow: give true or false");
        return;
    }
    json_t *lines = json_array();
    ring_tail(client->control->primary->output.ring, (size_t)wanted, add_line, lines);
    send_result(client, json_pack("{s:o}", "lines", lines));
    client->follows = json_is_true(follow);
}

static void verb_messages(struct client *client, const json_t *request) {
    const json_t *count = json_object_get(request, "lines"), *follow = json_object_get(request, "follow");
    json_int_t wanted = count == NULL ? MESSAGES_KEPT : json_is_integer(count) ? json_integer_value(count) : -1;
    if (wanted < 0) {
        send_error(client, 2, "messages: lines: give a number from 0");
        return;
    }
    if (follow != NULL && !json_is_boolean(follow)) {
        send_error(client, 2, "messages: follow: give true or false");
        return;
    }
    send_result(client, json_pack("{s:o}", "messages", messages_json(client->control->primary, (size_t)wanted)));
    client->follows_messages = json_is_true(follow);
}

static const struct {
    const char *name;
    void (*run)(struct client *client, const json_t *request);
} verbs[] = {
    {"status", verb_status}, {"info", verb_info}, {"ping", verb_ping}, {"scale", verb_scale},
    {"restart", verb_restart}, {"stop", verb_stop}, {"logs", verb_logs}, {"messages", verb_messages}, {"reload", verb_reload},
    {"rollback", verb_rollback}, {"rollout", verb_rollout}, {"upgrade", verb_upgrade},
};

static void on_request(struct client *client, const char *line, size_t len) {
    json_error_t error;
    json_t *request = json_loadb(line, len, JSON_REJECT_DUPLICATES, &error);
    const char *verb = json_string_value(json_object_get(request, "verb"));
    size_t i = 0;
    while (verb != NULL && i < sizeof verbs / sizeof *verbs && strcmp(verbs[i].name, verb) != 0) i++;
    if (request == NULL)
        send_error(client, 2, "request: not JSON: %s", error.text);
    else if (verb == NULL)
        send_error(client, 2, "request: give an object with a string \"verb\"");
    else if (i == sizeof verbs / sizeof *verbs)
        send_error(client, 2, "request: unknown verb \"%.60s\"", verb);
    else
        verbs[i].run(client, request);
    json_decref(request);
}

// ---- reading

static void on_impatient(uv_timer_t *timer) {
    struct client *client = timer->data;
    send_error(client, 2, "request: half a line, and nothing more for %d s", HALF_LINE_MS / 1000);
    client_close_gently(client);
}

// Answers in order: while a wish is being fulfilled, further requests of this client wait.
static void take_lines(struct client *client) {
    char *newline;
    while (!client->closing && client->waiting == WAITING_NOT && client->in.len > 0 &&
           (newline = memchr(client->in.data, '\n', client->in.len)) != NULL) {
        size_t len = (size_t)(newline - client->in.data);
        on_request(client, client->in.data, len);
        buf_consume(&client->in, len + 1);
    }
    if (client->closing) return;
    if (client->in.len > 0 && client->waiting == WAITING_NOT)
        uv_timer_start(&client->patience, on_impatient, HALF_LINE_MS, 0);
    else
        uv_timer_stop(&client->patience);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out) {
    static char bytes[16 * 1024];  // used up before the next read
    (void)handle;
    (void)suggested;
    *out = uv_buf_init(bytes, sizeof bytes);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *bytes) {
    struct client *client = stream->data;
    if (n < 0) {
        client_close(client);
        return;
    }
    buf_append(&client->in, bytes->base, (size_t)n);
    if (client->in.failed || client->in.len > REQUEST_MAX) {
        uv_read_stop(stream);
        send_error(client, 2, "request: longer than %d bytes", REQUEST_MAX);
        client_close_gently(client);
        return;
    }
    take_lines(client);
}

// ---- accepting

static bool may_speak(uv_pipe_t *pipe) {
    struct ucred who;
    socklen_t len = sizeof who;
    uv_os_fd_t fd;
    if (uv_fileno((uv_handle_t *)pipe, &fd) != 0 || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) != 0) return false;
    return who.uid == 0 || who.uid == geteuid();
}

// Room for one more: the oldest that neither waits for a wish nor follows the log has to go.
static bool make_room(struct control *control) {
    struct client *oldest = NULL;
    if (control->count <= CLIENT_MAX) return true;
    for (struct client *client = control->first; client != NULL; client = client->next)
        if (client != control->first && !client->closing && client->waiting == WAITING_NOT && !client->follows && !client->follows_messages)
            oldest = client;
    if (oldest != NULL) client_close(oldest);
    return oldest != NULL;
}

static struct client *client_new(struct control *control) {
    struct client *client = calloc(1, sizeof *client);
    if (client == NULL) return NULL;
    client->control = control;
    client->next = control->first;
    control->first = client;
    control->count++;
    client->open_handles = 2;
    uv_pipe_init(control->primary->loop, &client->pipe, 0);
    uv_timer_init(control->primary->loop, &client->patience);
    client->pipe.data = client->patience.data = client;
    return client;
}

static void on_connection(uv_stream_t *listener, int status) {
    struct control *control = listener->data;
    struct client *client = status == 0 ? client_new(control) : NULL;
    if (client == NULL) return;
    if (uv_accept(listener, (uv_stream_t *)&client->pipe) != 0) {
        client_close(client);
    } else if (!may_speak(&client->pipe)) {
        send_error(client, 1, "refused: only the user that runs this instance, and root, may control it");
        client_close_gently(client);
    } else if (!make_room(control)) {
        send_error(client, 1, "refused: %d clients are connected and wait for answers", CLIENT_MAX);
        client_close_gently(client);
    } else {
        uv_read_start((uv_stream_t *)&client->pipe, on_alloc, on_read);
    }
}

struct control *control_open(struct primary *primary, int listener_take) {
    struct control *control = calloc(1, sizeof *control);
    if (control == NULL) {
        fd_close(&listener_take);
        return NULL;
    }
    control->primary = primary;
    uv_pipe_init(primary->loop, &control->listener, 0);
    control->listener.data = control;
    if (uv_pipe_open(&control->listener, listener_take) == 0 &&
        uv_listen((uv_stream_t *)&control->listener, SOMAXCONN, on_connection) == 0)
        return control;
    fd_close(&listener_take);
    free(control);
    return NULL;
}

// ---- wishes that come true

// One reload at a time: the others wait.
static bool take_turn(struct client *client) {
    struct primary *primary = client->control->primary;
    struct pando_error error = {0};
    if (rollout_runs(&primary->pool) || !pool_is_restarted(&primary->pool)) return false;
    int r = reload_begin(primary, client->request, &error);
    json_decref(client->request);
    client->request = NULL;
    if (r != 0) {
        send_error(client, r == -EINVAL ? 2 : 1, "reload: %s", error.text);
        return true;
    }
    client->waiting = WAITING_RELOAD;
    client->served = false;
    client->serial = primary->pool.record->rollout.serial;
    return false;
}

static bool answer_reload(struct client *client) {
    struct primary *primary = client->control->primary;
    const struct record_rollout *rollout = &primary->pool.record->rollout;
    bool back = client->waiting == WAITING_ROLLBACK, mine = rollout->serial == client->serial;
    if (!mine && client->served)
        send_result(client, reload_done_json(primary));
    else if (!mine)
        send_error(client, 1, "another reload came in between");
    else if (back ? rollout_runs(&primary->pool) : !rollout_is_over(&primary->pool))
        return false;
    else if (rollout->failed && !back)
        send_json(client, reload_failed_json(primary));
    else
        send_result(client, reload_done_json(primary));
    return true;
}

static bool answer_wish(struct client *client) {
    struct pool *pool = &client->control->primary->pool;
    if (!pool->record->stopping && client->waiting == WAITING_TURN) return take_turn(client);
    if (!pool->record->stopping && (client->waiting == WAITING_RELOAD || client->waiting == WAITING_ROLLBACK)) return answer_reload(client);
    if (client->waiting == WAITING_SCALE && (int)pool->record->wanted != client->number)
        send_error(client, 1, "scale: another scale came in between");
    else if (client->waiting == WAITING_SCALE && pool_is_scaled(pool))
        send_result(client, json_pack("{s:i}", "workers", client->number));
    else if (client->waiting == WAITING_RESTART && pool->restart_why[0] != '\0')
        send_error(client, 1, "restart: %s", pool->restart_why);
    else if (client->waiting == WAITING_RESTART && pool_is_restarted(pool))
        send_result(client, json_pack("{s:i}", "restarted", client->number));
    else if (client->waiting == WAITING_UPGRADE && client->control->primary->upgrade_state == UPGRADE_REFUSED)
        send_error(client, 4, "upgrade: %s", client->control->primary->upgrade_why);
    else if (client->waiting == WAITING_UPGRADE && client->control->primary->upgrade_state == UPGRADE_DONE)
        send_result(client, json_pack("{s:s, s:s, s:s}", "from", pool->record->upgrade_from, "version", PANDO_VERSION, "program",
                                      pool->record->program));
    else if (pool->record->stopping && client->waiting != WAITING_STOP)
        send_error(client, 1, "the instance is being stopped");
    else
        return false;
    return true;
}

// Before anybody may begin another one.
static void note_served(struct control *control) {
    const struct pool *pool = &control->primary->pool;
    for (struct client *client = control->first; client != NULL; client = client->next)
        client->served |= client->serial == pool->record->rollout.serial && !rollout_runs(pool) && !pool->record->rollout.failed;
}

void control_on_changed(struct control *control) {
    struct client *next;
    if (control != NULL) note_served(control);
    for (struct client *client = control == NULL ? NULL : control->first; client != NULL; client = next) {
        next = client->next;
        if (client->closing || client->waiting == WAITING_NOT || !answer_wish(client)) continue;
        client->waiting = WAITING_NOT;
        take_lines(client);
    }
}

void control_progress(struct control *control, const char *line) {
    for (struct client *client = control == NULL ? NULL : control->first; client != NULL; client = client->next)
        if (!client->closing && (client->waiting == WAITING_RELOAD || client->waiting == WAITING_ROLLBACK))
            send_json(client, json_pack("{s:o}", "progress", json_text(line, strlen(line))));
}

// A reader that is too slow loses what there is no room for, and is told how much.
static bool has_room(struct client *client) {
    if (uv_stream_get_write_queue_size((uv_stream_t *)&client->pipe) > FOLLOW_QUEUE_MAX) {
        client->lost++;
        return false;
    }
    if (client->lost > 0) send_json(client, json_pack("{s:I}", "lost", (json_int_t)client->lost));
    client->lost = 0;
    return true;
}

void control_tell_message(struct control *control, const char *line, size_t len) {
    for (struct client *client = control == NULL ? NULL : control->first; client != NULL; client = client->next) {
        if (!client->follows_messages || client->closing || !has_room(client)) continue;
        char *copy = malloc(len + 2);
        if (copy == NULL) continue;
        memcpy(copy, line, len);
        strcpy(copy + len, "\n");
        send_bytes(client, copy, len + 1);
    }
}

void control_follow(void *arg, const char *line, size_t len) {
    struct control *control = arg;
    for (struct client *client = control == NULL ? NULL : control->first; client != NULL; client = client->next) {
        if (!client->follows || client->closing || !has_room(client)) continue;
        json_t *one = json_array();
        add_line(one, line, len > 0 ? len - 1 : 0);
        send_json(client, json_pack("{s:O}", "line", json_array_get(one, 0)));
        json_decref(one);
    }
}

void control_finish(struct control *control, const char *why) {
    uv_os_fd_t fd;
    uint64_t key = 0;
    for (struct client *client = control == NULL ? NULL : control->first; client != NULL; client = client->next) {
        if (client->closing || client->waiting == WAITING_NOT) continue;
        if (client->waiting == WAITING_STOP)
            send_result(client, json_pack("{s:b}", "stopped", 1));
        else
            send_error(client, 1, "the instance has ended: %s", why != NULL ? why : "it was stopped");
        if (uv_fileno((uv_handle_t *)&client->pipe, &fd) == 0 && !control->primary->keeper_gone)
            link_hold(&control->primary->link, HELD_CLIENT, key++, fd);
    }
}

// ---- connections that outlive this primary

void control_hold_upgraders(struct control *control) {
    uv_os_fd_t fd;
    uint64_t key = 0;
    for (struct client *client = control == NULL ? NULL : control->first; client != NULL; client = client->next) {
        if (client->closing || client->waiting != WAITING_UPGRADE || uv_fileno((uv_handle_t *)&client->pipe, &fd) != 0) continue;
        link_hold(&control->primary->link, HELD_UPGRADER, key++, fd);
    }
}

void control_drop_upgraders(struct control *control) {
    if (control != NULL) link_drop_all(&control->primary->link, HELD_UPGRADER);
}

void control_adopt_upgrader(struct control *control, int fd_take) {
    struct client *client = control == NULL ? NULL : client_new(control);
    if (client == NULL) {
        fd_close(&fd_take);
        return;
    }
    client->waiting = WAITING_UPGRADE;
    if (uv_pipe_open(&client->pipe, fd_take) != 0) {
        fd_close(&fd_take);
        client_close(client);
        return;
    }
    uv_read_start((uv_stream_t *)&client->pipe, on_alloc, on_read);
}
