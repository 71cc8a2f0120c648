// SPDX-License-Identifier: MIT
// The primary's end of the channel: each request of wire/channel.h as a function that waits for its reply (some 20 us).
// Events that arrive in between are kept for link_next_event.
//
// Every function returns 0 (or what it says) or -errno; -EPIPE once the keeper is gone, -EMFILE when this process or the keeper
// has no room for the descriptors that belong to it.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "channel.h"
#include "keeper_state.h"

struct link_event {
    struct keeper_message message;
    int fd[2];  // -1 = none; the receiver's
    struct link_event *next;
};

struct link {
    int fd;  // owned
    bool gone;
    bool alone;     // nobody replaces this keeper: what it holds is not kept here as well
    bool starved;   // descriptors were lost on the way: this process has no room for them
    unsigned owed;  // replies to posted requests that are still to come, in front of all others
    struct link_event *first, **last;  // events kept while a reply was waited for; owned
    struct keeper_held *held;  // owned, descriptors too: all that the keeper holds, for the day on which it is killed
    size_t held_len, held_cap;
    enum keeper_trial trial;   // as the keeper said when it was greeted
    int trial_status;
};

void link_init(struct link *link, int channel_take);
void link_deinit(struct link *link);

// CHILD and HELD entries are reported as events first.
int link_hello(struct link *link);
int link_hold(struct link *link, enum held_kind kind, uint64_t key, int fd);
// Posted: done in order with everything else, the answer is not waited for. What they do cannot fail in a way that matters.
int link_post_hold(struct link *link, enum held_kind kind, uint64_t key, int fd);
int link_drop(struct link *link, enum held_kind kind, uint64_t key);
int link_drop_now(struct link *link, enum held_kind kind, uint64_t key);  // waited for: afterwards the keeper has it no more
void link_drop_all(struct link *link, enum held_kind kind);
// 0 with the new pid, its pidfd and notification listener (-1 = none), the caller's; or -errno with the stage that failed.
int link_spawn(struct link *link, uint64_t token, int plan, const int *fds, size_t fd_count, pid_t *out_pid, int *out_pidfd,
               int *out_listener, uint32_t *out_stage);
int link_peek(struct link *link, pid_t pid, uint64_t address, void *out, size_t len);  // bytes read
int link_getfd(struct link *link, pid_t pid, int fd);                                  // new fd
int link_kill(struct link *link, pid_t pid, int signo, bool to_group);
int link_forget(struct link *link, pid_t pid);  // posted, as link_drop and link_heard are
int link_heard(struct link *link, int signo);
int link_settled(struct link *link);  // posted: all that was told has been taken over
int link_state(struct link *link);    // new fd: what another keeper would get
int link_upgrade(struct link *link, int program, int keeper);  // returns only when it failed, or the keeper is gone
// What the keeper holds by that name: borrowed; -1 = nothing.
int link_held(const struct link *link, enum held_kind kind, uint64_t key);
int link_quit(struct link *link, int exit_code);
// Tells the supervisor (sd_notify(3)), with a borrowed descriptor or -1. -ENOTCONN: there is none; -EAGAIN: it is behind, try later.
int link_notify(struct link *link, const char *text, int fd);

// The next event, from memory or the channel. 1, 0 = none now, -EPIPE.
int link_next_event(struct link *link, struct link_event *out);
