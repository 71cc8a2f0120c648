// SPDX-License-Identifier: MIT
// Our end of a Node worker's channel: frames, which are lines of a stream, come in and go out, either with a descriptor along. It
// knows where a frame ends and nothing of what is in it. Bounded both ways: a frame has at most 64 KiB (a longer one is skipped whole), what the worker
// does not take waits in a queue of at most 1 MiB, and while that queue is not short the worker is not read.
//
// What was read of a stream and not yet handled lies in memory that the keeper holds: a primary that is killed half-way through
// a frame leaves it to the next one. (Descriptors that had come along are lost then.)
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "launch.h"

#define WORKER_CHANNEL_FRAME_MAX (64 * 1024)
#define WORKER_CHANNEL_QUEUE_MAX (1024 * 1024)
#define WORKER_CHANNEL_QUEUED_FD_MAX 64

struct worker_channel;

// What one channel needs to survive the primary. Zeroes are a fresh one.
struct worker_channel_memory {
    uint64_t token;       // of the worker
    uint32_t start, len;  // data[start..len) was read and not handled; behind it are zeroes
    uint32_t tries;       // how many primaries have had the first frame in hand
    bool skipping;        // inside a frame that is too long
    uint64_t state;       // the protocol's own
    char data[2 * WORKER_CHANNEL_FRAME_MAX];
};

// All of them; NULL members are ignored. A function may close the channel.
struct worker_channel_events {
    void (*on_frame)(void *arg, char *data, size_t len);           // one frame, without its newline; may be written to
    void (*on_too_long)(void *arg, const char *data, size_t len);  // its first bytes; the rest is skipped
    void (*on_room)(void *arg);                                    // the queue is empty again
    void (*on_end)(void *arg);                                     // the worker has closed its end: close yours
};

// The memories of all slots, mapped for the life of the process from a memfd (made when -1 is given). NULL = no memory.
struct worker_channel_memory *worker_channel_memory_map(int *memfd);

// `memory` (borrowed) is that of the worker's slot. The descriptor is consumed. NULL when out of memory.
struct worker_channel *worker_channel_open(uv_loop_t *loop, int fd_take, uint64_t token,
                                           struct worker_channel_memory *memory, const struct worker_channel_events *events, void *arg);
// After adoption: what the other primary had read and not handled.
void worker_channel_resume(struct worker_channel *channel);
// The worker has ended: handles what is still there, a bounded amount.
void worker_channel_drain(struct worker_channel *channel);
void worker_channel_close(struct worker_channel *channel);  // NULL is fine

// Sends a frame (without newline) at once, or queues it. `fd` is borrowed; -1 = none. 0, or -EAGAIN: the queue is full, -EMSGSIZE,
// -EPIPE: the worker has gone, -EMFILE and the like: its descriptor could not be queued.
int worker_channel_send(struct worker_channel *channel, const void *data, size_t len, int fd);
// Bytes that wait for the worker to take them.
size_t worker_channel_queued(const struct worker_channel *channel);
// The oldest descriptor that has come and was not taken; the caller's. -1 = none.
int worker_channel_take_fd(struct worker_channel *channel);
void worker_channel_pause(struct worker_channel *channel, bool pause);  // leave it unread, or read on
uint64_t *worker_channel_state(struct worker_channel *channel);         // the protocol's own word, kept over primaries
