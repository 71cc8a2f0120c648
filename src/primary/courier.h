// SPDX-License-Identifier: MIT
// Our end of the channel to one worker that is linked with libpando (wire/message.h): answers what it asks, passes its messages on.
#pragma once

#include "message.h"
#include "primary.h"

// Any may be NULL. Each may close the courier.
struct courier_events {
    void (*on_online)(struct primary_worker *seen);
    void (*on_leaving)(struct primary_worker *seen);  // it disconnects of its own will; it is answered. NULL: the pool's affair
    void (*on_message)(struct primary_worker *seen, struct message *message);  // BYTES, JSON
    void (*on_writable)(struct primary_worker *seen);                          // after a put that said 1 or -EAGAIN
    void (*on_closed)(struct primary_worker *seen, int why);                   // once. 0: by the worker; -errno: for what it sent
    int (*own_fd)(struct primary_worker *seen, int number);                    // "fd:N": our descriptor, borrowed, or -errno
};

// The descriptor is consumed. NULL when out of memory.
struct courier *courier_open(struct primary_worker *seen, int fd_take);
void courier_finish(struct courier *courier);  // the worker has ended: delivers what it still said, closes, frees. NULL is fine
void courier_close(struct courier *courier);   // on_closed is called
bool courier_is_open(const struct courier *courier);

// As message_channel_put; leaves with the end of the turn. -EPIPE when it is closed.
int courier_put(struct courier *courier, enum message_kind kind, const void *data, size_t len, int fd);
void courier_flush_all(struct list_node *unsent);
void courier_pause(struct courier *courier, bool pause);  // read no more; or go on
// The worker is to finish. True: it reads its channel, and will.
bool courier_drain(struct courier *courier);
