// SPDX-License-Identifier: MIT
// The channel between keeper and primary: one SOCK_SEQPACKET pair, fixed-size messages, descriptors along.
//
// The primary sends one request at a time and gets exactly one KEEPER_REPLY for it. Between replies the keeper reports
// events. It keeps no queue of events: each is derived from its tables until the primary has acknowledged it
// (KEEPER_FORGET, KEEPER_HEARD), so that a primary that dies in between costs nothing: the next one is told again.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define KEEPER_CHILD_MAX 2048   // children alive or not yet forgotten
#define KEEPER_HELD_MAX 12288   // descriptors held
#define CHANNEL_FD_MAX 8        // descriptors in one message
#define CHANNEL_DATA_SIZE 128   // covers every sockaddr: sizeof(struct sockaddr_storage)
#ifndef CHANNEL_VERSION
#define CHANNEL_VERSION 2  // of all this: keeper and primary that differ cannot work together
#endif
#define KEEPER_STATUS_UNKNOWN (-1)  // nobody could see how the process ended

enum keeper_verb {
    // requests
    KEEPER_HELLO = 1,  // tell me everything: CHILD and HELD for each entry, then the reply: kind = enum keeper_trial, status
    KEEPER_HOLD,       // kind, key + 1 fd: keep a duplicate for the primaries to come; replaces what that kind and key had
    KEEPER_DROP,       // kind, key: close it. Unknown is fine
    KEEPER_SPAWN,      // key = token; fds: the plan (plan.h), then the fds it names. Reply: result, pid, fds: pidfd [, listener]; a failure has its enum spawn_stage in `kind`
    KEEPER_PEEK,       // pid, address, len: read a child's memory. Reply: result = bytes, data
    KEEPER_GETFD,      // pid, fd: duplicate a child's descriptor. Reply: fds: it
    KEEPER_KILL,       // pid, signo, to_group: signal a child (STOP and CONT too)
    KEEPER_FORGET,     // pid: its exit has been taken note of
    KEEPER_HEARD,      // signo: one KEEPER_SIGNAL of it has been acted on
    KEEPER_NOTIFY,     // data, len [+ 1 fd]: tell it to the supervisor, which listens to the process that it started. -ENOTCONN: there is none
    KEEPER_QUIT,       // result = exit code: kill what is left, reap until ECHILD, exit. No reply
    KEEPER_SETTLED,    // this primary has taken over all it was told of; ends a trial
    KEEPER_STATE,      // reply: fd: a memfd as another keeper would get it (keeper_state.h)
    KEEPER_UPGRADE,    // fds: O_PATH of another `pando`, of another keeper: become that keeper, with primaries from that `pando`. A reply means that it failed
    // from the keeper
    KEEPER_REPLY,
    KEEPER_CHILD,   // key = token, pid, exited, status, foreign; fds: pidfd [, listener]
    KEEPER_HELD,    // kind, key; fds: it
    KEEPER_EXITED,  // key = token, pid, status; until KEEPER_FORGET
    KEEPER_SIGNAL,  // signo, from_kernel: somebody signalled the keeper; until KEEPER_HEARD
};

// An upgrade is undone when the primary from the new program ends, or has not settled in time.
enum keeper_trial {
    KEEPER_TRIAL_NONE,
    KEEPER_TRIAL_RUNNING,  // this primary is the one
    KEEPER_TRIAL_FAILED,   // it ended (status); the old program is back
};

enum held_kind {
    HELD_LAUNCH = 1,     // key = generation: sealed memfd of its struct launch
    HELD_CONTROL,        // the listening control socket
    HELD_LOCK,           // the instance's lock file
    HELD_RECORD,         // memfd: the primary's memory (cluster/record.h)
    HELD_LOG_RING,       // memfd: the last lines of output (primary/ring.h)
    HELD_READY,          // write end for a waiting `run -d`
    HELD_SOCKET,         // key: see record.h: a listening (or bound) socket that outlives its workers
    HELD_NOTIFY_SOCKET,  // key = slot: its sd_notify datagram socket
    HELD_OUTPUT,         // key = token << 1 | is_stderr: read end of a worker's pipe; drained by the keeper while no primary lives
    HELD_READY_PIPE,     // key = token: read end of a worker's `--ready fd=N` pipe
    HELD_CHANNEL,        // key = token: the primary's end of a worker's channel
    HELD_CHANNEL_MEMORY,  // memfd: what came through the channels and was not handled yet (primary/worker_channel.h)
    HELD_STEERING,       // key = address << 8 | enum steering_fd: what the kernel steers by
    HELD_DIRECTORY,      // key = generation: its working directory
    HELD_PROGRAM,        // key = generation: its executable
    HELD_GIVEN,          // key = n: socket n of those that the supervisor passed on; until the first primary has placed them
    HELD_CLIENT,         // connection of whoever waits for the end: closed by the keeper's own exit, the last of all
    HELD_PANDO,          // O_PATH of `pando`: primaries are started from it. Key 1, during a trial: the one before
    HELD_KEEPER,         // O_PATH of the keeper's own executable. Key 1 as above
    HELD_UPGRADER,       // connection of whoever waits for an upgrade: answered by the next primary
};

struct keeper_message {
    uint32_t verb;  // enum keeper_verb
    int32_t result;  // 0 or more, or -errno
    uint64_t key;
    uint64_t address;
    uint32_t kind;  // enum held_kind
    uint32_t len;
    int32_t pid;
    int32_t fd;
    int32_t signo;
    int32_t status;      // as from waitpid(2)
    uint8_t to_group;    // bool
    uint8_t exited;      // bool
    uint8_t from_kernel; // bool: the terminal, not a person's kill(1)
    uint8_t foreign;     // bool: the keeper is not its parent, that one was killed
    uint8_t reserved[4];
    uint8_t data[CHANNEL_DATA_SIZE];
};

// Sends one message with up to CHANNEL_FD_MAX borrowed descriptors; never blocks, never raises SIGPIPE. 0 or -errno (-EAGAIN: full).
int channel_send(int channel, const struct keeper_message *message, const int *fds, size_t fd_count);

// Receives one message. The descriptors (CLOEXEC) become the caller's; those beyond `fd_max` are closed.
// 1 = received, 0 = the other end is gone, -EAGAIN = nothing there, other -errno. A message of the wrong size is -EPROTO; one
// whose descriptors this process has no room for is -EMFILE, and arrives without them.
int channel_receive(int channel, struct keeper_message *out_message, int *out_fds, size_t fd_max, size_t *out_fd_count);
