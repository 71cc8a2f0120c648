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
#include "generation.h"
#include "steer.h"
#include "steering.h"

void listeners_init(struct listeners *listeners, struct record *record, struct link *link, const struct launch *launch) {
    listeners->record = record;
    listeners->link = link;
    listeners->balance = launch->balance;
    listeners->patience_ns = launch->no_rescue && launch->hang_timeout_ns == 0 ? 0 : launch->rescue_after_ns;
    listeners->wakes = epoll_create1(EPOLL_CLOEXEC);
    listeners->again_ns = CLOCK_NEVER;
    memset(listeners->adopted_steering, -1, sizeof listeners->adopted_steering);
    for (int i = 0; i < RECORD_SOCKET_MAX; i++) listeners->fd[i] = -1;
}

void listeners_deinit(struct listeners *listeners) {
    for (int i = 0; i < RECORD_SOCKET_MAX; i++) fd_close(&listeners->fd[i]);
    for (int a = 0; a < RECORD_ADDRESS_MAX; a++) steering_close(listeners->steering[a]);
    steering_close(listeners->spare);
    fd_close(&listeners->wakes);
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

bool listeners_per_slot(const struct listeners *listeners, int address, uint32_t generation) {
    const struct record_generation *row = generation_row(listeners->record, generation);
    return listeners->record->address[address].per_slot || (row != NULL && (row->per_slot >> address & 1) != 0);
}

int listeners_find(const struct listeners *listeners, int address, uint32_t generation, int slot) {
    int wanted = listeners_per_slot(listeners, address, generation) ? slot : LISTENER_SHARED;
    for (int i = 0; i < (int)listeners->record->socket_end; i++) {
        const struct record_socket *row = &listeners->record->socket[i];
        bool mine = listeners->record->address[address].for_all || row->generation == generation;
        if (same_group(row, address) && mine && row->slot == wanted) return i;
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

bool listeners_slot_used(const struct listeners *listeners, int slot, uint32_t generation) {
    for (int i = 0; i < (int)listeners->record->socket_end; i++) {
        const struct record_socket *row = &listeners->record->socket[i];
        if (row->used && row->slot == slot && row->generation != generation) return true;
    }
    return false;
}

// Steered before it listens: so all its connections are counted, and a move of its queue that was cut short is finished.
static int make_listen(struct listeners *listeners, int address, int slot, int fd) {
    int r = steer_add(listeners, address, slot, fd);
    if (listeners->record->address[address].type == SOCK_DGRAM) return r;
    return r != 0 ? r : listen(fd, INT_MAX) != 0 ? -errno : 0;
}

int listeners_add(struct listeners *listeners, int address, uint32_t generation, int slot, int fd) {
    struct record_address *at = &listeners->record->address[address];
    int row = free_row(listeners->record);
    if (row < 0) return row;
    if (!at->listened) steer_new_address(listeners, address, slot, fd);
    // A member from its listen on: what chooses among generations is there before.
    bool alone = group_size(listeners, address) == 0, per_slot = listeners_per_slot(listeners, address, generation);
    if (!alone && !at->per_slot && !at->for_all) steer_choose(listeners, address);
    scoped_fd own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (own < 0) return -errno;
    int r = link_hold(listeners->link, HELD_SOCKET, (uint64_t)row, own);
    if (r != 0) return r;
    r = make_listen(listeners, address, per_slot ? slot : LISTENER_SHARED, own);
    if (r != 0) {
        link_drop(listeners->link, HELD_SOCKET, (uint64_t)row);
        return r;
    }
    listeners->record->socket[row] = (struct record_socket){.used = true,
                                                            .address = (uint8_t)address,
                                                            .slot = per_slot ? slot : LISTENER_SHARED,
                                                            .live = alone && !per_slot,
                                                            .generation = generation,
                                                            .index = group_size(listeners, address),
                                                            .inode = listeners_inode(own),
                                                            .stored = listeners->record->socket[row].stored};
    listeners->fd[row] = fd_take(&own);
    at->listened = true;
    return row;
}

// The last of the group, or NULL.
static struct record_socket *last_of(const struct listeners *listeners, int address) {
    struct record_socket *last = NULL;
    for (int i = 0; i < (int)listeners->record->socket_end; i++) {
        struct record_socket *row = &listeners->record->socket[i];
        if (same_group(row, address) && (last == NULL || row->index > last->index)) last = row;
    }
    return last;
}

static bool is_listening(int fd) {
    int yes = 0;
    socklen_t len = sizeof yes;
    return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &yes, &len) == 0 && yes != 0;
}

int listeners_again(struct listeners *listeners, int row) {
    struct record_socket *socket = &listeners->record->socket[row], *last = last_of(listeners, socket->address);
    if (listeners->fd[row] < 0) return -EBADF;
    bool left = !is_listening(listeners->fd[row]);
    int r = make_listen(listeners, socket->address, socket->slot, listeners->fd[row]);
    if (r != 0 || !left || last == socket) return r;
    // It had left the group, and has joined it at the end.
    uint32_t end = last->index;
    last->index = socket->index;
    socket->index = end;
    steer_update(listeners, socket->address);
    return 0;
}

void listeners_watch_shared(struct listeners *listeners, uint64_t addresses, bool on) {
    for (int i = 0; i < (int)listeners->record->socket_end; i++) {
        const struct record_socket *row = &listeners->record->socket[i];
        struct epoll_event event = {.events = EPOLLET, .data.u32 = LISTENER_WAKE | (uint32_t)i};  // the end is told of without being asked for
        if (!row->used || row->slot != LISTENER_SHARED || (addresses >> row->address & 1) == 0 || listeners->fd[i] < 0) continue;
        epoll_ctl(listeners->wakes, on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, listeners->fd[i], &event);
    }
}

void listeners_again_shared(struct listeners *listeners, uint64_t addresses) {
    for (int i = 0; i < (int)listeners->record->socket_end; i++) {
        const struct record_socket *row = &listeners->record->socket[i];
        if (row->used && row->slot == LISTENER_SHARED && (addresses >> row->address & 1) != 0) listeners_again(listeners, i);
    }
}

int listeners_place(struct listeners *listeners, int row, const struct record_socket *as, int fd_take) {
    struct record *record = listeners->record;
    if (row < 0 || row >= RECORD_SOCKET_MAX || record->socket[row].used) row = free_row(record);
    int r = row < 0 ? row : link_hold(listeners->link, HELD_SOCKET, (uint64_t)row, fd_take);
    if (r != 0) {
        fd_close(&fd_take);
        return r;
    }
    if ((uint32_t)row >= record->socket_end) record->socket_end = (uint32_t)row + 1;
    record->socket[row] = *as;
    record->socket[row].inode = listeners_inode(fd_take);
    listeners->fd[row] = fd_take;
    return row;
}

void listeners_close(struct listeners *listeners, int row) {
    struct record_socket *gone = &listeners->record->socket[row], *last = last_of(listeners, gone->address);
    bool renumbered = false;  // already, by a primary that was killed over it
    if (gone->given && listeners->fd[row] >= 0) return;  // open with the supervisor as well: it would go on taking connections
    gone->closing = true;
    for (int i = 0; i < (int)listeners->record->socket_end; i++) {
        const struct record_socket *other = &listeners->record->socket[i];
        renumbered |= other != gone && same_group(other, gone->address) && other->index == gone->index;
    }
    steer_removing(listeners, row);
    // The supervisor's duplicate would keep it listening where nobody accepts, and in its place in the group.
    if (gone->stored.there && listeners->fd[row] >= 0) shutdown(listeners->fd[row], SHUT_RD);
    if (last != NULL && !renumbered) last->index = gone->index;
    int address = gone->address;
    *gone = (struct record_socket){.stored = gone->stored};
    if (listeners->fd[row] >= 0) epoll_ctl(listeners->wakes, EPOLL_CTL_DEL, listeners->fd[row], NULL);  // workers have duplicates
    // Closed everywhere before a program is attached that goes by the new places.
    link_drop_now(listeners->link, HELD_SOCKET, (uint64_t)row);
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
        if (listeners->record->stopping && row->stored.there) continue;  // its queue is for who is started after us
        if (row->used && row->slot == slot && (moves || listeners_queued(listeners, i) == 0)) listeners_close(listeners, i);
    }
}

void listeners_split(struct listeners *listeners, int address, uint32_t generation, int slot) {
    generation_row(listeners->record, generation)->per_slot |= UINT64_C(1) << address;
    for (int i = 0; i < (int)listeners->record->socket_end; i++) {
        struct record_socket *row = &listeners->record->socket[i];
        if (!same_group(row, address) || row->slot != LISTENER_SHARED || row->generation != generation) continue;
        row->slot = slot;
        row->live = true;
    }
    steer_update(listeners, address);
}

void listeners_set_live(struct listeners *listeners, int slot, bool live) {
    for (int i = 0; i < (int)listeners->record->socket_end; i++) {
        struct record_socket *row = &listeners->record->socket[i];
        if (!row->used || row->slot != slot || row->live == (live && !row->closed)) continue;
        row->live = live && !row->closed;
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
    steer_adopted(listeners);
    for (int i = 0; i < (int)listeners->record->socket_end; i++) {
        if (!listeners->record->socket[i].used) continue;
        if (listeners->fd[i] < 0 || listeners->record->socket[i].closing)
            listeners_close(listeners, i);
        else
            listeners_again(listeners, i);
    }
    steer_remove_absent(listeners);
    for (int a = 0; a < RECORD_ADDRESS_MAX; a++) steer_update(listeners, a);
}
