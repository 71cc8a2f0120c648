// SPDX-License-Identifier: MIT
// What a worker reads from its environment.
#pragma once

// The channel to the primary: its number, or -1 when there is none. Borrowed; close-on-exec from the program's first moment on.
int identity_channel(void);
