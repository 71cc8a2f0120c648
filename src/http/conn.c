// SPDX-License-Identifier: MIT
// The life of a connection.
//
//            first byte      head whole       answered, body read
//   IDLE ----------> HEAD ----------> ACTIVE ---------------------> IDLE        the good life, as often as the client likes
//                     |                |  |\--- body unread ----> DISCARD ---> IDLE
//                     |                |  \-- last answer -------------------> FLUSH ---> CLOSED
//                     |                \----- upgrade ----> HANDOFF ---------------------> CLOSED (the socket lives on)
//                     \-- refused ------------------------------------------> FLUSH ---> LINGER ---> CLOSED
//
// Everything that happens (bytes, room, an answer, a deadline) is noted in the connection; conn_run then takes steps until
// nothing more can be done, writes what has gathered, and `conn_settle` derives from the state what to poll and the one deadline.
// Bytes are read into `in` and answers gather in `out`: both blocks are borrowed from the server's pool and given back as
// soon as they are empty, so that an idle connection owns neither.
//
//   in:   | consumed | head (views of the exchange point here) | consumed body | waiting: start .. end | room |
#include "conn.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ROOM_FOR_AN_ANSWER = LIMIT_OUTPUT_BLOCK / 2 };

static bool step_idle(struct conn *conn);
static bool step_head(struct conn *conn);
static bool step_active(struct conn *conn);
static bool step_discard(struct conn *conn);
static bool step_flush(struct conn *conn);
static bool step_linger(struct conn *conn);
static bool step_handoff(struct conn *conn);
static bool step_closed(struct conn *conn);

#define TO(state) (1u << CONN_##state)
static const struct {
    unsigned may;                     // states that may follow
    bool (*step)(struct conn *conn);  // true: something was done, ask again
} table[CONN_STATE_COUNT] = {
    [CONN_IDLE] = {TO(HEAD) | TO(FLUSH) | TO(CLOSED), step_idle},
    [CONN_HEAD] = {TO(ACTIVE) | TO(FLUSH) | TO(CLOSED), step_head},
    [CONN_ACTIVE] = {TO(IDLE) | TO(DISCARD) | TO(FLUSH) | TO(HANDOFF) | TO(CLOSED), step_active},
    [CONN_DISCARD] = {TO(IDLE) | TO(FLUSH) | TO(CLOSED), step_discard},
    [CONN_FLUSH] = {TO(LINGER) | TO(CLOSED), step_flush},
    [CONN_LINGER] = {TO(CLOSED), step_linger},
    [CONN_HANDOFF] = {TO(CLOSED), step_handoff},
    [CONN_CLOSED] = {0, step_closed},
};
const char *const conn_state_name[CONN_STATE_COUNT] = {
    [CONN_IDLE] = "idle",   [CONN_HEAD] = "head",     [CONN_ACTIVE] = "active",   [CONN_DISCARD] = "discard",
    [CONN_FLUSH] = "flush", [CONN_LINGER] = "linger", [CONN_HANDOFF] = "handoff", [CONN_CLOSED] = "closed",
};

bool conn_may_move(enum conn_state from, enum conn_state to) { return table[from].may & 1u << to; }

static void on_handle_closed(uv_handle_t *handle) { free(handle->data); }

// Entering CLOSED takes everything down; the memory follows when libuv has let go of the handle.
static void take_down(struct conn *conn) {
    struct pando_server *server = conn->server;
    if (conn->exchange) exchange_let_go(conn->exchange, false);
    conn->exchange = NULL;
    block_give(&server->blocks, &conn->in);
    block_give(&server->blocks, &conn->out);
    wheel_remove(&conn->timer);
    list_remove(&conn->link);
    if (conn->memory_over) *conn->memory_over = true;
    uv_close((uv_handle_t *)&conn->poll, on_handle_closed);  // or `turn`: both begin as a handle
    if (conn->fd >= 0) close(conn->fd);
    conn->fd = -1;
    server->stats.connections--;
    server_on_conn_closed(server);
}

// The one writer of the state.
static void conn_move(struct conn *conn, enum conn_state to) {
    assert(conn_may_move(conn->state, to));
    conn->state = to;
    conn->entered_ms = server_now_ms(conn->server);
    if (to == CONN_CLOSED) take_down(conn);
}

// ---- steps

// Answers in the server's own name and interprets nothing more of this connection.
static void refuse(struct conn *conn, int status, const char *why) {
    struct pando_server *server = conn->server;
    bool begun = conn->exchange && conn->exchange->head_sent;
    server->stats.refused++;
    if (conn->exchange) exchange_let_go(conn->exchange, false);
    conn->exchange = NULL;
    block_give(&server->blocks, &conn->in);
    if (begun || !conn_has_room(conn, 1024)) {
        conn_move(conn, CONN_CLOSED);  // half an answer is out: the client must see it break
        return;
    }
    struct pando_str text = pando_str_of(why);
    h1_put_status(conn->out, status, (struct pando_str){0});
    h1_put(conn->out, server_date(server), H1_DATE_SIZE - 1);
    h1_put(conn->out, "Content-Type: text/plain; charset=utf-8\r\nConnection: close\r\n", 60);
    if (status == 503) h1_put(conn->out, "Retry-After: 1\r\n", 16);
    h1_put_number(conn->out, "Content-Length: ", 16, text.len + 1);
    h1_put(conn->out, "\r\n", 2);
    h1_put(conn->out, text.data, text.len);
    h1_put(conn->out, "\n", 1);
    conn->linger_after = true;
    conn_move(conn, CONN_FLUSH);
}

static bool step_idle(struct conn *conn) {
    if (!block_len(conn->in)) {
        if (conn->eof) conn_move(conn, CONN_FLUSH);
        return conn->eof;
    }
    if (conn->out && !conn_has_room(conn, ROOM_FOR_AN_ANSWER)) return false;  // pipelined, and the client does not read
    if (conn->in->start > conn->in->size / 2) block_move_down(conn->in, 0);   // a head needs room behind it
    if (!(conn->exchange = exchange_new(conn->server))) {
        refuse(conn, 503, "out of memory");
        return true;
    }
    conn_move(conn, CONN_HEAD);
    conn->exchange->conn = conn;
    conn->exchange->began_ms = conn->entered_ms;
    return true;
}

static bool has_underscore(const struct h1_head *head, const char *base) {
    for (unsigned i = 0; i < head->field_count; i++)
        if (memchr(base + head->fields[i].name.at, '_', head->fields[i].name.len)) return true;
    return false;
}

static bool step_head(struct conn *conn) {
    struct pando_server *server = conn->server;
    struct pando_exchange *exchange = conn->exchange;
    const char *base = conn->in->data + conn->in->start;
    struct h1_head *head = &exchange->head;
    switch (h1_head_parse(head, base, block_len(conn->in))) {
        case H1_MORE:
            if (conn->eof) refuse(conn, 400, "the request ended in its head");
            return conn->eof;
        case H1_BAD: refuse(conn, head->status, head->why); return true;
        case H1_DONE: break;
    }
    if (head->method == H1_CONNECT && !server->options.accept_connect) return refuse(conn, 501, "CONNECT is not served here"), true;
    if (server->options.refuse_underscore_names && has_underscore(head, base))
        return refuse(conn, 400, "a field name with an underscore"), true;
    conn->in->start += head->size;
    conn->requests++;
    server->stats.requests++;
    conn->last = head->close || server->closing || conn->requests == server->options.max_requests_per_socket;
    exchange->base = base;
    exchange_begin(exchange);
    conn_move(conn, CONN_ACTIVE);
    server->options.on_request(exchange, server->options.arg);
    return true;
}

// The exchange is over as far as the client is concerned.
static void finish(struct conn *conn) {
    bool unread = !conn->exchange->body_done;
    exchange_let_go(conn->exchange, true);
    conn->exchange = NULL;
    if (!conn->last && !unread) return conn_move(conn, CONN_IDLE);
    conn->linger_after = !conn->eof && (unread || block_len(conn->in));
    conn_move(conn, CONN_FLUSH);
}

static void call_back(struct pando_exchange *exchange, bool *wanted, void (*fn)(pando_exchange *, void *)) {
    *wanted = false;
    if (fn) fn(exchange, exchange->events_arg);
}

static bool step_active(struct conn *conn) {
    struct pando_exchange *exchange = conn->exchange;
    if (exchange->body_failed && exchange->body.status && !exchange->head_sent) {
        refuse(conn, exchange->body.status, exchange->body.why);
        return true;
    }
    if (exchange->cut_short) return conn_move(conn, CONN_CLOSED), true;
    if (exchange->ended && exchange->on_upgrade) return conn_move(conn, CONN_HANDOFF), true;
    if (exchange_answered(exchange)) {
        if (exchange->delimited_by_close) conn->last = true;
        if (exchange->body_done || exchange->body_failed) return finish(conn), true;
        return conn_move(conn, CONN_DISCARD), true;
    }
    if (exchange->wants_readable && (conn->fresh || conn->eof)) {
        conn->fresh = false;
        call_back(exchange, &exchange->wants_readable, exchange->events ? exchange->events->on_readable : NULL);
        return true;
    }
    if (exchange->wants_writable && !conn->blocked && !block_len(conn->out)) {
        call_back(exchange, &exchange->wants_writable, exchange->events ? exchange->events->on_writable : NULL);
        return true;
    }
    return false;
}

// Reads away what the handler left of the body, within bounds; beyond them the connection is not worth it.
static bool step_discard(struct conn *conn) {
    struct pando_exchange *exchange = conn->exchange;
    struct h1_body *body = &exchange->body;
    exchange->lent = false;                                                       // nobody looks at the last piece any more
    bool wont_come = exchange->head.expect_continue && !exchange->continue_sent;  // we never asked for it: bytes may follow or not
    bool too_long = body->framing == H1_LENGTH && body->left > LIMIT_DISCARD_BYTES;
    if (conn->last || wont_come || too_long || conn->discarded > LIMIT_DISCARD_BYTES) return finish(conn), true;
    struct h1_piece piece;
    enum h1_result result = h1_body_step(body, conn->in ? conn->in->data + conn->in->start : NULL, block_len(conn->in), &piece);
    if (piece.used) conn->in->start += (uint32_t)piece.used, conn->discarded += piece.used;
    if (result == H1_DONE) exchange->body_done = true, conn->discarded = 0;
    if (result != H1_MORE || (!piece.used && conn->eof)) return finish(conn), true;
    return piece.used;
}

static bool step_flush(struct conn *conn) {
    block_give(&conn->server->blocks, &conn->in);
    if (conn_has_output(conn)) return false;
    if (!conn->linger_after || conn->eof) return conn_move(conn, CONN_CLOSED), true;
    if (conn->fd >= 0) shutdown(conn->fd, SHUT_WR);
    conn->discarded = 0;
    conn_move(conn, CONN_LINGER);
    return true;
}

static bool step_linger(struct conn *conn) {
    conn->discarded += block_len(conn->in);
    block_give(&conn->server->blocks, &conn->in);
    if (!conn->eof && conn->discarded <= LIMIT_LINGER_BYTES) return false;
    conn_move(conn, CONN_CLOSED);
    return true;
}

static bool step_handoff(struct conn *conn) {
    if (conn_has_output(conn)) return false;
    struct pando_exchange *exchange = conn->exchange;
    struct block *in = conn->in;
    int fd = conn->fd;
    conn->in = NULL;
    uv_poll_stop(&conn->poll);
    conn->fd = -1;
    conn->exchange = NULL;
    conn_move(conn, CONN_CLOSED);
    exchange->on_upgrade(fd, (struct pando_str){in ? in->data + in->start : "", block_len(in)}, exchange->upgrade_arg);
    exchange->kept = in;  // views of the head stay valid to the end
    exchange->conn = NULL;
    exchange_let_go(exchange, true);
    return true;
}

static bool step_closed(struct conn *conn) { return (void)conn, false; }

// ---- what to wait for

static uint64_t after(uint64_t from_ms, uint32_t ms) { return ms == PANDO_NEVER ? UINT64_MAX : from_ms + ms; }
static uint64_t sooner(uint64_t a, uint64_t b) { return a < b ? a : b; }

// A slow peer has a grace, lengthened by what it has done, but never may it be silent longer than the grace.
static uint64_t stall_deadline(const struct conn *conn, uint64_t from_ms, uint64_t bytes, uint64_t progress_ms) {
    uint32_t grace = conn->server->options.stall_timeout_ms;
    if (grace == PANDO_NEVER) return UINT64_MAX;
    return sooner(from_ms + grace + bytes * 1000 / LIMIT_RATE_BYTES_S, (progress_ms > from_ms ? progress_ms : from_ms) + grace);
}

static uint64_t active_deadline(const struct conn *conn) {
    const struct pando_exchange *exchange = conn->exchange;
    const struct pando_server_options *options = &conn->server->options;
    if (exchange->wants_readable)
        return sooner(after(exchange->began_ms, options->request_timeout_ms),
                      stall_deadline(conn, exchange->wait_from_ms, exchange->wait_bytes, conn->read_ms));
    return exchange->head_sent ? UINT64_MAX : after(conn->entered_ms, options->handler_timeout_ms);
}

static uint64_t deadline(const struct conn *conn) {
    const struct pando_server_options *options = &conn->server->options;
    if (conn->blocked && conn->state != CONN_LINGER) return stall_deadline(conn, conn->stall_from_ms, conn->stall_bytes, conn->progress_ms);
    switch (conn->state) {
        case CONN_IDLE:
            if (conn->server->closing)
                return sooner(conn->entered_ms + LIMIT_DRAIN_IDLE_MS, conn->server->drain_from_ms + LIMIT_DRAIN_IDLE_MS);
            if (!conn->requests) return after(conn->entered_ms, options->headers_timeout_ms);
            return options->keep_alive_timeout_ms == PANDO_NEVER
                       ? UINT64_MAX
                       : conn->entered_ms + options->keep_alive_timeout_ms + LIMIT_KEEP_ALIVE_EXTRA_MS;
        case CONN_HEAD: return after(conn->entered_ms, options->headers_timeout_ms);
        case CONN_ACTIVE: return active_deadline(conn);
        case CONN_DISCARD: return conn->entered_ms + LIMIT_DISCARD_MS;
        case CONN_FLUSH:
        case CONN_HANDOFF: return after(conn->entered_ms, options->stall_timeout_ms);
        case CONN_LINGER: return conn->entered_ms + LIMIT_LINGER_MS;
        case CONN_CLOSED:
        case CONN_STATE_COUNT: break;
    }
    return UINT64_MAX;
}

static bool wants_input(const struct conn *conn) {
    if (conn->eof) return false;
    switch (conn->state) {
        case CONN_IDLE: return !conn->blocked;
        case CONN_HEAD:
        case CONN_DISCARD:
        case CONN_LINGER: return true;
        case CONN_ACTIVE: return !conn->in || block_room(conn->in) || conn->in->start > conn_input_floor(conn);
        case CONN_FLUSH:
        case CONN_HANDOFF:
        case CONN_CLOSED:
        case CONN_STATE_COUNT: break;
    }
    return false;
}

static void on_poll(uv_poll_t *poll, int status, int events) {
    struct conn *conn = poll->data;
    if (status < 0 || events == UV_PRIORITIZED) conn->broken = true;
    if (events & UV_WRITABLE) conn->blocked = false;
    if (events & UV_READABLE) conn_fill(conn);
    conn_run(conn);
}

static void on_memory_turn(uv_idle_t *idle) {
    struct conn *conn = idle->data;
    uv_idle_stop(idle);
    conn_fill(conn);
    conn_run(conn);
}

void conn_settle(struct conn *conn) {
    if (!conn->exchange && conn->in && !block_len(conn->in)) block_give(&conn->server->blocks, &conn->in);
    int wanted = (wants_input(conn) ? UV_READABLE : 0) | (conn->blocked ? UV_WRITABLE : 0);
    if (!wanted) wanted = UV_PRIORITIZED;  // only to hear that the connection is gone
    if (conn->memory_output) {
        if (wants_input(conn) && !uv_is_active((uv_handle_t *)&conn->turn)) uv_idle_start(&conn->turn, on_memory_turn);
    } else if (wanted != conn->polled) {
        conn->polled = (uint8_t)wanted;
        uv_poll_start(&conn->poll, wanted, on_poll);
    }
    wheel_set(&conn->server->wheel, &conn->timer, deadline(conn));
}

void conn_run(struct conn *conn) {
    if (conn->running) return;
    conn->running = true;
    do {
        while (!conn->broken && table[conn->state].step(conn)) {
        }
        if (conn->broken && conn->state != CONN_CLOSED) conn_move(conn, CONN_CLOSED);
    } while (conn->state != CONN_CLOSED && !conn->blocked && conn_has_output(conn) && (conn_flush(conn) || conn->broken));
    conn->running = false;
    if (conn->state != CONN_CLOSED) conn_settle(conn);
}

// ---- from outside

static void start(struct conn *conn, struct pando_server *server, int fd) {
    conn->server = server;
    conn->fd = fd;
    conn->entered_ms = server_now_ms(server);
    list_append(&server->conns, &conn->link);
    wheel_node_init(&conn->timer);
    server->stats.accepted++;
    server->stats.connections++;
    conn_settle(conn);
}

int conn_open_take(struct pando_server *server, int fd) {
    struct conn *conn = calloc(1, sizeof *conn);
    int result = conn ? uv_poll_init(server->loop, &conn->poll, fd) : -ENOMEM;
    if (result < 0) {
        free(conn);
        close(fd);
        return result;
    }
    conn->poll.data = conn;
    start(conn, server, fd);
    return 0;
}

int conn_open_memory(struct pando_server *server, struct pando_str input, struct buf *output, bool *out_over) {
    struct conn *conn = calloc(1, sizeof *conn);
    if (!conn) return -ENOMEM;
    uv_idle_init(server->loop, &conn->turn);
    conn->turn.data = conn;
    conn->memory_input = input;
    conn->memory_output = output;
    conn->memory_over = out_over;
    start(conn, server, -1);
    return 0;
}

void conn_on_timeout(struct conn *conn) {
    if (conn->state == CONN_HEAD)
        refuse(conn, 408, "the head of the request took too long");
    else if (conn->state != CONN_ACTIVE || conn->blocked)
        conn->broken = true;
    else if (conn->exchange->wants_readable)
        refuse(conn, 408, "the body of the request took too long");
    else
        refuse(conn, 503, "no answer in time");
    conn_run(conn);
}

void conn_on_drain(struct conn *conn) {
    conn->last = true;
    if (conn->state != CONN_CLOSED) conn_settle(conn);
}

void conn_close_now(struct conn *conn) {
    conn->broken = true;
    conn_run(conn);
}
