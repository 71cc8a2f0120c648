// SPDX-License-Identifier: MIT
// A new version of Pando that is no good. Beside it, in a file of its own path with ".mode", stands how, and which program is
// meant to run otherwise: "MODE PATH".
//
//   dies-asked, hangs-asked     when it is asked whether it could take over
//   dies, exits, hangs          when it is to take over (as `pando --primary`, or as the keeper)
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void fail(const char *how) {
    if (strncmp(how, "hangs", 5) == 0) {
        sigset_t none;
        sigemptyset(&none);
        for (;;) sigsuspend(&none);
    }
    if (strcmp(how, "exits") == 0) exit(3);
    abort();
}

int main(int argc, char **argv) {
    char self[4096], file[4200], mode[64], real[4096];
    ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);
    if (argc < 2 || len < 0) return 2;
    self[len] = '\0';
    snprintf(file, sizeof file, "%s.mode", self);
    FILE *in = fopen(file, "re");
    if (in == NULL || fscanf(in, "%63s %4095s", mode, real) != 2) return 2;
    fclose(in);
    bool asked = strcmp(argv[1], "--examine") == 0;
    if (asked == (strstr(mode, "-asked") != NULL)) fail(mode);
    execv(real, argv);
    return 127;
}
