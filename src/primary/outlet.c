// SPDX-License-Identifier: MIT
// One ring, one lock. The producer never waits: what does not fit is dropped as a whole line.
#include "outlet.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "fd.h"
#include "str.h"

enum { RING_BYTES = 2 * 1024 * 1024, FULL_BYTES = RING_BYTES / 4, ROOM_BYTES = RING_BYTES / 8, CHUNK_BYTES = 64 * 1024, FILE_BYTES = 10 * 1000 * 1000, RETRY_MS = 200, STACK_BYTES = 128 * 1024 };

#define STALL_NS UINT64_C(1000000000)

struct outlet {
    uv_thread_t thread;
    uv_mutex_t lock;
    uv_cond_t filled, emptied;
    size_t start, len;  // of the unwritten part of the ring
    uint64_t lost, lost_told;
    uint64_t progress_ns;  // when something was last taken from it
    bool reopen, writing, somebody_waits;
    void (*on_room)(void *arg);
    void *arg;  // of on_room
    int fd;      // -1: a file not open yet
    char *path;  // owned; NULL = a descriptor
    size_t file_bytes;
    char chunk[CHUNK_BYTES];
    char ring[RING_BYTES];
};

// ---- the writing thread

static void file_open(struct outlet *outlet) {
    struct stat info;
    fd_close(&outlet->fd);
    outlet->fd = open(outlet->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
    outlet->file_bytes = outlet->fd >= 0 && fstat(outlet->fd, &info) == 0 ? (size_t)info.st_size : 0;
}

static void file_rotate(struct outlet *outlet) {
    char older[4200];
    if (snprintf(older, sizeof older, "%s.1", outlet->path) < (int)sizeof older) rename(outlet->path, older);
    file_open(outlet);
}

// False: not written, and the rest of the chunk is lost.
static bool write_some(struct outlet *outlet, const char *data, size_t len) {
    while (len > 0) {
        ssize_t n = write(outlet->fd, data, len);
        if (n < 0 && errno == EAGAIN) {
            struct pollfd room = {.fd = outlet->fd, .events = POLLOUT};
            poll(&room, 1, RETRY_MS);
        } else if (n < 0 && errno != EINTR) {
            return false;
        }
        if (n <= 0) continue;
        data += n;
        len -= (size_t)n;
        outlet->file_bytes += (size_t)n;
    }
    return true;
}

static uint64_t count_lines(const char *data, size_t len) {
    uint64_t lines = 0;
    for (size_t i = 0; i < len; i++) lines += data[i] == '\n';
    return lines;
}

static bool write_chunk(struct outlet *outlet, size_t len) {
    if (outlet->path != NULL && (outlet->fd < 0 || outlet->reopen)) file_open(outlet);
    if (outlet->path != NULL && outlet->file_bytes + len > FILE_BYTES && outlet->file_bytes > 0) file_rotate(outlet);
    outlet->reopen = false;
    return outlet->fd >= 0 && write_some(outlet, outlet->chunk, len);
}

static void tell_lost(struct outlet *outlet, uint64_t lost) {
    int len = snprintf(outlet->chunk, sizeof outlet->chunk,
                       "pando: %llu lines of output were lost: whoever reads them did not keep up, or the disk was full\n",
                       (unsigned long long)lost);
    if (write_chunk(outlet, (size_t)len)) outlet->lost_told += lost;
}

// Up to a chunk of whole lines (a longer one in pieces), off the ring.
static size_t take_chunk(struct outlet *outlet) {
    size_t len = outlet->len < CHUNK_BYTES ? outlet->len : CHUNK_BYTES;
    size_t first = RING_BYTES - outlet->start < len ? RING_BYTES - outlet->start : len;
    memcpy(outlet->chunk, outlet->ring + outlet->start, first);
    memcpy(outlet->chunk + first, outlet->ring, len - first);
    const char *last = memrchr(outlet->chunk, '\n', len);
    if (last != NULL) len = (size_t)(last - outlet->chunk) + 1;
    outlet->start = (outlet->start + len) % RING_BYTES;
    outlet->len -= len;
    return len;
}

static void run(void *arg) {
    struct outlet *outlet = arg;
    uv_mutex_lock(&outlet->lock);
    for (;;) {
        while (outlet->len == 0) {
            outlet->writing = false;
            uv_cond_broadcast(&outlet->emptied);
            uv_cond_wait(&outlet->filled, &outlet->lock);
        }
        outlet->writing = true;
        size_t len = take_chunk(outlet);
        uv_mutex_unlock(&outlet->lock);
        bool written = write_chunk(outlet, len);
        uint64_t lines = written ? 0 : count_lines(outlet->chunk, len);
        if (!written) poll(NULL, 0, RETRY_MS);
        uv_mutex_lock(&outlet->lock);
        outlet->lost += lines;
        outlet->progress_ns = uv_hrtime();
        if (outlet->somebody_waits && outlet->len < ROOM_BYTES) {
            outlet->somebody_waits = false;
            if (outlet->on_room != NULL) outlet->on_room(outlet->arg);
        }
        uint64_t untold = outlet->lost - outlet->lost_told;
        uv_mutex_unlock(&outlet->lock);
        if (written && untold > 0) tell_lost(outlet, untold);
        uv_mutex_lock(&outlet->lock);
    }
}

// ---- the producers' side

static struct outlet *outlet_new(int fd, const char *path) {
    struct outlet *outlet = calloc(1, sizeof *outlet);
    uv_thread_options_t options = {.flags = UV_THREAD_HAS_STACK_SIZE, .stack_size = STACK_BYTES};
    if (outlet == NULL) return NULL;
    outlet->fd = fd;
    outlet->path = path != NULL ? strdup(path) : NULL;
    bool ok = (path == NULL || outlet->path != NULL) && uv_mutex_init(&outlet->lock) == 0 && uv_cond_init(&outlet->filled) == 0 &&
              uv_cond_init(&outlet->emptied) == 0 && uv_thread_create_ex(&outlet->thread, &options, run, outlet) == 0;
    if (ok) return outlet;
    free(outlet->path);
    free(outlet);
    return NULL;
}

struct outlet *outlet_open_fd(int fd) { return outlet_new(fd, NULL); }
struct outlet *outlet_open_file(const char *path) { return outlet_new(-1, path); }

void outlet_write(struct outlet *outlet, const char *line, size_t len) {
    uv_mutex_lock(&outlet->lock);
    if (len > RING_BYTES - outlet->len) {
        outlet->lost++;
    } else {
        size_t end = (outlet->start + outlet->len) % RING_BYTES;
        size_t first = RING_BYTES - end < len ? RING_BYTES - end : len;
        memcpy(outlet->ring + end, line, first);
        memcpy(outlet->ring, line + first, len - first);
        outlet->len += len;
        if (!outlet->writing) {
            outlet->progress_ns = uv_hrtime();
            uv_cond_signal(&outlet->filled);
        }
    }
    uv_mutex_unlock(&outlet->lock);
}

void outlet_reopen(struct outlet *outlet) {
    uv_mutex_lock(&outlet->lock);
    outlet->reopen = true;
    uv_mutex_unlock(&outlet->lock);
}

enum outlet_room outlet_room(struct outlet *outlet) {
    uv_mutex_lock(&outlet->lock);
    bool full = outlet->len > FULL_BYTES;
    if (full) outlet->somebody_waits = true;
    bool stalled = full && uv_hrtime() - outlet->progress_ns > STALL_NS;
    uv_mutex_unlock(&outlet->lock);
    return stalled ? OUTLET_STALLED : full ? OUTLET_FULL : OUTLET_ROOM;
}

void outlet_on_room(struct outlet *outlet, void (*fn)(void *arg), void *arg) {
    uv_mutex_lock(&outlet->lock);
    outlet->on_room = fn;
    outlet->arg = arg;
    uv_mutex_unlock(&outlet->lock);
}

uint64_t outlet_lost(const struct outlet *outlet) { return outlet->lost; }

void outlet_flush(struct outlet *outlet, unsigned timeout_ms) {
    uint64_t end = uv_hrtime() + (uint64_t)timeout_ms * 1000000;
    uv_mutex_lock(&outlet->lock);
    while (outlet->len > 0 || outlet->writing) {
        uint64_t now = uv_hrtime();
        if (now >= end || uv_cond_timedwait(&outlet->emptied, &outlet->lock, end - now) != 0) break;
    }
    uv_mutex_unlock(&outlet->lock);
}
