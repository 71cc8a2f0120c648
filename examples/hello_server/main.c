// SPDX-License-Identifier: MIT
// A small web server: one process, one thread, epoll, keep-alive, plain POSIX. It says which process answered, and it knows
// nothing of Pando: `pando run -- hello_server 3000` makes as many of it as there are cores.
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

struct conn {
    int fd;
    size_t len;       // bytes of input not yet answered
    char input[4096];
    unsigned long answered;
};

static int listen_on(int port) {
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int on = 1, off = 0;
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_ANY_INIT, .sin6_port = htons((unsigned short)port)};
    if (fd < 0) return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);  // IPv4 as well
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 511) != 0) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

static void watch(int epoll, int fd, void *what) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = what};
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

static void greet(int epoll, int listener) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;  // another process was faster
    struct conn *conn = calloc(1, sizeof *conn);
    if (conn == NULL) {
        close(fd);
        return;
    }
    conn->fd = fd;
    watch(epoll, fd, conn);
}

// An answer is far smaller than a socket's buffer: a short write means that the client is gone or will not read.
static bool answer(struct conn *conn, bool keep_alive) {
    char body[128], out[512];
    int body_len = snprintf(body, sizeof body, "Hello from process %d, request %lu on this connection.\n", (int)getpid(), ++conn->answered);
    int len = snprintf(out, sizeof out,
                       "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: %s\r\n\r\n%s",
                       body_len, keep_alive ? "keep-alive" : "close", body);
    return send(conn->fd, out, (size_t)len, MSG_NOSIGNAL) == len;
}

// Answers every complete request in the buffer. False: close the connection.
static bool answer_all(struct conn *conn) {
    for (char *end; (end = strstr(conn->input, "\r\n\r\n")) != NULL;) {
        *end = '\0';
        bool keep_alive = strcasestr(conn->input, "\r\nConnection: close") == NULL && strstr(conn->input, " HTTP/1.0") == NULL;
        size_t taken = (size_t)(end - conn->input) + 4;
        if (!answer(conn, keep_alive) || !keep_alive) return false;
        conn->len -= taken;
        memmove(conn->input, conn->input + taken, conn->len + 1);
    }
    return conn->len < sizeof conn->input - 1;  // a head that does not fit is not for us
}

static void on_input(struct conn *conn) {
    ssize_t count = recv(conn->fd, conn->input + conn->len, sizeof conn->input - 1 - conn->len, 0);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (count > 0) {
        conn->len += (size_t)count;
        conn->input[conn->len] = '\0';
        if (answer_all(conn)) return;
    }
    close(conn->fd);
    free(conn);
}

int main(int argc, char **argv) {
    int port = argc > 1 ? atoi(argv[1]) : 3000;
    int listener = listen_on(port);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (listener < 0 || epoll < 0) {
        fprintf(stderr, "hello_server: listen on port %d: %s\n", port, strerror(errno));
        return 1;
    }
    printf("process %d listens on port %d\n", (int)getpid(), port);
    fflush(stdout);
    watch(epoll, listener, NULL);
    for (;;) {
        struct epoll_event events[64];
        int count = epoll_wait(epoll, events, 64, -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr == NULL)
                greet(epoll, listener);
            else
                on_input(events[i].data.ptr);
        }
    }
}
