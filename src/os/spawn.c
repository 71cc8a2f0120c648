// SPDX-License-Identifier: MIT
// The child shares the parent's memory until exec (vfork), so it tells a failure by writing a variable, and must not
// allocate, lock, or call anything that keeps state in user space. Its seccomp listener crosses over a socket pair:
// the descriptor would otherwise close with the exec.
#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fd.h"

#ifndef CAP_PERFMON
#define CAP_PERFMON 38
#define CAP_BPF 39
#endif

enum { SPAWN_STACK_BYTES = 64 * 1024 };

const char *const spawn_stage_text[SPAWN_STAGE_COUNT] = {
    [SPAWN_STAGE_NONE] = "start",
    [SPAWN_STAGE_PLAN] = "read the spawn plan",
    [SPAWN_STAGE_CLONE] = "make a new process",
    [SPAWN_STAGE_FDS] = "set up standard input, output and error",
    [SPAWN_STAGE_LIMIT] = "restore the limit on open files",
    [SPAWN_STAGE_AFFINITY] = "pin to a processor",
    [SPAWN_STAGE_FILTER] = "install the seccomp filter",
    [SPAWN_STAGE_USER] = "change the user",
    [SPAWN_STAGE_DIRECTORY] = "change to the working directory",
    [SPAWN_STAGE_EXEC] = "execute the command",
};

struct child {
    const struct spawn *spawn;
    int listener_channel;  // write end; -1 without a listener
    int directory, program;  // duplicates out of the way of the targets; 0 = none
    enum spawn_stage stage;
    int error;
};

// The sources may be any numbers, the targets too: first all out of the way, then down to their places.
static int child_fds(struct child *child) {
    const struct spawn *spawn = child->spawn;
    int parked[SPAWN_FD_MAX], above = STDERR_FILENO + 1;
    for (int i = 0; i < SPAWN_FD_MAX; i++)
        if (spawn->fd_target[i] >= above) above = spawn->fd_target[i] + 1;
    if (child->listener_channel >= 0) {
        child->listener_channel = fcntl(child->listener_channel, F_DUPFD_CLOEXEC, above);
        if (child->listener_channel < 0) return -errno;
    }
    if (spawn->directory_fd > 0 && (child->directory = fcntl(spawn->directory_fd, F_DUPFD_CLOEXEC, above)) < 0) return -errno;
    if (spawn->program_fd > 0 && (child->program = fcntl(spawn->program_fd, F_DUPFD_CLOEXEC, above)) < 0) return -errno;
    for (int i = 0; i < SPAWN_FD_MAX; i++) {
        parked[i] = -1;
        if (spawn->fd_source[i] < 0) continue;
        parked[i] = fcntl(spawn->fd_source[i], F_DUPFD_CLOEXEC, above);
        if (parked[i] < 0) return -errno;
    }
    for (int i = 0; i < SPAWN_FD_MAX; i++) {
        if (parked[i] < 0) continue;
        if (dup2(parked[i], spawn->fd_target[i]) < 0) return -errno;
    }
    return 0;
}

static int child_limit(const struct spawn *spawn) {
    if (spawn->nofile_soft == 0) return 0;
    struct rlimit limit = {.rlim_cur = spawn->nofile_soft, .rlim_max = spawn->nofile_hard};
    return setrlimit(RLIMIT_NOFILE, &limit) == 0 ? 0 : -errno;
}

static int child_send_listener(int channel, int listener) {
    char control[CMSG_SPACE(sizeof(int))] = {0};
    char byte = 'l';
    struct iovec iov = {&byte, 1};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &listener, sizeof listener);
    return sendmsg(channel, &message, MSG_NOSIGNAL) == 1 ? 0 : -errno;
}

// Before the change of user: without no_new_privs the filter needs the capability that the change may take away.
static int child_filter(struct child *child) {
    const struct spawn *spawn = child->spawn;
    if (spawn->filter == NULL) return 0;
    if (spawn->no_new_privs && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return -errno;
    struct sock_fprog program = {.len = (unsigned short)spawn->filter_count, .filter = (struct sock_filter *)spawn->filter};
    long listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, spawn->filter_flags, &program);
    if (listener < 0) return -errno;
    return child->listener_channel < 0 ? 0 : child_send_listener(child->listener_channel, (int)listener);
}

// Raw calls: glibc's wrappers would signal the "other threads", which here are the parent's.
static int child_user(const struct spawn *spawn) {
    if (!spawn->set_user) return 0;
    if (syscall(SYS_setgroups, spawn->group_count, spawn->groups) != 0) return -errno;
    if (syscall(SYS_setresgid, spawn->gid, spawn->gid, spawn->gid) != 0) return -errno;
    if (syscall(SYS_setresuid, spawn->uid, spawn->uid, spawn->uid) != 0) return -errno;
    return 0;
}

// Given to Pando for its steering (AmbientCapabilities= in a unit); a worker that kept them could take the machine's network down.
static void child_lower_ambient(void) {
    static const int steering[] = {CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON};
    for (size_t i = 0; i < sizeof steering / sizeof *steering; i++) prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_LOWER, steering[i], 0, 0);
}

static int child_prepare(struct child *child) {
    const struct spawn *spawn = child->spawn;
    int r;
    if (spawn->new_session) setsid();
    if (spawn->no_steering) child_lower_ambient();
    child->stage = SPAWN_STAGE_FDS;
    if ((r = child_fds(child)) != 0) return r;
    child->stage = SPAWN_STAGE_AFFINITY;
    if (spawn->cpus != NULL && sched_setaffinity(0, sizeof *spawn->cpus, spawn->cpus) != 0) return -errno;
    child->stage = SPAWN_STAGE_FILTER;
    if ((r = child_filter(child)) != 0) return r;
    child->stage = SPAWN_STAGE_LIMIT;  // not before: the parent's descriptors, still open here, may exceed it
    if ((r = child_limit(spawn)) != 0) return r;
    child->stage = SPAWN_STAGE_USER;
    if ((r = child_user(spawn)) != 0) return r;
    child->stage = SPAWN_STAGE_DIRECTORY;
    if (child->directory > 0 ? fchdir(child->directory) != 0 : spawn->directory != NULL && chdir(spawn->directory) != 0) return -errno;
    child->stage = SPAWN_STAGE_EXEC;
    return 0;
}

__attribute__((no_sanitize_address)) static int child_main(void *arg) {
    struct child *child = arg;
    child->error = child_prepare(child);
    if (child->error == 0) {
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        if (child->program > 0)
            syscall(SYS_execveat, child->program, "", child->spawn->argv, child->spawn->envp, AT_EMPTY_PATH);
        else
            execve(child->spawn->path, child->spawn->argv, child->spawn->envp);
        child->error = -errno;
    }
    _exit(127);
}

// The listener sits in the socket pair since before the exec; nothing there means the child never got that far.
static int take_listener(int channel) {
    char control[CMSG_SPACE(sizeof(int))];
    char byte;
    struct iovec iov = {&byte, 1};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    if (recvmsg(channel, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) != 1) return -1;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header == NULL || header->cmsg_type != SCM_RIGHTS) return -1;
    int listener;
    memcpy(&listener, CMSG_DATA(header), sizeof listener);
    return listener;
}

int spawn_start(const struct spawn *spawn, struct spawned *out) {
    static char stack[SPAWN_STACK_BYTES] __attribute__((aligned(16)));
    scoped_fd near = -1, far = -1;
    *out = (struct spawned){.pid = -1, .pidfd = -1, .listener = -1, .failed_stage = SPAWN_STAGE_CLONE};
    if (spawn->filter != NULL && (spawn->filter_flags & SECCOMP_FILTER_FLAG_NEW_LISTENER) != 0) {
        int pair[2];
        if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair) != 0) return -errno;
        near = pair[0];
        far = pair[1];
    }
    struct child child = {.spawn = spawn, .listener_channel = far};
    int pidfd = -1;
    pid_t pid = clone(child_main, stack + sizeof stack, CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD, &child, &pidfd);
    if (pid < 0) return -errno;
    int listener = near < 0 ? -1 : take_listener(near);
    if (child.error != 0) {
        fd_close(&pidfd);
        fd_close(&listener);
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {}
        out->failed_stage = child.stage;
        return child.error;
    }
    *out = (struct spawned){.pid = pid, .pidfd = pidfd, .listener = listener, .failed_stage = SPAWN_STAGE_NONE};
    return 0;
}
