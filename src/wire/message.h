// SPDX-License-Identifier: MIT
// What a worker linked with libpando and its primary say to each other, over one SOCK_SEQPACKET pair. A packet is one frame
// or several, so that many small messages cost one system call; a descriptor belongs to the packet's first frame.
//
//   | len u32 | kind u8 | flags u8 | number u16 | len bytes | next frame ...     host byte order: both ends are on one machine
//
// A packet arrives whole or not at all: a primary that is killed leaves no half a message to its successor. The other end is
// hostile: sizes are checked before use, descriptors that nobody announced are closed. Bounded both ways: one packet is
// held at a time, the rest stays in the kernel; what the peer does not take is refused beyond `queue_max`.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MESSAGE_BYTES_DEFAULT (64 * 1024)    // of one message, unless the user says otherwise
#define MESSAGE_BYTES_MAX (256 * 1024)       // what the user may say: a packet has to fit into a socket's buffer
#define MESSAGE_QUEUE_DEFAULT (1024 * 1024)  // what waits for one peer
#define MESSAGE_HIGH_WATER (128 * 1024)      // from here on the sender is told to hold back, as in Node

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

// What a worker wants to listen on. A TCP or unix address, or, with len 0, the primary's own descriptor `fd`.
struct message_listen {
    int32_t backlog;  // 0: the system's limit
    int32_t fd;       // with len 0
    uint32_t index;   // port 0: the worker's how-manieth such call; the same one in each worker gets the same port
    uint8_t v6only;
    uint8_t reserved;
    uint16_t len;
    uint8_t address[128];  // struct sockaddr_*, `len` bytes of it
};

struct message {
    enum message_kind kind;
    uint16_t number;
    bool has_fd;  // one was announced
    int fd;       // closed when on_message returns, unless taken by fd_take; -1: none, or it was lost on the way (has_fd)
    const char *data;
    size_t len;
};

struct message_channel;

struct message_channel_options {
    size_t message_max, queue_max;  // of BYTES and JSON; of all that waits. 0: the defaults
    // False: no more for now, until message_channel_resume. May close the channel.
    bool (*on_message)(void *arg, struct message *message);
    void *arg;
};

// `fd_take` becomes non-blocking and close-on-exec. NULL when out of memory; the descriptor is closed then.
struct message_channel *message_channel_open(int fd_take, const struct message_channel_options *options);
// Inside on_message too: it is freed when that returns. NULL is fine.
void message_channel_close(struct message_channel *channel);
int message_channel_fd(const struct message_channel *channel);

// Queues a frame, with a duplicate of `fd` (-1: none). Nothing is written before message_channel_flush.
// 0; 1: taken, but hold back until message_channel_queued is below MESSAGE_HIGH_WATER; -EAGAIN: not taken, the queue is full;
// -EMSGSIZE; -EPIPE: the peer is gone; -EMFILE and its like: the descriptor cannot be duplicated.
int message_channel_put(struct message_channel *channel, enum message_kind kind, uint16_t number, const void *data, size_t len, int fd);
size_t message_channel_queued(const struct message_channel *channel);
// Writes what the peer takes. 0: all is out; 1: it has to be writable first; -EPIPE.
int message_channel_flush(struct message_channel *channel);

// Reads and delivers, a bounded amount; allowed inside on_message, whose message stays where it is. 1: alive; 0: the peer has
// closed, and all it said has been delivered; -EPROTO: it sent what is no frame; -ECANCELED: closed meanwhile; other -errno.
int message_channel_on_readable(struct message_channel *channel);
// Goes on after on_message said no more, or while it runs; reads nothing. As above.
int message_channel_resume(struct message_channel *channel);
bool message_channel_has_more(const struct message_channel *channel);  // read, and not delivered yet
