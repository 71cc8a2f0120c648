// SPDX-License-Identifier: MIT
// How many processors this process may use, and who says so: affinity, cpuset, and the cgroup CPU quota along the whole path.
#pragma once

#include <sched.h>
#include <stddef.h>

#define CPUS_NO_LIMIT 0.0
#define CPUS_SOURCE_SIZE 160

struct cpus {
    int count;           // the smallest of what follows, rounded up, at least 1
    int online;          // sysconf(_SC_NPROCESSORS_ONLN)
    int affinity;        // sched_getaffinity(2); reflects the cpuset as well
    int cpuset;          // processors in the cgroup's effective cpuset; 0 = no cpuset controller found
    double quota;        // smallest quota/period along the path; CPUS_NO_LIMIT = none
    char cpuset_source[CPUS_SOURCE_SIZE];  // file the number came from; "" = none
    char quota_source[CPUS_SOURCE_SIZE];
};

// `proc_root` is "/proc" ("…/proc" of a recorded tree in tests), `sys_root` the same for "/sys/fs/cgroup" when
// mountinfo's mount points are to be taken below another root ("" = as they are).
// Reads PROC/self/cgroup and PROC/self/mountinfo; v1 (cpu.cfs_quota_us, cpuset.effective_cpus, cpuset.cpus) and
// v2 (cpu.max, cpuset.cpus.effective). What cannot be read does not limit.
void cpus_read(struct cpus *out, const char *proc_root, const char *root_prefix);

// "0-3,8" -> 5; 0 for empty or malformed text.
int cpus_count_list(const char *list);
// The k-th processor of `set` counted modulo its size (for --pin); -1 for an empty set.
int cpus_pick(const cpu_set_t *set, int k);
