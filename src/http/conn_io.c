// SPDX-License-Identifier: MIT
// A connection's bytes: into `in`, out of `out`, the exchange's tail and its file. No decisions: what came of it is noted in the
// connection (`eof`, `broken`, `blocked`, `fresh`) for conn.c to act on.
#include "conn.h"

#include <errno.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SENDFILE_BURST = 16, SENDFILE_BYTES = 1 << 20 };

bool conn_has_output(const struct conn *conn) {
    return block_len(conn->out) || (conn->exchange && (conn->exchange->tail.len || conn->exchange->file_left));
}

// Where body and next requests may be moved down to: behind the head of a live exchange.
uint32_t conn_input_floor(const struct conn *conn) {
    const struct pando_exchange *exchange = conn->exchange;
    if (!exchange || !exchange->base || !conn->in) return 0;
    if (exchange->lent) return conn->in->start;
    return (uint32_t)(exchange->base + exchange->head.size - conn->in->data);
}

static ssize_t take_memory(struct conn *conn, char *out, size_t room) {
    size_t len = conn->memory_input.len < room ? conn->memory_input.len : room;
    if (len) memcpy(out, conn->memory_input.data, len);
    conn->memory_input = (struct pando_str){conn->memory_input.data + len, conn->memory_input.len - len};
    return (ssize_t)len;
}

void conn_fill(struct conn *conn) {
    if (!conn->in && !(conn->in = block_take(&conn->server->blocks))) {
        conn->broken = true;
        return;
    }
    struct block *in = conn->in;
    if (in->start == in->end || !block_room(in)) block_move_down(in, conn_input_floor(conn));
    if (!block_room(in)) return;
    ssize_t len =
        conn->memory_output ? take_memory(conn, in->data + in->end, block_room(in)) : recv(conn->fd, in->data + in->end, block_room(in), 0);
    conn->server->stats.reads++;
    if (len > 0) {
        in->end += (uint32_t)len;
        conn->fresh = true;
        conn->read_ms = server_now_ms(conn->server);
        if (conn->exchange) conn->exchange->wait_bytes += (uint64_t)len;
    } else if (!len) {
        conn->eof = true;
    } else if (errno != EAGAIN && errno != EINTR) {
        conn->broken = true;
    }
}

static void on_blocked(struct conn *conn) {
    if (!conn->blocked && !conn->stall_from_ms) conn->stall_from_ms = server_now_ms(conn->server), conn->stall_bytes = 0;
    conn->blocked = true;
}

static void on_progress(struct conn *conn, size_t len) {
    conn->progress_ms = server_now_ms(conn->server);
    conn->stall_bytes += len;
}

static ssize_t send_gathered(struct conn *conn, struct msghdr *message, int flags) {
    if (conn->memory_output) {
        size_t before = conn->memory_output->len;
        for (size_t i = 0; i < message->msg_iovlen; i++)
            buf_append(conn->memory_output, message->msg_iov[i].iov_base, message->msg_iov[i].iov_len);
        return (ssize_t)(conn->memory_output->len - before);
    }
    if (message->msg_iovlen == 1) return send(conn->fd, message->msg_iov->iov_base, message->msg_iov->iov_len, flags);
    return sendmsg(conn->fd, message, flags);
}

static ssize_t send_file(struct conn *conn, struct pando_exchange *exchange, size_t want) {
    if (!conn->memory_output) return sendfile(conn->fd, exchange->file_fd, &exchange->file_at, want);
    char bytes[16384];
    ssize_t len = pread(exchange->file_fd, bytes, want < sizeof bytes ? want : sizeof bytes, exchange->file_at);
    if (len > 0) buf_append(conn->memory_output, bytes, (size_t)len), exchange->file_at += len;
    return len;
}

// One gathered write of `out` and the exchange's tail. True: all of it left.
static bool write_gathered(struct conn *conn) {
    struct pando_exchange *exchange = conn->exchange;
    size_t out_len = block_len(conn->out), tail_len = exchange ? exchange->tail.len : 0;
    struct iovec iov[2] = {{out_len ? conn->out->data + conn->out->start : NULL, out_len}, {NULL, tail_len}};
    if (tail_len) iov[1].iov_base = (char *)(uintptr_t)exchange->tail.data;
    int flags = MSG_NOSIGNAL | (exchange && exchange->file_left ? MSG_MORE : 0);
    struct msghdr message = {.msg_iov = out_len ? iov : iov + 1, .msg_iovlen = out_len && tail_len ? 2 : 1};
    ssize_t sent = send_gathered(conn, &message, flags);
    conn->server->stats.writes++;
    if (sent < 0) {
        if (errno == EAGAIN || errno == ENOBUFS)
            on_blocked(conn);
        else if (errno != EINTR)
            conn->broken = true;
        return errno == EINTR && write_gathered(conn);
    }
    on_progress(conn, (size_t)sent);
    size_t from_out = (size_t)sent < out_len ? (size_t)sent : out_len, from_tail = (size_t)sent - from_out;
    if (from_out) conn->out->start += (uint32_t)from_out;
    if (from_tail) exchange->tail = (struct pando_str){exchange->tail.data + from_tail, tail_len - from_tail};
    if ((size_t)sent < out_len + tail_len) on_blocked(conn);
    return (size_t)sent == out_len + tail_len;
}

static bool write_file(struct conn *conn) {
    struct pando_exchange *exchange = conn->exchange;
    for (int i = 0; i < SENDFILE_BURST && exchange->file_left; i++) {
        size_t want = exchange->file_left < SENDFILE_BYTES ? (size_t)exchange->file_left : SENDFILE_BYTES;
        ssize_t sent = send_file(conn, exchange, want);
        conn->server->stats.writes++;
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0 && errno == EAGAIN) break;
        if (sent <= 0) return conn->broken = true, false;  // 0: the file has shrunk below the length we promised
        on_progress(conn, (size_t)sent);
        exchange->file_left -= (uint64_t)sent;
    }
    if (exchange->file_left) on_blocked(conn);
    return !exchange->file_left;
}

bool conn_flush(struct conn *conn) {
    if (conn->blocked || conn->broken) return !conn_has_output(conn);
    if ((block_len(conn->out) || (conn->exchange && conn->exchange->tail.len)) && !write_gathered(conn)) return false;
    if (conn->exchange && conn->exchange->file_left && !write_file(conn)) return false;
    block_give(&conn->server->blocks, &conn->out);
    conn->stall_from_ms = 0;
    return true;
}

bool conn_has_room(struct conn *conn, size_t bytes) {
    if (conn->out && block_room(conn->out) >= bytes) return true;
    if (conn->out) {
        conn_flush(conn);
        if (conn->out) block_move_down(conn->out, 0);
    }
    if (!conn->out && !(conn->out = block_take(&conn->server->blocks))) return conn->broken = true, false;
    return block_room(conn->out) >= bytes;
}
