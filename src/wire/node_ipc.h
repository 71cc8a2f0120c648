// SPDX-License-Identifier: MIT
// The messages of Node's cluster protocol (Node 18 to 26), as a primary reads and writes them: one JSON value a line. What
// Node calls internal is an object whose "cmd" begins with "NODE_"; everything else is a message of the user's. Pure: bytes
// in, a struct or bytes out.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "buf.h"

enum node_verb {
    NODE_USER,           // a message of the user's
    NODE_UNKNOWN,        // internal, and none of these
    NODE_HANDLE,         // a descriptor comes with it: to be answered with an ACK or, when it is missing, a NACK
    NODE_HANDLE_ACK,     // the descriptor sent to the worker has arrived
    NODE_HANDLE_NACK,    // it has not
    NODE_SOCKET_CLOSED,  // NODE_SOCKET_NOTIFY_CLOSE: wants to hear when the sockets it sent are closed
    NODE_SOCKET_COUNT,   // NODE_SOCKET_GET_COUNT: how many of them are open?
    NODE_REPLY,          // answers our `ack`
    NODE_ONLINE,
    NODE_QUERY,  // queryServer: wants a socket
    NODE_LISTENING,
    NODE_CLOSE,    // has closed the server of `key`
    NODE_LEAVING,  // exitedAfterDisconnect: is about to leave, and waits for an answer
};

// What Node calls addressType.
enum node_address { NODE_ADDRESS_NONE, NODE_ADDRESS_TCP4, NODE_ADDRESS_TCP6, NODE_ADDRESS_UDP4, NODE_ADDRESS_UDP6, NODE_ADDRESS_PATH };

#define NODE_FD_NONE (-1)

// Strings are borrowed from `root`; NULL when absent. Numbers that are absent or out of range are 0 (`fd`: NODE_FD_NONE).
struct node_message {
    enum node_verb verb;
    uint64_t seq, ack;
    bool has_seq, accepted;
    enum node_address type;
    const char *address;  // NULL = any
    const char *key;
    int port;  // -1 = not a port
    int fd;
    unsigned flags, index;
    bool readable_all, writable_all;
    const json_t *data;   // borrowed: what the workers of one address share (TLS ticket keys); NULL = nothing
    const json_t *inner;  // borrowed: the message that a handle comes with
    json_t *root;         // owned; NULL for the shortest messages
};

// 0; -EBADMSG: not a JSON value (or one nested deeper than jansson reads). What was filled is for node_message_deinit.
int node_message_parse(struct node_message *message, const char *text, size_t len);
void node_message_deinit(struct node_message *message);

// One frame each, without newline, appended to `out`.
// The answer to a query. `data` may be NULL. With `with_fd` the socket goes along in the same sendmsg(2).
void node_write_shared(struct buf *out, uint64_t seq, uint64_t ack, const char *key, const char *data, bool is_udp);
// Connections will be passed: `host` is NULL for a unix socket.
void node_write_passing(struct buf *out, uint64_t seq, uint64_t ack, const char *key, const char *data, const char *host, bool is_v6,
                        int port);
void node_write_error(struct buf *out, uint64_t seq, uint64_t ack, const char *key, int error);  // a negative errno
void node_write_ack(struct buf *out, uint64_t seq, uint64_t ack);
void node_write_disconnect(struct buf *out, uint64_t seq);
void node_write_socket_answer(struct buf *out, const char *cmd, const char *key, bool with_count);
// A connection, with its descriptor. Into storage of the caller: this one is sent for every connection. Its length.
size_t node_write_connection(char *out, size_t size, const char *key, uint64_t seq);

#define NODE_TEXT_HANDLE_ACK "{\"cmd\":\"NODE_HANDLE_ACK\"}"
#define NODE_TEXT_HANDLE_NACK "{\"cmd\":\"NODE_HANDLE_NACK\"}"
#define NODE_TEXT_SHUTDOWN "\"shutdown\""
