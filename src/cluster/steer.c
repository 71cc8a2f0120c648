// SPDX-License-Identifier: MIT
#include "steer.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "address.h"
#include "fd.h"
#include "log.h"
#include "reuseport.h"
#include "steering.h"

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

static const enum steering_policy policy_of[LAUNCH_BALANCE_COUNT] = {
    [LAUNCH_BALANCE_AUTO] = STEERING_AUTO,
    [LAUNCH_BALANCE_RR] = STEERING_RR,
    [LAUNCH_BALANCE_RANDOM] = STEERING_RANDOM,
    [LAUNCH_BALANCE_STICKY] = STEERING_STICKY,
};

// ---- opening

int steer_prepare(struct listeners *listeners, struct pando_error *error) {
    struct steering_options options = {.slots = LAUNCH_WORKERS_MAX, .policy = policy_of[listeners->balance]};
    if (listeners->spare != NULL) return 0;
    return steering_open(&listeners->spare, &options, error);
}

static uint64_t held_key(int address, int fd) { return (uint64_t)address << 8 | (uint64_t)fd; }

// The kernel steers on through the keeper's duplicates while no primary lives.
static int hold(const struct listeners *listeners, int address) {
    int fds[STEERING_FD_COUNT], r = 0;
    steering_export(listeners->steering[address], fds);
    for (int i = 0; i < STEERING_FD_COUNT && r == 0; i++)
        if (fds[i] >= 0) r = link_hold(listeners->link, HELD_STEERING, held_key(address, i), fds[i]);
    return r;
}

static bool is_steerable(const struct record_address *at) { return at->type == SOCK_STREAM && at->at.any.sa_family != AF_UNIX; }

static void fall_back(struct listeners *listeners, int address, const char *why) {
    char text[ADDRESS_TEXT_SIZE];
    steering_close(listeners->steering[address]);
    listeners->steering[address] = NULL;
    log_warn("%s: its workers pull from one socket: %s", address_text(&listeners->record->address[address], text, sizeof text), why);
}

static bool is_mptcp(int fd) {
    int protocol = 0;
    socklen_t len = sizeof protocol;
    return getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len) == 0 && protocol == IPPROTO_MPTCP;
}

void steer_new_address(struct listeners *listeners, int address, int fd) {
    struct record_address *at = &listeners->record->address[address];
    struct pando_error error = {0};
    if (!is_steerable(at) || at->per_slot) return;
    if (listeners->record->mode != LAUNCH_MODE_SLOT) {
        at->per_slot = listeners->balance == LAUNCH_BALANCE_RANDOM || listeners->balance == LAUNCH_BALANCE_STICKY;
        return;
    }
    if (is_mptcp(fd)) {
        fall_back(listeners, address, "it speaks MPTCP, which no eBPF program can steer");
        return;
    }
    int r = steer_prepare(listeners, &error);
    listeners->steering[address] = listeners->spare;
    listeners->spare = NULL;
    if (r == 0 && (r = hold(listeners, address)) != 0) error_set(&error, -r, "keep the steering");
    if (r != 0) {
        fall_back(listeners, address, error.text);
        return;
    }
    at->per_slot = at->steered = at->judged = true;
}

// ---- members

void steer_added(struct listeners *listeners, int row) {
    const struct record_socket *socket = &listeners->record->socket[row];
    struct steering *steering = listeners->steering[socket->address];
    struct pando_error error = {0};
    if (steering == NULL || socket->slot < 0) return;
    if (steering_add(steering, (unsigned)socket->slot, listeners->fd[row], &error) != 0) log_error("%s", error.text);
}

void steer_removing(struct listeners *listeners, int row) {
    const struct record_socket *socket = &listeners->record->socket[row];
    struct steering *steering = listeners->steering[socket->address];
    if (steering != NULL && socket->slot >= 0) steering_remove(steering, (unsigned)socket->slot);
}

void steer_forget(struct listeners *listeners, int address) {
    if (listeners->steering[address] == NULL) return;
    for (int i = 0; i < STEERING_FD_COUNT; i++) link_drop(listeners->link, HELD_STEERING, held_key(address, i));
    steering_close(listeners->steering[address]);
    listeners->steering[address] = NULL;
}

static bool is_row_of(const struct record_socket *row, int address) { return row->used && row->address == address; }

static void update_weights(struct listeners *listeners, int address) {
    for (int i = 0; i < (int)listeners->record->socket_end; i++) {
        const struct record_socket *row = &listeners->record->socket[i];
        if (is_row_of(row, address) && row->slot >= 0) steering_set_weight(listeners->steering[address], (unsigned)row->slot, row->live);
    }
}

// Nobody fit: the program stays as it is, and connections wait for a successor.
static void update_choice(struct listeners *listeners, int address) {
    struct reuseport_member members[REUSEPORT_CHOICE_MAX];
    size_t count = 0;
    int any = -1;
    char text[ADDRESS_TEXT_SIZE];
    for (int i = 0; i < (int)listeners->record->socket_end; i++) {
        const struct record_socket *row = &listeners->record->socket[i];
        if (!is_row_of(row, address) || listeners->fd[i] < 0) continue;
        any = i;
        if (row->live && count < REUSEPORT_CHOICE_MAX)
            members[count++] = (struct reuseport_member){.index = row->index, .slot = (unsigned)row->slot};
    }
    if (any < 0 || count == 0) return;
    enum reuseport_policy policy = listeners->balance == LAUNCH_BALANCE_STICKY ? REUSEPORT_STICKY : REUSEPORT_RANDOM;
    int r = reuseport_choose(listeners->fd[any], policy, members, count);
    if (r != 0)
        log_error("steering %s: attaching the program: %s", address_text(&listeners->record->address[address], text, sizeof text),
                  strerror(-r));
}

void steer_update(struct listeners *listeners, int address) {
    const struct record_address *at = &listeners->record->address[address];
    if (!at->used || !at->per_slot || !is_steerable(at)) return;
    if (listeners->steering[address] != NULL)
        update_weights(listeners, address);
    else
        update_choice(listeners, address);
}

// ---- queues

unsigned steer_move_queues(struct listeners *listeners, int slot) {
    unsigned all = 0;
    for (int i = 0; i < (int)listeners->record->socket_end; i++) {
        const struct record_socket *row = &listeners->record->socket[i];
        struct steering *steering = row->used ? listeners->steering[row->address] : NULL;
        struct pando_error error = {0};
        unsigned moved = 0;
        if (steering == NULL || row->slot != slot || listeners->fd[i] < 0 || listeners_queued(listeners, i) == 0) continue;
        int r = steering_move_queue(steering, (unsigned)slot, listeners->fd[i], &moved, &error);
        if (r == -EAGAIN) continue;  // nobody else is fit: it waits for the successor
        if (r != 0) log_error("%s", error.text);
        all += moved;
    }
    return all;
}

struct steer_numbers steer_numbers(const struct listeners *listeners, int slot) {
    struct steer_numbers numbers = {0};
    for (int i = 0; i < (int)listeners->record->socket_end; i++) {
        const struct record_socket *row = &listeners->record->socket[i];
        if (!row->used || row->slot != slot) continue;
        numbers.queued += listeners_queued(listeners, i);
        const struct steering *steering = listeners->steering[row->address];
        if (steering == NULL) continue;
        struct steering_counts counts = steering_counts(steering, (unsigned)slot);
        numbers.known = true;
        numbers.live += counts.live;
        numbers.total += counts.chosen + counts.moved_in;
        numbers.moved_away += counts.moved_out;
        numbers.weight = steering_weight(steering, (unsigned)slot);
    }
    return numbers;
}

unsigned steer_strangers(const struct listeners *listeners, int address) {
    return listeners->steering[address] == NULL ? 0 : steering_strangers(listeners->steering[address]);
}

// ---- adoption

void steer_adopt(struct listeners *listeners, uint64_t key, int fd_take) {
    uint64_t address = key >> 8, fd = key & 0xff;
    if (address < RECORD_ADDRESS_MAX && fd < STEERING_FD_COUNT && listeners->record->address[address].steered) {
        listeners->adopted_steering[address][fd] = fd_take;
        return;
    }
    fd_close(&fd_take);
    link_drop(listeners->link, HELD_STEERING, key);
}

static void adopt_address(struct listeners *listeners, int address) {
    struct pando_error error = {0};
    if (steering_import(&listeners->steering[address], listeners->adopted_steering[address], &error) == 0) return;
    // The kernel still steers as it was told last, and hashes once the descriptors are gone.
    listeners->steering[address] = NULL;
    log_error("%s: its steering could not be taken over: %s", "slot mode", error.text);
}

void steer_adopted(struct listeners *listeners) {
    for (int a = 0; a < RECORD_ADDRESS_MAX; a++)
        if (listeners->record->address[a].used && listeners->record->address[a].steered) adopt_address(listeners, a);
    for (int i = 0; i < (int)listeners->record->socket_end; i++)
        if (listeners->record->socket[i].used && listeners->fd[i] >= 0) steer_added(listeners, i);
}
