// SPDX-License-Identifier: MIT
// Between the files of the keeper: keeper.c (the loop and the requests), tables.c, become.c (another keeper).
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "channel.h"
#include "keeper_state.h"
#include "sdnotify.h"

enum { FORWARDED_MAX = KEEPER_FORWARDED_MAX };

struct keeper {
    struct keeper_child child[KEEPER_CHILD_MAX];
    struct keeper_held held[KEEPER_HELD_MAX];
    size_t child_end, held_end;  // rows from here on have never been used
    char *name;
    char **envp;
    int signals, null;
    int channel;  // -1 while no primary lives
    pid_t primary;
    int primary_pidfd;
    uint64_t primary_started_ns, primary_retry_ns;
    int quick_deaths;
    bool told;       // the primary has said HELLO, and is there
    bool was_up;     // it has; still known when it is gone
    bool ever_told;  // some primary has
    bool had_terminal;
    int signal_count[FORWARDED_MAX];  // not heard yet
    int signal_told[FORWARDED_MAX];   // of those, how many the present primary was told
    bool signal_from_kernel[FORWARDED_MAX];
    enum keeper_trial trial;
    int trial_status;
    struct sdnotify supervisor;
    bool embedded, surviving;
    int parent_pidfd;     // embedded: of the program; -1
    uint64_t ending_ns;   // embedded, the program has ended: when who still runs is killed; 0 = it has not
    bool refuse;          // PANDO_DEBUG_REFUSE=keeper: as under a security module that forbids PEEK and GETFD
    bool refuse_foreign;  // =foreign: as under Yama, where only an ancestor may
    bool quitting;
    int exit_code;
};

extern struct keeper keeper;  // the root of the process: keeper.c

// tables.c. A child that runs, or one that has ended and is not forgotten yet: its number may be in use again.
struct keeper_child *child_find(pid_t pid, bool exited);
struct keeper_child *child_free_row(void);
struct keeper_held *held_find(uint32_t kind, uint64_t key);
int held_put(uint32_t kind, uint64_t key, int *fd);  // takes it; replaces what was there
int held_fd(uint32_t kind, uint64_t key);            // borrowed; -1 = nothing
void held_drop(struct keeper_held *row);             // NULL is fine

// become.c: another keeper in the place of this one. What returns has failed, with nothing changed.
int become_memfd(void);              // what another keeper would get; new fd or -errno
int become_new(int fds[2]);          // O_PATH of `pando` and of its keeper: the beginning of a trial
void become_old(int status);         // the end of one: the new primary ended like this
void become_settled(void);           // the other end of one
int become_resume(const char *fd);   // at the start: what the one before knew. 0 or -errno
int become_examine(const char *fd);  // `pando-keeper --examine FD`: could this keeper go on from there? The exit code
