// SPDX-License-Identifier: MIT
// Listeners and the server's own life: open -> closing (draining) -> closed. Connections live in conn.c.
#include <sys/types.h>
#include "error.h"
#include "fd.h"
#include "conn.h"
#include "server.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

struct listener {
    struct listener *next;        // server.listeners
    struct pando_server *server;  // borrowed
    uv_poll_t poll;
    uv_timer_t pause;
    int fd;  // owned
    int open_handles;
};

uint64_t pando_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

const char *server_date(struct pando_server *server) {
    uint64_t second = server_now_ms(server) / 250 + 1;  // looked at four times a second: never more than that behind
    if (second != server->date_second) {
        server->date_second = second;
        struct timespec now;
        clock_gettime(CLOCK_REALTIME_COARSE, &now);
        char text[32];
        snprintf(server->date, sizeof server->date, "Date: %.29s\r", h1_date_text(now.tv_sec, text));
        server->date[H1_DATE_SIZE - 2] = '\n';
    }
    return server->date;
}

// ---- construction

static void use_default(uint32_t *value, uint32_t standard) {
    if (!*value) *value = standard;
}

static void fill_options(struct pando_server_options *o) {
    use_default(&o->max_header_bytes, LIMIT_HEADER_BYTES);
    use_default(&o->max_header_count, LIMIT_HEADER_COUNT);
    if (o->max_header_bytes > LIMIT_HEADER_BYTES_MAX) o->max_header_bytes = LIMIT_HEADER_BYTES_MAX;
    if (o->max_header_count > LIMIT_HEADER_COUNT_MAX) o->max_header_count = LIMIT_HEADER_COUNT_MAX;
    if (!o->max_body_bytes) o->max_body_bytes = LIMIT_BODY_BYTES;
    use_default(&o->headers_timeout_ms, LIMIT_HEADERS_MS);
    use_default(&o->request_timeout_ms, LIMIT_REQUEST_MS);
    use_default(&o->keep_alive_timeout_ms, LIMIT_KEEP_ALIVE_MS);
    use_default(&o->handler_timeout_ms, LIMIT_HANDLER_MS);
    use_default(&o->stall_timeout_ms, LIMIT_STALL_MS);
    use_default(&o->backlog, SOMAXCONN);
}

static void on_tick(uv_timer_t *timer) {
    struct pando_server *server = timer->data;
    struct list_node expired;
    list_init(&expired);
    wheel_turn(&server->wheel, server_now_ms(server), &expired);
    while (!list_empty(&expired)) {
        struct wheel_node *node = list_owner(expired.next, struct wheel_node, link);
        wheel_remove(node);
        conn_on_timeout(list_owner(node, struct conn, timer));
    }
    if (!server->closing || server_now_ms(server) < server->drain_deadline_ms) return;
    server->drain_deadline_ms = UINT64_MAX;
    for (struct list_node *at = server->conns.next, *next; at != &server->conns; at = next) {
        next = at->next;
        conn_close_now(list_owner(at, struct conn, link));
        if (list_empty(&server->conns)) break;
    }
}

struct pando_server *pando_server_new(const struct pando_server_options *options, struct pando_error *error) {
    struct pando_server *server = calloc(1, sizeof *server);
    if (!server) return error_set(error, ENOMEM, "create an HTTP server"), NULL;
    struct sigaction pipe_action;
    if (!sigaction(SIGPIPE, NULL, &pipe_action) && pipe_action.sa_handler == SIG_DFL)
        signal(SIGPIPE, SIG_IGN);  // sendfile has no MSG_NOSIGNAL
    server->options = *options;
    fill_options(&server->options);
    server->loop = options->loop;
    if (!server->loop) {
        if (uv_loop_init(&server->own_loop)) return error_set(error, EMFILE, "create an event loop"), free(server), NULL;
        server->loop = &server->own_loop;
        server->own_loop_used = true;
    }
    list_init(&server->conns);
    wheel_init(&server->wheel, server_now_ms(server));
    server->blocks.block_size = LIMIT_INPUT_BLOCK + server->options.max_header_bytes;
    uv_timer_init(server->loop, &server->tick);
    server->tick.data = server;
    uv_timer_start(&server->tick, on_tick, LIMIT_TICK_MS, LIMIT_TICK_MS);
    uv_unref((uv_handle_t *)&server->tick);
    server->handle_count = 1;
    server->stats.connection_bytes = sizeof(struct conn);
    return server;
}

struct uv_loop_s *pando_server_loop(const struct pando_server *server) {
    return server->loop;
}

struct pando_server_stats pando_server_stats(const struct pando_server *server) {
    struct pando_server_stats stats = server->stats;
    stats.pooled_bytes =
        server->blocks.free_count * (size_t)server->blocks.block_size + server->idle_exchange_count * sizeof(struct pando_exchange);
    return stats;
}

// ---- accepting

static void on_acceptable(uv_poll_t *poll, int status, int events);

static void on_pause_over(uv_timer_t *timer) {
    struct listener *listener = timer->data;
    if (!listener->server->full) uv_poll_start(&listener->poll, UV_READABLE, on_acceptable);
}

// Out of descriptors or memory: the clients wait in the queue, and so does the listener; it does not spin.
static void pause_accepting(struct listener *listener) {
    listener->server->stats.accept_failures++;
    uv_poll_stop(&listener->poll);
    uv_timer_start(&listener->pause, on_pause_over, LIMIT_ACCEPT_PAUSE_MS, 0);
}

static bool is_full(const struct pando_server *server) {
    return server->options.max_connections && server->stats.connections >= server->options.max_connections;
}

static void watch_listeners(struct pando_server *server, bool watch) {
    server->full = !watch;
    for (struct listener *listener = server->listeners; listener; listener = listener->next) {
        if (watch && !uv_is_active((uv_handle_t *)&listener->pause))
            uv_poll_start(&listener->poll, UV_READABLE, on_acceptable);
        else
            uv_poll_stop(&listener->poll);
    }
}

static void accept_some(struct listener *listener, int most) {
    struct pando_server *server = listener->server;
    for (int i = 0; i < most; i++) {
        if (server->leaves_queue && !server->closing && is_full(server)) {
            watch_listeners(server, false);
            return;
        }
        int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EINTR || errno == ECONNABORTED || errno == EPERM) continue;
            if (errno != EAGAIN) pause_accepting(listener);
            return;
        }
        if (is_full(server)) {
            close(fd);
            server->stats.refused++;
            continue;
        }
        if (conn_open_take(server, fd)) {
            pause_accepting(listener);
            return;
        }
    }
}

static void on_acceptable(uv_poll_t *poll, int status, int events) {
    (void)events;
    if (status < 0)
        pause_accepting(poll->data);
    else
        accept_some(poll->data, LIMIT_ACCEPT_BURST);
}

int pando_server_serve_fd_take(struct pando_server *server, int fd) {
    fd_set_nonblock(fd, true);
    return conn_open_take(server, fd);
}

int pando_server_listen_fd_take(struct pando_server *server, int fd_taken, struct pando_error *error) {
    scoped_fd fd = fd_taken;
    int one = 1;
    if (fd_set_nonblock(fd, true) || fd_set_cloexec(fd, true)) return error_set(error, EBADF, "listen on descriptor %d", fd);
    int listening = 0;
    socklen_t len = sizeof listening;
    getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len);
    if (!listening && listen(fd, (int)server->options.backlog)) return error_set(error, errno, "listen on descriptor %d", fd);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);  // inherited by what is accepted; a unix socket refuses, which is fine
    struct listener *listener = calloc(1, sizeof *listener);
    if (!listener) return error_set(error, ENOMEM, "listen on descriptor %d", fd);
    int result = uv_poll_init(server->loop, &listener->poll, fd);
    if (result) return free(listener), error_set(error, -result, "watch descriptor %d", fd);
    uv_timer_init(server->loop, &listener->pause);
    listener->server = server;
    listener->poll.data = listener->pause.data = listener;
    listener->open_handles = 2;
    listener->fd = fd_take(&fd);
    struct listener **last = &server->listeners;
    while (*last) last = &(*last)->next;
    *last = listener;
    server->handle_count += 2;
    uv_poll_start(&listener->poll, UV_READABLE, on_acceptable);
    return 0;
}

// ---- addresses

static int bind_unix(const char *path, int *out_fd, struct pando_error *error) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path)
        return error_say(error, ENAMETOOLONG, "listen on unix:%s: the path is longer than %zu bytes", path, sizeof address.sun_path - 1);
    strcpy(address.sun_path, path);
    scoped_fd fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return error_set(error, errno, "listen on unix:%s", path);
    int result = bind(fd, (struct sockaddr *)&address, sizeof address);
    if (result && errno == EADDRINUSE) {  // nobody answers there any more?
        scoped_fd probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (probe >= 0 && connect(probe, (struct sockaddr *)&address, sizeof address) && errno == ECONNREFUSED && !unlink(path))
            result = bind(fd, (struct sockaddr *)&address, sizeof address);
        else
            errno = EADDRINUSE;
    }
    if (result) return error_set(error, errno, "listen on unix:%s", path);
    *out_fd = fd_take(&fd);
    return 0;
}

static int bind_one(const struct addrinfo *info, bool any) {
    scoped_fd fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int one = 1, zero = 0;
    if (fd < 0) return -errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (info->ai_family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, any ? &zero : &one, sizeof one);
    if (bind(fd, info->ai_addr, info->ai_addrlen)) return -errno;
    return fd_take(&fd);
}

static int bind_tcp(const char *address, int *out_fd, struct pando_error *error) {
    char host[256] = "";
    const char *colon = strrchr(address, ':'), *port = colon ? colon + 1 : address;
    size_t host_len = colon ? (size_t)(colon - address) : 0;
    if (host_len >= sizeof host) return error_say(error, EINVAL, "listen on %s: the host name is too long", address);
    memcpy(host, address, host_len);
    char *name = host;
    if (host_len && host[0] == '[' && host[host_len - 1] == ']') host[host_len - 1] = '\0', name++;
    bool any = !host_len;
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV}, *found;
    int result = getaddrinfo(any ? "::" : name, port, &hints, &found);
    if (result) return error_say(error, EINVAL, "listen on %s: %s", address, gai_strerror(result));
    int fd = -EADDRNOTAVAIL;
    for (struct addrinfo *at = found; at && fd < 0; at = at->ai_next) fd = bind_one(at, any);
    freeaddrinfo(found);
    if (fd < 0 && any && fd != -EADDRINUSE && !getaddrinfo("0.0.0.0", port, &hints, &found)) {  // no IPv6 here
        fd = bind_one(found, false);
        freeaddrinfo(found);
    }
    if (fd < 0) return error_set(error, -fd, "listen on %s", address);
    *out_fd = fd;
    return 0;
}

int pando_server_listen(struct pando_server *server, const char *address, struct pando_error *error) {
    int fd, result = !strncmp(address, "unix:", 5) ? bind_unix(address + 5, &fd, error) : bind_tcp(address, &fd, error);
    return result ? result : pando_server_listen_fd_take(server, fd, error);
}

int pando_server_port(const struct pando_server *server) {
    for (struct listener *listener = server->listeners; listener; listener = listener->next) {
        struct sockaddr_storage address;
        socklen_t len = sizeof address;
        if (getsockname(listener->fd, (struct sockaddr *)&address, &len)) continue;
        if (address.ss_family == AF_INET) return ntohs(((struct sockaddr_in *)&address)->sin_port);
        if (address.ss_family == AF_INET6) return ntohs(((struct sockaddr_in6 *)&address)->sin6_port);
    }
    return -1;
}

// ---- closing

void server_on_conn_closed(struct pando_server *server) {
    if (server->full && !server->closing && !is_full(server)) watch_listeners(server, true);
    if (!server->closing || server->closed || !list_empty(&server->conns)) return;
    server->closed = true;
    if (server->has_signals) {
        uv_close((uv_handle_t *)&server->term, NULL);
        uv_close((uv_handle_t *)&server->interrupt, NULL);
    }
    uv_close((uv_handle_t *)&server->tick, NULL);
    if (server->on_closed) server->on_closed(server->on_closed_arg);
}

static void on_listener_closed(uv_handle_t *handle) {
    struct listener *listener = handle->data;
    if (!--listener->open_handles) free(listener);
}

static void close_listener(struct listener *listener) {
    accept_some(listener, INT32_MAX);  // those in the queue would be reset
    uv_close((uv_handle_t *)&listener->poll, on_listener_closed);
    uv_close((uv_handle_t *)&listener->pause, on_listener_closed);
    fd_close(&listener->fd);  // a unix path stays: another worker may serve it, and the next start replaces it when nobody does
}

void pando_server_close(struct pando_server *server, uint32_t deadline_ms, void (*on_closed)(void *), void *arg) {
    if (server->closing) {  // asked twice: at once
        server->drain_deadline_ms = 0;
        return;
    }
    uv_update_time(server->loop);
    server->closing = true;
    server->on_closed = on_closed;
    server->on_closed_arg = arg;
    server->drain_from_ms = server_now_ms(server);
    server->drain_deadline_ms = deadline_ms == PANDO_NEVER ? UINT64_MAX : server->drain_from_ms + deadline_ms;
    while (server->listeners) {
        struct listener *listener = server->listeners;
        server->listeners = listener->next;
        close_listener(listener);
    }
    for (struct list_node *at = server->conns.next; at != &server->conns; at = at->next) conn_on_drain(list_owner(at, struct conn, link));
    uv_ref((uv_handle_t *)&server->tick);
    server_on_conn_closed(server);
}

static void on_signal(uv_signal_t *signal, int number) {
    (void)number;
    pando_server_close(signal->data, 30000, NULL, NULL);
}

int pando_server_run(struct pando_server *server, bool signals) {
    if (signals && !server->has_signals) {
        uv_signal_init(server->loop, &server->term);
        uv_signal_init(server->loop, &server->interrupt);
        server->term.data = server->interrupt.data = server;
        uv_signal_start(&server->term, on_signal, SIGTERM);
        uv_signal_start(&server->interrupt, on_signal, SIGINT);
        server->has_signals = true;
    }
    return uv_run(server->loop, UV_RUN_DEFAULT);
}

void pando_server_free(struct pando_server *server) {
    if (!server) return;
    if (!server->closed) pando_server_close(server, 0, NULL, NULL);
    for (struct list_node *at; (at = server->conns.next) != &server->conns;) conn_close_now(list_owner(at, struct conn, link));
    server_on_conn_closed(server);
    if (server->own_loop_used)
        uv_run(server->loop, UV_RUN_DEFAULT);
    else
        for (int i = 0; i < 3; i++) uv_run(server->loop, UV_RUN_NOWAIT);  // until libuv has let go of our handles
    while (server->idle_exchanges) {
        struct pando_exchange *exchange = server->idle_exchanges;
        server->idle_exchanges = exchange->next_idle;
        exchange_free(exchange);
    }
    block_pool_deinit(&server->blocks);
    if (server->own_loop_used) uv_loop_close(&server->own_loop);
    free(server);
}
