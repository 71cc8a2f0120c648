// SPDX-License-Identifier: MIT
// Load for the benchmarks: N concurrent connections to one port of 127.0.0.1, one thread, epoll. Prints one JSON object.
//
//   load -p PORT [-m close|keepalive] [-c CONNECTIONS] [-d SECONDS | -n REQUESTS]
//
// close      a request is: connect, send, answer, end of file. The server closes first, so no client port stays in TIME_WAIT.
// keepalive  a connection is opened once and carries one request after the other.
//
// Closed loop: a connection asks again as soon as it has its answer. At the end requests under way may finish (they count as completed, but
// not in `per_second`); what gets no answer for PATIENCE_MS has failed. A connection moves idle -> (connecting ->) waiting -> idle.
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_MS 5000
#define HEAD_MAX 4096
#define CONNECTIONS_MAX 10000

// Latencies, log-linear: 64 buckets for each power of two, so a percentile is off by 1.6 % at most.
#define BUCKET_BITS 6
#define BUCKETS ((64 - BUCKET_BITS) << BUCKET_BITS)

struct answer {
    char head[HEAD_MAX + 1];
    size_t head_len;
    size_t body_left;
    bool has_head, complete;
};

struct conn {
    int fd;           // -1: closed
    int64_t sent_ns;  // when the request under way began: connect() or, on an open connection, write()
    bool connecting;  // the request waits for the handshake
    struct answer answer;
};

enum failure { FAILED_CONNECT, FAILED_RESET, FAILED_ANSWER, FAILED_SILENCE, FAILURE_COUNT };

static const char *const failure_name[FAILURE_COUNT] = {
    [FAILED_CONNECT] = "connect",
    [FAILED_RESET] = "reset",
    [FAILED_ANSWER] = "bad_answer",
    [FAILED_SILENCE] = "no_answer",
};

struct load {
    bool keepalive;
    int port;
    int connections;
    double seconds;
    uint64_t requests;  // 0: bounded by time alone

    int epoll_fd;
    int64_t start_ns, deadline_ns, last_ns;
    uint64_t started, completed, completed_in_time, waiting, connects;
    uint64_t failed[FAILURE_COUNT];
    uint64_t bucket[BUCKETS];
    struct conn **idle;  // a stack
    int idle_count;
};

static _Noreturn void die(const char *what) {
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

// --- latencies ---

static size_t bucket_of(uint64_t ns) {
    int magnitude = 63 - __builtin_clzll(ns | 1);
    int shift = magnitude > BUCKET_BITS ? magnitude - BUCKET_BITS : 0;
    return ((size_t)shift << BUCKET_BITS) + (ns >> shift);
}

static double bucket_us(size_t index) {
    size_t shift = index >> BUCKET_BITS;
    if (shift > 0) shift--;
    uint64_t low = (uint64_t)(index - (shift << BUCKET_BITS)) << shift;
    return ((double)low + (double)(UINT64_C(1) << shift) / 2) / 1000;
}

static double percentile_us(const struct load *load, double fraction) {
    uint64_t wanted = (uint64_t)(fraction * (double)load->completed), seen = 0;
    for (size_t i = 0; i < BUCKETS; i++) {
        seen += load->bucket[i];
        if (load->bucket[i] && seen >= wanted) return bucket_us(i);
    }
    return 0;
}

// --- the answer ---

// Reads status and length, once the head is complete (it ends at `end`). False: not an answer we accept.
static bool answer_parse_head(struct answer *answer, const char *end) {
    if (strncmp(answer->head, "HTTP/1.", 7) != 0 || strncmp(answer->head + 8, " 200", 4) != 0) return false;
    const char *length = strcasestr(answer->head, "\r\nContent-Length:");
    if (!length || length > end) return false;
    answer->has_head = true;
    answer->body_left = strtoul(length + strlen("\r\nContent-Length:"), NULL, 10);
    return true;
}

// Takes what came in. False: not an answer we accept.
static bool answer_feed(struct answer *answer, const char *data, size_t len) {
    if (!answer->has_head) {
        if (answer->head_len + len > HEAD_MAX) return false;
        memcpy(answer->head + answer->head_len, data, len);
        answer->head_len += len;
        answer->head[answer->head_len] = '\0';
        const char *end = strstr(answer->head, "\r\n\r\n");
        if (!end) return true;
        if (!answer_parse_head(answer, end)) return false;
        len = answer->head_len - (size_t)(end + 4 - answer->head);
    }
    if (len > answer->body_left) return false;
    answer->body_left -= len;
    answer->complete = answer->body_left == 0;
    return true;
}

static void answer_reset(struct answer *answer) {
    answer->head_len = 0;
    answer->has_head = answer->complete = false;
}

// --- one connection ---

static void conn_rest(struct load *load, struct conn *conn) {
    load->waiting--;
    load->idle[load->idle_count++] = conn;
}

static void conn_close(struct conn *conn) {
    close(conn->fd);
    conn->fd = -1;
}

static void conn_fail(struct load *load, struct conn *conn, enum failure why) {
    load->failed[why]++;
    conn_close(conn);
    conn_rest(load, conn);
}

static void conn_complete(struct load *load, struct conn *conn) {
    load->last_ns = now_ns();
    load->completed++;
    if (load->last_ns <= load->deadline_ns) load->completed_in_time++;
    load->bucket[bucket_of((uint64_t)(load->last_ns - conn->sent_ns))]++;
    if (!load->keepalive) conn_close(conn);
    conn_rest(load, conn);
}

static void conn_watch(struct load *load, struct conn *conn, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = conn};
    if (epoll_ctl(load->epoll_fd, operation, conn->fd, &event)) die("epoll_ctl");
}

// Sends the request; EAGAIN means that the handshake is not over.
static bool conn_send(const struct load *load, const struct conn *conn) {
    static const char closing[] = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    static const char keeping[] = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n";
    const char *request = load->keepalive ? keeping : closing;
    return send(conn->fd, request, strlen(request), MSG_NOSIGNAL) > 0;
}

// Connects and, as on loopback the handshake is over when connect() returns, sends at once.
static void conn_connect(struct load *load, struct conn *conn) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)load->port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);

    conn->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (conn->fd < 0) die("socket");
    load->connects++;

    if (connect(conn->fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS) {
        conn_fail(load, conn, FAILED_CONNECT);
        return;
    }
    conn->connecting = !conn_send(load, conn);
    if (conn->connecting && errno != EAGAIN)
        conn_fail(load, conn, FAILED_CONNECT);
    else
        conn_watch(load, conn, EPOLL_CTL_ADD, conn->connecting ? EPOLLOUT : EPOLLIN);
}

static void conn_begin(struct load *load, struct conn *conn) {
    load->started++;
    load->waiting++;
    answer_reset(&conn->answer);
    conn->sent_ns = now_ns();
    if (conn->fd < 0)
        conn_connect(load, conn);
    else if (!conn_send(load, conn))
        conn_fail(load, conn, FAILED_RESET);
}

static void conn_on_writable(struct load *load, struct conn *conn) {
    if (!conn_send(load, conn)) {
        conn_fail(load, conn, FAILED_CONNECT);
        return;
    }
    conn->connecting = false;
    conn_watch(load, conn, EPOLL_CTL_MOD, EPOLLIN);
}

static void conn_on_readable(struct load *load, struct conn *conn) {
    char data[HEAD_MAX];
    ssize_t len = recv(conn->fd, data, sizeof data, 0);
    if (len < 0 && errno == EAGAIN) return;
    if (len < 0)
        conn_fail(load, conn, FAILED_RESET);
    else if (len == 0 && conn->answer.complete)
        conn_complete(load, conn);
    else if (len == 0)
        conn_fail(load, conn, conn->answer.head_len ? FAILED_ANSWER : FAILED_RESET);
    else if (!answer_feed(&conn->answer, data, (size_t)len))
        conn_fail(load, conn, FAILED_ANSWER);
    else if (load->keepalive && conn->answer.complete)
        conn_complete(load, conn);
}

// --- the run ---

static bool load_may_begin(const struct load *load) {
    if (load->requests && load->started >= load->requests) return false;
    return now_ns() < load->deadline_ns;
}

// Each idle connection gets its next request. Only those idle now: one that fails at once must not be tried for ever.
static void load_begin_idle(struct load *load) {
    int count = load->idle_count;
    struct conn *batch[CONNECTIONS_MAX];
    memcpy(batch, load->idle, (size_t)count * sizeof batch[0]);
    load->idle_count = 0;
    for (int i = 0; i < count; i++) {
        if (load_may_begin(load))
            conn_begin(load, batch[i]);
        else if (batch[i]->fd >= 0)
            conn_close(batch[i]);
    }
    if (load->idle_count > 0) usleep(1000);  // refused: no busy loop
}

static void load_run(struct load *load) {
    struct epoll_event events[256];
    load->start_ns = load->last_ns = now_ns();
    load->deadline_ns = load->seconds > 0 ? load->start_ns + (int64_t)(load->seconds * 1e9) : INT64_MAX;

    for (;;) {
        load_begin_idle(load);
        if (load->waiting == 0 && load->idle_count == 0) return;

        int count = epoll_wait(load->epoll_fd, events, sizeof events / sizeof events[0], load->idle_count ? 0 : PATIENCE_MS);
        if (count < 0) die("epoll_wait");
        if (count == 0 && load->idle_count == 0) break;
        for (int i = 0; i < count; i++) {
            struct conn *conn = events[i].data.ptr;
            if (conn->connecting)
                conn_on_writable(load, conn);
            else
                conn_on_readable(load, conn);
        }
    }
    load->failed[FAILED_SILENCE] = load->waiting;
}

static void load_print(const struct load *load) {
    int64_t end_ns = load->last_ns < load->deadline_ns ? load->last_ns : load->deadline_ns;
    double elapsed = (double)(end_ns - load->start_ns) / 1e9;
    uint64_t failed = 0;
    for (int i = 0; i < FAILURE_COUNT; i++) failed += load->failed[i];

    printf("{\"mode\": \"%s\", \"connections\": %d, \"seconds\": %.4f, \"completed\": %llu, \"failed\": %llu, \"connects\": %llu,\n",
           load->keepalive ? "keepalive" : "close", load->connections, elapsed, (unsigned long long)load->completed,
           (unsigned long long)failed, (unsigned long long)load->connects);
    printf(" \"failures\": {");
    for (int i = 0; i < FAILURE_COUNT; i++) printf("%s\"%s\": %llu", i ? ", " : "", failure_name[i], (unsigned long long)load->failed[i]);
    printf("},\n \"per_second\": %.1f,\n", elapsed > 0 ? (double)load->completed_in_time / elapsed : 0);
    printf(" \"latency_us\": {\"p50\": %.1f, \"p90\": %.1f, \"p99\": %.1f, \"p999\": %.1f, \"max\": %.1f}}\n", percentile_us(load, 0.5),
           percentile_us(load, 0.9), percentile_us(load, 0.99), percentile_us(load, 0.999), percentile_us(load, 1));
}

static _Noreturn void usage(void) {
    fprintf(stderr, "usage: load -p PORT [-m close|keepalive] [-c CONNECTIONS, at most %d] [-d SECONDS | -n REQUESTS]\n", CONNECTIONS_MAX);
    exit(2);
}

static void load_parse_options(struct load *load, int argc, char **argv) {
    for (int option; (option = getopt(argc, argv, "p:m:c:d:n:")) != -1;) {
        if (option == 'p')
            load->port = atoi(optarg);
        else if (option == 'c')
            load->connections = atoi(optarg);
        else if (option == 'd')
            load->seconds = atof(optarg);
        else if (option == 'n')
            load->requests = strtoull(optarg, NULL, 10);
        else if (option == 'm' && strcmp(optarg, "keepalive") == 0)
            load->keepalive = true;
        else if (option != 'm' || strcmp(optarg, "close") != 0)
            usage();
    }
    bool bounded = load->seconds > 0 || load->requests > 0;
    if (optind < argc || load->port < 1 || load->port > 65535 || load->connections < 1 || load->connections > CONNECTIONS_MAX || !bounded)
        usage();
}

int main(int argc, char **argv) {
    static struct load load = {.connections = 64};
    load_parse_options(&load, argc, argv);

    struct conn *conns = calloc((size_t)load.connections, sizeof conns[0]);
    load.idle = calloc((size_t)load.connections, sizeof load.idle[0]);
    load.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (!conns || !load.idle || load.epoll_fd < 0) die("start");
    for (int i = 0; i < load.connections; i++) {
        conns[i].fd = -1;
        load.idle[load.idle_count++] = &conns[i];
    }

    load_run(&load);
    load_print(&load);
    free(load.idle);
    free(conns);
    return 0;
}
