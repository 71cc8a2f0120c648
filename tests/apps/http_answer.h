// SPDX-License-Identifier: MIT
// The least HTTP that the C test servers need: one request in, "200 OK" with the answering pid out.
#pragma once

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

// A TCP socket bound to 127.0.0.1:PORT and listening, as a textbook makes it; the program ends where that fails.
static inline int listen_on_port(const char *port, int type_flags) {
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | type_flags, 0);
    int one = 1;
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0) {
        fprintf(stderr, "bind to port %s: %s\n", port, strerror(errno));
        exit(1);
    }
    if (listen(listener, 128) != 0) {
        fprintf(stderr, "listen on port %s: %s\n", port, strerror(errno));
        exit(1);
    }
    return listener;
}

// Length of the first complete request head in `buf` (a NUL-terminated string), 0 when there is none yet.
static inline size_t request_len(const char *buf) {
    const char *end = strstr(buf, "\r\n\r\n");
    return end != NULL ? (size_t)(end - buf) + 4 : 0;
}

static inline bool request_wants_close(const char *buf) {
    return strcasestr(buf, "\r\nConnection: close") != NULL;
}

// Sends the answer in one piece. `text` is the body.
static inline bool answer_with(int fd, const char *text, bool close_after) {
    char out[1024];
    int len = snprintf(out, sizeof out, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\nConnection: %s\r\n\r\n%s",
                       strlen(text), close_after ? "close" : "keep-alive", text);
    return send(fd, out, (size_t)len, MSG_NOSIGNAL) == len;
}

static inline bool answer_pid(int fd, bool close_after) {
    char text[64];
    snprintf(text, sizeof text, "pid %d\n", (int)getpid());
    return answer_with(fd, text, close_after);
}

// Reads one request from a blocking connection and answers it with `text` (NULL: the pid); the caller closes.
static inline void serve_one(int fd, const char *text) {
    char buf[8192];
    size_t len = 0;
    while (len < sizeof buf - 1) {
        ssize_t count = recv(fd, buf + len, sizeof buf - 1 - len, 0);
        if (count <= 0) return;
        len += (size_t)count;
        buf[len] = '\0';
        if (request_len(buf) != 0) break;
    }
    if (text != NULL)
        answer_with(fd, text, true);
    else
        answer_pid(fd, true);
}

// The blocking accept loop, for ever.
static inline void serve_for_ever(int listener) {
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0) continue;
        serve_one(fd, NULL);
        close(fd);
    }
}
