// SPDX-License-Identifier: MIT
// `exits_at_once [CODE [LINES]]`: writes LINES numbered lines to stderr and exits with CODE.
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    int lines = argc > 2 ? atoi(argv[2]) : 0;
    for (int i = 1; i <= lines; i++) fprintf(stderr, "last words %d of %d\n", i, lines);
    return argc > 1 ? atoi(argv[1]) : 0;
}
