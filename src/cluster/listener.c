// SPDX-License-Identifier: MIT
// A group's members are numbered by the kernel in the order of listen(2); when one closes for good, the last takes its
// number. `index` repeats that here, so that a steering program never names a member that is not there.
#include "listener.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "address.h"
#include "clock.h"
#include "fd.h"
#include "steer.h"
#include "steering.h"

void listeners_init(struct listeners *listeners, struct record *record, struct link *link, enum launch_balance balance) {
    listeners->record = record;
    listeners->link = link;
    listeners->balance = balance;
    listeners->queue_epoll = epoll_create1(EPOLL_CLOEXEC);
    memset(listeners->adopted_steering, -1, sizeof listeners->adopted_steering);
    for (int i = 0; i < RECORD_SOCKET_MAX; i++) listeners->fd[i] = -1;
}

void listeners_deinit(struct listeners *listeners) {
    for (int i = 0; i < RECORD_SOCKET_MAX; i++) fd_close(&listeners->fd[i]);
    for (int a = 0; a < RECORD_ADDRESS_MAX; a++) steering_close(listeners->steering[a]);
    steering_close(listeners->spare);
    fd_close(&listeners->queue_epoll);
}

uint64_t listeners_inode(int fd) {
    struct stat info;
    return fstat(fd, &info) == 0 ? info.st_ino : 0;
}

// ---- addresses

int listeners_find_address(const struct listeners *listeners, const struct record_address *key) {
    for (int i = 0; i < RECORD_ADDRESS_MAX; i++)
        if (listeners->record->address[i].used && address_equal(&listeners->record->address[i], key)) return i;
    return -1;
}

static int address_recycle(const struct record *record) {
    int oldest = -1;
    for (int i = 0; i < RECORD_ADDRESS_MAX; i++) {
        const struct record_address *address = &record->address[i];
        if (!address->used) return i;
        if (!address->listened && (oldest < 0 || address->bound_ns < record->address[oldest].bound_ns)) oldest = i;
    }
    return oldest;
}

int listeners_address(struct listeners *listeners, const struct record_address *key) {
    int found = listeners_find_address(listeners, key);
    if (found < 0) {
        found = address_recycle(listeners->record);
        if (found < 0) return -ENOSPC;
        listeners->record->address[found] = *key;
        listeners->record->address[found].used = true;
    }
    listeners->record->address[found].bound_ns = clock_now_ns();
    return found;
}

// ---- sockets

static bool same_group(const struct record_socket *a, int address) { return a->used && a->address == address; }

int listeners_find(const struct listeners *listeners, int address, uint32_t generation, int slot) {
    int wanted = listeners->record->address[address].per_slot ? slot : LISTENER_SHARED;
    for (int i = 0; i < (int)listeners->record->socket_end; i++) {
        const struct record_socket *row = &listeners->record->socket[i];
        if (same_group(row, address) && row->generation == generation && row->slot == wanted) return i;
    }
    return -1;
}

int listeners_any_row(const struct listeners *listeners, int address) {
    for (int i = 0; i < (int)listeners->record->socket_end; i++)
        if (same_group(&listeners->record->socket[i], address) && listeners->fd[i] >= 0) return i;
    return -1;
}

static uint32_t group_size(const struct listeners *listeners, int address) {
    uint32_t count = 0;
    for (int i = 0; i < (int)listeners->record->socket_end; i++) count += same_group(&listeners->record->socket[i], address);
    return count;
}

static int free_row(struct record *record) {
    for (int i = 0; i < (int)record->socket_end; i++)
        if (!record->socket[i].used) return i;
    return record->socket_end < RECORD_SOCKET_MAX ? (int)record->socket_end++ : -ENFILE;
}

int listeners_add(struct listeners *listeners, int address, uint32_t generation, int slot, int fd) {
    struct record_address *at = &listeners->record->address[address];
    int row = free_row(listeners->record);
    if (row < 0) return row;
    if (!at->listened) steer_new_address(listeners, address, fd);
    scoped_fd own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (own < 0) return -errno;
    int r = link_hold(listeners->link, HELD_SOCKET, (uint64_t)row, own);
    if (r != 0) return r;
    if (listen(own, INT_MAX) != 0) {
        r = -errno;
        link_drop(listeners->link, HELD_SOCKET, (uint64_t)row);
        return r;
    }
    listeners->record->socket[row] = (struct record_socket){.used = true,
                                                            .address = (uint8_t)address,
                                                            .slot = at->per_slot ? slot : LISTENER_SHARED,
                                                            .generation = generation,
                                                            .index = group_size(listeners, address),
                                                            .inode = listeners_inode(own)};
    listeners->fd[row] = fd_take(&own);
    at->listened = true;
    steer_added(listeners, row);
    listeners_watch_queue(listeners, row);
    return row;
}

void listeners_close(struct listeners *listeners, int row) {
    struct record_socket *gone = &listeners->record->socket[row];
    struct record_socket *last = NULL;
    for (int i = 0; i < (int)listeners->record->socket_end; i++) {
        struct record_socket *other = &listeners->record->socket[i];
        if (same_group(other, gone->address) && (last == NULL || other->index > last->index)) last = other;
    }
    steer_removing(listeners, row);
    // Its duplicates elsewhere would keep it there.
    if (listeners->fd[row] >= 0) epoll_ctl(listeners->queue_epoll, EPOLL_CTL_DEL, listeners->fd[row], NULL);
    if (last != NULL) last->index = gone->index;
    int address = gone->address;
    *gone = (struct record_socket){0};
    link_drop(listeners->link, HELD_SOCKET, (uint64_t)row);
    fd_close(&listeners->fd[row]);
    steer_update(listeners, address);
}

int listeners_queued(const struct listeners *listeners, int row) {
    struct tcp_info info = {0};
    socklen_t len = sizeof info;
    if (listeners->fd[row] < 0 || getsockopt(listeners->fd[row], IPPROTO_TCP, TCP_INFO, &info, &len) != 0) return 0;
    return (int)info.tcpi_unacked;
}

int listeners_slot_stranded(const struct listeners *listeners, int slot) {
    int queued = 0;
    for (int i = 0; i < (int)listeners->record->socket_end; i++) {
        const struct record_socket *row = &listeners->record->socket[i];
        if (row->used && row->slot == slot && listeners->steering[row->address] == NULL) queued += listeners_queued(listeners, i);
    }
    return queued;
}

void listeners_close_slot(struct listeners *listeners, int slot) {
    for (int i = 0; i < (int)listeners->record->socket_end; i++) {
        const struct record_socket *row = &listeners->record->socket[i];
        bool moves = row->used && listeners->steering[row->address] != NULL;
        if (row->used && row->slot == slot && (moves || listeners_queued(listeners, i) == 0)) listeners_close(listeners, i);
    }
}

void listeners_watch_queue(struct listeners *listeners, int row) {
    const struct record_socket *socket = &listeners->record->socket[row];
    struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.u32 = (uint32_t)row};
    if (!socket->used || listeners->fd[row] < 0 || listeners->steering[socket->address] == NULL) return;
    if (epoll_ctl(listeners->queue_epoll, EPOLL_CTL_MOD, listeners->fd[row], &event) == 0 || errno != ENOENT) return;
    epoll_ctl(listeners->queue_epoll, EPOLL_CTL_ADD, listeners->fd[row], &event);
}

void listeners_split(struct listeners *listeners, int address, int slot) {
    listeners->record->address[address].per_slot = true;
    for (int i = 0; i < (int)listeners->record->socket_end; i++) {
        struct record_socket *row = &listeners->record->socket[i];
        if (!same_group(row, address) || row->slot != LISTENER_SHARED) continue;
        row->slot = slot;
        row->live = true;
    }
    steer_update(listeners, address);
}

void listeners_set_live(struct listeners *listeners, int slot, bool live) {
    for (int i = 0; i < (int)listeners->record->socket_end; i++) {
        struct record_socket *row = &listeners->record->socket[i];
        if (!row->used || row->slot != slot || row->live == live) continue;
        row->live = live;
        steer_update(listeners, row->address);
    }
}

// ---- adoption

void listeners_adopt(struct listeners *listeners, uint64_t row, int fd_take) {
    if (row < RECORD_SOCKET_MAX && listeners->record->socket[row].used) {
        fd_close(&listeners->fd[row]);
        listeners->fd[row] = fd_take;
        return;
    }
    fd_close(&fd_take);
    link_drop(listeners->link, HELD_SOCKET, row);
}

void listeners_reconcile(struct listeners *listeners) {
    for (int i = 0; i < (int)listeners->record->socket_end; i++) {
        if (!listeners->record->socket[i].used) continue;
        if (listeners->fd[i] < 0)
            listeners_close(listeners, i);
        else
            listen(listeners->fd[i], INT_MAX);
    }
    steer_adopted(listeners);
    for (int i = 0; i < (int)listeners->record->socket_end; i++) listeners_watch_queue(listeners, i);
    for (int a = 0; a < RECORD_ADDRESS_MAX; a++) steer_update(listeners, a);
}
