// SPDX-License-Identifier: MIT
// Turns weights into what the steering program reads. Pure: memory in, memory out.
#pragma once

#include <stdbool.h>

#include "steering_memory.h"

// May the slot be chosen: it has a socket, which is not just being emptied, and a weight.
bool steering_bank_fit(const struct steering_memory *memory, unsigned slot);
// True when the weights have at most STEERING_CLASSES different values besides 0.
bool steering_bank_can(const uint16_t *weights, unsigned slots);
// Fills the bank that is not in force with the set of slots as it is now, and puts it in force.
void steering_bank_turn(struct steering_memory *memory);
