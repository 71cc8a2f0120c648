// SPDX-License-Identifier: MIT
// Starting a process: clone(CLONE_VM | CLONE_VFORK | CLONE_PIDFD), prepare, exec. Allocates nothing; safe in the keeper.
#pragma once

#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <linux/filter.h>

#define SPAWN_FD_MAX 8

// Where a start failed. Told to the user by spawn_stage_text.
enum spawn_stage {
    SPAWN_STAGE_NONE,
    SPAWN_STAGE_PLAN,
    SPAWN_STAGE_CLONE,
    SPAWN_STAGE_FDS,
    SPAWN_STAGE_AFFINITY,
    SPAWN_STAGE_FILTER,  // EBUSY: a program above listens for notifications already
    SPAWN_STAGE_LIMIT,
    SPAWN_STAGE_USER,
    SPAWN_STAGE_DIRECTORY,
    SPAWN_STAGE_EXEC,
    SPAWN_STAGE_COUNT,
};

extern const char *const spawn_stage_text[SPAWN_STAGE_COUNT];  // "change to the working directory"

// What to start. All members borrowed for the call.
struct spawn {
    const char *path;
    char *const *argv, *const *envp;
    const char *directory;  // NULL = stay
    int directory_fd;       // the same, by a descriptor; 0 = by its path
    int program_fd;         // instead of `path`, for an executable that is no script; 0 = by its path
    int fd_source[SPAWN_FD_MAX], fd_target[SPAWN_FD_MAX];  // source -1 = unused
    bool new_session;
    bool set_user, no_new_privs;
    bool no_steering;  // it does not inherit the ambient capabilities (capabilities(7)) that steering needs
    uid_t uid;
    gid_t gid;
    const gid_t *groups;
    size_t group_count;
    const cpu_set_t *cpus;  // NULL = leave
    uint64_t nofile_soft, nofile_hard;  // 0 = leave
    const struct sock_filter *filter;   // NULL = none
    size_t filter_count;
    unsigned filter_flags;  // seccomp(2) flags; with NEW_LISTENER the listener comes back
};

struct spawned {
    pid_t pid;
    int pidfd;     // CLOEXEC; the caller's
    int listener;  // seccomp notification fd, CLOEXEC, the caller's; -1 = none
    enum spawn_stage failed_stage;
};

// 0 once the new program runs, or -errno with `failed_stage` set and nothing left behind. The child starts with an empty signal mask.
int spawn_start(const struct spawn *spawn, struct spawned *out);
