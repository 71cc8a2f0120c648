// SPDX-License-Identifier: MIT
// What workers write: cut into whole lines, given their slot, sent on to Pando's own standard output and error (or the log
// file), to the ring that `pando logs` shows, and to whoever follows it.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#include "launch.h"
#include "outlet.h"
#include "record.h"
#include "ring.h"

#define OUTPUT_LINE_MAX (64 * 1024)  // longer lines come in pieces

struct output {
    struct outlet *out, *err;  // owned; the same one for a log file
    struct stream *paused;     // those that wait until their outlet has room; linked by `next_paused`
    uv_async_t room;           // the writing thread says so
    uv_timer_t patience;       // a reader that stalls is not waited for longer than a second
    struct ring *ring;         // borrowed: mapped for the life of the process
    enum launch_log format;
    void (*follow)(void *arg, const char *line, size_t len);  // each line as written, newline included
    void *arg;
};

struct stream;

int output_init(struct output *output, uv_loop_t *loop, const struct launch *launch);  // 0 or -ENOMEM
void output_pando_line(void *output, const char *line, size_t len);   // the log's sink

// One worker's two pipes. Both descriptors are consumed. `tail` (RECORD_TAIL_SIZE) gets what it wrote last. NULL = out of memory.
struct stream *stream_open(struct output *output, uv_loop_t *loop, int slot, pid_t pid, bool is_stderr, int fd_take, char *tail);
// Reads what is still in the pipe, ends a last line without newline, and closes.
void stream_finish(struct stream *stream);
