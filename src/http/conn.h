// SPDX-License-Identifier: MIT
// The life of a connection. conn.c has the state table; conn_move alone writes the state.
#pragma once

#include <uv.h>

#include "buf.h"
#include "exchange.h"

enum conn_state {
    CONN_IDLE,     // nothing of the next request has arrived
    CONN_HEAD,     // a part of a head has
    CONN_ACTIVE,   // an exchange is being answered; its body may still be arriving
    CONN_DISCARD,  // it is answered; the rest of its body is read away
    CONN_FLUSH,    // the last answer is leaving; nothing more is read
    CONN_LINGER,   // it has left; what still comes is thrown away until the client closes, so that it can read the answer
    CONN_HANDOFF,  // the answer to an upgrade is leaving; then the socket is somebody else's
    CONN_CLOSED,   // the memory goes when libuv lets go of the handle
    CONN_STATE_COUNT
};
extern const char *const conn_state_name[CONN_STATE_COUNT];
bool conn_may_move(enum conn_state from, enum conn_state to);

struct conn {
    union {
        uv_poll_t poll;
        uv_idle_t turn;  // of a connection in memory: its turn of the loop
    };
    struct pando_server *server;                       // borrowed
    struct list_node link;                             // server.conns
    struct wheel_node timer;                           // server.wheel
    struct block *in, *out;                            // owned while something waits in them
    struct pando_exchange *exchange;                   // held in HEAD, ACTIVE, DISCARD, HANDOFF
    uint64_t entered_ms;                               // this state
    uint64_t stall_from_ms, stall_bytes, progress_ms;  // of a slow reader
    uint64_t read_ms, discarded;
    uint32_t requests;
    int fd;                         // owned; -1: a connection in memory
    struct pando_str memory_input;  // borrowed
    struct buf *memory_output;      // borrowed
    bool *memory_over;              // borrowed
    enum conn_state state;
    uint8_t polled;  // UV_READABLE...
    bool running, fresh, eof, broken, last, blocked, linger_after;
};

int conn_open_take(struct pando_server *server, int fd);  // 0 or -errno
// A connection without a socket: `input` is all it sends, what it gets is appended to `output` (borrowed until *out_over).
int conn_open_memory(struct pando_server *server, struct pando_str input, struct buf *output, bool *out_over);
void conn_run(struct conn *conn);     // go on: something has changed
void conn_settle(struct conn *conn);  // derives from the state what to poll and the deadline
void conn_on_timeout(struct conn *conn);
void conn_on_drain(struct conn *conn);  // the server is closing
void conn_close_now(struct conn *conn);

// conn_io.c
void conn_fill(struct conn *conn);   // one read
bool conn_flush(struct conn *conn);  // true: all of it left
bool conn_has_output(const struct conn *conn);
bool conn_has_room(struct conn *conn, size_t bytes);  // in `out`, flushing first if it must; takes a block if there is none
uint32_t conn_input_floor(const struct conn *conn);   // what is read may be moved down to here
