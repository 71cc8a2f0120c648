// SPDX-License-Identifier: MIT
// `ends_gracefully PORT MILLISECONDS`: each answer takes so long. On TERM it stops accepting, finishes what it has, says so, exits 0.
#include "http_answer.h"

#include <poll.h>
#include <signal.h>

static volatile sig_atomic_t told_to_end;

static void on_term(int signo) {
    (void)signo;
    told_to_end = 1;
}

int main(int argc, char **argv) {
    useconds_t work = argc > 2 ? (useconds_t)atoi(argv[2]) * 1000 : 0;
    struct sigaction action = {.sa_handler = on_term};
    sigaction(SIGTERM, &action, NULL);
    int listener = listen_on_port(argv[1], SOCK_NONBLOCK);
    sigset_t term, before;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    sigprocmask(SIG_BLOCK, &term, &before);
    while (!told_to_end) {
        struct pollfd pollfd = {.fd = listener, .events = POLLIN};
        if (ppoll(&pollfd, 1, NULL, &before) != 1) continue;
        int fd = accept(listener, NULL, NULL);
        if (fd < 0) continue;
        usleep(work);
        serve_one(fd, NULL);
        close(fd);
    }
    fprintf(stderr, "finished\n");
    return 0;
}
