// SPDX-License-Identifier: MIT
// One request and its answer. Held by its connection until the end, and by whoever answers later; it may outlive the socket.
#pragma once

#include <pando/http.h>

#include "arena.h"
#include "h1_parse.h"
#include "server.h"

struct conn;

struct exchange_field {
    struct pando_str name, value;
};

enum { EXCHANGE_FIELDS = 24, EXCHANGE_FIELDS_MAX = 256 };

struct pando_exchange {
    struct conn *conn;            // borrowed; NULL once it has let go
    struct pando_server *server;  // borrowed
    struct pando_exchange *next_idle;
    unsigned holds;
    const char *base;    // the head's first byte: in conn->in, or in `kept`
    struct block *kept;  // owned: the block of the head when the connection has let go
    const struct pando_exchange_events *events;
    void *events_arg;

    // the body being read
    uint64_t began_ms;  // the request's first byte
    uint64_t body_bytes, body_limit, wait_from_ms, wait_bytes;
    int body_status;
    bool body_done, body_failed, wants_readable, continue_sent;
    bool lent;  // the last piece read is still being looked at: it must not move

    // the answer: head out -> (writes) -> ended -> tail and file gone
    bool head_sent, chunked, ended, wants_writable, bodyless, delimited_by_close, cut_short;
    uint16_t status;
    struct pando_str reason;
    uint64_t declared, written;  // Content-Length set by the handler, UINT64_MAX: none
    struct exchange_field *fields, *trailers;
    uint16_t field_count, field_cap, trailer_count, request_trailer_count;
    struct exchange_field *request_trailers;
    struct pando_str tail;  // the rest of a large body: borrowed until on_end
    int file_fd;            // borrowed
    off_t file_at;
    uint64_t file_left;
    pando_upgrade_fn on_upgrade;
    void *upgrade_arg;

    struct arena arena;
    struct h1_body body;
    struct h1_head head;
    struct exchange_field inline_fields[EXCHANGE_FIELDS];
    char memory[8192] __attribute__((aligned(16)));
};

struct pando_exchange *exchange_new(struct pando_server *server);  // with one hold; NULL: no memory
void exchange_begin(struct pando_exchange *exchange);              // the head is parsed: defaults of the answer
// The connection lets go: on_end is called; operations answer -EPIPE from then on. Releases the connection's hold.
void exchange_let_go(struct pando_exchange *exchange, bool sent);
void exchange_free(struct pando_exchange *exchange);  // memory only, at the server's end
static inline bool exchange_answered(const struct pando_exchange *x) { return x->ended && !x->tail.len && !x->file_left; }
