// SPDX-License-Identifier: MIT
// A spawn plan: everything the keeper needs to start one process, laid out so that nothing has to be parsed or allocated.
//
// The primary builds it in a sealed memfd (arguments and environment may exceed what a packet holds). The keeper maps it
// privately, checks that every offset lies inside, and turns the offsets of argv and envp into pointers.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>


#define PLAN_MAGIC UINT32_C(0x50616e31)  // "Pan1"
#define PLAN_FD_MAX 7
// Places of a descriptor that is not for the program.
#define PLAN_FD_DIRECTORY (-2)  // the working directory, instead of a path to it
#define PLAN_FD_PROGRAM (-3)    // the executable, instead of its path
#define PLAN_GROUP_MAX 64
#define PLAN_CPU_BYTES 128  // 1024 processors

struct plan {
    uint32_t magic;
    uint32_t size;         // of the whole memfd
    uint32_t argv;         // offset of a NULL-terminated array of uint64_t offsets
    uint32_t envp;         // the same
    uint32_t path;         // offset of the executable's path
    uint32_t directory;    // offset of the working directory; 0 = stay
    uint32_t filter;       // offset of struct sock_filter[]; 0 = no filter
    uint32_t filter_count;
    uint32_t filter_flags;  // for seccomp(2), NEW_LISTENER included
    int32_t fd_target[PLAN_FD_MAX];  // message fd i+1 becomes this number, or PLAN_FD_*; -1 = unused
    uint8_t set_user, no_new_privs, set_affinity, reserved;
    uint32_t uid, gid, group_count;
    uint32_t groups[PLAN_GROUP_MAX];
    uint64_t nofile_soft, nofile_hard;  // RLIMIT_NOFILE; 0 = leave
    uint8_t cpus[PLAN_CPU_BYTES];       // cpu_set_t bits
    char title[16];                     // for the log of the keeper: "worker 3"
};

// What to put into a plan. All pointers borrowed for the call.
struct plan_source {
    char *const *argv;
    char *const *envp;
    const char *path;
    const char *directory;  // NULL = stay
    const void *filter;
    size_t filter_count;
};

// Appends argv, envp and the rest behind `plan` (whose plain members are set already) and seals it all. New memfd or -errno.
int plan_seal(struct plan *plan, const struct plan_source *source);

// Keeper's side: maps the plan and makes pointers. `out_argv` and `out_envp` point into the mapping. 0 or -errno.
int plan_map(int memfd, struct plan **out_plan, char ***out_argv, char ***out_envp);
void plan_unmap(struct plan *plan);
