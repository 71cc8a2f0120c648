// SPDX-License-Identifier: MIT
//   kernel's queue --accept--> in flight (worker, seq) --accepted--> our duplicate is closed
//                                    |     |
//                                    |     +--refused, or the worker died--> returned --> another worker
//                                    +-- at most NODE_FLIGHT_MAX a worker; nothing is accepted while something is returned
//
// A worker answers before its program sees the connection: what is not answered was not begun.
//
// Waking up costs more than all the rest. So while every processor has a worker with a connection to begin, the loop rests a little before
// it waits again: the connections and answers that come in the meantime are one wake-up.
#include "handoff.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "fd.h"
#include "log.h"
#include "node.h"
#include "node_ipc.h"

#define LATE_NS (10 * CLOCK_MS)  // no answer for so long: others first
#define FULL_NS (20 * CLOCK_MS)  // it refused one: others first, for so long
#define REST_NS (1000 * CLOCK_US)
#define RETRY_MS 20
#define COMPLAIN_NS (10 * CLOCK_S)

enum { ACCEPTS_A_TURN = 64, FRAME_SIZE = 192 };

// A connection that came back.
struct returned {
    int fd;  // owned
    int row;
    int from;  // slot that refused it; -1 = it died
};

// A listening socket whose connections are passed.
struct pass {
    struct handoff *handoff;
    struct pass *next;
    struct watch *watch;  // owned; of a duplicate
    int row;
    uint64_t inode;
    int turn;    // the slot that comes first
    bool waits;  // for room: it is not watched
};

struct handoff {
    struct primary *primary;
    struct pass *first;
    struct returned *returned;  // owned
    size_t returned_count, returned_size;
    uv_timer_t retry;
    uint64_t complained_ns;
    bool moved;  // in this turn something was passed or answered
};

// ---- whose turn is it?

static bool is_member(const struct primary *primary, const struct pass *pass, const struct primary_worker *seen) {
    const struct record_socket *row = &primary->pool.record->socket[pass->row];
    const struct record_worker *record = seen == NULL || seen->channel == NULL ? NULL : seen->worker->record;
    return record != NULL && record->state == WORKER_SERVING && !record->leaving && (record->asked >> row->address & 1) != 0 &&
           node_takes_part(seen);
}

static bool is_late(const struct node_worker *node, uint64_t now_ns) {
    return node->refused_ns > now_ns || (node->flights > 0 && now_ns - node->flight[0].since_ns > LATE_NS);
}

static struct primary_worker *choose(const struct primary *primary, struct pass *pass, int not_slot, uint64_t now_ns) {
    int end = (int)primary->pool.record->slot_end;
    struct primary_worker *second_best = NULL;
    for (int i = 0; i < end; i++) {
        struct primary_worker *seen = primary->worker[(pass->turn + i) % end];
        if (!is_member(primary, pass, seen) || seen->node.flights == NODE_FLIGHT_MAX) continue;
        bool late = seen->worker->slot == not_slot || is_late(&seen->node, now_ns);
        if (!late) return seen;
        if (second_best == NULL) second_best = seen;
    }
    return second_best;
}

// ---- passing

static bool pass_to(struct pass *pass, struct primary_worker *seen, int fd_take, uint64_t now_ns) {
    struct node_worker *node = &seen->node;
    char frame[FRAME_SIZE], key[16];
    uint64_t seq = node_next_seq(seen);
    snprintf(key, sizeof key, "%d", pass->handoff->primary->pool.record->socket[pass->row].address);
    size_t len = node_write_connection(frame, sizeof frame, key, seq);
    if (worker_channel_send(seen->channel, frame, len, fd_take) != 0) {
        node->refused_ns = now_ns + FULL_NS;
        return false;
    }
    node->flight[node->flights++] = (struct node_flight){.fd = fd_take, .row = pass->row, .seq = seq, .since_ns = now_ns};
    pass->turn = (seen->worker->slot + 1) % (int)pass->handoff->primary->pool.record->slot_end;
    pass->handoff->moved = true;
    return true;
}

static void give_back(struct handoff *handoff, int fd_take, int row, int from) {
    if (handoff->returned_count == handoff->returned_size) {
        size_t size = handoff->returned_size * 2 + 16;
        struct returned *grown = realloc(handoff->returned, size * sizeof *grown);
        if (grown == NULL) {
            close(fd_take);
            return;
        }
        handoff->returned = grown;
        handoff->returned_size = size;
    }
    handoff->returned[handoff->returned_count++] = (struct returned){.fd = fd_take, .row = row, .from = from};
}

static void wait_for_room(struct pass *pass, bool wait) {
    if (pass->waits == wait) return;
    pass->waits = wait;
    watch_pause(pass->watch, wait);
}

static void on_retry(uv_timer_t *timer) { handoff_run(((struct handoff *)timer->data)->primary); }

static void retry_later(struct handoff *handoff) { uv_timer_start(&handoff->retry, on_retry, RETRY_MS, 0); }

static void complain(struct handoff *handoff, int error) {
    uint64_t now_ns = clock_now_ns();
    if (handoff->complained_ns != 0 && now_ns - handoff->complained_ns < COMPLAIN_NS) return;
    handoff->complained_ns = now_ns;
    log_error("cannot accept connections to pass on: %s: they wait in the kernel's queue%s", strerror(error),
              error == EMFILE ? "; raise the limit of open files (ulimit -Hn, LimitNOFILE=)" : "");
}

// Those of this socket that came back. False when one of them has to wait.
static bool pass_returned(struct pass *pass, uint64_t now_ns) {
    struct handoff *handoff = pass->handoff;
    for (size_t i = 0; i < handoff->returned_count;) {
        struct returned *one = &handoff->returned[i];
        struct primary_worker *seen = one->row == pass->row ? choose(handoff->primary, pass, one->from, now_ns) : NULL;
        if (one->row != pass->row) {
            i++;
        } else if (seen == NULL || is_late(&seen->node, now_ns) || !pass_to(pass, seen, one->fd, now_ns)) {
            retry_later(handoff);
            return false;
        } else {
            *one = handoff->returned[--handoff->returned_count];
        }
    }
    return true;
}

// accept(2) reports what has become of the connection as well.
static bool concerns_one_connection(int error) {
    return error == ECONNABORTED || error == EINTR || error == EPROTO || error == EPERM || error == ENETDOWN || error == ENETUNREACH ||
           error == EHOSTDOWN || error == EHOSTUNREACH || error == ENOPROTOOPT || error == EOPNOTSUPP;
}

static void pass_run(struct pass *pass) {
    struct primary *primary = pass->handoff->primary;
    uint64_t now_ns = clock_now_ns();
    if (!pass_returned(pass, now_ns)) {
        wait_for_room(pass, true);
        return;
    }
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        struct primary_worker *seen = choose(primary, pass, -1, now_ns);
        if (seen == NULL) {
            wait_for_room(pass, true);
            return;
        }
        int fd = accept4(watch_fd(pass->watch), NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        bool failed = fd < 0 && !concerns_one_connection(errno);
        if (failed && errno == EAGAIN) break;
        if (failed) complain(pass->handoff, errno);
        bool stuck = fd >= 0 && !pass_to(pass, seen, fd, now_ns);
        if (stuck) give_back(pass->handoff, fd, pass->row, seen->worker->slot);
        if (failed || stuck) {
            retry_later(pass->handoff);
            wait_for_room(pass, true);
            return;
        }
    }
    wait_for_room(pass, false);
}

static void on_readable(void *arg, int fd) {
    (void)fd;
    pass_run(arg);
}

void handoff_run(struct primary *primary) {
    primary->room = false;
    for (struct pass *pass = primary->handoff == NULL ? NULL : primary->handoff->first; pass != NULL; pass = pass->next)
        if (pass->waits || primary->handoff->returned_count > 0) pass_run(pass);
}

// ---- resting

// Workers that have yet to begin what they were passed, and all that could: the late ones are not waited for.
static bool all_have_work(const struct handoff *handoff) {
    const struct primary *primary = handoff->primary;
    uint64_t now_ns = clock_now_ns();
    int able = 0, busy = 0, processors = primary->pool.cpus;
    for (uint32_t i = 0; i < primary->pool.record->slot_end; i++) {
        const struct primary_worker *seen = primary->worker[i];
        if (seen == NULL || seen->channel == NULL || !node_takes_part(seen) || is_late(&seen->node, now_ns)) continue;
        able++;
        busy += seen->node.flights > 0;
    }
    return busy > 0 && busy >= (able < processors ? able : processors);
}

void handoff_rest(struct primary *primary) {
    struct handoff *handoff = primary->handoff;
    if (handoff == NULL || !handoff->moved) return;
    handoff->moved = false;
    if (all_have_work(handoff)) nanosleep(&(struct timespec){.tv_nsec = REST_NS}, NULL);
}

// ---- answers

static void remove_flight(struct node_worker *node, int at) {
    node->flights--;
    memmove(&node->flight[at], &node->flight[at + 1], sizeof node->flight[0] * (size_t)(node->flights - at));
}

void handoff_answered(struct primary_worker *seen, uint64_t seq, bool accepted) {
    struct node_worker *node = &seen->node;
    for (int i = 0; i < node->flights; i++) {
        struct node_flight flight = node->flight[i];
        if (flight.seq != seq) continue;
        remove_flight(node, i);
        seen->primary->room = seen->primary->handoff->moved = true;
        if (accepted) {
            node->passed++;
            close(flight.fd);
        } else {
            node->refused_ns = clock_now_ns() + FULL_NS;
            give_back(seen->primary->handoff, flight.fd, flight.row, seen->worker->slot);
        }
        return;
    }
}

void handoff_return(struct primary_worker *seen) {
    for (int i = 0; i < seen->node.flights; i++) give_back(seen->primary->handoff, seen->node.flight[i].fd, seen->node.flight[i].row, -1);
    if (seen->node.flights > 0) seen->primary->room = true;
    seen->node.flights = 0;
}

// ---- which sockets

static bool is_passed(const struct primary *primary, int row) {
    const struct record_socket *socket = &primary->pool.record->socket[row];
    return socket->used && primary->pool.listeners.fd[row] >= 0 && primary->pool.record->address[socket->address].passed;
}

static struct pass *find(const struct handoff *handoff, int row) {
    struct pass *pass = handoff->first;
    while (pass != NULL && pass->row != row) pass = pass->next;
    return pass;
}

static void pass_close(struct pass *pass) {
    struct handoff *handoff = pass->handoff;
    for (size_t i = handoff->returned_count; i-- > 0;) {
        if (handoff->returned[i].row != pass->row) continue;
        close(handoff->returned[i].fd);
        handoff->returned[i] = handoff->returned[--handoff->returned_count];
    }
    watch_close(pass->watch);
    free(pass);
}

static void close_gone(struct handoff *handoff) {
    const struct primary *primary = handoff->primary;
    for (struct pass **link = &handoff->first; *link != NULL;) {
        struct pass *pass = *link;
        bool same = is_passed(primary, pass->row) && primary->pool.record->socket[pass->row].inode == pass->inode;
        if (same) {
            link = &pass->next;
        } else {
            *link = pass->next;
            pass_close(pass);
        }
    }
}

static struct handoff *make(struct primary *primary) {
    struct handoff *handoff = calloc(1, sizeof *handoff);
    if (handoff == NULL) return NULL;
    handoff->primary = primary;
    uv_timer_init(primary->loop, &handoff->retry);
    handoff->retry.data = handoff;
    return handoff;
}

static void pass_open(struct primary *primary, int row) {
    if (primary->handoff == NULL) primary->handoff = make(primary);
    struct pass *pass = primary->handoff == NULL ? NULL : calloc(1, sizeof *pass);
    if (pass == NULL) return;
    *pass = (struct pass){.handoff = primary->handoff, .row = row, .inode = primary->pool.record->socket[row].inode};
    pass->watch = watch_open(primary->loop, fcntl(primary->pool.listeners.fd[row], F_DUPFD_CLOEXEC, 0), on_readable, pass);
    if (pass->watch == NULL) {
        log_error("cannot pass connections on: out of memory or of descriptors");
        free(pass);
        return;
    }
    pass->next = primary->handoff->first;
    primary->handoff->first = pass;
}

void handoff_look(struct primary *primary) {
    if (primary->handoff != NULL) close_gone(primary->handoff);
    for (int i = 0; i < (int)primary->pool.record->socket_end; i++)
        if (is_passed(primary, i) && (primary->handoff == NULL || find(primary->handoff, i) == NULL)) pass_open(primary, i);
    handoff_run(primary);
}
