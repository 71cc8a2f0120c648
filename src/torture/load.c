// SPDX-License-Identifier: MIT
// One thread, one epoll, one lock that is held while events are handled.
//
//   FREE --due--> CONNECTING --connected--> WAITING --answered--> IDLE (kept alive) --due--> WAITING
//     ^               |                        |                    |
//     +---------------+------ failed ----------+---- closed --------+
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "answer.h"
#include "clock.h"
#include "fd.h"
#include "sock_diag.h"

#define PORT_FIRST 10000
#define PORT_END 60000
#define CLIENT_NET 0x7f400000U  // 127.64.0.0: far from the addresses that servers take
#define SWEEP_NS (100 * CLOCK_MS)
#define IDLE_MAX_NS (300 * CLOCK_MS)  // shorter than any server waits, so that closing is the client's
enum { REQUEST_SIZE = 1024, EVENTS = 256, DUE_AT_ONCE = 64, PORT_TRIES = 200, QUOTA_MIN = 20, QUOTA_SPREAD = 80 };

const char *const load_failure_text[LOAD_FAILURE_COUNT] = {
    [LOAD_REFUSED] = "connection refused",
    [LOAD_RESET] = "reset before an answer",
    [LOAD_CLOSED] = "closed without an answer",
    [LOAD_CUT] = "cut off in the middle of the answer",
    [LOAD_BAD] = "answered with something that is no HTTP",
    [LOAD_QUEUED] = "left in a queue without anybody to accept it",
    [LOAD_SILENT] = "accepted and not answered",
    [LOAD_LOCAL] = "not asked: no descriptor or client port was left here",
};

enum conn_state { CONN_FREE, CONN_IDLE, CONN_CONNECTING, CONN_WAITING };

struct conn {
    enum conn_state state;
    int fd;                    // owned unless FREE
    uint16_t port;             // ours
    bool inside;               // accepted by a process that is about to be killed
    unsigned answered, quota;  // requests on this connection, and after how many it is given up
    size_t bytes;              // of the answer under way
    uint64_t due_ns;           // of the request under way
    uint64_t idle_since_ns;
    struct answer answer;
};

struct load {
    struct load_options options;
    char close_request[REQUEST_SIZE], keep_request[REQUEST_SIZE];
    int epoll, timer;  // owned
    pthread_t thread;
    pthread_mutex_t lock;  // of all that follows

    bool stopping, draining;
    double per_second;
    unsigned clients;
    uint64_t start_ns, next_due_ns, sweep_ns;
    uint64_t answered, lost;
    unsigned phase, under_way;
    unsigned chance;  // for what need not be the same twice
    uint32_t next_client;
    struct conn conn[LOAD_CONNECTIONS_MAX];
    struct conn *by_port[PORT_END];
    struct load_result result;
};

static void request_begin(struct load *load, uint64_t due_ns);

uint16_t load_target_port(const struct load_options *options) {
    const struct sockaddr_in *v4 = (const void *)&options->target;
    const struct sockaddr_in6 *v6 = (const void *)&options->target;
    return ntohs(options->target.ss_family == AF_INET ? v4->sin_port : v6->sin6_port);
}

// ---- the end of a request

static struct load_tally *tally(struct load *load) { return &load->result.phase[load->phase]; }

static void conn_close(struct load *load, struct conn *conn) {
    int unread = 0;
    if (conn->state == CONN_FREE) return;
    if (ioctl(conn->fd, FIONREAD, &unread) == 0 && unread > 0) load->result.client_aborts++;
    if (load->by_port[conn->port] == conn) load->by_port[conn->port] = NULL;
    if (conn->state == CONN_CONNECTING || conn->state == CONN_WAITING) load->under_way--;
    fd_close(&conn->fd);
    conn->state = CONN_FREE;
}

static void note_failure(struct load *load, enum load_failure failure, uint16_t port, uint64_t due_ns) {
    struct load_result *result = &load->result;
    uint64_t now = clock_now_ns();
    tally(load)->failed[failure]++;
    load->lost++;
    if (result->samples == LOAD_SAMPLE_MAX) return;
    result->sample[result->samples++] = (struct load_sample){
        .at_ns = now - load->start_ns, .after_ns = now - due_ns, .failure = failure, .phase = load->phase, .port = port};
}

// A request on a kept connection that was closed before anything came back is to be made again on another one (RFC 9112, section 9.3.1):
// the server may have closed before it saw it.
static void conn_fail(struct load *load, struct conn *conn, enum load_failure failure, int err) {
    bool inside = conn->inside, idle = conn->state == CONN_IDLE;
    bool reused = conn->answered > 0 && conn->bytes == 0 && (failure == LOAD_CLOSED || failure == LOAD_RESET);
    bool in_doubt = failure == LOAD_RESET && !reused && !idle;
    if (err == ECONNRESET || err == EPIPE) {
        load->result.inside_resets += inside;
        load->result.other_resets += !inside && !in_doubt;
    }
    uint64_t due_ns = conn->due_ns;
    conn_close(load, conn);
    if (idle) return;
    if (inside) {
        tally(load)->inside++;
    } else if (reused) {
        tally(load)->repeated++;
        request_begin(load, due_ns);
    } else {
        note_failure(load, failure, conn->port, due_ns);
    }
}

static void conn_complete(struct load *load, struct conn *conn) {
    uint64_t now = clock_now_ns();
    struct load_tally *count = tally(load);
    count->answered++;
    if (conn->answer.status >= 500) count->server_errors++;
    histogram_add(&count->took, now - conn->due_ns);
    load->answered++;
    conn->answered++;
    bool keep = load->options.keep_alive && !conn->answer.closes && conn->answered < conn->quota && !load->draining;
    if (!keep) {
        conn_close(load, conn);
        return;
    }
    load->under_way--;
    conn->state = CONN_IDLE;
    conn->idle_since_ns = now;
}

// ---- the way of a request

static void conn_watch(struct load *load, struct conn *conn, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = conn};
    epoll_ctl(load->epoll, operation, conn->fd, &event);
}

// A request that cannot be sent is no failure yet: what the other side had to say is read first.
static void conn_send(struct load *load, struct conn *conn) {
    bool last = !load->options.keep_alive || conn->answered + 1 >= conn->quota;
    const char *request = last ? load->close_request : load->keep_request;
    conn->state = CONN_WAITING;
    conn->bytes = 0;
    answer_init(&conn->answer);
    send(conn->fd, request, strlen(request), MSG_NOSIGNAL | MSG_DONTWAIT);
}

static enum load_failure failure_of(const struct conn *conn, int err) {
    if (err == ECONNREFUSED) return LOAD_REFUSED;
    if (conn->bytes > 0) return LOAD_CUT;
    // EPIPE: an orderly end had come before the reset, and only a process can end in order.
    return err == EPIPE || err == 0 ? LOAD_CLOSED : err == ETIMEDOUT ? LOAD_QUEUED : LOAD_RESET;
}

// A port that none of the connections under way has, on one of many addresses. 0 or -errno.
static int conn_bind(struct load *load, struct conn *conn) {
    bool v4 = load->options.target.ss_family == AF_INET;
    int err = 0;
    for (int i = 0; i < PORT_TRIES; i++) {
        uint32_t number = load->next_client++;
        uint16_t port = (uint16_t)(PORT_FIRST + number % (PORT_END - PORT_FIRST));
        uint32_t host = CLIENT_NET + 1 + number / (PORT_END - PORT_FIRST) % 0xffff;
        const struct sockaddr_in *target4 = (const void *)&load->options.target;
        bool loopback = v4 && ntohl(target4->sin_addr.s_addr) >> 24 == 127;
        struct sockaddr_in from4 = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = loopback ? htonl(host) : INADDR_ANY};
        struct sockaddr_in6 from6 = {.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = in6addr_any};
        if (load->by_port[port] || port == load_target_port(&load->options)) continue;
        if (bind(conn->fd, v4 ? (void *)&from4 : (void *)&from6, v4 ? sizeof from4 : sizeof from6)) {
            err = -errno;
            continue;
        }
        conn->port = port;
        load->by_port[port] = conn;
        return 0;
    }
    return err ? err : -EADDRINUSE;
}

static struct conn *conn_find(struct load *load, enum conn_state state) {
    for (size_t i = 0; i < LOAD_CONNECTIONS_MAX; i++)
        if (load->conn[i].state == state) return &load->conn[i];
    return NULL;
}

static void conn_open(struct load *load, struct conn *conn, uint64_t due_ns) {
    int one = 1;
    *conn = (struct conn){.state = CONN_CONNECTING, .due_ns = due_ns, .quota = QUOTA_MIN + (unsigned)rand_r(&load->chance) % QUOTA_SPREAD};
    load->under_way++;
    conn->fd = socket(load->options.target.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (conn->fd >= 0) setsockopt(conn->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (conn->fd >= 0) setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (conn->fd < 0 || conn_bind(load, conn)) {
        conn_fail(load, conn, LOAD_LOCAL, 0);
        return;
    }
    if (connect(conn->fd, (const void *)&load->options.target, load->options.target_len) && errno != EINPROGRESS) {
        bool refused = errno == ECONNREFUSED;
        conn_fail(load, conn, refused ? LOAD_REFUSED : LOAD_LOCAL, 0);
        return;
    }
    conn_watch(load, conn, EPOLL_CTL_ADD, EPOLLOUT);
}

static void request_begin(struct load *load, uint64_t due_ns) {
    struct conn *kept = load->options.keep_alive ? conn_find(load, CONN_IDLE) : NULL;
    if (kept) {
        kept->due_ns = due_ns;
        load->under_way++;
        conn_send(load, kept);
        return;
    }
    struct conn *conn = conn_find(load, CONN_FREE);
    if (conn)
        conn_open(load, conn, due_ns);
    else
        note_failure(load, LOAD_LOCAL, 0, due_ns);
}

static void conn_on_connected(struct load *load, struct conn *conn) {
    int err = 0;
    socklen_t len = sizeof err;
    getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &err, &len);
    if (err) {
        conn_fail(load, conn, failure_of(conn, err), err);
        return;
    }
    conn_watch(load, conn, EPOLL_CTL_MOD, EPOLLIN);
    conn_send(load, conn);
}

static enum answer_next conn_take(const struct load *load, struct conn *conn, const char *data, size_t len) {
    conn->bytes += len;
    return load->options.http ? answer_feed(&conn->answer, data, len) : ANSWER_DONE;
}

static void conn_on_readable(struct load *load, struct conn *conn) {
    static _Thread_local char data[65536];
    while (conn->state == CONN_WAITING || conn->state == CONN_IDLE) {
        ssize_t got = recv(conn->fd, data, sizeof data, MSG_DONTWAIT);
        if (got < 0 && errno == EAGAIN) return;
        if (got < 0 && errno == EINTR) continue;
        if (got < 0 || (got > 0 && conn->state == CONN_IDLE)) {  // an idle one that was not asked has nothing to say
            int err = got < 0 ? errno : 0;
            conn_fail(load, conn, failure_of(conn, err), err);
        } else if (got == 0 && conn->state == CONN_WAITING && conn->bytes > 0 && answer_ends_here(&conn->answer)) {
            conn_complete(load, conn);
        } else if (got == 0) {
            conn_fail(load, conn, failure_of(conn, 0), 0);
        } else {
            enum answer_next next = conn_take(load, conn, data, (size_t)got);
            if (next == ANSWER_DONE) conn_complete(load, conn);
            if (next == ANSWER_BAD) conn_fail(load, conn, LOAD_BAD, 0);
        }
    }
}

static void conn_on_event(struct load *load, struct conn *conn) {
    if (conn->state == CONN_CONNECTING)
        conn_on_connected(load, conn);
    else
        conn_on_readable(load, conn);
}

// ---- patience

struct owner {
    uint16_t client_port;
    bool accepted;
};

static bool look_at_owner(const struct sock_diag_tcp *socket, void *arg) {
    struct owner *owner = arg;
    if (socket->remote_port != owner->client_port) return true;
    owner->accepted = socket->inode != 0;
    return false;
}

// The server's end of the connection has an inode when some process has accepted it.
static bool conn_is_accepted(const struct load *load, const struct conn *conn) {
    struct owner owner = {.client_port = conn->port};
    sock_diag_tcp_each(load_target_port(&load->options), look_at_owner, &owner);
    return owner.accepted;
}

static void load_sweep(struct load *load, uint64_t now) {
    load->sweep_ns = now + SWEEP_NS;
    for (size_t i = 0; i < LOAD_CONNECTIONS_MAX; i++) {
        struct conn *conn = &load->conn[i];
        bool asked = conn->state == CONN_CONNECTING || conn->state == CONN_WAITING;
        if (conn->state == CONN_IDLE && (load->draining || now - conn->idle_since_ns > IDLE_MAX_NS)) conn_close(load, conn);
        if (!asked || now < conn->due_ns + load->options.patience_ns) continue;
        conn->answered = 0;  // not to be repeated
        conn_fail(load, conn, conn_is_accepted(load, conn) ? LOAD_SILENT : LOAD_QUEUED, 0);
    }
}

// ---- the pace

static unsigned room(const struct load *load) {
    unsigned limit = load->per_second > 0 ? LOAD_CONNECTIONS_MAX - 1 : load->clients;
    return load->under_way < limit ? limit - load->under_way : 0;
}

static void load_begin_due(struct load *load, uint64_t now) {
    unsigned left = DUE_AT_ONCE;
    if (load->draining) return;
    if (load->per_second <= 0) {
        for (unsigned n = room(load); n > 0 && left > 0; n--, left--) request_begin(load, now);
        return;
    }
    uint64_t step = (uint64_t)(1e9 / load->per_second);
    for (; load->next_due_ns <= now && left > 0; left--) {
        if (room(load) == 0) {
            load->result.late++;
            return;
        }
        request_begin(load, load->next_due_ns);
        load->next_due_ns += step;
    }
}

static void load_arm_timer(struct load *load, uint64_t now) {
    uint64_t at = load->sweep_ns;
    if (!load->draining && load->per_second > 0 && room(load) > 0 && load->next_due_ns < at) at = load->next_due_ns;
    if (!load->draining && load->per_second <= 0 && room(load) > 0) at = now + CLOCK_MS;  // refused at once: not in a circle
    if (at == 0) at = 1;
    struct itimerspec spec = {.it_value = {.tv_sec = (time_t)(at / CLOCK_S), .tv_nsec = (long)(at % CLOCK_S)}};
    timerfd_settime(load->timer, TFD_TIMER_ABSTIME, &spec, NULL);
}

static void load_turn(struct load *load, const struct epoll_event *events, int count) {
    for (int i = 0; i < count; i++) {
        uint64_t expired;
        if (events[i].data.ptr)
            conn_on_event(load, events[i].data.ptr);
        else if (read(load->timer, &expired, sizeof expired) < 0)
            continue;
    }
    uint64_t now = clock_now_ns();
    if (now >= load->sweep_ns) load_sweep(load, now);
    load_begin_due(load, now);
    load_arm_timer(load, now);
}

static void *load_main(void *arg) {
    struct load *load = arg;
    struct epoll_event events[EVENTS];
    int count = 0;
    while (true) {
        pthread_mutex_lock(&load->lock);
        load_turn(load, events, count);
        bool stop = load->stopping;
        pthread_mutex_unlock(&load->lock);
        if (stop) return NULL;
        count = epoll_wait(load->epoll, events, EVENTS, -1);
        if (count < 0) count = 0;
    }
}

// ---- from outside

static int load_open(struct load *load) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    load->epoll = epoll_create1(EPOLL_CLOEXEC);
    load->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (load->epoll < 0 || load->timer < 0) return -errno;
    return epoll_ctl(load->epoll, EPOLL_CTL_ADD, load->timer, &event) ? -errno : 0;
}

static void write_requests(struct load *load) {
    static const char form[] = "GET %s HTTP/1.1\r\nHost: localhost\r\nUser-Agent: pando-torture\r\nAccept: */*\r\nConnection: %s\r\n\r\n";
    snprintf(load->close_request, sizeof load->close_request, form, load->options.path, "close");
    snprintf(load->keep_request, sizeof load->keep_request, form, load->options.path, "keep-alive");
}

struct load *load_start(const struct load_options *options, struct pando_error *error) {
    struct load *load = calloc(1, sizeof *load);
    if (!load) return error_set(error, ENOMEM, "start the load"), NULL;
    load->options = *options;
    load->draining = true;  // until a pace is set
    load->epoll = load->timer = -1;
    load->start_ns = clock_now_ns();
    write_requests(load);
    pthread_mutex_init(&load->lock, NULL);
    int err = load_open(load);
    if (!err) err = -pthread_create(&load->thread, NULL, load_main, load);
    if (!err) return load;
    error_set(error, -err, "start the load");
    fd_close(&load->epoll);
    fd_close(&load->timer);
    free(load);
    return NULL;
}

void load_set_pace(struct load *load, double per_second, unsigned clients) {
    pthread_mutex_lock(&load->lock);
    load->per_second = per_second;
    load->clients = clients < LOAD_CONNECTIONS_MAX ? clients : LOAD_CONNECTIONS_MAX - 1;
    load->next_due_ns = clock_now_ns();
    load->draining = false;
    pthread_mutex_unlock(&load->lock);
}

void load_set_phase(struct load *load, unsigned phase) {
    pthread_mutex_lock(&load->lock);
    load->phase = phase < LOAD_PHASE_MAX ? phase : LOAD_PHASE_MAX - 1;
    pthread_mutex_unlock(&load->lock);
}

unsigned load_mark_inside(struct load *load, const uint16_t *ports, size_t count) {
    unsigned under_way = 0;
    pthread_mutex_lock(&load->lock);
    for (size_t i = 0; i < count; i++) {
        struct conn *conn = ports[i] < PORT_END ? load->by_port[ports[i]] : NULL;
        if (!conn) continue;
        conn->inside = true;
        under_way += conn->state != CONN_IDLE;
    }
    pthread_mutex_unlock(&load->lock);
    return under_way;
}

static uint64_t load_get(struct load *load, const uint64_t *number) {
    pthread_mutex_lock(&load->lock);
    uint64_t value = *number;
    pthread_mutex_unlock(&load->lock);
    return value;
}

uint64_t load_answered(struct load *load) { return load_get(load, &load->answered); }

uint64_t load_lost(struct load *load) { return load_get(load, &load->lost); }

unsigned load_under_way(struct load *load) {
    pthread_mutex_lock(&load->lock);
    unsigned count = load->under_way;
    pthread_mutex_unlock(&load->lock);
    return count;
}

void load_drain(struct load *load) {
    pthread_mutex_lock(&load->lock);
    load->draining = true;
    pthread_mutex_unlock(&load->lock);
}

void load_read(struct load *load, struct load_result *out) {
    pthread_mutex_lock(&load->lock);
    *out = load->result;
    pthread_mutex_unlock(&load->lock);
}

void load_stop(struct load *load) {
    if (!load) return;
    pthread_mutex_lock(&load->lock);
    load->stopping = true;
    pthread_mutex_unlock(&load->lock);
    pthread_join(load->thread, NULL);
    for (size_t i = 0; i < LOAD_CONNECTIONS_MAX; i++) conn_close(load, &load->conn[i]);
    fd_close(&load->timer);
    fd_close(&load->epoll);
    pthread_mutex_destroy(&load->lock);
    free(load);
}
