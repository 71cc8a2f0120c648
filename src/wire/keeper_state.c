// SPDX-License-Identifier: MIT
#include "keeper_state.h"

#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fd.h"

int keeper_state_save(struct keeper_state *state) {
    scoped_fd memfd = memfd_create("pando keeper", MFD_CLOEXEC);
    if (memfd < 0) return -errno;
    state->magic = KEEPER_STATE_MAGIC;
    state->version = KEEPER_STATE_VERSION;
    state->size = sizeof *state;
    int r = fd_write_all(memfd, state, sizeof *state);
    return r != 0 ? r : fd_take(&memfd);
}

static bool is_ours(const struct keeper_state *state) {
    return state->magic == KEEPER_STATE_MAGIC && state->version == KEEPER_STATE_VERSION && state->size == sizeof *state &&
           state->child_end <= KEEPER_CHILD_MAX && state->held_end <= KEEPER_HELD_MAX;
}

int keeper_state_load(int memfd, struct keeper_state *out) {
    struct stat info;
    if (fstat(memfd, &info) != 0) return -errno;
    if (info.st_size != (off_t)sizeof *out) return -EPROTO;
    for (size_t at = 0; at < sizeof *out;) {
        ssize_t n = pread(memfd, (char *)out + at, sizeof *out - at, (off_t)at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return n < 0 ? -errno : -EPROTO;
        at += (size_t)n;
    }
    return is_ours(out) ? 0 : -EPROTO;
}

static void keep_fd(int fd, bool over_exec) {
    if (fd >= 0) fd_set_cloexec(fd, !over_exec);
}

void keeper_state_keep_fds(const struct keeper_state *state, bool over_exec) {
    keep_fd(state->channel, over_exec);
    keep_fd(state->primary_pidfd, over_exec);
    for (uint32_t i = 0; i < state->child_end; i++) {
        if (state->child[i].pid == 0) continue;
        keep_fd(state->child[i].pidfd, over_exec);
        keep_fd(state->child[i].listener, over_exec);
    }
    for (uint32_t i = 0; i < state->held_end; i++)
        if (state->held[i].kind != 0) keep_fd(state->held[i].fd, over_exec);
}

int keeper_state_exec(struct keeper_state *state, int keeper, char *name, char *const *envp) {
    char path[32], number[16];
    char *argv[] = {(char[]){"pando-keeper"}, name, number, NULL};
    scoped_fd memfd = keeper_state_save(state);
    if (memfd < 0) return memfd;
    snprintf(path, sizeof path, "/proc/self/fd/%d", keeper);
    snprintf(number, sizeof number, "%d", memfd);
    keeper_state_keep_fds(state, true);
    keep_fd(memfd, true);
    execve(path, argv, envp);
    int r = -errno;
    keeper_state_keep_fds(state, false);
    return r;
}
