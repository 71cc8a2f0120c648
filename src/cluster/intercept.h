// SPDX-License-Identifier: MIT
// What an unmodified program's bind(2) and listen(2) become. The worker waits in the kernel; the primary reads what it
// asked for, does it on the worker's own socket, and answers with the result as the program's own errno.
//
//   read: PEEK the address, GETFD the socket, bind it here.      (`bind`, `listen`, some `shutdown` are reported)
//   hand: make the socket here and put it into the worker.       (`socket`, `listen` are reported; where reading is not allowed)
//
// Until `listen` every worker has a socket of its own. At `listen` the first of a generation becomes the generation's
// socket, and takes the place of the later ones' descriptors.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "handed.h"
#include "launch.h"
#include "link.h"
#include "listener.h"
#include "record.h"
#include "worker.h"

struct intercept {
    struct record *record;         // borrowed
    struct link *link;             // borrowed
    struct listeners *listeners;   // borrowed
    const struct launch *launch;   // borrowed
    struct handed handed;
    uint64_t asked_ns;  // when the call that is being answered was received
    void *arg;          // of the callbacks
    // `address` -1: one of its own, `own` (a port that the system chose; NULL: it cannot be told).
    void (*on_listen)(void *arg, struct worker *worker, int address, const struct record_address *own);
    void (*on_shut)(void *arg, struct worker *worker);  // it is about to hear that its shared socket is closed
    void (*on_hidden)(void *arg, struct worker *worker);               // its memory may not be read: the other way is needed
};

int intercept_init(struct intercept *intercept);  // the borrowed members and callbacks are set
// Has a process of this worker still open what it was given for this address? (All are looked at: some 100 us.)
bool intercept_holds(struct intercept *intercept, struct worker *worker, int address);
// Answers what this worker's listener has. False when no process of it is left.
bool intercept_on_readable(struct intercept *intercept, struct worker *worker);
// Answers what the previous primary had received and not answered, if this worker still waits for it.
void intercept_resume(struct intercept *intercept, struct worker *worker);
// A call that was parked is decided again (and may be parked again).
void intercept_unpark(struct intercept *intercept, struct worker *worker);
void intercept_forget(struct intercept *intercept, uint64_t token);  // that worker has ended
