// SPDX-License-Identifier: MIT
// `udp_echo PORT`: answers every datagram with "pid N\n".
#include "http_answer.h"

int main(int argc, char **argv) {
    (void)argc;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        fprintf(stderr, "bind: %s\n", strerror(errno));
        return 1;
    }
    for (;;) {
        struct sockaddr_in peer;
        socklen_t len = sizeof peer;
        char buf[64];
        if (recvfrom(fd, buf, sizeof buf, 0, (struct sockaddr *)&peer, &len) < 0) continue;
        int size = snprintf(buf, sizeof buf, "pid %d\n", (int)getpid());
        sendto(fd, buf, (size_t)size, 0, (struct sockaddr *)&peer, len);
    }
}
