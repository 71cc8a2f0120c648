// SPDX-License-Identifier: MIT
// An open-loop load: a new connection every 1/RATE seconds whatever became of the others, one request each, and every
// EVERY-th asks for PATH, which keeps a worker busy. What is reported is how long the *others* took, from the moment they
// were due: waiting behind a busy worker counts. Loopback only.
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <arpa/inet.h>

#define SECOND_NS UINT64_C(1000000000)
enum { EVENTS = 256, PATIENCE_S = 15 };

struct request {
    uint64_t due_ns, took_ns;
    int fd;
    bool is_busy_maker, sent, failed;
};

static uint64_t now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * SECOND_NS + (uint64_t)time.tv_nsec;
}

static void finish(struct request *request, bool failed) {
    request->took_ns = now_ns() - request->due_ns;
    request->failed = failed;
    close(request->fd);
    request->fd = -1;
}

static void begin(struct request *request, int epoll, size_t index, int port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct epoll_event event = {.events = EPOLLOUT, .data.u64 = index};
    request->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (request->fd < 0) {
        request->failed = true;
        return;
    }
    bool refused = connect(request->fd, (struct sockaddr *)&to, sizeof to) != 0 && errno != EINPROGRESS;
    if (refused || epoll_ctl(epoll, EPOLL_CTL_ADD, request->fd, &event) != 0) finish(request, true);
}

static void send_it(struct request *request, int epoll, size_t index, const char *path) {
    char text[256];
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = index};
    int len = snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", request->is_busy_maker ? path : "/");
    if (send(request->fd, text, (size_t)len, MSG_NOSIGNAL) != len || epoll_ctl(epoll, EPOLL_CTL_MOD, request->fd, &event) != 0)
        finish(request, true);
    request->sent = true;
}

// The answer is over when the server closes; one that never began to answer has failed.
static void read_it(struct request *request) {
    static char bytes[65536];
    static uint64_t answered[1 << 17];  // bit a descriptor
    ssize_t n = recv(request->fd, bytes, sizeof bytes, 0);
    uint64_t *word = &answered[(unsigned)request->fd / 64], bit = UINT64_C(1) << (request->fd % 64);
    if (n > 0) {
        *word |= bit;
    } else if (n == 0 || errno != EAGAIN) {
        bool had_answer = (*word & bit) != 0;
        *word &= ~bit;
        finish(request, n < 0 || !had_answer);
    }
}

static int compare(const void *a, const void *b) {
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

static void report(const struct request *requests, size_t count) {
    uint64_t *took = calloc(count + 1, sizeof *took);
    size_t len = 0, failed = 0;
    for (size_t i = 0; i < count; i++) {
        failed += requests[i].failed || requests[i].fd >= 0;
        if (!requests[i].is_busy_maker && !requests[i].failed && requests[i].fd < 0) took[len++] = requests[i].took_ns;
    }
    qsort(took, len, sizeof *took, compare);
    const double at[] = {0.5, 0.99, 0.999};
    printf("{\"samples\": %zu, \"failed\": %zu, \"ms\": [", len, failed);
    for (int i = 0; i < 3; i++) printf("%s%.3f", i > 0 ? ", " : "", len == 0 ? -1.0 : (double)took[(size_t)((double)(len - 1) * at[i])] / 1e6);
    printf("]}\n");
    free(took);
}

int main(int argc, char **argv) {
    if (argc != 6) {
        fprintf(stderr, "usage: openloop PORT RATE COUNT EVERY PATH\n");
        return 2;
    }
    int port = atoi(argv[1]), epoll = epoll_create1(EPOLL_CLOEXEC);
    double rate = atof(argv[2]);
    size_t count = (size_t)atol(argv[3]), every = (size_t)atol(argv[4]), begun = 0;
    struct request *requests = calloc(count, sizeof *requests);
    uint64_t start = now_ns() + SECOND_NS / 10, end = start + (uint64_t)((double)count / rate * 1e9) + PATIENCE_S * SECOND_NS;
    if (epoll < 0 || requests == NULL || rate <= 0) return 1;
    for (size_t open = 0; begun < count || open > 0;) {
        struct epoll_event events[EVENTS];
        uint64_t now = now_ns(), due = begun < count ? start + (uint64_t)((double)begun / rate * 1e9) : now + SECOND_NS / 10;
        if (now > end) break;
        int n = epoll_wait(epoll, events, EVENTS, due <= now ? 0 : (int)((due - now) / 1000000));
        for (int i = 0; i < n; i++) {
            struct request *request = &requests[events[i].data.u64];
            if (!request->sent && (events[i].events & EPOLLOUT))
                send_it(request, epoll, events[i].data.u64, argv[5]);
            else
                read_it(request);
        }
        for (now = now_ns(); begun < count && (due = start + (uint64_t)((double)begun / rate * 1e9)) <= now; begun++) {
            requests[begun].due_ns = due;
            requests[begun].is_busy_maker = every > 0 && begun % every == every - 1;
            begin(&requests[begun], epoll, begun, port);
        }
        open = 0;
        for (size_t i = begun > 20000 ? begun - 20000 : 0; i < begun; i++) open += requests[i].fd >= 0 && !requests[i].failed;
    }
    report(requests, count);
    return 0;
}
