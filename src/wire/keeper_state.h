// SPDX-License-Identifier: MIT
// All that a keeper knows, as it crosses an exec: written by a keeper that is replaced by another version of itself, or by
// a primary that becomes the keeper because the keeper was killed. The descriptors it names stay open over the exec.
//
// No allocation, no jansson: the keeper links this file.
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "channel.h"

#define KEEPER_STATE_MAGIC UINT64_C(0x50616e646f4b6570)  // "PandoKep"
#ifndef KEEPER_STATE_VERSION
#define KEEPER_STATE_VERSION 1
#endif
#define KEEPER_FORWARDED_MAX 8  // signals that the keeper passes on

// A row is free when its pid is 0.
struct keeper_child {
    int32_t pid;
    int32_t pidfd, listener;  // -1 = none
    int32_t status;           // as from waitpid(2), or KEEPER_STATUS_UNKNOWN
    uint64_t token;
    bool exited, reported;
    bool foreign;  // not this keeper's child: its own was killed
};

// A row is free when its kind is 0.
struct keeper_held {
    uint32_t kind;  // enum held_kind
    int32_t fd;
    uint64_t key;
};

struct keeper_state {
    uint64_t magic;
    uint32_t version, size;
    uint32_t child_end, held_end;     // rows from here on have never been used
    int32_t channel;                  // -1 while no primary lives
    int32_t primary, primary_pidfd;   // 0 and -1: none
    int32_t quick_deaths;             // of primaries, in a row
    uint32_t trial;                   // enum keeper_trial
    int32_t trial_status;             // how the primary on trial ended, as from waitpid(2)
    bool ever_told, had_terminal;
    int32_t signal_count[KEEPER_FORWARDED_MAX];  // not heard yet
    bool signal_from_kernel[KEEPER_FORWARDED_MAX];
    struct keeper_child child[KEEPER_CHILD_MAX];
    struct keeper_held held[KEEPER_HELD_MAX];
};

// A memfd with it (CLOEXEC), or -errno. Sets magic, version and size.
int keeper_state_save(struct keeper_state *state);
// 0, -EPROTO when it is none or of another version, or other -errno.
int keeper_state_load(int memfd, struct keeper_state *out);
// Every descriptor that the state names: over exec (true), or not.
void keeper_state_keep_fds(const struct keeper_state *state, bool over_exec);
// Executes a keeper, by an O_PATH descriptor of it, as the continuation of this process. Returns -errno, with nothing changed.
int keeper_state_exec(struct keeper_state *state, int keeper, char *name, char *const *envp);
