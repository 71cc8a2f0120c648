// SPDX-License-Identifier: MIT
// A worker's end of its channel.
#pragma once

#include <pando/worker.h>
#include <uv.h>

#include "member.h"
#include "message.h"

struct kept;

struct pando_self {
    struct pando_self_options options;
    struct member_finisher finisher;
    struct message_channel *channel;  // owned; NULL: no channel, or closed
    uv_poll_t poll;
    int watched;       // events that the loop watches: to say so again costs two system calls
    bool polling;      // the handle is open
    bool in_callback;  // freed when that returns
    bool draining;     // the primary wants it to finish
    bool leaving;      // it said so itself
    bool ending;       // the channel is closed as soon as all is written
    bool held_back;    // a send was told to hold back
    bool freed;
    uint16_t asked;                  // numbers of LISTEN
    uint32_t zero_count;             // listens on port 0 so far
    struct kept *kept, **kept_last;  // owned; arrived while an answer was waited for
    size_t kept_bytes;
    // The answer that is being waited for.
    bool awaiting, answered;
    int answer, answer_fd;  // answer_fd owned
};

void self_update(pando_self *self);  // what the loop watches for
// Sends and waits for the answer: the descriptor, or -errno.
int self_ask(pando_self *self, const void *data, size_t len);
