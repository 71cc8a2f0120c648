// SPDX-License-Identifier: MIT
// `daemonises PORT [settled]`: forks into the background as old daemons do; the process that was started ends with 0. With a second
// argument it ends only when the daemon has left its process group and listens.
#include "http_answer.h"

int main(int argc, char **argv) {
    int settled[2];
    char byte;
    if (pipe(settled) != 0) return 1;
    if (fork() != 0) {
        close(settled[1]);
        if (argc > 2 && read(settled[0], &byte, 1) < 0) return 1;
        return 0;
    }
    setsid();
    if (fork() != 0) _exit(0);
    int listener = listen_on_port(argv[1], 0);
    close(settled[0]);
    close(settled[1]);
    serve_for_ever(listener);
}
