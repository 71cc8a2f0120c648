// SPDX-License-Identifier: MIT
// What a handler sees of one request, and how its answer becomes bytes in the connection's `out`.
//
//   OPEN --head--> (WRITING)* --end--> ENDED --tail and file gone--> answered --> let go by the connection --> last release
#include "exchange.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "conn.h"

enum { CHUNK_OVERHEAD = 24, WRITE_LOW = 512 };

struct pando_exchange *exchange_new(struct pando_server *server) {
    struct pando_exchange *x = server->idle_exchanges;
    if (x) {
        server->idle_exchanges = x->next_idle;
        server->idle_exchange_count--;
    } else {
        if (!(x = malloc(sizeof *x))) return NULL;
        arena_init(&x->arena, x->memory, sizeof x->memory, LIMIT_EXCHANGE_BYTES);
        x->server = server;
    }
    x->holds = 1;
    x->base = NULL;
    x->kept = NULL;
    x->events = NULL;
    memset(&x->began_ms, 0, offsetof(struct pando_exchange, arena) - offsetof(struct pando_exchange, began_ms));
    h1_head_init(&x->head, server->options.max_header_bytes, server->options.max_header_count);
    return x;
}

void exchange_begin(struct pando_exchange *x) {
    h1_body_init(&x->body, &x->head);
    x->body_done = x->head.framing == H1_NO_BODY;
    x->body_limit = x->server->options.max_body_bytes;
    x->status = 200;
    x->declared = UINT64_MAX;
    x->fields = x->inline_fields;
    x->field_cap = EXCHANGE_FIELDS;
    x->file_fd = -1;
}

void exchange_free(struct pando_exchange *x) {
    arena_reset(&x->arena);
    free(x);
}

void pando_exchange_hold(struct pando_exchange *x) { x->holds++; }

void pando_exchange_release(struct pando_exchange *x) {
    if (--x->holds) return;
    struct pando_server *server = x->server;
    block_give(&server->blocks, &x->kept);
    arena_reset(&x->arena);
    if (server->idle_exchange_count == LIMIT_EXCHANGES_IDLE) {
        exchange_free(x);
        return;
    }
    x->next_idle = server->idle_exchanges;
    server->idle_exchanges = x;
    server->idle_exchange_count++;
}

// A holder goes on reading views of the head: the block stays with it, and the connection gets a copy of what it has yet to read.
static void keep_block(struct pando_exchange *x, struct conn *conn) {
    struct block *old = conn->in;
    size_t left = block_len(old);
    x->kept = old;
    conn->in = NULL;
    if (!left) return;
    if (!(conn->in = block_take(&conn->server->blocks))) {
        conn->broken = true;
        return;
    }
    h1_put(conn->in, old->data + old->start, left);
}

void exchange_let_go(struct pando_exchange *x, bool sent) {
    struct conn *conn = x->conn;
    const struct pando_exchange_events *events = x->events;
    x->conn = NULL;
    x->ended = true;
    x->tail.len = 0;
    x->file_left = 0;
    if (conn) conn->exchange = NULL;
    x->events = NULL;
    if (events && events->on_end) events->on_end(x, x->events_arg, sent);
    if (x->holds > 1 && conn && conn->in && x->base) keep_block(x, conn);
    pando_exchange_release(x);
}

void pando_exchange_watch(struct pando_exchange *x, const struct pando_exchange_events *events, void *arg) {
    x->events = events;
    x->events_arg = arg;
}

void *pando_exchange_take(struct pando_exchange *x, size_t size) { return arena_take(&x->arena, size); }

// ---- the request

static struct pando_str view(const struct pando_exchange *x, struct h1_slice slice) {
    return (struct pando_str){x->base + slice.at, slice.len};
}

struct pando_str pando_exchange_method(const struct pando_exchange *x) {
    return view(x, x->head.method_text);
}
struct pando_str pando_exchange_target(const struct pando_exchange *x) {
    return view(x, x->head.target);
}
struct pando_str pando_exchange_path(const struct pando_exchange *x) {
    return view(x, x->head.path);
}
struct pando_str pando_exchange_query(const struct pando_exchange *x) {
    return view(x, x->head.query);
}
struct pando_str pando_exchange_authority(const struct pando_exchange *x) {
    return view(x, x->head.authority);
}
struct pando_str pando_exchange_upgrade_wanted(const struct pando_exchange *x) {
    return view(x, x->head.upgrade);
}
int pando_exchange_minor(const struct pando_exchange *x) { return x->head.minor; }
struct pando_server *pando_exchange_server(const struct pando_exchange *x) {
    return x->server;
}

struct pando_str pando_exchange_header(const struct pando_exchange *x, const char *lower_name) {
    size_t len = strlen(lower_name);
    for (unsigned i = 0; i < x->head.field_count; i++) {
        struct h1_field field = x->head.fields[i];
        if (h1_same(x->base + field.name.at, field.name.len, lower_name, len)) return view(x, field.value);
    }
    return (struct pando_str){0};
}

bool pando_exchange_header_at(const struct pando_exchange *x, size_t index, struct pando_str *out_name, struct pando_str *out_value) {
    if (index >= x->head.field_count) return false;
    *out_name = view(x, x->head.fields[index].name);
    *out_value = view(x, x->head.fields[index].value);
    return true;
}

bool pando_exchange_trailer_at(const struct pando_exchange *x, size_t index, struct pando_str *out_name, struct pando_str *out_value) {
    if (index >= x->request_trailer_count) return false;
    *out_name = x->request_trailers[index].name;
    *out_value = x->request_trailers[index].value;
    return true;
}

bool pando_exchange_has_body(const struct pando_exchange *x) { return x->head.framing != H1_NO_BODY; }
int64_t pando_exchange_body_length(const struct pando_exchange *x) { return x->head.framing == H1_CHUNKED ? -1 : (int64_t)x->head.length; }

int pando_exchange_peer(const struct pando_exchange *x, char *out, size_t size) {
    struct sockaddr_storage address = {0};
    socklen_t len = sizeof address;
    if (!size) return -EINVAL;
    *out = '\0';
    if (!x->conn) return -EPIPE;
    if (getpeername(x->conn->fd, (struct sockaddr *)&address, &len)) return -errno;
    if (address.ss_family == AF_INET)
        return inet_ntop(AF_INET, &((struct sockaddr_in *)&address)->sin_addr, out, (socklen_t)size) ? 0 : -errno;
    if (address.ss_family != AF_INET6) return 0;
    const struct in6_addr *six = &((struct sockaddr_in6 *)&address)->sin6_addr;
    if (!IN6_IS_ADDR_V4MAPPED(six)) return inet_ntop(AF_INET6, six, out, (socklen_t)size) ? 0 : -errno;
    return inet_ntop(AF_INET, six->s6_addr + 12, out, (socklen_t)size) ? 0 : -errno;  // a dual-stack listener's IPv4 client
}

// ---- the request's body

void pando_exchange_limit_body(struct pando_exchange *x, uint64_t bytes) { x->body_limit = bytes; }
int pando_exchange_body_status(const struct pando_exchange *x) { return x->body_status; }

static enum pando_read fail_body(struct pando_exchange *x, int status) {
    x->body_failed = true;
    x->body_status = status;
    if (x->conn) x->conn->last = true;
    return PANDO_READ_FAILED;
}

static void store_trailer(struct pando_exchange *x, const struct h1_piece *piece) {
    if (!x->request_trailers && !(x->request_trailers = arena_take(&x->arena, LIMIT_HEADER_COUNT * sizeof *x->request_trailers))) return;
    char *name = arena_copy(&x->arena, piece->trailer, piece->trailer_name_len),
         *value = arena_copy(&x->arena, piece->trailer_value, piece->trailer_value_len);
    if (!name || !value || x->request_trailer_count == LIMIT_HEADER_COUNT) return;
    x->request_trailers[x->request_trailer_count++] =
        (struct exchange_field){{name, piece->trailer_name_len}, {value, piece->trailer_value_len}};
}

static enum pando_read wait_for_body(struct pando_exchange *x) {
    struct conn *conn = x->conn;
    if (conn->eof) return fail_body(x, 0);
    if (x->head.expect_continue && !x->continue_sent && !x->head_sent && conn_has_room(conn, 64)) {
        x->continue_sent = true;
        h1_put(conn->out, "HTTP/1.1 100 Continue\r\n\r\n", 25);
        if (!conn->running) conn_flush(conn);
    }
    if (!x->wait_from_ms) x->wait_from_ms = server_now_ms(x->server);
    x->wants_readable = true;
    conn->fresh = false;
    if (!conn->running) conn_settle(conn);  // there is room again: poll for it
    return PANDO_READ_WAIT;
}

enum pando_read pando_exchange_read(struct pando_exchange *x, struct pando_str *out) {
    if (x->body_done) return PANDO_READ_END;
    if (x->body_failed || !x->conn) return PANDO_READ_FAILED;
    if (x->body.framing == H1_LENGTH && x->head.length > x->body_limit) return fail_body(x, 413);
    struct conn *conn = x->conn;
    x->lent = false;
    for (;;) {
        struct h1_piece piece;
        enum h1_result result = h1_body_step(&x->body, conn->in ? conn->in->data + conn->in->start : NULL, block_len(conn->in), &piece);
        if (piece.used) conn->in->start += (uint32_t)piece.used;
        if (piece.trailer) store_trailer(x, &piece);
        if (result == H1_BAD) return fail_body(x, x->body.status);
        if (result == H1_DONE) return x->body_done = true, PANDO_READ_END;
        if (piece.data) {
            x->body_bytes += piece.len;
            if (x->body_bytes > x->body_limit) return fail_body(x, 413);
            *out = (struct pando_str){piece.data, piece.len};
            x->lent = true;
            return PANDO_READ_DATA;
        }
        if (!piece.used) return wait_for_body(x);
    }
}

// ---- the answer's head

bool pando_exchange_head_sent(const struct pando_exchange *x) { return x->head_sent; }
const char *pando_status_text(int status) { return h1_status_text(status); }

static int check_open(const struct pando_exchange *x) { return !x->conn ? -EPIPE : x->head_sent ? -EALREADY : 0; }

int pando_exchange_set_status(struct pando_exchange *x, int status, const char *reason) {
    int result = check_open(x);
    if (result) return result;
    struct pando_str text = {0};
    if (status < 100 || status > 999 || (reason && !h1_is_field_value(reason, strlen(reason)))) return -EINVAL;
    if (reason && !(text.data = arena_copy(&x->arena, reason, text.len = strlen(reason)))) return -ENOMEM;
    x->status = (uint16_t)status;
    x->reason = text;
    return 0;
}

static int grow_fields(struct pando_exchange *x) {
    unsigned cap = x->field_cap * 2u;
    if (cap > EXCHANGE_FIELDS_MAX) return -E2BIG;
    struct exchange_field *fields = arena_take(&x->arena, cap * sizeof *fields);
    if (!fields) return -ENOMEM;
    memcpy(fields, x->fields, x->field_count * sizeof *fields);
    x->fields = fields;
    x->field_cap = (uint16_t)cap;
    return 0;
}

static int copy_field(struct pando_exchange *x, struct pando_str name, struct pando_str value, struct exchange_field *out) {
    char *memory = arena_take(&x->arena, name.len + value.len);
    if (!memory) return -ENOMEM;
    memcpy(memory, name.data, name.len);
    if (value.len) memcpy(memory + name.len, value.data, value.len);
    *out = (struct exchange_field){{memory, name.len}, {memory + name.len, value.len}};
    return 0;
}

// Content-Length decides framing, so it is kept as a number; the server alone writes the fields of the connection.
static int add_reserved(struct pando_exchange *x, struct pando_str name, struct pando_str value, bool *out_taken) {
    *out_taken = true;
    if (h1_same(name.data, name.len, "content-length", 14)) {
        uint64_t number = 0;
        for (size_t i = 0; i < value.len; i++) {
            if (value.data[i] < '0' || value.data[i] > '9' || number > UINT64_MAX / 100) return -EINVAL;
            number = number * 10 + (uint64_t)(value.data[i] - '0');
        }
        if (!value.len) return -EINVAL;
        x->declared = number;
        return 0;
    }
    if (h1_same(name.data, name.len, "transfer-encoding", 17)) return -EINVAL;
    if (h1_same(name.data, name.len, "connection", 10) && h1_has_token(value.data, value.len, "close") && x->conn)
        return x->conn->last = true, 0;
    *out_taken = false;
    return 0;
}

int pando_exchange_add_header(struct pando_exchange *x, struct pando_str name, struct pando_str value) {
    int result = check_open(x);
    if (result) return result;
    if (!h1_is_token(name.data, name.len) || !h1_is_field_value(value.data, value.len)) return -EINVAL;
    if (name.len == 14 || name.len == 17 || name.len == 10) {
        bool taken;
        if ((result = add_reserved(x, name, value, &taken)) || taken) return result;
    }
    if (x->field_count == x->field_cap && (result = grow_fields(x))) return result;
    result = copy_field(x, name, value, &x->fields[x->field_count]);
    if (!result) x->field_count++;
    return result;
}

int pando_exchange_add_trailer(struct pando_exchange *x, struct pando_str name, struct pando_str value) {
    if (!x->conn || x->ended) return -EPIPE;
    if (!h1_is_token(name.data, name.len) || !h1_is_field_value(value.data, value.len)) return -EINVAL;
    if (!x->trailers && !(x->trailers = arena_take(&x->arena, EXCHANGE_FIELDS * sizeof *x->trailers))) return -ENOMEM;
    if (x->trailer_count == EXCHANGE_FIELDS) return -E2BIG;
    int result = copy_field(x, name, value, &x->trailers[x->trailer_count]);
    if (!result) x->trailer_count++;
    return result;
}

int pando_exchange_inform(struct pando_exchange *x, int status, struct pando_str name, struct pando_str value) {
    int result = check_open(x);
    if (result) return result;
    if (status < 102 || status > 199 || (name.len && (!h1_is_token(name.data, name.len) || !h1_is_field_value(value.data, value.len))))
        return -EINVAL;
    if (!x->head.minor) return 0;  // HTTP/1.0 knows no 1xx
    struct conn *conn = x->conn;
    if (!conn_has_room(conn, name.len + value.len + 128)) return conn->broken ? -EPIPE : -EAGAIN;
    h1_put_status(conn->out, status, (struct pando_str){0});
    if (name.len) h1_put_field(conn->out, name, value);
    h1_put(conn->out, "\r\n", 2);
    return pando_exchange_flush(x);
}

static bool never_has_body(int status) { return status == 204 || status == 304 || status < 200; }
// A final answer without the 100 that the client waits for: its body may come or not, so the connection cannot go on.
static bool body_may_still_come(const struct pando_exchange *x) { return x->head.expect_continue && !x->continue_sent && !x->body_done; }

static bool put_connection(struct pando_exchange *x, struct block *out) {
    struct conn *conn = x->conn;
    if (x->on_upgrade) return true;
    if (body_may_still_come(x) || x->server->closing || x->delimited_by_close) conn->last = true;
    if (conn->last) return h1_put(out, "Connection: close\r\n", 19);
    return x->head.minor || h1_put(out, "Connection: keep-alive\r\n", 24);
}

static bool has_own_date(const struct pando_exchange *x) {
    for (unsigned i = 0; i < x->field_count; i++)
        if (x->fields[i].name.len == 4 && h1_same(x->fields[i].name.data, 4, "date", 4)) return true;
    return false;
}

// `length` UINT64_MAX: not known, so chunked, or delimited by the end of the connection for HTTP/1.0.
static int send_head(struct pando_exchange *x, uint64_t length) {
    struct conn *conn = x->conn;
    bool head_method = x->head.method == H1_HEAD, empty = never_has_body(x->status) || (x->head.method == H1_CONNECT && x->on_upgrade);
    if (x->declared != UINT64_MAX) length = x->declared;
    x->declared = length;
    x->bodyless = head_method || empty;
    x->chunked = length == UINT64_MAX && !x->bodyless && x->head.minor;
    x->delimited_by_close = length == UINT64_MAX && !x->bodyless && !x->head.minor;
    if (!conn_has_room(conn, 4096)) return conn->broken ? -EPIPE : -EAGAIN;
    struct block *out = conn->out;
    uint32_t undo = out->end;
    bool fits = h1_put_status(out, x->status, x->reason) && (has_own_date(x) || h1_put(out, server_date(x->server), H1_DATE_SIZE - 1)) &&
                put_connection(x, out);
    for (unsigned i = 0; fits && i < x->field_count; i++) fits = h1_put_field(out, x->fields[i].name, x->fields[i].value);
    bool says_length = length != UINT64_MAX && !(empty && x->status != 304);
    if (fits && says_length) fits = h1_put_number(out, "Content-Length: ", 16, length);
    if (fits && x->chunked) fits = h1_put(out, "Transfer-Encoding: chunked\r\n", 28);
    if (!fits || !h1_put(out, "\r\n", 2)) return out->end = undo, -EMSGSIZE;
    x->head_sent = true;
    return 0;
}

// ---- the answer's body

static void go_on(struct pando_exchange *x) {
    if (x->conn) conn_run(x->conn);  // does nothing while the connection is running already: it will see what has changed
}

int pando_exchange_flush(struct pando_exchange *x) {
    if (!x->conn) return -EPIPE;
    if (!x->conn->blocked) conn_flush(x->conn);
    go_on(x);
    return 0;
}

// Copies as much as there is room for, behind the head of its chunk.
static size_t put_piece(struct pando_exchange *x, const char *data, size_t len) {
    struct block *out = x->conn->out;
    size_t take = block_room(out) - CHUNK_OVERHEAD;
    if (len < take) take = len;
    if (x->chunked) {
        char head[20];
        h1_put(out, head, h1_chunk_head(head, take));
    }
    h1_put(out, data, take);
    if (x->chunked) h1_put(out, "\r\n", 2);
    x->written += take;
    return take;
}

// Waits (wants_writable) only while the socket is full, so on_writable never comes from in here.
ssize_t pando_exchange_write(struct pando_exchange *x, const void *data, size_t len) {
    if (!x->conn || x->ended) return -EPIPE;
    struct conn *conn = x->conn;
    int result = x->head_sent ? 0 : send_head(x, UINT64_MAX);
    if (result && result != -EAGAIN) return result;
    if (x->declared != UINT64_MAX && len > x->declared - x->written) return -EMSGSIZE;
    if (!result && x->bodyless) {
        x->written += len;
        go_on(x);
        return (ssize_t)len;
    }
    size_t taken = 0;
    while (!result && taken < len && conn_has_room(conn, WRITE_LOW)) taken += put_piece(x, (const char *)data + taken, len - taken);
    if (conn->broken && taken < len) return -EPIPE;
    x->wants_writable = result || taken < len;
    go_on(x);
    return (ssize_t)taken;
}

static bool put_last_chunk(struct pando_exchange *x, struct block *out) {
    bool fits = h1_put(out, "0\r\n", 3);
    for (unsigned i = 0; fits && i < x->trailer_count; i++) fits = h1_put_field(out, x->trailers[i].name, x->trailers[i].value);
    return fits && h1_put(out, "\r\n", 2);
}

// After an earlier write: what is left goes as the last piece.
static int end_stream(struct pando_exchange *x, struct pando_str data) {
    struct conn *conn = x->conn;
    while (data.len) {
        ssize_t taken = pando_exchange_write(x, data.data, data.len);
        if (taken < 0) return (int)taken;
        if (!taken) return -EAGAIN;  // contract of the header: write all of it first when the client is slow
        data = (struct pando_str){data.data + taken, data.len - (size_t)taken};
    }
    if (!x->conn) return -EPIPE;
    if (x->declared != UINT64_MAX && x->written != x->declared && !x->bodyless)
        x->cut_short = true;
    else if (x->chunked && (!conn_has_room(conn, 4096) || !put_last_chunk(x, conn->out)))
        x->cut_short = true;
    x->ended = true;
    go_on(x);
    return 0;
}

int pando_exchange_end(struct pando_exchange *x, const void *data, size_t len) {
    if (!x->conn || x->ended) return -EPIPE;
    if (x->head_sent) return end_stream(x, (struct pando_str){data, len});
    int result = send_head(x, never_has_body(x->status) || (x->head.method == H1_HEAD && !len) ? UINT64_MAX : len);
    if (result) return result;
    x->ended = true;
    if (!x->bodyless) {
        if (x->declared != len)
            x->cut_short = true;
        else if (len > LIMIT_OUTPUT_COPY || !h1_put(x->conn->out, data, len))
            x->tail = (struct pando_str){data, len};
    }
    go_on(x);
    return 0;
}

int pando_exchange_end_file(struct pando_exchange *x, int fd, off_t offset, uint64_t len) {
    if (!x->conn || x->ended) return -EPIPE;
    if (x->head_sent) return -EALREADY;
    int result = send_head(x, len);
    if (result) return result;
    x->ended = true;
    if (!x->bodyless) {
        x->file_fd = fd;
        x->file_at = offset;
        x->file_left = len;
        struct block *out = x->conn->out;
        if (len <= LIMIT_OUTPUT_COPY && block_room(out) >= len && pread(fd, out->data + out->end, (size_t)len, offset) == (ssize_t)len) {
            out->end += (uint32_t)len;  // a small file leaves with its head in one call
            x->file_left = 0;
        }
    }
    go_on(x);
    return 0;
}

void pando_exchange_abort(struct pando_exchange *x) {
    if (!x->conn) return;
    x->cut_short = true;
    conn_flush(x->conn);  // what was said is said
    x->conn->broken = true;
    go_on(x);
}

int pando_exchange_upgrade(struct pando_exchange *x, pando_upgrade_fn on_socket, void *arg) {
    if (!x->conn || x->ended) return -EPIPE;
    if (x->conn->fd < 0) return -ENOTSUP;
    if ((!x->head.upgrade.len && x->head.method != H1_CONNECT) || x->head_sent || x->head.framing != H1_NO_BODY) return -EINVAL;
    x->on_upgrade = on_socket;
    x->upgrade_arg = arg;
    if (x->head.method != H1_CONNECT) {
        x->status = 101;
        static const struct pando_str connection = {"Connection", 10}, upgrade = {"Upgrade", 7};
        pando_exchange_add_header(x, connection, upgrade);
    }
    int result = send_head(x, UINT64_MAX);
    if (result) return x->on_upgrade = NULL, result;
    x->ended = true;
    go_on(x);
    return 0;
}
