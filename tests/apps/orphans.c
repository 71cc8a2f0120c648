// SPDX-License-Identifier: MIT
// `orphans PORT`: serves, and twice a second leaves a child behind whose parent is gone and which ends a moment later.
#include "http_answer.h"

#include <poll.h>
#include <sys/wait.h>

int main(int argc, char **argv) {
    (void)argc;
    int listener = listen_on_port(argv[1], SOCK_NONBLOCK);
    for (;;) {
        pid_t parent = fork();
        if (parent == 0) {
            if (fork() == 0) usleep(100000);
            _exit(0);
        }
        waitpid(parent, NULL, 0);
        struct pollfd pollfd = {.fd = listener, .events = POLLIN};
        if (poll(&pollfd, 1, 500) != 1) continue;
        int fd = accept(listener, NULL, NULL);
        if (fd < 0) continue;
        serve_one(fd, NULL);
        close(fd);
    }
}
