// SPDX-License-Identifier: MIT
// Where lines leave Pando: standard output, standard error, or a log file with rotation. A thread does the writing, so that
// a reader that stalls, or a full disk, costs lines (counted, and said when it reads on) and never the service.
// Thread-safe: outlet_write may be called from any thread.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct outlet;

struct outlet *outlet_open_fd(int fd);  // borrowed for ever; NULL when out of memory or threads
// A file of at most 10 MB, with one older beside it (PATH.1). Appends. NULL as above; that it cannot be opened is tried again.
struct outlet *outlet_open_file(const char *path);
void outlet_write(struct outlet *outlet, const char *line, size_t len);  // whole line, newline included
// Whoever feeds it faster than it is read does well to pause while it is FULL. STALLED: its reader has taken nothing for a
// second; from then on what does not fit is dropped.
enum outlet_room { OUTLET_ROOM, OUTLET_FULL, OUTLET_STALLED };
enum outlet_room outlet_room(struct outlet *outlet);
// `fn` is called in the writing thread when there is room again after FULL or STALLED was answered.
void outlet_on_room(struct outlet *outlet, void (*fn)(void *arg), void *arg);
void outlet_reopen(struct outlet *outlet);                               // a file: someone else moved it away
uint64_t outlet_lost(const struct outlet *outlet);                       // lines dropped so far
void outlet_flush(struct outlet *outlet, unsigned timeout_ms);           // waits until all is written, so long at most
