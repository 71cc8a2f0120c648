// SPDX-License-Identifier: MIT
// What the loop watches for each worker: its two pipes, its notifications, its ready pipe, its channel, its notify socket.
#pragma once

#include "primary.h"

struct primary_worker *watches_of(struct primary *primary, struct worker *worker);  // made when missing; NULL = out of memory
void watches_start(struct primary *primary, struct worker *worker, struct pool_fds *fds_take);
void watches_add_listener(struct primary *primary, struct worker *worker);
void watches_end(struct primary *primary, struct worker *worker);   // its process is gone
bool watches_drain(struct primary *primary, struct worker *worker);  // it was told over its channel, and will finish by itself
void watches_resume_channels(struct primary *primary);  // after adoption: what the other primary had read and not handled
void watches_notify_socket(struct primary *primary, int slot, int fd_take);  // -1: make and hold one
