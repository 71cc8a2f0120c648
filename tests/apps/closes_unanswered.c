// SPDX-License-Identifier: MIT
// `closes_unanswered PORT`: every 10th connection is accepted and closed with the request unread, which the client sees as a reset; every
// 10th after those is read and closed in order without an answer.
#include "http_answer.h"

static void swallow(int fd) {
    char request[4096];
    while (recv(fd, request, sizeof request, 0) < 0 && errno == EINTR) continue;
}

// The request has come, and stays unread.
static void wait_for_request(int fd) {
    char first;
    while (recv(fd, &first, 1, MSG_PEEK) < 0 && errno == EINTR) continue;
}

int main(int argc, char **argv) {
    int listener = listen_on_port(argc > 1 ? argv[1] : "3000", 0);
    for (int accepted = 1;; accepted++) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0) continue;
        if (accepted % 10 == 0)
            wait_for_request(fd);
        else if (accepted % 10 == 5)
            swallow(fd);
        else
            serve_one(fd, NULL);
        close(fd);
    }
}
