// SPDX-License-Identifier: MIT
// An upgrade, or its undoing: this process executes another keeper, which goes on with all that this one knew.
//
//   become_new --exec--> the new keeper starts a new primary --settled--> done
//                                     +--ended, or too late--> become_old --exec--> the old keeper, the old program
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "fd.h"
#include "inherit.h"
#include "keeper.h"
#include "log.h"

static struct keeper_state state;  // only touched then

static void state_fill(void) {
    state.child_end = (uint32_t)keeper.child_end;
    state.held_end = (uint32_t)keeper.held_end;
    state.channel = keeper.channel;
    state.primary = keeper.primary;
    state.primary_pidfd = keeper.primary_pidfd;
    state.quick_deaths = keeper.quick_deaths;
    state.trial = keeper.trial;
    state.trial_status = keeper.trial_status;
    state.ever_told = keeper.ever_told;
    state.had_terminal = keeper.had_terminal;
    memcpy(state.signal_count, keeper.signal_count, sizeof state.signal_count);
    memcpy(state.signal_from_kernel, keeper.signal_from_kernel, sizeof state.signal_from_kernel);
    memcpy(state.child, keeper.child, sizeof state.child);
    memcpy(state.held, keeper.held, sizeof state.held);
}

static void state_apply(void) {
    keeper.child_end = state.child_end;
    keeper.held_end = state.held_end;
    keeper.channel = state.channel;
    keeper.primary = state.primary;
    keeper.primary_pidfd = state.primary_pidfd;
    keeper.quick_deaths = state.quick_deaths;
    keeper.trial = (enum keeper_trial)state.trial;
    keeper.trial_status = state.trial_status;
    keeper.ever_told = state.ever_told;
    keeper.had_terminal = state.had_terminal;
    memcpy(keeper.signal_count, state.signal_count, sizeof state.signal_count);
    memcpy(keeper.signal_from_kernel, state.signal_from_kernel, sizeof state.signal_from_kernel);
    memcpy(keeper.child, state.child, sizeof state.child);
    memcpy(keeper.held, state.held, sizeof state.held);
}

// Returns only when it failed; nothing has changed then.
static int become(int executable) {
    state_fill();
    return keeper_state_exec(&state, executable, keeper.name, keeper.envp);
}

// Key 0 and key 1 of it change places.
static void swap_versions(uint32_t kind) {
    struct keeper_held *now = held_find(kind, 0), *before = held_find(kind, 1);
    if (now == NULL || before == NULL) return;
    int fd = now->fd;
    now->fd = before->fd;
    before->fd = fd;
}

static void swap_programs(void) {
    swap_versions(HELD_PANDO);
    swap_versions(HELD_KEEPER);
}

static void drop_versions(uint64_t key) {
    held_drop(held_find(HELD_PANDO, key));
    held_drop(held_find(HELD_KEEPER, key));
}

// Out of the way of the numbers that a child is given.
static int move_up(int *fd) {
    int moved = fcntl(*fd, F_DUPFD_CLOEXEC, INHERIT_KEEPER_END);
    if (moved < 0) return -errno;
    fd_close(fd);
    *fd = moved;
    return 0;
}

int become_new(int fds[2]) {
    int r = move_up(&fds[0]);
    if (r == 0) r = held_put(HELD_PANDO, 1, &fds[0]);
    if (r == 0) r = held_put(HELD_KEEPER, 1, &fds[1]);
    if (r == 0) {
        swap_programs();
        keeper.trial = KEEPER_TRIAL_RUNNING;
        r = become(held_fd(HELD_KEEPER, 0));
        keeper.trial = KEEPER_TRIAL_NONE;
        swap_programs();
    }
    drop_versions(1);
    return r;
}

void become_old(int status) {
    keeper.trial = KEEPER_TRIAL_FAILED;
    keeper.trial_status = status;
    keeper.quick_deaths = 0;
    keeper.primary_retry_ns = clock_now_ns();
    swap_programs();
    log_error("the primary of the new program ended before it had taken over (status 0x%04x): the old program goes on", (unsigned)status);
    int r = become(held_fd(HELD_KEEPER, 0));
    log_error("cannot become the old keeper again: %s; this one goes on with the old program", strerror(-r));
}

void become_settled(void) {
    keeper.trial = KEEPER_TRIAL_NONE;
    keeper.trial_status = 0;
    drop_versions(1);
}

int become_memfd(void) {
    state_fill();
    return keeper_state_save(&state);
}

int become_resume(const char *fd) {
    int memfd = atoi(fd);
    int r = keeper_state_load(memfd, &state);
    if (r != 0) return r;
    close(memfd);
    state_apply();
    keeper_state_keep_fds(&state, false);
    return 0;
}

int become_examine(const char *fd) {
    int r = keeper_state_load(atoi(fd), &state);
    if (r == 0) return printf("channel %d\n", CHANNEL_VERSION) > 0 && fflush(stdout) == 0 ? 0 : 1;
    printf("the state of the running keeper is not of this version (%d): %s\n", KEEPER_STATE_VERSION, strerror(-r));
    return 1;
}
