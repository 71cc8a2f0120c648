// SPDX-License-Identifier: MIT
// `ignores_term PORT`: is told to end and goes on.
#include "http_answer.h"

#include <signal.h>

static void on_term(int signo) {
    (void)signo;
    static const char text[] = "told to end, going on\n";
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0) return;
}

int main(int argc, char **argv) {
    (void)argc;
    struct sigaction action = {.sa_handler = on_term, .sa_flags = SA_RESTART};
    sigaction(SIGTERM, &action, NULL);
    serve_for_ever(listen_on_port(argv[1], 0));
}
