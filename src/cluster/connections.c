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

// A socket of the worker that may be a connection.
struct candidate {
    uint64_t inode;
    bool found;  // it is one
};

struct inodes {
    const struct record *record;              // borrowed
    const struct connections_others *others;  // borrowed
    bool has_unix, has_tcp;                   // among the addresses
    pid_t pid;                                // whose descriptors are being read
    struct candidate *at;                     // owned; sorted
    size_t len, cap;
    bool unknown;
    enum connections worst;
    uint32_t idle_ms;
};

static bool is_no_connection(const struct inodes *inodes, uint64_t inode) {
    for (size_t i = 0; i < inodes->others->len; i++)
        if (inodes->others->inode[i] == inode) return true;
    for (uint32_t i = 0; i < inodes->record->socket_end; i++)
        if (inodes->record->socket[i].used && inodes->record->socket[i].inode == inode) return true;
    return false;
}

static bool is_of_a_kind(const struct inodes *inodes, int fd) {
    char name[32];
    if (procinfo_socket_protocol(inodes->pid, fd, name, sizeof name) != 0) return true;  // who knows
    if (strncmp(name, "UNIX", 4) == 0) return inodes->has_unix;
    return inodes->has_tcp && strstr(name, "TCP") != NULL;  // "MPTCPv6" is one
}

static bool add_inode(int fd, uint64_t inode, void *arg) {
    struct inodes *inodes = arg;
    if (is_no_connection(inodes, inode) || !is_of_a_kind(inodes, fd)) return true;
    if (inodes->len == inodes->cap) {
        size_t cap = inodes->cap * 2 + 64;
        struct candidate *grown = realloc(inodes->at, cap * sizeof *grown);
        inodes->unknown |= grown == NULL;
        if (grown == NULL) return false;
        inodes->at = grown;
        inodes->cap = cap;
    }
    inodes->at[inodes->len++] = (struct candidate){.inode = inode};
    return true;
}

static bool add_process(pid_t pid, void *arg) {
    struct inodes *inodes = arg;
    struct procinfo info;
    inodes->pid = pid;
    if (procinfo_socket_each(pid, add_inode, inodes) != 0 && procinfo_read(pid, &info) == 0 && info.state != 'Z') inodes->unknown = true;
    return true;
}

static int compare(const void *a, const void *b) {
    const struct candidate *left = a, *right = b;
    return (left->inode > right->inode) - (left->inode < right->inode);
}

// Where a worker's descriptors may not be looked at, every connection of the port counts as its own.
static bool find(struct inodes *inodes, uint64_t inode) {
    struct candidate key = {.inode = inode};
    struct candidate *found = inodes->len == 0 ? NULL : bsearch(&key, inodes->at, inodes->len, sizeof *inodes->at, compare);
    if (found != NULL) found->found = true;
    return inodes->unknown || found != NULL;
}

static void worsen(struct inodes *inodes, enum connections to) {
    if (to > inodes->worst) inodes->worst = to;
}

static bool look_at_tcp(const struct sock_diag_tcp *socket, void *arg) {
    struct inodes *inodes = arg;
    if (socket->inode == 0 || !find(inodes, socket->inode)) return true;
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
        if (state == 3 && strcmp(at, path) == 0 && find(inodes, inode)) worsen(inodes, CONNECTIONS_ACTIVE);
    }
    if (file != NULL) fclose(file);
}

static void look_at_address(struct inodes *inodes, const struct record_address *address) {
    char text[ADDRESS_TEXT_SIZE];
    if (address->type == SOCK_DGRAM) return;
    if (address->at.any.sa_family == AF_UNIX)
        look_at_unix(inodes, address_text(address, text, sizeof text));
    else if (sock_diag_tcp_each((uint16_t)address_port(address), look_at_tcp, inodes) != 0)
        worsen(inodes, CONNECTIONS_UNKNOWN);
}

static void look_at_kinds(struct inodes *inodes, uint64_t mask) {
    for (int a = 0; a < RECORD_ADDRESS_MAX; a++) {
        const struct record_address *address = &inodes->record->address[a];
        bool is_unix = address->at.any.sa_family == AF_UNIX;
        if ((mask >> a & 1) == 0 || address->type == SOCK_DGRAM) continue;
        inodes->has_unix |= is_unix;
        inodes->has_tcp |= !is_unix;
    }
}

// Only after a look that was not broken off.
static void note_others(const struct inodes *inodes, struct connections_others *others) {
    for (size_t i = 0; i < inodes->len && others->len < CONNECTIONS_OTHERS_MAX; i++)
        if (!inodes->at[i].found) others->inode[others->len++] = inodes->at[i].inode;
}

enum connections connections_of(const struct record *record, const struct procinfo_groups *groups, pid_t pgrp, uint64_t mask, bool asks_kernel,
                                struct connections_others *others, uint32_t *out_idle_ms) {
    struct inodes inodes = {.record = record, .others = others, .worst = CONNECTIONS_NONE, .idle_ms = UINT32_MAX};
    look_at_kinds(&inodes, mask);
    procinfo_groups_each(groups, pgrp, add_process, &inodes);
    if (inodes.len > 0) qsort(inodes.at, inodes.len, sizeof *inodes.at, compare);
    bool open = inodes.len > 0 || inodes.unknown;
    if (inodes.len > 0 && !inodes.unknown && !asks_kernel) inodes.worst = CONNECTIONS_ACTIVE;
    for (int a = 0; a < RECORD_ADDRESS_MAX && open && inodes.worst < CONNECTIONS_ACTIVE; a++)
        if (mask >> a & 1) look_at_address(&inodes, &record->address[a]);
    if (inodes.worst < CONNECTIONS_ACTIVE && !inodes.unknown) note_others(&inodes, others);
    free(inodes.at);
    *out_idle_ms = inodes.idle_ms;
    return inodes.worst;
}
