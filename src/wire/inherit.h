// SPDX-License-Identifier: MIT
// What crosses exec between Pando's own processes: fd numbers and argument words. Nothing else is inherited.
#pragma once

// `pando run` execs the keeper with these descriptors open; all others are closed on exec.
// An absent one is simply not open.
enum inherit_fd {
    INHERIT_LAUNCH = 3,   // sealed memfd: the struct launch, see launch.h
    INHERIT_LOCK = 4,     // NAME.lock, flock'ed: who holds it is the instance
    INHERIT_CONTROL = 5,  // the listening control socket
    INHERIT_PROGRAM = 6,  // O_PATH of the `pando` executable that the keeper starts as the primary
    INHERIT_READY = 7,    // write end; the primary tells a detaching `run -d` how it went (enum inherit_ready, then text)
    INHERIT_KEEPER_END,
    INHERIT_GIVEN = INHERIT_KEEPER_END,  // from here on, without a gap: the sockets that our own supervisor passed (LISTEN_FDS)
    // The keeper starts the primary with this one.
    INHERIT_CHANNEL = 3,
};

// A program that is its own primary (libpando) starts the keeper as its child: `pando-keeper VERB NAME`, with INHERIT_CHANNEL alone.
// When that program ends, so do the workers (TERM, then KILL), or, surviving, they and the keeper live on until they end.
#define INHERIT_EMBEDDED_VERB "--embedded"
#define INHERIT_SURVIVING_VERB "--surviving"

// First byte on INHERIT_READY; the rest until end of file is text for the user.
enum inherit_ready { INHERIT_READY_UP = 'U', INHERIT_READY_FAILED = 'F' };

#define INHERIT_GIVEN_MAX 4096  // as many as the record has rows for sockets

#define INHERIT_PRIMARY_VERB "--primary"  // argv[1] of the primary: `pando --primary NAME`

// `pando --examine`: could this program take over? Standard output says "channel N" (CHANNEL_VERSION), or why not; exit code 0
// or not. `pando-keeper --examine FD` does the same for a state as another keeper would get it.
#define INHERIT_EXAMINE_VERB "--examine"
enum inherit_examine { INHERIT_EXAMINE_RECORD = 3, INHERIT_EXAMINE_LAUNCH = 4, INHERIT_EXAMINE_STATE = 3 };
// A worker finds its channel by this variable of its environment: "FD:INODE". The inode tells the socket from whatever
// else has that number in a process that the worker started.
#define INHERIT_WORKER_CHANNEL "PANDO_CHANNEL_FD"
