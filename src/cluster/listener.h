// SPDX-License-Identifier: MIT
// The listening sockets that outlive workers: one a generation, from which all its workers pull; or one a slot, for
// programs that would stick in a blocking accept. Rows live in the record, descriptors here and with the keeper.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "launch.h"
#include "link.h"
#include "record.h"

#define LISTENER_SHARED (-1)  // the slot of a socket that its whole generation pulls from
#define LISTENER_WAKE (1U << 16)  // with the row: what `wakes` says of a shared socket; else it is the address of a steering

struct steering;

struct listeners {
    struct record *record;      // borrowed
    struct link *link;          // borrowed
    enum launch_balance balance;
    struct {
        int row;        // whose socket is asked
        uint16_t port;  // from this one; 0 = none is
    } probe;
    uint64_t patience_ns;       // a queue that does not move for so long is reported; 0 = never
    struct steering *steering[RECORD_ADDRESS_MAX];  // owned; NULL: not steered by eBPF (steer.c)
    struct steering *spare;                         // owned; opened ahead for the next address
    bool sees_queues;  // that do not move: else nobody can be rescued
    int wakes;  // owned; an epoll instance that is readable when a steering or a shared socket has something to tell (steer_take_wakes)
    uint64_t again_ns;  // when sockets that were shut down, and that no client finds any more, shall listen again; CLOCK_NEVER = none
    int adopted_steering[RECORD_ADDRESS_MAX][16];   // owned; descriptors of a steering until it is imported, -1 = none
    int fd[RECORD_SOCKET_MAX];  // owned; parallel to record->socket
};

void listeners_init(struct listeners *listeners, struct record *record, struct link *link, const struct launch *launch);
void listeners_deinit(struct listeners *listeners);  // closes what is ours; the keeper keeps its own
// Takes back the descriptor of a row from the keeper. A row that no longer exists: closed and dropped.
void listeners_adopt(struct listeners *listeners, uint64_t row, int fd_take);
// After adoption: rows without a descriptor are forgotten, the others listen again, steering is redone.
void listeners_reconcile(struct listeners *listeners);

// The row number of an address with that key, made when missing (a row that never listened is recycled). -ENOSPC.
int listeners_address(struct listeners *listeners, const struct record_address *key);
int listeners_find_address(const struct listeners *listeners, const struct record_address *key);  // -1 = none

// Has each worker of that generation a socket of its own there?
bool listeners_per_slot(const struct listeners *listeners, int address, uint32_t generation);
// The socket of this address that a worker (generation, slot) is to accept from; -1 = none yet.
int listeners_find(const struct listeners *listeners, int address, uint32_t generation, int slot);
int listeners_any_row(const struct listeners *listeners, int address);  // some open socket of this address; -1 = none
// Makes `fd` (borrowed, bound) listen with the system's limit as backlog, and keeps it as that worker's row. Row or -errno.
int listeners_add(struct listeners *listeners, int address, uint32_t generation, int slot, int fd);
// Has the row's socket listen again, should somebody have shut it down (harmless if not). 0 or -errno.
int listeners_again(struct listeners *listeners, int row);
// While somebody may shut down sockets that several workers pull from, of the addresses in this mask, `wakes` tells of it.
void listeners_watch_shared(struct listeners *listeners, uint64_t addresses, bool on);
// The same for the sockets that several workers pull from, of the addresses in this mask: one that ended may have shut them down.
void listeners_again_shared(struct listeners *listeners, uint64_t addresses);
// Makes a row of a socket that listens already, with the number `row` where that is free. The row or -errno.
int listeners_place(struct listeners *listeners, int row, const struct record_socket *as, int fd_take);
void listeners_close(struct listeners *listeners, int row);
bool listeners_slot_used(const struct listeners *listeners, int slot, uint32_t generation);  // by sockets of another generation
void listeners_close_slot(struct listeners *listeners, int slot);  // only rows whose queue is empty, or moves at the close
// From now on one socket a slot here, for this generation; the one it shared becomes `slot`'s.
void listeners_split(struct listeners *listeners, int address, uint32_t generation, int slot);

// Says whether steering may choose this slot's sockets. Only matters for addresses with one socket a slot.
void listeners_set_live(struct listeners *listeners, int slot, bool live);

int listeners_queued(const struct listeners *listeners, int row);  // connections waiting to be accepted
int listeners_slot_stranded(const struct listeners *listeners, int slot);  // the same, where no sibling can get them
uint64_t listeners_inode(int fd);                                  // socket inode, 0 when unknown
