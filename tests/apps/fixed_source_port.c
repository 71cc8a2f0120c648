// SPDX-License-Identifier: MIT
// `fixed_source_port PORT SOURCE_PORT TARGET_PORT`: for each request it connects to TARGET_PORT from SOURCE_PORT, as clients of
// firewalled services do, reads a line there, and answers with it.
#include "http_answer.h"

static void ask_target(int source_port, int target_port, char *out, size_t size) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)source_port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        snprintf(out, size, "bind: %s\n", strerror(errno));
    } else {
        address.sin_port = htons((uint16_t)target_port);
        if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
            snprintf(out, size, "connect: %s\n", strerror(errno));
        } else {
            ssize_t len = recv(fd, out, size - 1, MSG_WAITALL);
            out[len > 0 ? len : 0] = '\0';
        }
    }
    struct linger reset = {.l_onoff = 1, .l_linger = 0};  // no TIME_WAIT: the port is wanted again at once
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(fd);
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    int listener = listen_on_port(argv[1], 0);
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0) continue;
        char line[128], text[256];
        ask_target(atoi(argv[2]), atoi(argv[3]), line, sizeof line);
        snprintf(text, sizeof text, "pid %d\n%s", (int)getpid(), line);
        serve_one(fd, text);
        close(fd);
    }
}
