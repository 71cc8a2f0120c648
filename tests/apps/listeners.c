// SPDX-License-Identifier: MIT
// Listens on every address it is given, the way its prefix says, and answers on all of them. Port 0 prints what it got.
//     listeners 4:127.0.0.1:PORT  6:::1:PORT  6only::::PORT  unix:PATH ...
#include "http_answer.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/un.h>

static int fail(const char *what, const char *spec) {
    fprintf(stderr, "%s %s: %s\n", what, spec, strerror(errno));
    exit(1);
}

static int listen_on(const char *spec) {
    union {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
        struct sockaddr_storage storage;
    } address = {0};
    socklen_t len;
    int one = 1;
    const char *rest = strchr(spec, ':') + 1;
    if (strncmp(spec, "unix:", 5) == 0) {
        address.un.sun_family = AF_UNIX;
        strncpy(address.un.sun_path, rest, sizeof address.un.sun_path - 1);
        len = sizeof address.un;
    } else {
        const char *port = strrchr(spec, ':') + 1;
        char host[64] = "";
        memcpy(host, rest, (size_t)(port - 1 - rest));
        bool v4 = spec[0] == '4';
        if (v4) {
            address.in = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
            inet_pton(AF_INET, host, &address.in.sin_addr);
            len = sizeof address.in;
        } else {
            address.in6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)atoi(port))};
            inet_pton(AF_INET6, host, &address.in6.sin6_addr);
            len = sizeof address.in6;
        }
    }
    int fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) fail("socket for", spec);
    if (address.any.sa_family != AF_UNIX) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (strncmp(spec, "6only:", 6) == 0) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
    if (bind(fd, &address.any, len) != 0) fail("bind to", spec);
    if (listen(fd, 64) != 0) fail("listen on", spec);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    if (address.any.sa_family == AF_INET && address.in.sin_port == 0) {
        getsockname(fd, &address.any, &len);
        printf("port %d\n", ntohs(address.in.sin_port));
        fflush(stdout);
    }
    return fd;
}

int main(int argc, char **argv) {
    struct pollfd pollfd[16];
    nfds_t count = 0;
    for (int i = 1; i < argc && count < 16; i++) pollfd[count++] = (struct pollfd){.fd = listen_on(argv[i]), .events = POLLIN};
    for (;;) {
        if (poll(pollfd, count, -1) <= 0) continue;
        for (nfds_t i = 0; i < count; i++) {
            if (pollfd[i].revents == 0) continue;
            int fd = accept(pollfd[i].fd, NULL, NULL);
            if (fd < 0) continue;
            serve_one(fd, NULL);
            close(fd);
        }
    }
}
