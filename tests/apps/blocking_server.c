// SPDX-License-Identifier: MIT
// The textbook server: accept, answer, close, one connection at a time. `blocking_server PORT [MICROSECONDS]`:
// with a second argument each answer takes that much work, so that a queue builds up.
#include "http_answer.h"

int main(int argc, char **argv) {
    int listener = listen_on_port(argc > 1 ? argv[1] : "3000", 0);
    useconds_t work = argc > 2 ? (useconds_t)atoi(argv[2]) : 0;
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0) continue;
        if (work != 0) usleep(work);
        serve_one(fd, NULL);
        close(fd);
    }
}
