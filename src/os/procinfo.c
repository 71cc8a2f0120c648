// SPDX-License-Identifier: MIT
// /proc is text that other processes write into: a program names itself as it likes (") R 1 1" and newlines included)
// and a line may be as long as its owner could make it. So the name in stat is skipped from the right, values are looked
// up at the beginning of a line, and whatever does not fit is cut.
#include "procinfo.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "cpus.h"
#include "fd.h"
#include "sock_diag.h"
#include "str.h"

#define PROC_PATH_SIZE 64
#define VALUE_SIZE 96
#define LISTENERS_MAX 16

// Fields of /proc/PID/stat as proc(5) counts them; 3 is the state.
enum stat_field {
    STAT_PPID = 4,
    STAT_PGRP = 5,
    STAT_SESSION = 6,
    STAT_UTIME = 14,
    STAT_STIME = 15,
    STAT_START = 22,
    STAT_RSS = 24,
    STAT_COUNT
};

struct socket_walk {
    pid_t pid;
    bool (*each)(int fd, uint64_t inode, void *arg);
    void *arg;
    int error;
};

struct group_walk {
    pid_t pgrp;
    bool (*each)(pid_t pid, void *arg);
    void *arg;
};

struct holder {
    uint64_t inodes[LISTENERS_MAX];
    size_t inode_count;
    uid_t uid;   // of the first socket
    pid_t pid;   // the process looked at last
    bool found;  // it has one of them
};

// A gone process has no directory (ENOENT), or had one until just now (ESRCH): the same to the caller.
static int gone(int error) { return error == -ENOENT ? -ESRCH : error; }

static int read_proc(pid_t pid, const char *name, char *out, size_t size) {
    char path[PROC_PATH_SIZE];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    ssize_t len = fd_read_file(path, out, size);
    if (len == 0) return -ESRCH;
    return len < 0 ? gone((int)len) : 0;
}

// What follows `key` at the beginning of a line. 0, -ENODATA or -errno. Reads by pieces since one line in front of ours
// (Groups: of status) may be hundreds of KB.
static int find_value(const char *path, const char *key, char *out, size_t size) {
    scoped_fd fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return -errno;
    char chunk[1024], line[VALUE_SIZE];
    size_t len = 0;
    ssize_t got;
    while ((got = TEMP_FAILURE_RETRY(read(fd, chunk, sizeof chunk))) > 0) {
        for (ssize_t i = 0; i < got; i++) {
            if (chunk[i] != '\n') {
                if (len < sizeof line - 1) line[len++] = chunk[i];
                continue;
            }
            line[len] = '\0';
            len = 0;
            if (strncmp(line, key, strlen(key)) != 0) continue;
            str_copy(out, size, line + strlen(key));
            return 0;
        }
    }
    return got < 0 ? -errno : -ENODATA;
}

static int find_status(pid_t pid, const char *key, char *out, size_t size) {
    char path[PROC_PATH_SIZE];
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    return gone(find_value(path, key, out, size));
}

// Calls `each` for every entry of a directory that is a number. 0 or -errno.
static int number_each(const char *path, bool (*each)(int number, void *arg), void *arg) {
    DIR *dir = opendir(path);
    if (!dir) return gone(-errno);
    int result = 0;
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        result = gone(-errno);  // the end leaves it 0
        long number;
        if (!entry) break;
        if (str_parse_number(entry->d_name, 0, INT_MAX, &number) == 0 && !each((int)number, arg)) break;
    }
    closedir(dir);
    return result;
}

static int process_number_each(pid_t pid, const char *name, bool (*each)(int number, void *arg), void *arg) {
    char path[PROC_PATH_SIZE];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    return number_each(path, each, arg);
}

// After the last ')' there are only numbers and the state, whatever the name was. A number out of range is the largest.
static bool parse_stat(const char *text, char *out_state, uint64_t field[static STAT_COUNT]) {
    const char *at = strrchr(text, ')');
    if (!at || at[1] != ' ' || at[2] == '\0') return false;
    *out_state = at[2];
    at += 3;
    for (int i = STAT_PPID; i < STAT_COUNT; i++) {
        char *end;
        field[i] = strtoull(at, &end, 10);
        if (end == at) return false;
        at = end;
    }
    return true;
}

static uint64_t ticks_to_ns(uint64_t ticks) {
    uint64_t tick_ns = UINT64_C(1000000000) / (uint64_t)sysconf(_SC_CLK_TCK);
    return ticks > UINT64_MAX / tick_ns ? UINT64_MAX : ticks * tick_ns;
}

int procinfo_read(pid_t pid, struct procinfo *out) {
    char text[1024];
    int error = read_proc(pid, "stat", text, sizeof text);
    if (error) return error;
    uint64_t field[STAT_COUNT] = {0};
    char state;
    if (!parse_stat(text, &state, field)) return -EBADMSG;
    *out = (struct procinfo){
        .ppid = (pid_t)field[STAT_PPID],
        .pgrp = (pid_t)field[STAT_PGRP],
        .session = (pid_t)field[STAT_SESSION],
        .state = state,
        .start_ticks = field[STAT_START],
        .cpu_ns = ticks_to_ns(field[STAT_UTIME] + field[STAT_STIME]),
        .rss_bytes = field[STAT_RSS] * (uint64_t)sysconf(_SC_PAGESIZE),
    };
    return 0;
}

pid_t procinfo_tgid(pid_t tid) {
    char value[VALUE_SIZE];
    int error = find_status(tid, "Tgid:", value, sizeof value);
    return error ? error : (pid_t)strtol(value, NULL, 10);
}

uid_t procinfo_uid(pid_t pid, int *out_error) {
    char value[VALUE_SIZE];
    *out_error = find_status(pid, "Uid:", value, sizeof value);
    if (*out_error) return (uid_t)-1;
    char *effective;  // real, effective, saved, file system
    strtoul(value, &effective, 10);
    return (uid_t)strtoul(effective, NULL, 10);
}

long procinfo_syscall(pid_t tid) {
    char text[256];
    int error = read_proc(tid, "syscall", text, sizeof text);
    if (error) return error - 1000;
    if (strncmp(text, "running", strlen("running")) == 0) return -1;
    long number = strtol(text, NULL, 10);
    return number < 0 ? -2 : number;
}

enum procinfo_signal procinfo_signal(pid_t pid, int signo) {
    static const struct {
        const char *mask;
        enum procinfo_signal means;
    } fields[] = {{"SigBlk:", PROCINFO_SIGNAL_BLOCKED}, {"SigIgn:", PROCINFO_SIGNAL_IGNORED}, {"SigCgt:", PROCINFO_SIGNAL_CAUGHT}};
    char value[VALUE_SIZE];
    if (signo < 1 || signo > 64) return PROCINFO_SIGNAL_UNKNOWN;
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        if (find_status(pid, fields[i].mask, value, sizeof value) != 0) return PROCINFO_SIGNAL_UNKNOWN;
        if ((strtoull(value, NULL, 16) >> (signo - 1) & 1) != 0) return fields[i].means;
    }
    return PROCINFO_SIGNAL_DEFAULT;
}

// 't' as well: under a tracer (strace) a stopped thread never shows T. A thread that ended runs no more either.
static bool note_stopped(pid_t tid, void *arg) {
    bool *all = arg;
    struct procinfo info;
    int error = procinfo_read(tid, &info);
    *all = error ? error == -ESRCH : strchr("TtZXx", info.state) != NULL;
    return *all;
}

// /proc/TID/stat has the thread's own state. No thread is missed: a process with SIGSTOP pending cannot clone.
bool procinfo_all_stopped(pid_t pid) {
    bool all = true;
    int error = process_number_each(pid, "task", note_stopped, &all);
    return all && (error == 0 || error == -ESRCH);
}

// The system call costs a hundredth of reading stat, and needs no right unless a security module asks for one.
pid_t procinfo_pgrp(pid_t pid) {
    struct procinfo info;
    pid_t pgrp = getpgid(pid);
    if (pgrp >= 0) return pgrp;
    if (errno == ESRCH) return -ESRCH;
    int error = procinfo_read(pid, &info);
    return error ? error : info.pgrp;
}

static bool match_group(pid_t pid, void *arg) {
    const struct group_walk *walk = arg;
    return procinfo_pgrp(pid) != walk->pgrp || walk->each(pid, walk->arg);
}

// clock_getcpuclockid(3) without its look-up: the clock of a process is made from its number.
uint64_t procinfo_cpu_clock_ns(pid_t pid) {
    struct timespec used;
    clockid_t clock = (clockid_t)(~(unsigned)pid << 3 | 2);
    if (clock_gettime(clock, &used) != 0) return 0;
    return (uint64_t)used.tv_sec * UINT64_C(1000000000) + (uint64_t)used.tv_nsec;
}

void procinfo_each(bool (*each)(pid_t pid, void *arg), void *arg) { number_each("/proc", each, arg); }

void procinfo_group_each(pid_t pgrp, bool (*each)(pid_t pid, void *arg), void *arg) {
    number_each("/proc", match_group, &(struct group_walk){.pgrp = pgrp, .each = each, .arg = arg});
}

void procinfo_thread_each(pid_t pid, bool (*each)(pid_t tid, void *arg), void *arg) { process_number_each(pid, "task", each, arg); }

// "socket:[4711]". No file can be named so: the kernel writes a file's path from "/" on.
static bool match_socket(int fd, void *arg) {
    struct socket_walk *walk = arg;
    char path[PROC_PATH_SIZE], target[64];
    snprintf(path, sizeof path, "/proc/%d/fd/%d", walk->pid, fd);
    ssize_t len = readlink(path, target, sizeof target - 1);
    if (len < 0) {
        if (errno == EACCES || errno == EPERM) walk->error = -EACCES;
        return walk->error == 0;  // otherwise closed since
    }
    target[len] = '\0';
    if (strncmp(target, "socket:[", strlen("socket:[")) != 0) return true;
    return walk->each(fd, strtoull(target + strlen("socket:["), NULL, 10), walk->arg);
}

int procinfo_socket_each(pid_t pid, bool (*each)(int fd, uint64_t inode, void *arg), void *arg) {
    struct socket_walk walk = {.pid = pid, .each = each, .arg = arg};
    int error = process_number_each(pid, "fd", match_socket, &walk);
    return error ? error : walk.error;
}

// sockfs has it as an extended attribute, NUL included.
int procinfo_socket_protocol(pid_t pid, int fd, char *out, size_t size) {
    char path[PROC_PATH_SIZE];
    snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, fd);
    ssize_t len = getxattr(path, "system.sockprotoname", out, size - 1);
    if (len < 0) return -errno;
    out[len] = '\0';
    return 0;
}

static bool count_entry(int fd, void *arg) {
    (void)fd;
    ++*(int *)arg;
    return true;
}

// Since Linux 6.2 the directory's size is the number, and needs no right to look inside.
int procinfo_fd_count(pid_t pid) {
    char path[PROC_PATH_SIZE];
    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    struct stat status;
    if (stat(path, &status)) return gone(-errno);
    if (status.st_size > 0) return (int)status.st_size;
    int count = 0;
    int error = number_each(path, count_entry, &count);
    return error ? error : count;
}

int procinfo_fd_flags(pid_t pid, int fd) {
    char path[PROC_PATH_SIZE], value[VALUE_SIZE];
    snprintf(path, sizeof path, "/proc/%d/fdinfo/%d", pid, fd);
    int error = find_value(path, "flags:", value, sizeof value);
    return error ? error : (int)strtoul(value, NULL, 8);
}

// In v2 a group without a memory controller of its own is accounted in the nearest one above: the first file is ours.
static bool read_oom_kills(const char *dir, bool is_v2, void *arg) {
    char path[PATH_MAX + 32], value[VALUE_SIZE];
    snprintf(path, sizeof path, "%s/%s", dir, is_v2 ? "memory.events" : "memory.oom_control");
    if (find_value(path, "oom_kill ", value, sizeof value)) return true;
    *(long *)arg = strtol(value, NULL, 10);
    return false;
}

long procinfo_oom_kills(void) {
    long kills = -1;
    cpus_cgroup_each("/proc", "", "memory", read_oom_kills, &kills);
    return kills;
}

int procinfo_cpu_pressure(const char *file) {
    char text[256];
    int percent;
    if (fd_read_file(file != NULL ? file : "/proc/pressure/cpu", text, sizeof text) <= 0) return -1;
    if (sscanf(text, "some avg10=%d", &percent) != 1 || percent < 0 || percent > 100) return -1;
    return percent;
}

static bool note_listener(const struct sock_diag_tcp *socket, void *arg) {
    struct holder *holder = arg;
    if (socket->inode == 0) return true;
    if (holder->inode_count == 0) holder->uid = socket->uid;
    holder->inodes[holder->inode_count++] = socket->inode;
    return holder->inode_count < LISTENERS_MAX;
}

static bool match_listener(int fd, uint64_t inode, void *arg) {
    (void)fd;
    struct holder *holder = arg;
    for (size_t i = 0; i < holder->inode_count && !holder->found; i++) holder->found = holder->inodes[i] == inode;
    return !holder->found;
}

static bool match_holder(pid_t pid, void *arg) {
    struct holder *holder = arg;
    procinfo_socket_each(pid, match_listener, holder);
    holder->pid = pid;
    return !holder->found;
}

// A program's name goes to a terminal: control characters do not.
static void read_name(pid_t pid, char *out, size_t size) {
    if (read_proc(pid, "comm", out, size)) str_copy(out, size, "?");
    size_t len = strlen(out);
    if (len > 0 && out[len - 1] == '\n') out[len - 1] = '\0';
    for (char *at = out; *at; at++)
        if ((unsigned char)*at < ' ' || *at == 0x7f) *at = '?';
}

// Processes come in the order of their numbers: of a server with children that share the socket, mostly the parent.
void procinfo_port_holder(int port, char *out, size_t size) {
    struct holder holder = {0};
    char name[64];
    out[0] = '\0';
    if (port < 1 || port > UINT16_MAX || sock_diag_tcp_listener_each((uint16_t)port, note_listener, &holder)) return;
    if (holder.inode_count == 0) return;
    number_each("/proc", match_holder, &holder);
    if (!holder.found) {
        snprintf(out, size, "a process that is not visible from here (uid %u)", holder.uid);
        return;
    }
    read_name(holder.pid, name, sizeof name);
    snprintf(out, size, "%s (pid %d)", name, holder.pid);
}

// Two lines "Tcp:" of /proc/net/snmp: the names, then the values in the same order.
int procinfo_tcp_counts(uint64_t *out_accepted, uint64_t *out_reset) {
    char text[8192], *names_at, *values_at, *name_rest, *value_rest;
    *out_accepted = *out_reset = 0;
    ssize_t n = fd_read_file("/proc/net/snmp", text, sizeof text);
    if (n < 0) return (int)n;
    char *names = strstr(text, "\nTcp: "), *values = names == NULL ? NULL : strstr(names + 1, "\nTcp: ");
    if (values == NULL) return -EPROTO;
    names[strcspn(names + 1, "\n") + 1] = '\0';
    values[strcspn(values + 1, "\n") + 1] = '\0';
    names_at = strtok_r(names + 1, " ", &name_rest);
    values_at = strtok_r(values + 1, " ", &value_rest);
    while (names_at != NULL && values_at != NULL) {
        if (strcmp(names_at, "PassiveOpens") == 0) *out_accepted = strtoull(values_at, NULL, 10);
        if (strcmp(names_at, "EstabResets") == 0) *out_reset = strtoull(values_at, NULL, 10);
        names_at = strtok_r(NULL, " ", &name_rest);
        values_at = strtok_r(NULL, " ", &value_rest);
    }
    return 0;
}
