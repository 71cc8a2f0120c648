// SPDX-License-Identifier: MIT
// The worker's side: who am I, and the channel to the primary. Works alone (then it is a primary), under `pando run` (then it
// is a worker without a channel: messages are -ENOTCONN, all else works), and as a worker of <pando/cluster.h>.
//
// Functions that take a pando_self belong to the thread of its loop. Every int is 0 or -errno unless said otherwise.
#ifndef PANDO_WORKER_H
#define PANDO_WORKER_H

#include <pando/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct uv_loop_s;
struct json_t;
struct pando_server;                   // of <pando/http.h>
typedef struct pando_self pando_self;  // this process as a worker

// In the program's main file, at file scope: `PANDO_WORKER_UNFILTERED;`. Pando then starts it without the seccomp filter that
// sees bind(2) and listen(2), and the program asks for its sockets by pando_self_listen or pando_self_serve. It is a note in the
// executable: it holds for whoever starts it, from its first instruction on.
#define PANDO_WORKER_UNFILTERED                                                                                      \
    __asm__(                                                                                                         \
        ".pushsection .note.pando,\"a\",%note\n\t.balign 4\n\t.long 6\n\t.long 4\n\t.long 1\n\t.asciz \"Pando\"\n\t" \
        ".balign 4\n\t.long 1\n\t.popsection")

// From the environment. Thread-safe as long as nobody changes that.
PANDO_API bool pando_is_primary(void);           // nobody's worker: started by hand
PANDO_API bool pando_is_worker(void);            // of a cluster, or of `pando run`
PANDO_API int pando_self_slot(void);             // its fixed place, 0 to count-1; a successor has the same. -1: no worker
PANDO_API int pando_self_count(void);            // how many workers there were to be when it was started; 0: no worker
PANDO_API uint32_t pando_self_generation(void);  // 1, then one more with each reload; 0: no worker
PANDO_API uint64_t pando_self_id(void);          // pando_worker_id in the primary; 0: no worker of <pando/cluster.h>

// A message, valid while the callback runs. The descriptor is closed afterwards unless taken.
struct pando_message {
    struct pando_str data;  // bytes, or JSON text
    bool is_json;
    bool fd_was_lost;  // one was sent along, and could not be received: the limit of open files
    int fd;            // -1: none
};
PANDO_API int pando_message_take_fd(struct pando_message *message);  // -1: none, or taken already
// Parsed; the caller's reference (json_decref). NULL: it is no JSON.
PANDO_API struct json_t *pando_message_json(const struct pando_message *message);

struct pando_self_options {
    struct uv_loop_s *loop;  // borrowed; NULL: none, see pando_self_dispatch
    void *arg;               // of the callbacks
    void (*on_message)(pando_self *self, struct pando_message *message, void *arg);
    // The primary wants this worker to finish: close what you serve, then pando_self_disconnect. NULL: that at once.
    void (*on_draining)(pando_self *self, void *arg);
    // The channel is closed, whoever closed it. Once, the last callback.
    void (*on_disconnect)(pando_self *self, void *arg);
    void (*on_writable)(pando_self *self, void *arg);  // after a send that said 1 or -EAGAIN
    uint32_t max_message_bytes;                        // 0: 64 KiB. The primary's has to be as large
    uint32_t max_queued_bytes;                         // 0: 1 MiB that the primary has not taken yet
    // When the primary is gone without a word the process ends with exit(0), as Node's does; `stay`: on_disconnect is called instead.
    bool stay;
    bool background;  // the channel alone does not keep the loop alive
};

// Opens the channel. Without one (alone, under `pando run`) all goes well too. -EBUSY: it was opened before; -EINVAL.
PANDO_API int pando_self_open(pando_self **out, const struct pando_self_options *options, struct pando_error *error);
// NULL is fine. Closes the channel if it is open; no callback comes any more. Allowed inside a callback.
PANDO_API void pando_self_close(pando_self *self);
PANDO_API bool pando_self_is_connected(const pando_self *self);

// This worker can serve: only needed where nothing listens, or where `--ready notify` waits for it.
PANDO_API int pando_self_ready(pando_self *self);
// To the primary, with a duplicate of `fd` (-1: none). 0; 1: taken, but hold back until on_writable (128 KiB wait); -EAGAIN: not
// taken, the queue is full; -EMSGSIZE: longer than the limit; -ENOTCONN: no channel; -EPIPE: the primary is gone.
PANDO_API int pando_self_send(pando_self *self, const void *data, size_t len, int fd);
PANDO_API int pando_self_send_json(pando_self *self, const struct json_t *json, int fd);  // borrowed. -EINVAL: not serialisable

// A listening socket, non-blocking, the caller's: the slot's or the generation's, from the primary where there is one. The address is
// "8080", "host:port", "[::]:port", "unix:/path", port 0 (the same one in all workers, call by call), or "fd:N": the primary's
// descriptor N. -EADDRINUSE: it is not ours, or this worker listens there already. backlog 0: the system's limit.
PANDO_API int pando_self_listen(pando_self *self, const char *address, int backlog, struct pando_error *error);
// Joins an HTTP server (<pando/http.h>) to this worker: it listens there, and when the primary wants the worker to finish it is closed
// gracefully within `deadline_ms`, whereupon the channel is closed and the loop ends by itself. `self` may be NULL: an ordinary listen.
// Replaces on_draining. The server is borrowed until the channel is closed.
PANDO_API int pando_self_serve(pando_self *self, struct pando_server *server, const char *address, uint32_t deadline_ms,
                               struct pando_error *error);

// Leaves of its own will: the primary's exited_after_disconnect becomes yes, and when it has taken note of that the channel is closed.
PANDO_API void pando_self_disconnect(pando_self *self);

// Without a loop: poll(2) this for POLLIN (and POLLOUT while pando_self_wants_write), then dispatch. fd -1: no channel.
PANDO_API int pando_self_fd(const pando_self *self);
PANDO_API bool pando_self_wants_write(const pando_self *self);
PANDO_API void pando_self_dispatch(pando_self *self);  // never blocks

#ifdef __cplusplus
}
#endif
#endif
