// SPDX-License-Identifier: MIT
// An HTTP/1.1 server on a libuv loop: requests in, answers out, bodies streamed both ways with back-pressure.
//
// One thread. Every int is 0 or -errno. Views (struct pando_str) of a request live as long as its exchange is held.
#ifndef PANDO_HTTP_H
#define PANDO_HTTP_H

#include <pando/types.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct uv_loop_s;
struct sockaddr;
typedef struct pando_server pando_server;
typedef struct pando_exchange pando_exchange;  // one request and its answer

// Called for each request, in order. It answers now or later; the connection's next request waits until it has.
typedef void (*pando_request_fn)(pando_exchange *exchange, void *arg);

#define PANDO_NEVER UINT32_MAX

struct pando_server_options {
    pando_request_fn on_request;
    void *arg;
    struct uv_loop_s *loop;  // borrowed; NULL: the server has its own
    // 0: the value of src/http/http_limits.h. Times in milliseconds, PANDO_NEVER: no time-out.
    uint32_t max_header_bytes, max_header_count;
    uint64_t max_body_bytes;
    uint32_t headers_timeout_ms, request_timeout_ms, keep_alive_timeout_ms, handler_timeout_ms, stall_timeout_ms;
    uint32_t max_requests_per_socket, backlog;
    uint32_t max_connections;  // one more is closed at once; with pando_self_serve it is left to the other workers
    bool refuse_underscore_names;  // Content_Length and the like: 400 instead of an unrelated field
    bool accept_connect;           // CONNECT reaches on_request (to be upgraded) instead of 501
};

struct pando_server_stats {
    uint64_t accepted, requests, refused;     // connections, heads parsed, error answers made by the server itself
    uint64_t reads, writes, accept_failures;  // system calls
    uint32_t connections;                     // open now
    size_t connection_bytes, pooled_bytes;    // of one idle connection; free blocks, exchanges
};

PANDO_API pando_server *pando_server_new(const struct pando_server_options *options, struct pando_error *error);
// "8080", "host:port", "[::]:port", "unix:/path"; port 0 draws a free one. A stale unix socket nobody serves is replaced.
PANDO_API int pando_server_listen(pando_server *server, const char *address, struct pando_error *error);
PANDO_API int pando_server_listen_fd_take(pando_server *server, int fd, struct pando_error *error);  // listening already, or bound
PANDO_API int pando_server_port(const pando_server *server);                                         // of the first TCP address, or -1
// Serves a connected socket as if it had been accepted.
PANDO_API int pando_server_serve_fd_take(pando_server *server, int fd);
// Runs the loop until the server has closed. TERM and INT close it gracefully when `signals`.
PANDO_API int pando_server_run(pando_server *server, bool signals);
// Stops accepting, lets active exchanges finish with Connection: close, closes idle connections; the rest after deadline_ms.
PANDO_API void pando_server_close(pando_server *server, uint32_t deadline_ms, void (*on_closed)(void *arg), void *arg);
PANDO_API void pando_server_free(pando_server *server);  // closed, or never run. NULL is fine
PANDO_API struct pando_server_stats pando_server_stats(const pando_server *server);
PANDO_API struct uv_loop_s *pando_server_loop(const pando_server *server);

// The request
PANDO_API struct pando_str pando_exchange_method(const pando_exchange *exchange);
PANDO_API struct pando_str pando_exchange_target(const pando_exchange *exchange);     // as sent
PANDO_API struct pando_str pando_exchange_path(const pando_exchange *exchange);       // not decoded; "" when absolute without one
PANDO_API struct pando_str pando_exchange_query(const pando_exchange *exchange);      // without '?'
PANDO_API struct pando_str pando_exchange_authority(const pando_exchange *exchange);  // Host, or the target's
PANDO_API int pando_exchange_minor(const pando_exchange *exchange);                   // HTTP/1.0: 0
PANDO_API struct pando_str pando_exchange_header(const pando_exchange *exchange, const char *lower_name);  // the first; data NULL: none
PANDO_API bool pando_exchange_header_at(const pando_exchange *exchange, size_t index, struct pando_str *out_name,
                                        struct pando_str *out_value);
PANDO_API bool pando_exchange_trailer_at(const pando_exchange *exchange, size_t index, struct pando_str *out_name,
                                         struct pando_str *out_value);
PANDO_API bool pando_exchange_has_body(const pando_exchange *exchange);
PANDO_API int64_t pando_exchange_body_length(const pando_exchange *exchange);               // -1: chunked
PANDO_API int pando_exchange_peer(const pando_exchange *exchange, char *out, size_t size);  // the address without port; "" for unix
PANDO_API pando_server *pando_exchange_server(const pando_exchange *exchange);

// The body. READ_WAIT: on_readable will be called. READ_FAILED: pando_exchange_body_status says 413, or 0 when the client is gone.
enum pando_read { PANDO_READ_DATA, PANDO_READ_END, PANDO_READ_WAIT, PANDO_READ_FAILED };
PANDO_API enum pando_read pando_exchange_read(pando_exchange *exchange, struct pando_str *out);  // view until the next read
PANDO_API void pando_exchange_limit_body(pando_exchange *exchange, uint64_t bytes);              // instead of max_body_bytes
PANDO_API int pando_exchange_body_status(const pando_exchange *exchange);

struct pando_exchange_events {
    void (*on_readable)(pando_exchange *exchange, void *arg);
    void (*on_writable)(pando_exchange *exchange, void *arg);
    // Once: the answer is in the socket's hands (sent), or it never will be: client gone, time-out, bad body.
    void (*on_end)(pando_exchange *exchange, void *arg, bool sent);
};
PANDO_API void pando_exchange_watch(pando_exchange *exchange, const struct pando_exchange_events *events, void *arg);
PANDO_API void pando_exchange_hold(pando_exchange *exchange);  // an exchange is held by its connection until its end
PANDO_API void pando_exchange_release(pando_exchange *exchange);
PANDO_API void *pando_exchange_take(pando_exchange *exchange, size_t size);  // memory that lives as long; NULL: none left

// The answer's head. -EINVAL: CR, LF, NUL or the like in a name or value. -EALREADY: the head is out.
PANDO_API int pando_exchange_set_status(pando_exchange *exchange, int status, const char *reason);  // reason NULL: the usual one
PANDO_API int pando_exchange_add_header(pando_exchange *exchange, struct pando_str name, struct pando_str value);  // copied
PANDO_API int pando_exchange_inform(pando_exchange *exchange, int status, struct pando_str name,
                                    struct pando_str value);  // 1xx, e.g. 103 Link
PANDO_API bool pando_exchange_head_sent(const pando_exchange *exchange);

// The answer's body: as much as fits is taken, the rest waits for on_writable. -EPIPE: the client is gone, or it has ended.
PANDO_API ssize_t pando_exchange_write(pando_exchange *exchange, const void *data, size_t len);
PANDO_API int pando_exchange_flush(pando_exchange *exchange);  // what is written leaves now
PANDO_API int pando_exchange_add_trailer(pando_exchange *exchange, struct pando_str name,
                                         struct pando_str value);  // chunked only, else dropped
// Ends it. `data` (may be NULL) stays valid until on_end. Without an earlier write the length is known and sent.
PANDO_API int pando_exchange_end(pando_exchange *exchange, const void *data, size_t len);
// Ends it with a piece of a file, by sendfile. `fd` is borrowed until on_end.
PANDO_API int pando_exchange_end_file(pando_exchange *exchange, int fd, off_t offset, uint64_t len);
PANDO_API void pando_exchange_abort(pando_exchange *exchange);  // the client sees the connection break
// The connection leaves the server: after the answer set so far (101, or 200 to CONNECT) on_socket gets the socket, which it owns
// from then on, with what the client had already sent. -EINVAL: the request does not ask for it.
typedef void (*pando_upgrade_fn)(int fd, struct pando_str early, void *arg);
PANDO_API struct pando_str pando_exchange_upgrade_wanted(const pando_exchange *exchange);  // "websocket"; "" when not asked
PANDO_API int pando_exchange_upgrade(pando_exchange *exchange, pando_upgrade_fn on_socket, void *arg);

PANDO_API const char *pando_status_text(int status);  // "Not Found"; NULL when unknown

#ifdef __cplusplus
}
#endif
#endif
