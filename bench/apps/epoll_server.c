// SPDX-License-Identifier: MIT
// A plain epoll server as one finds them: one thread, its own socket, non-blocking, level-triggered. It knows nothing of Pando.
// Answers every request with its pid.
//
//   epoll_server PORT [exclusive] [reuseport]
//
// exclusive  waits for connections with EPOLLEXCLUSIVE: of many processes that share the socket the kernel wakes one, not all
// reuseport  sets SO_REUSEPORT: several run on one port without Pando (the benchmark's reference: nothing shared, no vain wake-up)
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static char response[128];
static size_t response_len;

static _Noreturn void die(const char *what) {
    fprintf(stderr, "epoll_server: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int listen_on(int port, bool reuseport) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
    if (fd < 0) die("socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (reuseport) setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (bind(fd, (struct sockaddr *)&address, sizeof address)) die("bind");
    if (listen(fd, 511)) die("listen");
    return fd;
}

static void watch(int epoll_fd, int fd, uint32_t events) {
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event)) die("epoll_ctl");
}

static void accept_all(int epoll_fd, int listener) {
    for (int fd, on = 1; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        watch(epoll_fd, fd, EPOLLIN);
    }
}

// One read is one request: the load generator's requests are small and never pipelined.
static void answer(int fd) {
    char request[4096];
    ssize_t len = recv(fd, request, sizeof request - 1, 0);
    if (len < 0 && errno == EAGAIN) return;
    if (len > 0) {
        request[len] = '\0';
        bool sent = send(fd, response, response_len, MSG_NOSIGNAL) == (ssize_t)response_len;
        if (sent && !strstr(request, "Connection: close")) return;
    }
    close(fd);
}

int main(int argc, char **argv) {
    bool exclusive = false, reuseport = false;
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "exclusive") == 0) exclusive = true;
        if (strcmp(argv[i], "reuseport") == 0) reuseport = true;
    }
    int port = argc > 1 ? atoi(argv[1]) : 0;
    if (port < 1 || port > 65535) {
        fprintf(stderr, "usage: epoll_server PORT [exclusive] [reuseport]\n");
        return 2;
    }

    char body[16];
    int body_len = snprintf(body, sizeof body, "%d\n", getpid());
    response_len = (size_t)snprintf(response, sizeof response, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", body_len, body);

    int listener = listen_on(port, reuseport), epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd < 0) die("epoll_create1");
    watch(epoll_fd, listener, exclusive ? EPOLLIN | EPOLLEXCLUSIVE : EPOLLIN);
    puts("ready");
    fflush(stdout);

    struct epoll_event events[64];
    for (;;) {
        int count = epoll_wait(epoll_fd, events, sizeof events / sizeof events[0], -1);
        if (count < 0 && errno != EINTR) die("epoll_wait");
        for (int i = 0; i < count; i++) {
            if (events[i].data.fd == listener)
                accept_all(epoll_fd, listener);
            else
                answer(events[i].data.fd);
        }
    }
}
