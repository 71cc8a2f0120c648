// SPDX-License-Identifier: MIT
// Two kinds. A TCP socket that others can join (SO_REUSEPORT was set before it listened, and its owner is ours to be) is like
// one of our own making: it may be one of many, and be steered. Any other is `fixed`: the one socket of its address, from
// which all workers pull.
#include "given.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "address.h"
#include "fd.h"
#include "intercept_unix.h"
#include "log.h"
#include "steer.h"
#include "store.h"

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

static int option_of(int fd, int name) {
    int value = 0;
    socklen_t len = sizeof value;
    return getsockopt(fd, SOL_SOCKET, name, &value, &len) == 0 ? value : -1;
}

static bool is_inet(const struct record_address *at) { return at->at.any.sa_family == AF_INET || at->at.any.sa_family == AF_INET6; }

// NULL, or why nobody can accept from it.
static const char *refusal(const struct record_address *at, int fd) {
    bool listens = option_of(fd, SO_ACCEPTCONN) == 1;
    if (at->type == SOCK_DGRAM) return is_inet(at) ? NULL : "only TCP, UDP and unix stream sockets can be shared";
    if (!listens) return "it does not listen (Accept=yes in its socket unit? Pando needs Accept=no)";
    return NULL;
}

static bool others_can_join(const struct record_address *at, int fd) {
    struct stat info;
    if (at->type != SOCK_STREAM || !is_inet(at) || option_of(fd, SO_PROTOCOL) == IPPROTO_MPTCP) return false;
    if (option_of(fd, SO_REUSEPORT) != 1 || fstat(fd, &info) != 0) return false;
    return info.st_uid == geteuid() || geteuid() == 0;
}

// A program of the instance before us would go on steering, and its map keeps the sockets from entering ours.
static void detach_program(int fd) { setsockopt(fd, SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, &(int){0}, sizeof(int)); }

static int place(struct listeners *listeners, const struct given *given, int fd_take, const struct record_address *at) {
    struct record_socket socket = {.used = true, .given = true, .slot = LISTENER_SHARED, .generation = 1};
    int address = listeners_address(listeners, at), row = -1;
    bool fixed = !others_can_join(at, fd_take);
    if (address < 0) {
        fd_close(&fd_take);
        return address;
    }
    if (store_name_read(given->name, &row, &socket.index)) {
        socket.given = false;
        socket.stored = (struct record_stored){.there = true, .index = socket.index, .inode = listeners_inode(fd_take)};
    }
    socket.address = (uint8_t)address;
    if (fixed) listeners->record->address[address].fixed = listeners->record->address[address].for_all = true;
    if (!fixed) detach_program(fd_take);
    return listeners_place(listeners, row, &socket, fd_take);
}

static void take(struct listeners *listeners, struct given *given) {
    struct record_address at;
    char text[ADDRESS_TEXT_SIZE] = "?";
    int fd = fd_take(&given->fd);
    int r = address_of_socket(&at, fd);
    const char *wrong = r != 0 ? "it is no socket that a program could bind" : refusal(&at, fd);
    if (r == 0) address_text(&at, text, sizeof text);
    if (wrong != NULL) {
        log_error("the supervisor passed %s (%s), which is not used: %s", text, given->name, wrong);
        fd_close(&fd);
        return;
    }
    r = place(listeners, given, fd, &at);
    if (r < 0)
        log_error("the supervisor passed %s (%s), which is not used: %s", text, given->name, strerror(-r));
    else
        log_info("%s comes from the supervisor (%s)%s", text, given->name,
                 listeners_queued(listeners, r) > 0 ? ": connections wait there" : "");
}

// ---- the sockets of one address

static int by_index(const void *a, const void *b, void *arg) {
    const struct record_socket *socket = arg;
    uint32_t x = socket[*(const int *)a].index, y = socket[*(const int *)b].index;
    return x < y ? -1 : x > y;
}

static size_t rows_of(const struct listeners *listeners, int address, int rows[static RECORD_SOCKET_MAX]) {
    size_t count = 0;
    for (int i = 0; i < (int)listeners->record->socket_end; i++)
        if (listeners->record->socket[i].used && listeners->record->socket[i].address == address) rows[count++] = i;
    qsort_r(rows, count, sizeof *rows, by_index, listeners->record->socket);
    return count;
}

// Whoever comes first has slot 0. What was stored is complete, or the numbers close the gaps as the kernel has.
static int settle(struct listeners *listeners, int address, uid_t uid) {
    struct record_address *at = &listeners->record->address[address];
    int rows[RECORD_SOCKET_MAX];
    size_t count = rows_of(listeners, address, rows);
    if (count == 0) return 0;
    if (!at->fixed) steer_new_address(listeners, address, 0, listeners->fd[rows[0]]);
    if (!at->fixed && count > 1) at->per_slot = at->judged = true;
    at->listened = true;
    if (at->at.any.sa_family == AF_UNIX) intercept_unix_keep(at, uid);
    for (size_t i = 0; i < count; i++) {
        struct record_socket *socket = &listeners->record->socket[rows[i]];
        socket->index = (uint32_t)i;
        socket->slot = at->per_slot && i < LAUNCH_WORKERS_MAX ? (int)i : LISTENER_SHARED;
        socket->live = !at->per_slot;
        listeners_again(listeners, rows[i]);
    }
    return at->per_slot ? (int)(count < LAUNCH_WORKERS_MAX ? count : LAUNCH_WORKERS_MAX) : 0;
}

int given_take(struct listeners *listeners, struct given *given, size_t count, uid_t uid) {
    int slots = 0;
    for (size_t i = 0; i < count; i++) take(listeners, &given[i]);
    for (int a = 0; a < RECORD_ADDRESS_MAX; a++) {
        int here = listeners->record->address[a].used ? settle(listeners, a, uid) : 0;
        if (here > slots) slots = here;
    }
    return slots;
}

void given_end_unserved(struct listeners *listeners, uint64_t served) {
    char text[ADDRESS_TEXT_SIZE];
    for (int i = 0; i < (int)listeners->record->socket_end; i++) {
        const struct record_socket *socket = &listeners->record->socket[i];
        if (!socket->used || (served >> socket->address & 1) != 0) continue;
        address_text(&listeners->record->address[socket->address], text, sizeof text);
        if (socket->given) {
            log_warn("%s comes from the supervisor, and no worker listens on it: its clients wait for ever; stop its socket unit", text);
        } else {
            log_warn("%s was kept for this instance, and no worker listens on it any more: it is closed", text);
            listeners_close(listeners, i);
        }
    }
}
