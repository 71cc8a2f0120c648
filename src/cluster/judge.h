// SPDX-License-Identifier: MIT
// How the programs behind an address wait for connections (judge.c), as far as interception must know.
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "record.h"

enum { JUDGE_PARKING_LOOKS = 25 };  // about half a second: so long may a verdict keep the siblings waiting

// Does this thread wait for connections (or for whatever else: select, poll, epoll, accept)?
bool judge_waits(pid_t tid);
bool judge_another_waits(pid_t pid);  // its first thread sleeps otherwise, and another one waits
// Does the `listen` of this slot have to wait until the first user there has been seen to wait?
bool judge_parks(struct record *record, int address, int slot);
