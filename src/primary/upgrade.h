// SPDX-License-Identifier: MIT
// Replacing the running Pando by another program, keeper and primary, without anybody noticing:
//
//   both new programs are asked whether they could take over --no--> refused, nothing has happened
//        | yes
//   the keeper becomes the new keeper (keeper.c) and starts the new primary, which adopts as after a kill
//        |                                                  +--it dies or is too slow--> the old keeper and primary are back
//   the waiting client is answered by whichever primary is there in the end
#pragma once

#include <stdbool.h>

#include "primary.h"

// Begins it; `program` NULL: what is now at the path from which the running one was started. False: one is under way.
bool upgrade_begin(struct primary *primary, const char *program);
// After adoption: how an upgrade that was under way went.
void upgrade_adopted(struct primary *primary);
