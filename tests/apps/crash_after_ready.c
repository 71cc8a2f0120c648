// SPDX-License-Identifier: MIT
// `crash_after_ready PORT MILLISECONDS`: serves for so long, says so, and dies of SIGSEGV.
#include "http_answer.h"

#include <poll.h>
#include <signal.h>
#include <time.h>

static long long now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

int main(int argc, char **argv) {
    int listener = listen_on_port(argv[1], SOCK_NONBLOCK);
    long long end = now_ms() + (argc > 2 ? atoi(argv[2]) : 100);
    for (long long left; (left = end - now_ms()) > 0;) {
        struct pollfd pollfd = {.fd = listener, .events = POLLIN};
        if (poll(&pollfd, 1, (int)left) != 1) continue;
        int fd = accept(listener, NULL, NULL);
        if (fd < 0) continue;
        serve_one(fd, NULL);
        close(fd);
    }
    fprintf(stderr, "about to crash\n");
    signal(SIGSEGV, SIG_DFL);
    raise(SIGSEGV);
    return 1;
}
