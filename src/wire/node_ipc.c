// SPDX-License-Identifier: MIT
// The two messages that come for every connection are recognised by their spelling; all others, and these in another
// spelling, are parsed as JSON.
#include "node_ipc.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    enum node_verb verb;
} commands[] =
    {
        {"NODE_HANDLE", NODE_HANDLE},
        {"NODE_HANDLE_ACK", NODE_HANDLE_ACK},
        {"NODE_HANDLE_NACK", NODE_HANDLE_NACK},
        {"NODE_SOCKET_NOTIFY_CLOSE", NODE_SOCKET_CLOSED},
        {"NODE_SOCKET_GET_COUNT", NODE_SOCKET_COUNT},
},
  acts[] = {
      {"online", NODE_ONLINE},
      {"queryServer", NODE_QUERY},
      {"listening", NODE_LISTENING},
      {"close", NODE_CLOSE},
      {"exitedAfterDisconnect", NODE_LEAVING},
};

#define COUNT(table) (sizeof(table) / sizeof(table)[0])

// ---- the two short ones

struct scan {
    const char *at, *end;
};

static bool scan_word(struct scan *scan, const char *word) {
    size_t len = strlen(word);
    if ((size_t)(scan->end - scan->at) < len || memcmp(scan->at, word, len) != 0) return false;
    scan->at += len;
    return true;
}

// Up to 15 digits, which a double holds exactly; longer ones go the long way.
static bool scan_number(struct scan *scan, uint64_t *out) {
    const char *first = scan->at;
    *out = 0;
    for (; scan->at < scan->end && scan->at - first < 15 && *scan->at >= '0' && *scan->at <= '9'; scan->at++)
        *out = *out * 10 + (uint64_t)(*scan->at - '0');
    return scan->at > first && (*first != '0' || scan->at == first + 1);
}

static bool parse_short(struct node_message *message, const char *text, size_t len) {
    struct scan scan = {text, text + len};
    if (len == sizeof NODE_TEXT_HANDLE_ACK - 1 && memcmp(text, NODE_TEXT_HANDLE_ACK, len) == 0) {
        message->verb = NODE_HANDLE_ACK;
        return true;
    }
    if (!scan_word(&scan, "{\"cmd\":\"NODE_CLUSTER\",\"ack\":") || !scan_number(&scan, &message->ack)) return false;
    if (!scan_word(&scan, ",\"accepted\":")) return false;
    message->accepted = scan_word(&scan, "true");
    if (!message->accepted && !scan_word(&scan, "false")) return false;
    if (!scan_word(&scan, ",\"seq\":") || !scan_number(&scan, &message->seq)) return false;
    message->verb = NODE_REPLY;
    message->has_seq = true;
    return scan_word(&scan, "}") && scan.at == scan.end;
}

// ---- JSON

// JavaScript has one kind of number; what is no whole one in range is as good as absent.
static bool whole(const json_t *value, double min, double max, double *out) {
    double number = json_number_value(value);
    if (!json_is_number(value) || !(number >= min && number <= max) || number != (double)(int64_t)number) return false;
    *out = number;
    return true;
}

static bool member(const json_t *object, const char *name, double max, uint64_t *out) {
    double number;
    if (!whole(json_object_get(object, name), 0, max, &number)) return false;
    *out = (uint64_t)number;
    return true;
}

#define SAFE_INTEGER 9007199254740991.0

static enum node_address address_type(const json_t *value) {
    const char *name = json_string_value(value);
    double number;
    if (name != NULL)
        return strcmp(name, "udp4") == 0 ? NODE_ADDRESS_UDP4 : strcmp(name, "udp6") == 0 ? NODE_ADDRESS_UDP6 : NODE_ADDRESS_NONE;
    if (!whole(value, -1, 6, &number)) return NODE_ADDRESS_NONE;
    return number == 4 ? NODE_ADDRESS_TCP4 : number == 6 ? NODE_ADDRESS_TCP6 : number == -1 ? NODE_ADDRESS_PATH : NODE_ADDRESS_NONE;
}

static void read_address(struct node_message *message, const json_t *root) {
    double number;
    uint64_t value;
    message->type = address_type(json_object_get(root, "addressType"));
    message->address = json_string_value(json_object_get(root, "address"));
    message->port = whole(json_object_get(root, "port"), -1, 65535, &number) ? (int)number : -1;
    message->fd = whole(json_object_get(root, "fd"), 0, INT_MAX, &number) ? (int)number : NODE_FD_NONE;
    message->flags = member(root, "flags", INT_MAX, &value) ? (unsigned)value : 0;
    message->index = member(root, "index", INT_MAX, &value) ? (unsigned)value : 0;
    message->readable_all = json_is_true(json_object_get(root, "readableAll"));
    message->writable_all = json_is_true(json_object_get(root, "writableAll"));
    const json_t *data = json_object_get(root, "data");
    message->data = data == NULL || json_is_null(data) ? NULL : data;
}

static void read_cluster(struct node_message *message, const json_t *root) {
    const char *act = json_string_value(json_object_get(root, "act"));
    message->has_seq = member(root, "seq", SAFE_INTEGER, &message->seq);
    message->accepted = json_is_true(json_object_get(root, "accepted"));
    message->verb = NODE_UNKNOWN;
    if (member(root, "ack", SAFE_INTEGER, &message->ack)) message->verb = NODE_REPLY;
    for (size_t i = 0; act != NULL && i < COUNT(acts); i++)
        if (strcmp(act, acts[i].name) == 0) message->verb = acts[i].verb;
    read_address(message, root);
}

static void read_internal(struct node_message *message, const json_t *root, const char *cmd) {
    message->verb = NODE_UNKNOWN;
    message->key = json_string_value(json_object_get(root, "key"));
    if (strcmp(cmd, "NODE_CLUSTER") == 0) read_cluster(message, root);
    for (size_t i = 0; i < COUNT(commands); i++)
        if (strcmp(cmd, commands[i].name) == 0) message->verb = commands[i].verb;
    if (message->verb == NODE_HANDLE) message->inner = json_object_get(root, "msg");
}

int node_message_parse(struct node_message *message, const char *text, size_t len) {
    json_error_t error;
    *message = (struct node_message){.fd = NODE_FD_NONE, .port = -1};
    if (parse_short(message, text, len)) return 0;
    *message = (struct node_message){.fd = NODE_FD_NONE, .port = -1};
    // Whole numbers as JavaScript has them: 1e20 is one.
    message->root = json_loadb(text, len, JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &error);
    if (message->root == NULL) return -EBADMSG;
    const char *cmd = json_string_value(json_object_get(message->root, "cmd"));
    if (cmd != NULL && strncmp(cmd, "NODE_", 5) == 0 && cmd[5] != '\0') read_internal(message, message->root, cmd);
    return 0;
}

void node_message_deinit(struct node_message *message) {
    json_decref(message->root);
    message->root = NULL;
}

// ---- writing. Keys and data are ours or were checked to be JSON.

static void write_reply(struct buf *out, uint64_t seq, uint64_t ack, const char *key, const char *data, const char *error) {
    buf_printf(out, "{\"cmd\":\"NODE_CLUSTER\",\"errno\":%s,\"key\":\"%s\",\"ack\":%" PRIu64 ",\"data\":%s,\"seq\":%" PRIu64, error, key,
               ack, data != NULL ? data : "null", seq);
}

void node_write_shared(struct buf *out, uint64_t seq, uint64_t ack, const char *key, const char *data, bool is_udp) {
    buf_printf(out, "{\"cmd\":\"NODE_HANDLE\",\"type\":\"%s.Native\",\"msg\":", is_udp ? "dgram" : "net");
    write_reply(out, seq, ack, key, data, "0");
    buf_puts(out, "}}");
}

void node_write_passing(struct buf *out, uint64_t seq, uint64_t ack, const char *key, const char *data, const char *host, bool is_v6,
                        int port) {
    write_reply(out, seq, ack, key, data, "null");
    if (host != NULL) buf_printf(out, ",\"sockname\":{\"address\":\"%s\",\"family\":\"IPv%d\",\"port\":%d}", host, is_v6 ? 6 : 4, port);
    buf_puts(out, "}");
}

void node_write_error(struct buf *out, uint64_t seq, uint64_t ack, const char *key, int error) {
    char text[16];
    snprintf(text, sizeof text, "%d", error);
    write_reply(out, seq, ack, key, NULL, text);
    buf_puts(out, "}");
}

void node_write_ack(struct buf *out, uint64_t seq, uint64_t ack) {
    buf_printf(out, "{\"cmd\":\"NODE_CLUSTER\",\"ack\":%" PRIu64 ",\"seq\":%" PRIu64 "}", ack, seq);
}

void node_write_disconnect(struct buf *out, uint64_t seq) {
    buf_printf(out, "{\"cmd\":\"NODE_CLUSTER\",\"act\":\"disconnect\",\"seq\":%" PRIu64 "}", seq);
}

void node_write_socket_answer(struct buf *out, const char *cmd, const char *key, bool with_count) {
    json_t *answer = json_pack("{s:s, s:s}", "cmd", cmd, "key", key);
    if (with_count) json_object_set_new(answer, "count", json_integer(0));
    char *text = json_dumps(answer, JSON_COMPACT);
    if (text != NULL) buf_puts(out, text);
    json_decref(answer);
    free(text);
}

size_t node_write_connection(char *out, size_t size, const char *key, uint64_t seq) {
    return (size_t)snprintf(out, size,
                            "{\"cmd\":\"NODE_HANDLE\",\"type\":\"net.Native\",\"msg\":{\"cmd\":\"NODE_CLUSTER\",\"act\":\"newconn\","
                            "\"key\":\"%s\",\"seq\":%" PRIu64 "}}",
                            key, seq);
}
