// SPDX-License-Identifier: MIT
// `loses_queue PORT`: a server that breaks what Pando promises for it. Every 40 requests it shuts its listening socket down and listens
// again: what waits in the queue is reset by the kernel though nobody had accepted it.
#include "http_answer.h"

int main(int argc, char **argv) {
    int listener = listen_on_port(argc > 1 ? argv[1] : "3000", 0);
    for (int served = 1;; served++) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0) continue;
        usleep(2000);  // so that there is a queue
        serve_one(fd, NULL);
        close(fd);
        if (served % 40 != 0) continue;
        shutdown(listener, SHUT_RD);
        listen(listener, 128);
    }
}
