// SPDX-License-Identifier: MIT
// How many processors this process may use, and who says so: affinity, cpuset, and the cgroup CPU quota along the whole path.
#pragma once

#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define CPUS_NO_LIMIT 0.0
#define CPUS_SOURCE_SIZE 160

struct cpus {
    int count;                             // the smallest of what follows, rounded up, at least 1
    int online;                            // sysconf(_SC_NPROCESSORS_ONLN)
    int affinity;                          // sched_getaffinity(2); reflects the cpuset as well; 0 = unknown
    int cpuset;                            // processors in the cgroup's effective cpuset; 0 = no cpuset controller found
    double quota;                          // smallest quota/period along the path; CPUS_NO_LIMIT = none
    char cpuset_source[CPUS_SOURCE_SIZE];  // file the number came from, without root_prefix; "" = none
    char quota_source[CPUS_SOURCE_SIZE];   // a path that does not fit keeps its end, after "..."
};

// `proc_root` is "/proc" ("…/proc" of a recorded tree in tests); `root_prefix` goes before mountinfo's mount points
// ("" = as they are).
// Reads PROC/self/cgroup and PROC/self/mountinfo; v1 (cpu.cfs_quota_us, cpuset.effective_cpus, cpuset.cpus) and
// v2 (cpu.max, cpuset.cpus.effective). What cannot be read does not limit.
void cpus_read(struct cpus *out, const char *proc_root, const char *root_prefix);

// Calls `each` for this process's cgroup directory and those above it up to the mount's root, in the v1 hierarchy that
// has `controller` and in v2's (which may lack it: then its files are missing). Stops when it returns false.
// A cgroup outside of what is mounted has no directory; where a mount begins above the cgroup namespace only its root is known.
typedef bool (*cpus_cgroup_fn)(const char *dir, bool is_v2, void *arg);
void cpus_cgroup_each(const char *proc_root, const char *root_prefix, const char *controller, cpus_cgroup_fn each, void *arg);

// How often so far the quota of a process's cgroup, or of one above it, has kept all in it from running (nr_throttled of cpu.stat, v1 and
// v2, summed up); 0 where that cannot be known.
uint64_t cpus_throttled(const char *proc_root, const char *root_prefix, pid_t pid);

// "0-3,8" -> 5; 0 for empty or malformed text. A final newline is fine; what is named twice counts once.
int cpus_count_list(const char *list);
// The k-th processor of `set` counted modulo its size (for --pin); -1 for an empty set.
int cpus_pick(const cpu_set_t *set, int k);
