// SPDX-License-Identifier: MIT
#include "connections.h"

#include <inttypes.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "address.h"
#include "sock_diag.h"

// A connection on which nothing was received lately that has not been answered since: younger ones may be about to ask. The
// clock is coarse: where the last answer and the last request fall together, nobody can tell which came first, and only a
// long silence says that it was the answer.
enum { QUIET_MS = 100, TIE_MS = 1000, TIE_SHARE = 5 };

struct inodes {
    uint64_t *at;  // owned; sorted
    size_t len, cap;
    bool unknown;
    enum connections worst;
    uint32_t idle_ms;
};

static bool add_inode(int fd, uint64_t inode, void *arg) {
    struct inodes *inodes = arg;
    (void)fd;
    if (inodes->len == inodes->cap) {
        size_t cap = inodes->cap * 2 + 64;
        uint64_t *grown = realloc(inodes->at, cap * sizeof *grown);
        inodes->unknown |= grown == NULL;
        if (grown == NULL) return false;
        inodes->at = grown;
        inodes->cap = cap;
    }
    inodes->at[inodes->len++] = inode;
    return true;
}

static bool add_process(pid_t pid, void *arg) {
    struct inodes *inodes = arg;
    struct procinfo info;
    if (procinfo_socket_each(pid, add_inode, inodes) != 0 && procinfo_read(pid, &info) == 0 && info.state != 'Z') inodes->unknown = true;
    return true;
}

static int compare(const void *a, const void *b) {
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

// Where a worker's descriptors may not be looked at, every connection of the port counts as its own.
static bool has(const struct inodes *inodes, uint64_t inode) {
    if (inodes->unknown) return true;
    return inodes->len > 0 && bsearch(&inode, inodes->at, inodes->len, sizeof *inodes->at, compare) != NULL;
}

static void worsen(struct inodes *inodes, enum connections to) {
    if (to > inodes->worst) inodes->worst = to;
}

static bool look_at_tcp(const struct sock_diag_tcp *socket, void *arg) {
    struct inodes *inodes = arg;
    if (socket->inode == 0 || !has(inodes, socket->inode)) return true;
    uint32_t unread = socket->receive_queue - (socket->state == TCP_CLOSE_WAIT && socket->receive_queue > 0);  // the FIN counts
    bool empty = unread == 0 && socket->send_queue == 0, tie = socket->last_sent_ms == socket->last_received_ms;
    bool answered = empty && (socket->bytes_sent > 0 || !tie) && socket->last_sent_ms <= socket->last_received_ms;
    uint32_t idle_ms = tie ? socket->last_received_ms / TIE_SHARE : socket->last_received_ms;
    if (idle_ms < inodes->idle_ms) inodes->idle_ms = idle_ms;
    bool quiet = socket->last_received_ms >= (tie ? TIE_MS : QUIET_MS);
    worsen(inodes, answered && quiet ? CONNECTIONS_IDLE : CONNECTIONS_ACTIVE);
    return inodes->worst != CONNECTIONS_ACTIVE;
}

// Accepted connections bear the listener's path. How long they have been quiet, the kernel does not say.
static void look_at_unix(struct inodes *inodes, const char *path) {
    char line[512], at[256];
    uint64_t inode;
    unsigned state;
    FILE *file = fopen("/proc/net/unix", "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        at[0] = '\0';
        if (sscanf(line, "%*s %*s %*s %*s %*s %x %" SCNu64 " %255s", &state, &inode, at) < 2) continue;
        if (state == 3 && strcmp(at, path) == 0 && has(inodes, inode)) worsen(inodes, CONNECTIONS_ACTIVE);
    }
    if (file != NULL) fclose(file);
}

enum connections connections_of(const struct record *record, const struct procinfo_groups *groups, pid_t pgrp, uint64_t mask,
                                uint32_t *out_idle_ms) {
    struct inodes inodes = {.worst = CONNECTIONS_NONE, .idle_ms = UINT32_MAX};
    procinfo_groups_each(groups, pgrp, add_process, &inodes);
    if (inodes.len > 0) qsort(inodes.at, inodes.len, sizeof *inodes.at, compare);
    for (int a = 0; a < RECORD_ADDRESS_MAX && inodes.worst < CONNECTIONS_ACTIVE; a++) {
        const struct record_address *address = &record->address[a];
        char text[ADDRESS_TEXT_SIZE];
        if ((mask >> a & 1) == 0 || address->type == SOCK_DGRAM) continue;
        if (address->at.any.sa_family == AF_UNIX)
            look_at_unix(&inodes, address_text(address, text, sizeof text));
        else if (sock_diag_tcp_each((uint16_t)address_port(address), look_at_tcp, &inodes) != 0)
            worsen(&inodes, CONNECTIONS_UNKNOWN);
    }
    free(inodes.at);
    *out_idle_ms = inodes.idle_ms;
    return inodes.worst;
}
