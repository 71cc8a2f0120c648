// SPDX-License-Identifier: MIT
// The classic that must not be woken in vain: select() over the listener and its keep-alive clients, then accept() on a
// *blocking* listener. Where two such processes share one socket, the loser of the race sits in accept() and its clients wait.
#include "http_answer.h"

#include <sys/select.h>

int main(int argc, char **argv) {
    int listener = listen_on_port(argc > 1 ? argv[1] : "3000", 0);
    static char buf[FD_SETSIZE][2048];
    static size_t len[FD_SETSIZE];
    fd_set watched;
    FD_ZERO(&watched);
    FD_SET(listener, &watched);
    int highest = listener;
    for (;;) {
        fd_set ready = watched;
        if (select(highest + 1, &ready, NULL, NULL, NULL) < 0) continue;
        for (int fd = 0; fd <= highest; fd++) {
            if (!FD_ISSET(fd, &ready)) continue;
            if (fd == listener) {
                int client = accept(listener, NULL, NULL);
                if (client < 0) continue;
                if (client >= FD_SETSIZE) {
                    close(client);
                    continue;
                }
                FD_SET(client, &watched);
                if (client > highest) highest = client;
                len[client] = 0;
                continue;
            }
            ssize_t count = recv(fd, buf[fd] + len[fd], sizeof buf[fd] - 1 - len[fd], 0);
            bool done = count <= 0;
            if (!done) {
                len[fd] += (size_t)count;
                buf[fd][len[fd]] = '\0';
                if (request_len(buf[fd]) != 0) {
                    bool close_after = request_wants_close(buf[fd]);
                    done = !answer_pid(fd, close_after) || close_after;
                    len[fd] = 0;
                } else {
                    done = len[fd] == sizeof buf[fd] - 1;
                }
            }
            if (done) {
                FD_CLR(fd, &watched);
                close(fd);
            }
        }
    }
}
