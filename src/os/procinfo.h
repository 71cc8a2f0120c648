// SPDX-License-Identifier: MIT
// What /proc tells about a process: hostile text, read without trust. Of a process that is gone: -ESRCH.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct procinfo {
    pid_t ppid, pgrp, session;
    char state;            // R S D T t Z X ...
    uint64_t start_ticks;  // since boot, in clock ticks; with the pid it names one process for ever
    uint64_t cpu_ns;       // user + system
    uint64_t rss_bytes;
};

int procinfo_read(pid_t pid, struct procinfo *out);  // /proc/PID/stat; survives any comm
pid_t procinfo_pgrp(pid_t pid);  // its process group, or -errno
uint64_t procinfo_cpu_clock_ns(pid_t pid);           // processor time used, exact, by its CPU clock; 0 when it is gone
pid_t procinfo_tgid(pid_t tid);                      // thread group leader, or -errno
uid_t procinfo_uid(pid_t pid, int *out_error);       // effective uid
// The system call number that the thread waits in; -1 = running, -2 = not in a call; other negatives: -errno - 1000.
long procinfo_syscall(pid_t tid);
// What a signal would meet: blocked by the main thread, else ignored, caught, or left to its default action by the process.
enum procinfo_signal { PROCINFO_SIGNAL_UNKNOWN, PROCINFO_SIGNAL_BLOCKED, PROCINFO_SIGNAL_IGNORED, PROCINFO_SIGNAL_CAUGHT, PROCINFO_SIGNAL_DEFAULT };
enum procinfo_signal procinfo_signal(pid_t pid, int signo);
// True when every thread of the process is stopped (T, under a tracer t) or has ended; false when one cannot be read.
bool procinfo_all_stopped(pid_t pid);

// Calls `each` for every process that is visible here, zombies included. Stops when it returns false.
void procinfo_each(bool (*each)(pid_t pid, void *arg), void *arg);
// Calls `each` for the pids of a process group (the leader need not live), zombies included. Stops when it returns false.
void procinfo_group_each(pid_t pgrp, bool (*each)(pid_t pid, void *arg), void *arg);
// The same for many groups: one reading of /proc, then answers from it.
struct procinfo_member {
    pid_t pgrp, pid;
};
struct procinfo_groups {
    struct procinfo_member *member;  // owned; sorted by group
    size_t len, cap;
};
int procinfo_groups_read(struct procinfo_groups *groups);  // replaces what was there; 0 or -errno
void procinfo_groups_each(const struct procinfo_groups *groups, pid_t pgrp, bool (*each)(pid_t pid, void *arg), void *arg);
void procinfo_groups_deinit(struct procinfo_groups *groups);
// Calls `each` for every thread of a process.
void procinfo_thread_each(pid_t pid, bool (*each)(pid_t tid, void *arg), void *arg);
// Calls `each` for every open socket of a process with its fd number and inode. 0 or -errno (-EACCES: not allowed to look).
int procinfo_socket_each(pid_t pid, bool (*each)(int fd, uint64_t inode, void *arg), void *arg);
// The protocol of that socket as the kernel names it ("TCP", "TCPv6", "UNIX-STREAM") in `out`. 0 or -errno.
int procinfo_socket_protocol(pid_t pid, int fd, char *out, size_t size);
int procinfo_fd_count(pid_t pid);  // open descriptors, or -errno
// Flags of an open descriptor as in /proc/PID/fdinfo/FD (O_CLOEXEC included); -errno (-ENOENT: it is not open, or no process).
int procinfo_fd_flags(pid_t pid, int fd);

// Out-of-memory kills in this process's memory cgroup so far (v2 memory.events, v1 memory.oom_control), or -1 when unknown.
long procinfo_oom_kills(void);
// TCP connections accepted (PassiveOpens) and reset while open (EstabResets) in this network namespace so far. 0 or -errno.
int procinfo_tcp_counts(uint64_t *out_accepted, uint64_t *out_reset);
// The part of the last 10 s, in percent, in which something that could run had to wait for a processor, as in `file`
// (/proc/pressure/cpu, or NULL for that); -1 when unknown.
int procinfo_cpu_pressure(const char *file);
// Who listens on this TCP port: "nginx (pid 812)" in `out`; "a process that is not visible from here (uid 0)" when it
// belongs to another user or pid namespace; "" when nobody does.
void procinfo_port_holder(int port, char *out, size_t size);
