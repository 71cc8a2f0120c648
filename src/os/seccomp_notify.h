// SPDX-License-Identifier: MIT
// seccomp user notification (seccomp_unotify(2)): the filters, and the three operations on a listener.
#pragma once

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum notify_filter {
    NOTIFY_FILTER_READ,  // bind (unless addrlen is 12: netlink, which every name look-up does) and listen
    NOTIFY_FILTER_HAND,  // the same, and socket(AF_INET or AF_INET6, SOCK_STREAM)
};

enum { NOTIFY_NUMBERS = 64 };  // descriptors from here on have no bit

// Builds a filter for this machine's architecture; system calls of other architectures pass. *out is heap. 0 or -errno.
// `shut_down`, a bit a descriptor number: shutdown(2) of these is notified as well, unless it is for writing alone, which no
// listening socket minds.
int notify_filter_build(enum notify_filter kind, uint64_t shut_down, struct sock_filter **out, size_t *out_count);
// Flags for seccomp(2): NEW_LISTENER and, where the kernel knows them, WAIT_KILLABLE_RECV and SPEC_ALLOW.
unsigned notify_filter_flags(void);

// Receives the next notification into `out` (zeroed first). 1 = got it; 0 = none now; -EPIPE = every process
// it watched is gone; other -errno. The caller has polled: this call can block when the target vanishes in between.
int notify_receive(int listener, struct seccomp_notif *out);
// True while the process still waits for this answer: to be asked after every read of its memory.
bool notify_valid(int listener, uint64_t id);
// Answers: `error` 0 and `value`, or a negative errno. -ENOENT: the process is gone, which is fine.
int notify_answer(int listener, uint64_t id, int error, int64_t value);
// Lets the kernel run the call as the process asked for it. Never after a decision that hangs on the process's memory.
int notify_continue(int listener, uint64_t id);
// Puts `fd` into the process: over `target` when it is 0 or more, else at a free number. The number there, or -errno.
int notify_add_fd(int listener, uint64_t id, int fd, int target, bool cloexec);
