// SPDX-License-Identifier: MIT
// Runs for ever and never listens.
#include <stdio.h>
#include <unistd.h>

int main(void) {
    puts("thinking about it");
    fflush(stdout);
    for (;;) pause();
}
