// SPDX-License-Identifier: MIT
#include "output.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"
#include "watch.h"

enum { READ_BYTES = 64 * 1024, READS_A_TURN = 4, PREFIX_SIZE = 96, FINISH_READS = 64, PATIENCE_MS = 250 };

struct stream {
    struct output *output;
    struct watch *watch;
    int slot;
    pid_t pid;
    bool is_stderr;
    char *tail;  // borrowed
    bool paused;
    struct stream *next_paused;  // output.paused
    char *line;  // owned; grown to what its lines need
    size_t len, cap;
};

// ---- waiting for room

static struct outlet *outlet_of(const struct stream *stream) {
    return stream->is_stderr ? stream->output->err : stream->output->out;
}

// All of them; the one that finds no room waits again.
static void resume_streams(struct output *output) {
    struct stream *stream;
    while ((stream = output->paused) != NULL) {
        output->paused = stream->next_paused;
        stream->paused = false;
        watch_pause(stream->watch, false);
    }
}

static void on_patience_over(uv_timer_t *timer) { resume_streams(timer->data); }

static void pause_stream(struct stream *stream) {
    struct output *output = stream->output;
    stream->paused = true;
    stream->next_paused = output->paused;
    output->paused = stream;
    watch_pause(stream->watch, true);
    if (!uv_is_active((uv_handle_t *)&output->patience)) uv_timer_start(&output->patience, on_patience_over, PATIENCE_MS, 0);
}

static void on_room(uv_async_t *async) { resume_streams(async->data); }
static void tell_room(void *async) { uv_async_send(async); }

int output_init(struct output *output, uv_loop_t *loop, const struct launch *launch) {
    output->format = launch->log_format;
    if (launch->log_file != NULL) {
        output->out = output->err = outlet_open_file(launch->log_file);
    } else {
        output->out = outlet_open_fd(STDOUT_FILENO);
        output->err = outlet_open_fd(STDERR_FILENO);
    }
    if (output->out == NULL || output->err == NULL || uv_async_init(loop, &output->room, on_room) != 0) return -ENOMEM;
    uv_timer_init(loop, &output->patience);
    output->room.data = output->patience.data = output;
    outlet_on_room(output->out, tell_room, &output->room);
    outlet_on_room(output->err, tell_room, &output->room);
    return 0;
}

static void send_line(struct output *output, struct outlet *outlet, const char *line, size_t len) {
    outlet_write(outlet, line, len);
    ring_append(output->ring, line, len);
    if (output->follow != NULL) output->follow(output->arg, line, len);
}

void output_pando_line(void *arg, const char *line, size_t len) {
    struct output *output = arg;
    send_line(output, output->err, line, len);
}

// ---- one worker's stream

static void remember(struct stream *stream, const char *line, size_t len) {
    if (len == 0) return;
    if (len >= RECORD_TAIL_SIZE) len = RECORD_TAIL_SIZE - 1;
    memcpy(stream->tail, line, len);
    stream->tail[len] = '\0';
}

static size_t format_text(const struct stream *stream, const char *line, size_t len, char *out) {
    int prefix = snprintf(out, PREFIX_SIZE, "[%d] ", stream->slot);
    memcpy(out + prefix, line, len);
    out[(size_t)prefix + len] = '\n';
    return (size_t)prefix + len + 1;
}

static size_t format_json(const struct stream *stream, const char *line, size_t len, char *out, size_t size) {
    char time[32];
    size_t at = (size_t)snprintf(out, size, "{\"time\":\"%s\",\"slot\":%d,\"pid\":%d,\"stream\":\"%s\",\"line\":\"",
                                 clock_text(time, sizeof time), stream->slot, (int)stream->pid,
                                 stream->is_stderr ? "stderr" : "stdout");
    at += log_json_escape(line, len, out + at, size - at - 4);
    memcpy(out + at, "\"}\n", 3);
    return at + 3;
}

static void emit(struct stream *stream, const char *line, size_t len) {
    // A byte takes six at worst in JSON (\u00XX).
    static char formatted[OUTPUT_LINE_MAX * 6 + 256];
    struct output *output = stream->output;
    size_t size = output->format == LAUNCH_LOG_JSON ? format_json(stream, line, len, formatted, sizeof formatted)
                                                    : format_text(stream, line, len, formatted);
    remember(stream, line, len);
    send_line(output, stream->is_stderr ? output->err : output->out, formatted, size);
}

static bool keep_rest(struct stream *stream, const char *data, size_t len) {
    if (stream->len + len > stream->cap) {
        size_t cap = (stream->len + len) * 2 < 512 ? 512 : (stream->len + len) * 2;
        char *grown = realloc(stream->line, cap);
        if (grown == NULL) return false;
        stream->line = grown;
        stream->cap = cap;
    }
    memcpy(stream->line + stream->len, data, len);
    stream->len += len;
    return true;
}

static void end_line(struct stream *stream, const char *data, size_t len) {
    if (stream->len == 0) {
        emit(stream, data, len);
        return;
    }
    if (keep_rest(stream, data, len)) emit(stream, stream->line, stream->len);
    stream->len = 0;
    if (stream->cap > 4096) {  // one long line is no reason to keep its room
        free(stream->line);
        stream->line = NULL;
        stream->cap = 0;
    }
}

static void take_bytes(struct stream *stream, const char *data, size_t len) {
    while (len > 0) {
        const char *newline = memchr(data, '\n', len);
        size_t part = newline != NULL ? (size_t)(newline - data) : len;
        bool too_long = stream->len + part > OUTPUT_LINE_MAX;
        if (too_long) part = OUTPUT_LINE_MAX - stream->len;
        if (newline != NULL || too_long)
            end_line(stream, data, part);
        else if (!keep_rest(stream, data, part))
            stream->len = 0;
        part += newline != NULL && !too_long;
        data += part;
        len -= part;
    }
}

// False at the end of the pipe.
static bool read_some(struct stream *stream, int fd, int reads) {
    static char bytes[READ_BYTES];
    for (int i = 0; i < reads; i++) {
        ssize_t n = read(fd, bytes, sizeof bytes);
        if (n < 0) return errno == EAGAIN || errno == EINTR;
        if (n == 0) return false;
        take_bytes(stream, bytes, (size_t)n);
        if ((size_t)n < sizeof bytes) return true;
    }
    return true;
}

// A worker that closed its pipe and lives: nothing more to read, and the loop must not spin.
static void on_readable(void *arg, int fd) {
    struct stream *stream = arg;
    if (outlet_room(outlet_of(stream)) == OUTLET_FULL) {
        pause_stream(stream);
        return;
    }
    if (!read_some(stream, fd, READS_A_TURN)) watch_pause(stream->watch, true);
}

struct stream *stream_open(struct output *output, uv_loop_t *loop, int slot, pid_t pid, bool is_stderr, int fd_take, char *tail) {
    struct stream *stream = calloc(1, sizeof *stream);
    if (stream == NULL) {
        close(fd_take);
        return NULL;
    }
    *stream = (struct stream){.output = output, .slot = slot, .pid = pid, .is_stderr = is_stderr, .tail = tail};
    stream->watch = watch_open(loop, fd_take, on_readable, stream);
    if (stream->watch != NULL) return stream;
    free(stream);
    return NULL;
}

// Bounded: a process that left the group may hold the pipe open and write on.
void stream_finish(struct stream *stream) {
    if (stream == NULL) return;
    for (struct stream **link = &stream->output->paused; *link != NULL; link = &(*link)->next_paused) {
        if (*link != stream) continue;
        *link = stream->next_paused;
        break;
    }
    read_some(stream, watch_fd(stream->watch), FINISH_READS);
    if (stream->len > 0) end_line(stream, "", 0);
    watch_close(stream->watch);
    free(stream->line);
    free(stream);
}
