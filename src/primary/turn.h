// SPDX-License-Identifier: MIT
// The turn of a primary's loop: descriptors become readable, their functions tell the pool; before the loop waits again,
// events of the keeper that came along are taken, the pool does what is due, and whoever waited for that is told.
#pragma once

#include "primary.h"

// Link and pool are open; role, loop, and hooks are set. 0 or -ENOMEM.
int turn_start(struct primary *primary);
