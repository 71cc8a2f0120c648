// SPDX-License-Identifier: MIT
// The primary of Node's cluster, as its workers see it through their channel (wire/node_ipc.h): sockets on demand, their
// going and coming, messages. Also PM2's conventions ("ready", "shutdown") for workers that are no cluster's.
#pragma once

#include "primary.h"

extern const struct worker_channel_events node_events;  // the argument is the struct primary_worker

void node_begin(struct primary_worker *seen);                            // its channel is open
void node_end(struct primary_worker *seen);                              // its process is gone, its channel closed
bool node_draining(struct primary *primary, struct worker *worker);  // struct pool_hooks
uint64_t node_telling(struct primary *primary, struct worker *worker);
void node_on_system_call(struct primary_worker *seen);  // a bind or listen of it was answered: is it what we take it for?
void node_greet(const struct primary *primary);
// The worker is part of the cluster, and has not left it.
bool node_takes_part(const struct primary_worker *seen);
uint64_t node_next_seq(struct primary_worker *seen);
