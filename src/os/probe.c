// SPDX-License-Identifier: MIT
// A system call that knows a flag but is given no program answers EFAULT; one that does not know the flag answers EINVAL.
// What needs a real listener is tried in a child of its own, because a filter can never be taken off again.
#include "probe.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fd.h"
#include "str.h"

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif
#ifndef SECCOMP_ADDFD_FLAG_SEND
#define SECCOMP_ADDFD_FLAG_SEND (1UL << 1)
#endif
#ifndef CAP_PERFMON
#define CAP_PERFMON 38
#define CAP_BPF 39
#endif

// What the child found out; one bit of its exit code each.
enum probe_listener { LISTENER_INSTALLED = 1, LISTENER_ADDFD = 2, LISTENER_SEND = 4, LISTENER_BUSY = 8 };

struct probe_row {
    const char *name, *cost;
    // True when present; may write to `detail`. `argument` is the row's.
    bool (*probe)(long argument, char *detail, size_t size);
    long argument;
};

static bool probe_because(char *detail, size_t size, int err) {
    snprintf(detail, size, "%s", strerrordesc_np(err));
    return false;
}

static bool probe_has_action(long action, char *detail, size_t size) {
    uint32_t wanted = (uint32_t)action;
    if (syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &wanted) == 0) return true;
    return probe_because(detail, size, errno);
}

static bool probe_has_filter_flag(long flags, char *detail, size_t size) {
    syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, (unsigned)flags, NULL);
    return errno == EFAULT || probe_because(detail, size, errno);
}

// ENOENT says that all of the request was understood, only nobody waits for an answer with that number.
static bool probe_knows_addfd(int listener, uint32_t flags) {
    struct seccomp_notif_addfd request = {.flags = flags, .srcfd = (uint32_t)listener};
    return ioctl(listener, SECCOMP_IOCTL_NOTIF_ADDFD, &request) < 0 && errno == ENOENT;
}

static int probe_try_listener(void) {
    struct sock_filter allow[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    struct sock_fprog program = {.len = 1, .filter = allow};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) return 0;
    int listener = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
    if (listener < 0) return errno == EBUSY ? LISTENER_BUSY : 0;
    return LISTENER_INSTALLED | (probe_knows_addfd(listener, 0) ? LISTENER_ADDFD : 0) |
           (probe_knows_addfd(listener, SECCOMP_ADDFD_FLAG_SEND) ? LISTENER_SEND : 0);
}

static bool probe_listener_can(long bit, char *detail, size_t size) {
    int status = 0;
    pid_t child = fork();
    if (child == 0) _exit(probe_try_listener());
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status)) return false;
    if (WEXITSTATUS(status) & LISTENER_BUSY) snprintf(detail, size, "a program above this one listens already");
    return WEXITSTATUS(status) & bit;
}

static bool probe_has_pidfd_getfd(long argument, char *detail, size_t size) {
    (void)argument;
    scoped_fd self = (int)syscall(SYS_pidfd_open, getpid(), 0);
    scoped_fd copy = self < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, self, self, 0);
    return copy >= 0 || probe_because(detail, size, errno);
}

static bool probe_has_readv(long argument, char *detail, size_t size) {
    (void)argument;
    char from = 'x', to = 0;
    struct iovec remote = {.iov_base = &from, .iov_len = 1}, local = {.iov_base = &to, .iov_len = 1};
    if (process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == 1 && to == from) return true;
    return probe_because(detail, size, errno);
}

static bool probe_has_reuseport_filter(long argument, char *detail, size_t size) {
    (void)argument;
    struct sock_filter first[] = {BPF_STMT(BPF_RET | BPF_K, 0)};
    struct sock_fprog program = {.len = 1, .filter = first};
    scoped_fd fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &(int){1}, sizeof(int)) == 0 &&
        setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof program) == 0)
        return true;
    return probe_because(detail, size, errno);
}

static bool probe_has_capability(long capability, char *detail, size_t size) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {0};
    if (syscall(SYS_capget, &header, data)) return probe_because(detail, size, errno);
    return data[capability / 32].effective & (UINT32_C(1) << (capability % 32));
}

// False when the file is not there; `detail` then stays empty.
static bool probe_read_setting(const char *path, long *out, char *detail, size_t size) {
    char text[64];
    if (fd_read_file(path, text, sizeof text) < 0) return false;
    text[strcspn(text, "\n")] = '\0';
    snprintf(detail, size, "%s", text);
    return str_parse_number(text, 0, INT32_MAX, out) == 0;
}

// Scope 1 leaves an ancestor its rights, and the keeper is the workers' ancestor; 2 and 3 leave nobody any.
static bool probe_may_read_children(long argument, char *detail, size_t size) {
    (void)argument;
    long scope;
    if (probe_read_setting("/proc/sys/kernel/yama/ptrace_scope", &scope, detail, size)) return scope <= 1;
    snprintf(detail, size, "no Yama");
    return true;
}

static bool probe_may_bind_low(long argument, char *detail, size_t size) {
    char ignored[FEATURE_DETAIL_SIZE];
    (void)argument;
    long start;
    if (!probe_read_setting("/proc/sys/net/ipv4/ip_unprivileged_port_start", &start, detail, size)) start = 1024;
    return start <= 80 || probe_has_capability(CAP_NET_BIND_SERVICE, ignored, sizeof ignored);
}

static bool probe_has_backlog(long wanted, char *detail, size_t size) {
    long limit;
    return probe_read_setting("/proc/sys/net/core/somaxconn", &limit, detail, size) && limit >= wanted;
}

static const struct probe_row probe_rows[] = {
    {"seccomp user notification",
     "programs that do not share ports themselves cannot be clustered (--no-intercept starts and watches them)", probe_has_action,
     SECCOMP_RET_USER_NOTIF},
    {"seccomp listener", "as above", probe_listener_can, LISTENER_INSTALLED},
    {"seccomp ADDFD", "as above: no socket can be handed to a program", probe_listener_can, LISTENER_ADDFD},
    {"seccomp ADDFD with answer", "handing over a socket takes two steps", probe_listener_can, LISTENER_SEND},
    {"seccomp WAIT_KILLABLE_RECV", "a program that takes many signals while it calls listen (Go) repeats the call", probe_has_filter_flag,
     SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV},
    {"pidfd_getfd", "sockets are handed to programs from their birth on instead of taken from them", probe_has_pidfd_getfd, 0},
    {"process_vm_readv", "as above", probe_has_readv, 0},
    {"yama ptrace_scope 0 or 1", "as above", probe_may_read_children, 0},
    {"reuseport classic BPF", "connections cannot be steered", probe_has_reuseport_filter, 0},
    {"CAP_BPF", "no steering by eBPF: workers pull from one queue", probe_has_capability, CAP_BPF},
    {"CAP_PERFMON", "steering does not see who waits in a queue: workers pull from one", probe_has_capability, CAP_PERFMON},
    {"CAP_NET_ADMIN", "as CAP_BPF", probe_has_capability, CAP_NET_ADMIN},
    {"CAP_SYS_PTRACE", "workers of another user (-u) are handed their sockets", probe_has_capability, CAP_SYS_PTRACE},
    {"CAP_SYS_ADMIN", "workers run with no_new_privs: sudo and other setuid programs do not work in them", probe_has_capability,
     CAP_SYS_ADMIN},
    {"ports below 1024", "port 80 needs CAP_NET_BIND_SERVICE or a lower net.ipv4.ip_unprivileged_port_start", probe_may_bind_low, 0},
    {"somaxconn 4096 or more", "short bursts of connections are dropped: raise net.core.somaxconn", probe_has_backlog, 4096},
};

#define PROBE_COUNT (sizeof probe_rows / sizeof probe_rows[0])
_Static_assert(PROBE_COUNT <= FEATURE_MAX, "FEATURE_MAX is too small");

size_t probe_features(struct feature out[static FEATURE_MAX]) {
    for (size_t i = 0; i < PROBE_COUNT; i++) {
        const struct probe_row *row = &probe_rows[i];
        out[i] = (struct feature){.name = row->name, .cost = row->cost};
        out[i].present = row->probe(row->argument, out[i].detail, sizeof out[i].detail);
    }
    return PROBE_COUNT;
}
