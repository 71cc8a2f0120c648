// SPDX-License-Identifier: MIT
#include "steer.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "address.h"
#include "clock.h"
#include "fd.h"
#include "generation.h"
#include "log.h"
#include "reuseport.h"
#include "steering.h"

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

#define STRANGERS_AGAIN_NS CLOCK_S  // a worker's socket is no stranger's for longer than its `listen` takes
#define NOTICE_NS (2 * CLOCK_MS)      // for threads to notice that their listener was shut down
enum { WAKES_A_TURN = 16 };

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
    int r = steering_open(&listeners->spare, &options, error);
    if (r == 0) listeners->sees_queues = steering_watch(listeners->spare, listeners->patience_ns) == 0;
    return r;
}

const char *steer_lacks(const struct listeners *listeners) { return listeners->spare == NULL ? "" : steering_lacks(listeners->spare); }

void steer_unprepare(struct listeners *listeners) {
    steering_close(listeners->spare);
    listeners->spare = NULL;
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

// Duplicates elsewhere would keep its descriptor in the epoll instance.
void steer_forget(struct listeners *listeners, int address) {
    if (listeners->steering[address] == NULL) return;
    epoll_ctl(listeners->wakes, EPOLL_CTL_DEL, steering_wake_fd(listeners->steering[address]), NULL);
    for (int i = 0; i < STEERING_FD_COUNT; i++) link_drop(listeners->link, HELD_STEERING, held_key(address, i));
    steering_close(listeners->steering[address]);
    listeners->steering[address] = NULL;
}

static void fall_back(struct listeners *listeners, int address, const char *why) {
    char text[ADDRESS_TEXT_SIZE];
    steer_forget(listeners, address);
    log_warn("%s: its workers pull from one socket: %s", address_text(&listeners->record->address[address], text, sizeof text), why);
}

static bool is_mptcp(int fd) {
    int protocol = 0;
    socklen_t len = sizeof protocol;
    return getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len) == 0 && protocol == IPPROTO_MPTCP;
}

static int hear_wakes(const struct listeners *listeners, int address) {
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)address};
    int fd = steering_wake_fd(listeners->steering[address]);
    return epoll_ctl(listeners->wakes, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : -errno;
}

// The first socket tries whether its group can be steered at all.
static int begin_steering(struct listeners *listeners, int address, int slot, int fd, struct pando_error *error) {
    int r = steer_prepare(listeners, error);
    if (r != 0) return r;
    listeners->steering[address] = listeners->spare;
    listeners->spare = NULL;
    if ((r = hold(listeners, address)) != 0) return error_set(error, -r, "keeping the steering");
    if ((r = steering_add(listeners->steering[address], (unsigned)slot, fd, error)) != 0) return r;
    return (r = hear_wakes(listeners, address)) == 0 ? 0 : error_set(error, -r, "watching the steering");
}

void steer_new_address(struct listeners *listeners, int address, int slot, int fd) {
    struct record_address *at = &listeners->record->address[address];
    struct pando_error error = {0};
    at->for_all = at->at.any.sa_family == AF_UNIX || at->type == SOCK_DGRAM || at->passed || is_mptcp(fd);
    if (!is_steerable(at) || at->per_slot) return;
    if (listeners->record->mode != LAUNCH_MODE_SLOT) {
        at->per_slot = listeners->balance == LAUNCH_BALANCE_RANDOM || listeners->balance == LAUNCH_BALANCE_STICKY;
        return;
    }
    if (at->for_all) {
        fall_back(listeners, address, "it speaks MPTCP, which no eBPF program can steer");
        return;
    }
    if (begin_steering(listeners, address, slot, fd, &error) != 0) {
        fall_back(listeners, address, error.text);
        return;
    }
    at->per_slot = at->steered = at->judged = true;
}

// ---- members

int steer_add(struct listeners *listeners, int address, int slot, int fd) {
    struct steering *steering = listeners->steering[address];
    struct pando_error error = {0};
    int r = steering == NULL || slot < 0 ? 0 : steering_add(steering, (unsigned)slot, fd, &error);
    if (r != 0) log_error("%s", error.text);
    return r;
}

void steer_removing(struct listeners *listeners, int row) {
    const struct record_socket *socket = &listeners->record->socket[row];
    struct steering *steering = listeners->steering[socket->address];
    if (steering != NULL && socket->slot >= 0) steering_remove(steering, (unsigned)socket->slot);
}

static bool is_row_of(const struct record_socket *row, int address) { return row->used && row->address == address; }

// What one live socket of the old generation and one of the canary's weigh, so that together the canary's get their share.
struct shares {
    unsigned old, canary;
};

static unsigned common_divisor(unsigned a, unsigned b) { return b == 0 ? a : common_divisor(b, a % b); }

static struct shares shares_of(const struct listeners *listeners, int address, unsigned most) {
    const struct record_rollout *rollout = &listeners->record->rollout;
    unsigned old = 0, canary = 0;
    if (rollout->phase != ROLLOUT_CANARY) return (struct shares){1, 1};
    for (int i = 0; i < (int)listeners->record->socket_end; i++) {
        const struct record_socket *row = &listeners->record->socket[i];
        if (!is_row_of(row, address) || !row->live) continue;
        old += row->generation != rollout->target;
        canary += row->generation == rollout->target;
    }
    if (rollout->canary_until_ns == 0 || rollout->canary_paused) return (struct shares){1, 0};
    if (old == 0 || canary == 0) return (struct shares){1, 1};
    // In rounds it has none in one of the parts, and more in the others.
    unsigned whole = rollout->canary_round_ns == 0 ? 1 : RECORD_CANARY_ROUND_PARTS - 1;
    unsigned part = rollout->canary_percent * (rollout->canary_round_ns == 0 ? 1 : RECORD_CANARY_ROUND_PARTS);
    struct shares shares = {(100 * whole - part) * canary, part * old};
    unsigned divisor = common_divisor(shares.old, shares.canary);
    shares = (struct shares){shares.old / divisor, shares.canary / divisor};
    while (shares.old * old + shares.canary * canary > most && (shares.old > 1 || shares.canary > 1))
        shares = (struct shares){(shares.old + 1) / 2, (shares.canary + 1) / 2};
    return shares;
}

static unsigned weight_of(const struct listeners *listeners, const struct record_socket *row, struct shares shares) {
    if (!row->live) return 0;
    const struct record_rollout *rollout = &listeners->record->rollout;
    return rollout->phase == ROLLOUT_CANARY && row->generation == rollout->target ? shares.canary : shares.old;
}

static void update_weights(struct listeners *listeners, int address) {
    uint16_t weights[STEERING_SLOT_MAX] = {0};
    struct shares shares = shares_of(listeners, address, STEERING_WEIGHT_MAX);
    for (int i = 0; i < (int)listeners->record->socket_end; i++) {
        const struct record_socket *row = &listeners->record->socket[i];
        if (is_row_of(row, address) && row->slot >= 0) weights[row->slot] = (uint16_t)weight_of(listeners, row, shares);
    }
    steering_set_weights(listeners->steering[address], weights);  // two different ones at most: there cannot be too many
}

// Nobody fit: the program stays as it is, and connections wait for a successor. A shared socket's slot is its generation.
void steer_choose(struct listeners *listeners, int address) {
    struct reuseport_member members[REUSEPORT_CHOICE_MAX];
    struct shares shares = shares_of(listeners, address, REUSEPORT_CHOICE_MAX);
    size_t count = 0;
    int any = -1;
    char text[ADDRESS_TEXT_SIZE];
    for (int i = 0; i < (int)listeners->record->socket_end; i++) {
        const struct record_socket *row = &listeners->record->socket[i];
        if (!is_row_of(row, address) || listeners->fd[i] < 0) continue;
        any = i;
        unsigned who = row->slot >= 0 ? (unsigned)row->slot : row->generation, weight = weight_of(listeners, row, shares);
        for (unsigned k = 0; k < weight && count < REUSEPORT_CHOICE_MAX; k++)
            members[count++] = (struct reuseport_member){.index = row->index, .slot = who + k * LAUNCH_WORKERS_MAX};
    }
    const struct record_socket *asked = &listeners->record->socket[listeners->probe.row];
    struct reuseport_probe probe = {0};
    if (listeners->probe.port != 0 && is_row_of(asked, address)) probe = (struct reuseport_probe){listeners->probe.port, asked->index};
    if (count == 0 && probe.port != 0 && any >= 0)  // the others have to go somewhere: to the first that may turn out to be fit
        members[count++] = (struct reuseport_member){.index = asked->index, .slot = (unsigned)asked->slot};
    if (any < 0 || count == 0) return;
    enum reuseport_policy policy = listeners->balance == LAUNCH_BALANCE_STICKY ? REUSEPORT_STICKY : REUSEPORT_RANDOM;
    int r = reuseport_choose(listeners->fd[any], policy, members, count, probe);
    if (r != 0)
        log_error("steering %s: attaching the program: %s", address_text(&listeners->record->address[address], text, sizeof text),
                  strerror(-r));
}

void steer_update(struct listeners *listeners, int address) {
    const struct record_address *at = &listeners->record->address[address];
    int rows = 0, of_slots = 0;
    if (!at->used || at->for_all || !is_steerable(at)) return;
    for (int i = 0; i < (int)listeners->record->socket_end; i++) {
        const struct record_socket *row = &listeners->record->socket[i];
        rows += is_row_of(row, address);
        of_slots += is_row_of(row, address) && row->slot >= 0;
    }
    if (listeners->steering[address] != NULL)
        update_weights(listeners, address);
    else if (of_slots > 0 || rows > 1)
        steer_choose(listeners, address);
}

void steer_update_all(struct listeners *listeners) {
    for (int a = 0; a < RECORD_ADDRESS_MAX; a++) steer_update(listeners, a);
}

static void update_probe(struct listeners *listeners) {
    const struct record_socket *row = &listeners->record->socket[listeners->probe.row];
    struct steering *steering = row->used ? listeners->steering[row->address] : NULL;
    if (steering != NULL && row->slot >= 0)
        steering_set_probe(steering, (unsigned)row->slot, listeners->probe.port);
    else if (row->used)
        steer_update(listeners, row->address);
}

void steer_probe(struct listeners *listeners, int row, uint16_t port) {
    listeners->probe.row = row;
    listeners->probe.port = port;
    update_probe(listeners);
}

void steer_probe_end(struct listeners *listeners) {
    listeners->probe.port = 0;
    update_probe(listeners);
}

// ---- queues

static bool somebody_is_free(const struct listeners *listeners, int address, int but_slot) {
    for (int i = 0; i < (int)listeners->record->socket_end; i++) {
        const struct record_socket *row = &listeners->record->socket[i];
        if (is_row_of(row, address) && row->live && row->slot != but_slot && listeners_queued(listeners, i) == 0) return true;
    }
    return false;
}

bool steer_can_move(const struct listeners *listeners, int slot) {
    for (int i = 0; i < (int)listeners->record->socket_end; i++) {
        const struct record_socket *row = &listeners->record->socket[i];
        if (!row->used || row->slot != slot || listeners->steering[row->address] == NULL) continue;
        if (listeners_queued(listeners, i) > 0 && somebody_is_free(listeners, row->address, slot)) return true;
    }
    return false;
}

int steer_move_queue(struct listeners *listeners, int row) {
    const struct record_socket *socket = &listeners->record->socket[row];
    struct steering *steering = socket->used ? listeners->steering[socket->address] : NULL;
    struct pando_error error = {0};
    if (steering == NULL || socket->slot < 0 || listeners->fd[row] < 0 || listeners_queued(listeners, row) == 0) return 0;
    int r = steering_move_queue(steering, (unsigned)socket->slot, listeners->fd[row], NULL, &error);
    if (r == 0 || r == -EAGAIN) return 0;  // nobody else is fit: it waits for the successor
    log_error("%s", error.text);
    listeners_close(listeners, row);  // it may not listen any more: the successor gets another
    return r;
}

int steer_move_queues(struct listeners *listeners, int slot) {
    int failed = 0;
    for (int i = 0; i < (int)listeners->record->socket_end; i++) {
        const struct record_socket *row = &listeners->record->socket[i];
        int r = row->used && row->slot == slot ? steer_move_queue(listeners, i) : 0;
        if (r != 0) failed = r;
    }
    return failed;
}

struct steer_numbers steer_numbers(const struct listeners *listeners, int slot) {
    struct steer_numbers numbers = {0};
    for (int i = 0; i < (int)listeners->record->socket_end; i++) {
        const struct record_socket *row = &listeners->record->socket[i];
        if (!row->used || row->slot != slot) continue;
        const struct steering *steering = listeners->steering[row->address];
        struct steering_counts counts = {0};
        if (steering != NULL) counts = steering_counts(steering, (unsigned)slot);
        numbers.queued += listeners_queued(listeners, i);  // after the counts: what comes in between is not taken for accepted
        if (steering == NULL) continue;
        numbers.known = true;
        numbers.live += counts.live;
        numbers.total += (counts.counted ? counts.opened : counts.chosen) + counts.moved_in;
        numbers.moved_away += counts.moved_out;
        numbers.counted |= counts.counted;
        numbers.opened += counts.opened;
        numbers.cut += counts.cut;
        numbers.weight = steering_weight(steering, (unsigned)slot);
    }
    return numbers;
}

// ---- what the steering tells

uint64_t steer_waited_ns(const struct listeners *listeners, int slot) {
    uint64_t longest = 0;
    for (int i = 0; i < (int)listeners->record->socket_end; i++) {
        const struct record_socket *row = &listeners->record->socket[i];
        if (!row->used || row->slot != slot || listeners->steering[row->address] == NULL) continue;
        uint64_t waited = steering_waited_ns(listeners->steering[row->address], (unsigned)slot);
        if (waited > longest) longest = waited;
    }
    return longest;
}

// It listens again at once, before the siblings' threads that wait on it have noticed; those of whoever shut it down may not have either,
// and wait on. Where clients find another socket by now, they are given the time.
static void on_shut_down(struct listeners *listeners, int row) {
    const struct record_generation *generation = generation_row(listeners->record, listeners->record->socket[row].generation);
    if (listeners->record->stopping) return;
    if (generation == NULL || generation->turned_ns == 0)
        listeners_again(listeners, row);
    else
        listeners->again_ns = clock_now_ns() + NOTICE_NS;
}

void steer_take_wakes(struct listeners *listeners, void (*each)(int slot, void *arg), void *arg) {
    struct epoll_event events[WAKES_A_TURN];
    int count = epoll_wait(listeners->wakes, events, WAKES_A_TURN, 0);
    for (int e = 0; e < count; e++) {
        if ((events[e].data.u32 & LISTENER_WAKE) != 0) {
            on_shut_down(listeners, (int)(events[e].data.u32 & ~LISTENER_WAKE));
            continue;
        }
        int address = (int)events[e].data.u32 % RECORD_ADDRESS_MAX;
        struct steering *steering = listeners->steering[address];
        if (steering == NULL) continue;
        steering_wake_take(steering);
        for (int i = 0; i < (int)listeners->record->socket_end; i++) {
            const struct record_socket *row = &listeners->record->socket[i];
            if (is_row_of(row, address) && row->slot >= 0 && steering_waited_ns(steering, (unsigned)row->slot) > 0) each(row->slot, arg);
        }
    }
}

static uint64_t look_for_strangers(const struct steering *steering, struct record_address *at, uint64_t now_ns) {
    char text[ADDRESS_TEXT_SIZE];
    unsigned strangers = steering_strangers(steering);
    if (strangers == 0) {
        at->strangers_ns = 0;
        at->strangers_warned = false;
        return CLOCK_NEVER;
    }
    if (at->strangers_warned) return CLOCK_NEVER;
    if (at->strangers_ns == 0) at->strangers_ns = now_ns;
    if (now_ns - at->strangers_ns < STRANGERS_AGAIN_NS) return at->strangers_ns + STRANGERS_AGAIN_NS;
    at->strangers_warned = true;
    log_warn(
        "%s: sockets that are not Pando's joined it (%u; SO_REUSEPORT, same user): they could take connections away; "
        "`ss -ltnp` shows whose they are",
        address_text(at, text, sizeof text), strangers);
    return CLOCK_NEVER;
}

uint64_t steer_look_for_strangers(struct listeners *listeners, uint64_t now_ns) {
    uint64_t next_ns = CLOCK_NEVER;
    for (int a = 0; a < RECORD_ADDRESS_MAX; a++) {
        const struct steering *steering = listeners->steering[a];
        uint64_t again_ns = steering == NULL ? CLOCK_NEVER : look_for_strangers(steering, &listeners->record->address[a], now_ns);
        if (again_ns < next_ns) next_ns = again_ns;
    }
    return next_ns;
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

static int import(struct listeners *listeners, int address, struct pando_error *error) {
    int r = steering_import(&listeners->steering[address], listeners->adopted_steering[address], error);
    if (r != 0) {  // another version's, or not whole: its sockets get a new one
        if ((r = steer_prepare(listeners, error)) != 0) return r;
        listeners->steering[address] = listeners->spare;
        listeners->spare = NULL;
        if ((r = hold(listeners, address)) != 0) return error_set(error, -r, "keeping the steering");
    }
    listeners->sees_queues = steering_watch(listeners->steering[address], listeners->patience_ns) == 0;
    return (r = hear_wakes(listeners, address)) == 0 ? 0 : error_set(error, -r, "watching the steering");
}

// Without one a classic program chooses among the live slots.
static void adopt_address(struct listeners *listeners, int address) {
    struct pando_error error = {0};
    char text[ADDRESS_TEXT_SIZE];
    if (import(listeners, address, &error) == 0) return;
    steering_close(listeners->steering[address]);
    listeners->steering[address] = NULL;
    listeners->record->address[address].steered = false;
    log_error("%s: its steering could not be taken over, its connections are spread at random from now on: %s",
              address_text(&listeners->record->address[address], text, sizeof text), error.text);
}

void steer_adopted(struct listeners *listeners) {
    for (int a = 0; a < RECORD_ADDRESS_MAX; a++)
        if (listeners->record->address[a].used && listeners->record->address[a].steered) adopt_address(listeners, a);
}

void steer_remove_absent(struct listeners *listeners) {
    for (int a = 0; a < RECORD_ADDRESS_MAX; a++) {
        bool present[STEERING_SLOT_MAX] = {false};
        if (listeners->steering[a] == NULL) continue;
        for (int i = 0; i < (int)listeners->record->socket_end; i++) {
            const struct record_socket *row = &listeners->record->socket[i];
            if (is_row_of(row, a) && row->slot >= 0) present[row->slot] = true;
        }
        for (unsigned slot = 0; slot < LAUNCH_WORKERS_MAX; slot++)
            if (!present[slot]) steering_remove(listeners->steering[a], slot);
    }
}
