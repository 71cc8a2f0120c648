// SPDX-License-Identifier: MIT
// For whoever finishes a worker's work in its place (app/worker.c), instead of the program's own on_draining.
#pragma once

#include <pando/worker.h>

struct member_finisher {
    void (*drain)(pando_self *self, void *arg);  // the primary wants this worker to finish
    void (*free)(void *arg);                     // the channel's owner is gone
    void *arg;
};

const struct member_finisher *member_finisher(const pando_self *self);  // its arg is NULL when there is none
void member_set_finisher(pando_self *self, const struct member_finisher *finisher);
