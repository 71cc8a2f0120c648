// SPDX-License-Identifier: MIT
// ^C, TERM and HUP as a descriptor: whoever waits, waits for it too, and nothing is left half done.
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

struct interrupt {
    int fd;              // owned: signalfd
    int signo;           // the first that came; 0 = none
    sigset_t inherited;  // the caller's mask: what children get back
};

int interrupt_open(struct interrupt *interrupt);  // blocks the signals for this and all later threads. 0 or -errno
void interrupt_close(struct interrupt *interrupt);
// Waits until `fd` (-1 = none) can be read, the deadline has come, or the user has had enough. True when `fd` can be read.
bool interrupt_wait(struct interrupt *interrupt, int fd, uint64_t deadline_ns);
// Sleeps. False when the user has had enough.
bool interrupt_sleep(struct interrupt *interrupt, uint64_t ns);
