// SPDX-License-Identifier: MIT
#include "interrupt.h"

#include <errno.h>
#include <poll.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "fd.h"

int interrupt_open(struct interrupt *interrupt) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGPIPE);
    interrupt->signo = 0;
    sigprocmask(SIG_BLOCK, &set, &interrupt->inherited);
    sigdelset(&set, SIGPIPE);  // a reader that went away shows in write's result
    interrupt->fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return interrupt->fd < 0 ? -errno : 0;
}

void interrupt_close(struct interrupt *interrupt) { fd_close(&interrupt->fd); }

static void interrupt_read(struct interrupt *interrupt) {
    struct signalfd_siginfo info;
    if (read(interrupt->fd, &info, sizeof info) == (ssize_t)sizeof info && interrupt->signo == 0) interrupt->signo = (int)info.ssi_signo;
}

bool interrupt_wait(struct interrupt *interrupt, int fd, uint64_t deadline_ns) {
    while (interrupt->signo == 0) {
        struct pollfd wait[] = {{.fd = interrupt->fd, .events = POLLIN}, {.fd = fd, .events = POLLIN}};
        uint64_t now = clock_now_ns();
        uint64_t left = deadline_ns > now ? deadline_ns - now : 0;
        struct timespec limit = {.tv_sec = (time_t)(left / CLOCK_S), .tv_nsec = (long)(left % CLOCK_S)};
        int count = ppoll(wait, 2, &limit, NULL);
        if (count < 0 && errno != EINTR) return false;
        if (wait[0].revents) interrupt_read(interrupt);
        if (wait[1].revents) return true;
        if (left == 0) return false;
    }
    return false;
}

bool interrupt_sleep(struct interrupt *interrupt, uint64_t ns) {
    interrupt_wait(interrupt, -1, clock_now_ns() + ns);
    return interrupt->signo == 0;
}
