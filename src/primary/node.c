// SPDX-License-Identifier: MIT
// What survives the primary is one word in the channel's memory (enum below); the rest is derived: which sockets a worker has is in
// the record, and the numbers of our messages begin where no predecessor has been, so that answers to it mean nothing to us.
#include "node.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "address.h"
#include "ask.h"
#include "clock.h"
#include "fd.h"
#include "handoff.h"
#include "log.h"
#include "messages.h"
#include "node_command.h"
#include "node_ipc.h"
#include "procinfo.h"

#define SEQ_A_PRIMARY (UINT64_C(1) << 32)  // JavaScript's whole numbers end at 2^53
#define GRACE_NS CLOCK_S                        // so long a worker that has no connection left may take to end by itself
#define UNTIL_THE_END (UINT64_MAX / 4)

enum {
    STATE_ONLINE = 1,        // it speaks the protocol
    STATE_SPOKE = 2,         // it has sent a message
    STATE_DISCONNECTED = 4,  // it was told to disconnect
    STATE_COMPLAINED = 8,    // about what it sends
    STATE_EXPLAINED = 16,    // that it does not take part
    STATE_ASKED = 32,        // it has asked for a socket
    STATE_UNANSWERED = 64,   // it was said that an answer did not go out
};

enum { INNER_LOOKS_MAX = 8 };

enum udp_flag { UDP_IPV6ONLY = 1, UDP_REUSEADDR = 4 };  // of libuv; the first is also TCP's

static bool has_state(const struct primary_worker *seen, uint64_t bit) {
    return seen->channel != NULL && (*worker_channel_state(seen->channel) & bit) != 0;
}

static void set_state(struct primary_worker *seen, uint64_t bit) { *worker_channel_state(seen->channel) |= bit; }

static const struct launch *launch_of(const struct primary_worker *seen) { return pool_launch_of(&seen->primary->pool, seen->worker); }
static bool in_cluster(const struct primary_worker *seen) { return launch_is_node_cluster(launch_of(seen)); }

bool node_takes_part(const struct primary_worker *seen) { return has_state(seen, STATE_ONLINE) && !has_state(seen, STATE_DISCONNECTED); }

uint64_t node_next_seq(struct primary_worker *seen) { return seen->node.seq++; }

// Once a worker: one that sends nonsense sends a lot of it.
static void complain(struct primary_worker *seen, const char *what) {
    if (has_state(seen, STATE_COMPLAINED)) return;
    set_state(seen, STATE_COMPLAINED);
    log_warn("worker %d (pid %d) sent %s on its channel; further ones are dropped in silence", worker_number(seen->worker),
             seen->worker->record->pid, what);
}

static void answer(struct primary_worker *seen, const char *text, size_t len, int fd) {
    int r = worker_channel_send(seen->channel, text, len, fd);
    if (r == 0 || r == -EPIPE || has_state(seen, STATE_UNANSWERED)) return;
    set_state(seen, STATE_UNANSWERED);
    log_error("worker %d (pid %d): its request cannot be answered: %s", worker_number(seen->worker), seen->worker->record->pid, strerror(-r));
}

static void answer_text(struct primary_worker *seen, const char *text) { answer(seen, text, strlen(text), -1); }

static void answer_buf(struct primary_worker *seen, const struct buf *text, int fd) {
    if (!text->failed) answer(seen, text->data, text->len, fd);
}

// ---- which socket does it want?

static int wish_for_path(const struct node_message *message, struct ask *out) {
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    size_t len = strlen(message->address);
    if (len >= sizeof at.sun_path) return -ENAMETOOLONG;
    memcpy(at.sun_path, message->address, len);
    out->path_mode = (message->readable_all ? 0444 : 0) | (message->writable_all ? 0222 : 0);
    // As intercept.c makes its keys: the whole structure for a path, so that the same path is the same address.
    return address_from(&out->key, (struct sockaddr *)&at, sizeof at, SOCK_STREAM, false);
}

static int wish_for_v4(const struct node_message *message, const char *host, int type, struct ask *out) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)message->port)};
    if (inet_pton(AF_INET, host, &at.sin_addr) != 1) return -EINVAL;
    return address_from(&out->key, (struct sockaddr *)&at, sizeof at, type, false);
}

static int wish_for_v6(const struct node_message *message, const char *host, int type, struct ask *out) {
    struct sockaddr_in6 at = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)message->port)};
    char text[INET6_ADDRSTRLEN + 1];
    size_t len = strcspn(host, "%");
    if (len >= sizeof text) return -EINVAL;
    memcpy(text, host, len);
    text[len] = '\0';
    if (inet_pton(AF_INET6, text, &at.sin6_addr) != 1) return -EINVAL;
    if (host[len] == '%') at.sin6_scope_id = if_nametoindex(host + len + 1);
    return address_from(&out->key, (struct sockaddr *)&at, sizeof at, type, (message->flags & UDP_IPV6ONLY) != 0);
}

// `attempt` 1: without a host, where there is no IPv6.
static int make_wish(const struct node_message *message, int attempt, struct ask *out) {
    bool is_udp = message->type == NODE_ADDRESS_UDP4 || message->type == NODE_ADDRESS_UDP6;
    bool is_v6 = message->type == NODE_ADDRESS_TCP6 || message->type == NODE_ADDRESS_UDP6;
    const char *host = message->address;
    *out = (struct ask){
        .pass = !is_udp, .pair = message->port == 0 ? message->index + 1 : 0, .reuse_address = (message->flags & UDP_REUSEADDR) != 0};
    if (message->type == NODE_ADDRESS_PATH) return host == NULL ? -EINVAL : wish_for_path(message, out);
    if (message->type == NODE_ADDRESS_NONE || message->port < 0) return -EINVAL;
    int type = is_udp ? SOCK_DGRAM : SOCK_STREAM;
    if (host == NULL && !is_udp) return attempt == 0 ? wish_for_v6(message, "::", type, out) : wish_for_v4(message, "0.0.0.0", type, out);
    if (host == NULL) host = is_v6 ? "::" : "0.0.0.0";
    return is_v6 ? wish_for_v6(message, host, type, out) : wish_for_v4(message, host, type, out);
}

static bool may_be_v4_instead(const struct node_message *message, int error) {
    bool any = message->address == NULL && message->type == NODE_ADDRESS_TCP4;
    return any && (error == -EAFNOSUPPORT || error == -EADDRNOTAVAIL);
}

static int ask_for(struct primary_worker *seen, const struct node_message *message, int *out_address) {
    struct ask ask;
    struct pool *pool = &seen->primary->pool;
    int r = make_wish(message, 0, &ask);
    if (r == 0) r = ask_socket(pool, seen->worker, &ask, out_address);
    if (may_be_v4_instead(message, r) && (r = make_wish(message, 1, &ask)) == 0) r = ask_socket(pool, seen->worker, &ask, out_address);
    return r;
}

// ---- what the workers of one address share: the first that says something says it for all

static const char *shared_data(struct primary_worker *seen, const struct node_message *message, int address) {
    char *shared = seen->primary->pool.record->address[address].node_data;
    if (shared[0] != '\0') return shared;
    char *text = message->data == NULL ? NULL : json_dumps(message->data, JSON_COMPACT | JSON_ENCODE_ANY);
    if (text == NULL) return NULL;
    bool fits = strlen(text) < RECORD_NODE_DATA_SIZE;
    if (fits) strcpy(shared, text);
    free(text);
    if (!fits)
        log_warn("worker %d has more to share with the others (TLS ticket keys) than %d bytes: it is not shared", worker_number(seen->worker),
                 RECORD_NODE_DATA_SIZE);
    return fits ? shared : NULL;
}

// ---- answers to queries

static void answer_passing(struct primary_worker *seen, const struct node_message *message, int row, int address, struct buf *out) {
    struct record_address at;
    char host[INET6_ADDRSTRLEN], key[16];
    const char *data = shared_data(seen, message, address);
    snprintf(key, sizeof key, "%d", address);
    bool known = address_of_socket(&at, seen->primary->pool.listeners.fd[row]) == 0 && at.at.any.sa_family != AF_UNIX;
    bool is_v6 = known && at.at.any.sa_family == AF_INET6;
    const void *binary = is_v6 ? (const void *)&at.at.in6.sin6_addr : &at.at.in.sin_addr;
    if (known) inet_ntop(at.at.any.sa_family, binary, host, sizeof host);
    node_write_passing(out, node_next_seq(seen), message->seq, key, data, known ? host : NULL, is_v6, known ? address_port(&at) : 0);
}

static void answer_query(struct primary_worker *seen, const struct node_message *message, int row, int address) {
    struct pool *pool = &seen->primary->pool;
    scoped_buf out = {0};
    char key[16];
    int fd = -1;
    snprintf(key, sizeof key, "%d", address);
    if (row < 0) {
        node_write_error(&out, node_next_seq(seen), message->seq, key, row);
    } else if (pool->record->address[address].passed) {
        answer_passing(seen, message, row, address, &out);
    } else {
        fd = pool->listeners.fd[row];
        node_write_shared(&out, node_next_seq(seen), message->seq, key, shared_data(seen, message, address),
                          pool->record->address[address].type == SOCK_DGRAM);
    }
    answer_buf(seen, &out, fd);
    if (row < 0) return;
    ask_given(pool, seen->worker, address, row);
    handoff_look(seen->primary);
}

// `listen({fd: n})` means a descriptor of the primary's. The workers' own is the nearest there is.
static void answer_descriptor(struct primary_worker *seen, const struct node_message *message) {
    scoped_fd fd = link_getfd(&seen->primary->link, seen->worker->record->pid, message->fd);
    scoped_buf out = {0};
    char key[32];
    int type = 0;
    socklen_t len = sizeof type;
    snprintf(key, sizeof key, "fd%d", message->fd);
    if (fd >= 0 && getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0) {
        fd_set_nonblock(fd, true);
        node_write_shared(&out, node_next_seq(seen), message->seq, key, NULL, type == SOCK_DGRAM);
        answer_buf(seen, &out, fd);
        return;
    }
    complain(seen, "the wish to listen on a descriptor that is no socket of its own");
    node_write_error(&out, node_next_seq(seen), message->seq, key, -EBADF);
    answer_buf(seen, &out, -1);
}

static void on_query(struct primary_worker *seen, const struct node_message *message) {
    int address = -1;
    set_state(seen, STATE_ASKED);
    if (message->fd != NODE_FD_NONE) {
        answer_descriptor(seen, message);
        return;
    }
    int row = ask_for(seen, message, &address);
    answer_query(seen, message, row, address);
}

// ---- what else it says

static void on_listening(struct primary_worker *seen, const struct node_message *message) {
    struct pool *pool = &seen->primary->pool;
    struct ask ask;
    int address = -1;
    for (int attempt = 0; attempt < 2 && address < 0 && message->fd == NODE_FD_NONE; attempt++)
        if (make_wish(message, attempt, &ask) == 0) address = listeners_find_address(&pool->listeners, &ask.key);
    bool has = address >= 0 && (seen->worker->record->asked >> address & 1) != 0;
    if (has || message->fd != NODE_FD_NONE) pool_on_listening(pool, seen->worker, has ? address : -1);
}

static void on_close(struct primary_worker *seen, const struct node_message *message) {
    char *end;
    long address = message->key == NULL ? -1 : strtol(message->key, &end, 10);
    if (address < 0 || address >= RECORD_ADDRESS_MAX || end == message->key || *end != '\0') return;
    if ((seen->worker->record->asked >> address & 1) == 0) return;
    ask_closed(&seen->primary->pool, seen->worker, (int)address);
    handoff_look(seen->primary);
}

static void on_leaving(struct primary_worker *seen, const struct node_message *message) {
    scoped_buf out = {0};
    pool_on_leaving(&seen->primary->pool, seen->worker);
    node_write_ack(&out, node_next_seq(seen), message->seq);
    answer_buf(seen, &out, -1);
}

static void on_user_message(struct primary_worker *seen, const json_t *value, const char *text, size_t len) {
    const char *word = json_string_value(value);
    set_state(seen, STATE_SPOKE);
    if (word != NULL && strcmp(word, "ready") == 0) pool_on_ready_sign(&seen->primary->pool, seen->worker);
    messages_take(seen, text, len);
}

// Nobody here has a use for its descriptor; the message is one like any other.
static void on_handle(struct primary_worker *seen, const struct node_message *message, const char *frame, size_t len) {
    scoped_fd fd = worker_channel_take_fd(seen->channel);
    answer_text(seen, fd >= 0 ? NODE_TEXT_HANDLE_ACK : NODE_TEXT_HANDLE_NACK);
    const char *cmd = json_string_value(json_object_get(message->inner, "cmd"));
    if (fd < 0 || message->inner == NULL || (cmd != NULL && strncmp(cmd, "NODE_", 5) == 0)) return;
    // Again, with its whole numbers as they were written.
    json_t *as_written = json_loadb(frame, len, JSON_ALLOW_NUL, NULL);
    const json_t *inner = as_written != NULL ? json_object_get(as_written, "msg") : message->inner;
    char *text = json_dumps(inner, JSON_COMPACT | JSON_ENCODE_ANY);
    if (text != NULL) on_user_message(seen, message->inner, text, strlen(text));
    free(text);
    json_decref(as_written);
}

static void on_socket_question(struct primary_worker *seen, const struct node_message *message) {
    scoped_buf out = {0};
    bool counts = message->verb == NODE_SOCKET_COUNT;
    if (message->key == NULL) return;
    node_write_socket_answer(&out, counts ? "NODE_SOCKET_COUNT" : "NODE_SOCKET_ALL_CLOSED", message->key, counts);
    answer_buf(seen, &out, -1);
}

static void on_message(struct primary_worker *seen, const struct node_message *message, const char *text, size_t len) {
    bool cluster = message->verb > NODE_REPLY;
    if (message->verb == NODE_REPLY) {
        handoff_answered(seen, message->ack, message->accepted);
        return;
    }
    if (cluster && !in_cluster(seen)) return;  // it takes itself for a worker of a cluster that is not there
    switch (message->verb) {
        case NODE_USER: on_user_message(seen, message->root, text, len); break;
        case NODE_HANDLE: on_handle(seen, message, text, len); break;
        case NODE_SOCKET_CLOSED:
        case NODE_SOCKET_COUNT: on_socket_question(seen, message); break;
        case NODE_ONLINE: set_state(seen, STATE_ONLINE); break;
        case NODE_QUERY: on_query(seen, message); break;
        case NODE_LISTENING: on_listening(seen, message); break;
        case NODE_CLOSE: on_close(seen, message); break;
        case NODE_LEAVING: on_leaving(seen, message); break;
        case NODE_UNKNOWN: complain(seen, "an internal message that is not known here"); break;
        case NODE_HANDLE_NACK: complain(seen, "word that a descriptor did not arrive (is it out of descriptors?)"); break;
        case NODE_HANDLE_ACK:
        case NODE_REPLY: return;
    }
    primary_wake(seen->primary);
}

// ---- the channel

static void on_frame(void *arg, char *data, size_t len) {
    struct primary_worker *seen = arg;
    struct node_message message;
    if (node_message_parse(&message, data, len) == 0)
        on_message(seen, &message, data, len);
    else if (len > 0)
        complain(seen, "what is not JSON");
    node_message_deinit(&message);
}

// Whoever sends a descriptor waits for an answer before it sends anything else.
static void on_too_long(void *arg, const char *data, size_t len) {
    struct primary_worker *seen = arg;
    static const char with_handle[] = "{\"cmd\":\"NODE_HANDLE\"";
    complain(seen, "a message of more than 64 KiB");
    if (len < sizeof with_handle || memcmp(data, with_handle, sizeof with_handle - 1) != 0) return;
    scoped_fd fd = worker_channel_take_fd(seen->channel);
    answer_text(seen, NODE_TEXT_HANDLE_ACK);
}

static void on_room(void *arg) { messages_room(arg); }

// It lives and has let go of its channel: Node ends then, or when its last connection has.
static void on_end(void *arg) {
    struct primary_worker *seen = arg;
    struct worker *worker = seen->worker;
    bool takes_part = has_state(seen, STATE_ONLINE) && in_cluster(seen);
    link_drop(&seen->primary->link, HELD_CHANNEL, worker->record->token);
    node_end(seen);
    if (!takes_part) return;
    pool_on_leaving(&seen->primary->pool, worker);
    primary_wake(seen->primary);
}

const struct worker_channel_events node_events = {on_frame, on_too_long, on_room, on_end};

void node_begin(struct primary_worker *seen) {
    seen->node = (struct node_worker){.seq = seen->primary->pool.record->primaries * SEQ_A_PRIMARY};
}

void node_end(struct primary_worker *seen) {
    if (seen->channel_kind == LAUNCH_CHANNEL_NODE) {
        messages_room(seen);  // nobody waits for it any more
        handoff_return(seen);
    }
    worker_channel_close(seen->channel);
    seen->channel = NULL;
}

// ---- the end of a worker

static struct primary_worker *node_worker_of(const struct primary *primary, const struct worker *worker) {
    struct primary_worker *seen = primary->worker[worker->slot];
    return seen != NULL && seen->channel != NULL && seen->channel_kind == LAUNCH_CHANNEL_NODE ? seen : NULL;
}

// It pulls from a socket that goes on for others, and will do so until it closes its own end.
static bool pulls(const struct primary *primary, const struct worker *worker) {
    for (int a = 0; a < RECORD_ADDRESS_MAX; a++) {
        const struct record_address *at = &primary->pool.record->address[a];
        bool per_slot = listeners_per_slot(&primary->pool.listeners, a, worker->record->generation);
        if ((worker->record->asked >> a & 1) != 0 && !per_slot && !at->passed) return true;
    }
    return false;
}

// PM2's message, and Node's. A program that is stopped by the first is left its channel.
static void send_farewell(struct primary_worker *seen) {
    scoped_buf out = {0};
    answer_text(seen, NODE_TEXT_SHUTDOWN);
    if (launch_of(seen)->stop_message || !in_cluster(seen) || !node_takes_part(seen)) return;
    node_write_disconnect(&out, node_next_seq(seen));
    answer_buf(seen, &out, -1);
    set_state(seen, STATE_DISCONNECTED);
}

// Where nothing more is given to it anyway, it hears of it when it has no connection left.
bool node_draining(struct primary *primary, struct worker *worker) {
    struct primary_worker *seen = node_worker_of(primary, worker);
    if (seen == NULL || !in_cluster(seen) || !node_takes_part(seen) || !pulls(primary, worker) || launch_of(seen)->stop_message) return false;
    send_farewell(seen);
    return true;
}

uint64_t node_telling(struct primary *primary, struct worker *worker) {
    struct primary_worker *seen = node_worker_of(primary, worker);
    if (seen != NULL && !has_state(seen, STATE_DISCONNECTED)) send_farewell(seen);
    if (seen != NULL && launch_of(seen)->stop_message) return UNTIL_THE_END;
    bool ends = worker->record->leaving || (seen != NULL && has_state(seen, STATE_SPOKE | STATE_DISCONNECTED));
    return ends ? GRACE_NS : 0;
}

// ---- is it what we take it for?

void node_greet(const struct primary *primary) {
    const struct launch *launch = &primary->launch;
    const char *refusal = node_command_refusal(launch->argv);
    if (launch->node_cluster && refusal != NULL)
        log_warn("--node-cluster has no effect on `%s%s%s`: %s. It runs as without the option", launch->argv[0],
                 launch->argv[1] != NULL ? " " : "", launch->argv[1] != NULL ? launch->argv[1] : "", refusal);
}

static bool has_variable(pid_t pid, const char *name) {
    char path[64];
    static char text[128 * 1024];
    snprintf(path, sizeof path, "/proc/%d/environ", (int)pid);
    ssize_t n = fd_read_file(path, text, sizeof text);
    for (ssize_t at = 0; at < n; at += (ssize_t)strlen(text + at) + 1)
        if (strncmp(text + at, name, strlen(name)) == 0) return true;
    return false;
}

struct search {
    pid_t outer, found;
    int count;
};

static bool look_at_process(pid_t pid, void *arg) {
    struct search *search = arg;
    if (pid == search->outer || !has_variable(pid, "NODE_UNIQUE_ID=")) return true;
    search->found = pid;
    search->count++;
    return true;
}

static void look_for_inner_cluster(struct primary_worker *seen) {
    struct primary *primary = seen->primary;
    struct search search = {.outer = seen->worker->record->pid};
    bool is_node = node_command_kind(launch_of(seen)->argv) != NODE_COMMAND_OTHER;
    if (!is_node || in_cluster(seen) || primary->inner_looks >= INNER_LOOKS_MAX) return;
    primary->inner_looks++;
    procinfo_group_each(seen->worker->record->pid, look_at_process, &search);
    if (search.count == 0) return;
    primary->inner_looks = INNER_LOOKS_MAX;
    log_warn(
        "worker %d (pid %d) has forked a cluster of its own (%d processes, such as pid %d), and so will each of the %u workers: "
        "`pando run --node-cluster` takes the place of the program's own primary%s",
        worker_number(seen->worker), (int)search.outer, search.count, (int)search.found, primary->pool.record->wanted,
        node_command_refusal(primary->launch.argv) != NULL ? "; it needs the command itself, without npm and the like" : "");
}

static void explain_other(struct primary_worker *seen) {
    const struct record_worker *record = seen->worker->record;
    if (seen->channel == NULL || !in_cluster(seen) || has_state(seen, STATE_ASKED | STATE_EXPLAINED)) return;
    set_state(seen, STATE_EXPLAINED);
    if (!has_state(seen, STATE_ONLINE))
        log_warn(
            "worker %d (pid %d) listens and has not said that it is online: it is no Node program, or something that runs it (npm, "
            "yarn, a script with them) keeps the cluster's channel to itself. It runs as without --node-cluster",
            worker_number(seen->worker), record->pid);
    else
        log_info(
            "worker %d (pid %d) listens without asking the cluster (exclusive, reusePort, or another process of it): its socket is "
            "shared as without --node-cluster",
            worker_number(seen->worker), record->pid);
}

void node_on_system_call(struct primary_worker *seen) {
    if (seen->worker->record->first_listen_ns == 0) return;
    look_for_inner_cluster(seen);
    explain_other(seen);
}
