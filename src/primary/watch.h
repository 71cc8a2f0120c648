// SPDX-License-Identifier: MIT
// A descriptor of ours in the loop: readable -> function.
#pragma once

#include <stdbool.h>
#include <uv.h>

struct watch;
typedef void (*watch_fn)(void *arg, int fd);

// The descriptor is consumed, on failure too. NULL when out of memory or not pollable.
struct watch *watch_open(uv_loop_t *loop, int fd_take, watch_fn on_readable, void *arg);
void watch_pause(struct watch *watch, bool pause);  // leave it unread, or read on
void watch_ref(struct watch *watch, bool ref);      // does it keep the loop alive? At first yes. NULL is fine
int watch_fd(const struct watch *watch);            // borrowed
void watch_close(struct watch *watch);              // closes the descriptor as well; NULL is fine
