// SPDX-License-Identifier: MIT
// `daemonises PORT`: forks into the background as old daemons do; the process that was started ends with 0.
#include "http_answer.h"

int main(int argc, char **argv) {
    (void)argc;
    if (fork() != 0) return 0;
    setsid();
    if (fork() != 0) _exit(0);
    serve_for_ever(listen_on_port(argv[1], 0));
}
