// SPDX-License-Identifier: MIT
#include "foreign.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "fd.h"

// linux/pidfd.h of Linux 6.15: the headers of a stable distribution do not have it yet.
struct pidfd_info_exit {
    uint64_t mask, cgroupid;
    uint32_t pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
    int32_t exit_code;
};
#define PIDFD_GET_INFO_EXIT _IOWR(0xFF, 11, struct pidfd_info_exit)
#define PIDFD_INFO_EXIT_MASK (UINT64_C(1) << 3)

enum { STAT_EXIT_CODE = 52, STAT_STATE = 3 };  // fields of /proc/PID/stat, counted from 1

bool foreign_has_ended(const struct keeper_child *child) {
    struct pollfd ended = {.fd = child->pidfd, .events = POLLIN};
    return child->pidfd < 0 || poll(&ended, 1, 0) == 1;
}

// The field behind the name, which may contain anything.
static const char *stat_field(const char *text, int wanted) {
    const char *at = strrchr(text, ')');
    for (int field = STAT_STATE - 1; at != NULL && field < wanted; field++) at = strchr(at + 1, ' ');
    return at == NULL ? NULL : at + 1;
}

static bool zombie_status(int pid, int *out_status) {
    char path[32], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    if (fd_read_file(path, text, sizeof text) <= 0) return false;
    const char *state = stat_field(text, STAT_STATE), *code = stat_field(text, STAT_EXIT_CODE);
    if (state == NULL || code == NULL || *state != 'Z') return false;
    *out_status = (int)strtol(code, NULL, 10);
    return true;
}

int foreign_status(const struct keeper_child *child) {
    int status;
    struct pidfd_info_exit info = {.mask = PIDFD_INFO_EXIT_MASK};
    if (zombie_status(child->pid, &status)) return status;
    bool told = ioctl(child->pidfd, PIDFD_GET_INFO_EXIT, &info) == 0 && (info.mask & PIDFD_INFO_EXIT_MASK) != 0;
    return told ? info.exit_code : KEEPER_STATUS_UNKNOWN;
}

int foreign_kill(const struct keeper_child *child, int signo, bool group) {
    if (foreign_has_ended(child)) return -ESRCH;
    return kill(group ? -child->pid : child->pid, signo) == 0 ? 0 : -errno;
}
