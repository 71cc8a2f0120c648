// SPDX-License-Identifier: MIT
// What a worker linked with libpando and its primary say to each other: frames on one SOCK_STREAM pair, a descriptor along.
//
//   | len u32 | kind u8 | flags u8 | number u16 | len bytes |     host byte order: both ends are on one machine
//
// The other end is hostile: a frame has a limit, a descriptor that no frame announced is closed, and nothing
// is kept of what cannot be delivered. Bounded both ways: what the peer does not take is refused beyond `queue_max`.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MESSAGE_BYTES_MAX (64 * 1024)     // of one message, unless the user says otherwise
#define MESSAGE_QUEUE_MAX (1024 * 1024)   // what waits for one peer
#define MESSAGE_HIGH_WATER (128 * 1024)   // from here on the sender is told to hold back, as in Node
#define MESSAGE_FD_QUEUE_MAX 64
#define MESSAGE_HEADER_SIZE 8

enum message_kind {
    // worker to primary
    MESSAGE_ONLINE = 1,  // the program runs: said before its main
    MESSAGE_OPENED,      // it reads the channel, and will act on DRAIN
    MESSAGE_READY,
    MESSAGE_LISTEN,   // struct message_listen; `number` comes back in LISTENED
    MESSAGE_LEAVING,  // it disconnects of its own will; answered by LEAVE
    // primary to worker
    MESSAGE_LISTENED,  // int32_t: 0 and a descriptor, or -errno
    MESSAGE_DRAIN,     // close what you serve, then the channel
    MESSAGE_LEAVE,
    // both ways
    MESSAGE_BYTES,
    MESSAGE_JSON,
    MESSAGE_KIND_END,
};

enum message_flag { MESSAGE_HAS_FD = 1 };

// What a worker wants to listen on. A TCP or unix address, or, with len 0, the primary's own descriptor `fd`.
struct message_listen {
    int32_t backlog;   // 0: the system's limit
    int32_t fd;        // with len 0
    uint32_t index;    // port 0: the worker's how-manieth such call; the same one in each worker gets the same port
    uint8_t v6only;
    uint8_t reserved;
    uint16_t len;
    uint8_t address[128];  // struct sockaddr_*, `len` bytes of it
};

struct message {
    enum message_kind kind;
    uint16_t number;
    bool has_fd;  // one was announced
    int fd;       // owned by the stream unless taken by fd_take; -1: none, or it was lost on the way (has_fd)
    const char *data;
    size_t len;
};

struct message_stream;

struct message_stream_options {
    size_t message_max, queue_max;  // of BYTES and JSON; of all that waits. 0: the defaults
    // A frame. False: stop reading for now (message_stream_on_readable returns). May close the stream.
    bool (*on_message)(void *arg, struct message *message);
    void *arg;
};

// `fd_take` becomes non-blocking and close-on-exec. NULL when out of memory; the descriptor is closed then.
struct message_stream *message_stream_open(int fd_take, const struct message_stream_options *options);
// Inside on_message too: it is freed when that returns.
void message_stream_close(struct message_stream *stream);
int message_stream_fd(const struct message_stream *stream);

// Appends a frame, with a duplicate of `fd` (-1: none). Nothing is written before message_stream_flush.
// 0; 1: taken, but hold back until message_stream_queued is below MESSAGE_HIGH_WATER; -EAGAIN: not taken, the queue is full;
// -EMSGSIZE; -EPIPE: the peer is gone; -EMFILE and its like: the descriptor cannot be duplicated.
int message_stream_put(struct message_stream *stream, enum message_kind kind, uint16_t number, const void *data, size_t len, int fd);
size_t message_stream_queued(const struct message_stream *stream);
// Writes what the peer takes. 0: all is out; 1: it has to be writable first; -EPIPE.
int message_stream_flush(struct message_stream *stream);

// Reads and delivers, a bounded amount; allowed inside on_message, whose message stays where it is. 1: alive; 0: the peer has closed, all it said has been delivered; -EPROTO: it sent what
// is no frame; other -errno.
int message_stream_on_readable(struct message_stream *stream);
// What was read and not delivered, because on_message said stop. As above; nothing is read.
int message_stream_resume(struct message_stream *stream);
