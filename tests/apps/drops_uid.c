// SPDX-License-Identifier: MIT
// `drops_uid PORT`: becomes uid 65534 before it makes its socket, as servers started by root do.
#include "http_answer.h"

#include <grp.h>

int main(int argc, char **argv) {
    (void)argc;
    if (setgroups(0, NULL) != 0 || setgid(65534) != 0 || setuid(65534) != 0) {
        perror("drop privileges");
        return 1;
    }
    serve_for_ever(listen_on_port(argv[1], 0));
}
