// SPDX-License-Identifier: MIT
// One notification is answered at a time, and received straight into the record: a primary that dies half-way leaves it to
// the next one, for which everything here may be done twice.
#include "intercept.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "address.h"
#include "bind.h"
#include "clock.h"
#include "fd.h"
#include "generation.h"
#include "intercept_unix.h"
#include "judge.h"
#include "log.h"
#include "procinfo.h"
#include "seccomp_notify.h"

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

enum { NOTIFICATIONS_A_TURN = 16 };

enum verdict {
    VERDICT_ANSWER,    // with `error`, or `value`
    VERDICT_CONTINUE,  // let the kernel do what was asked
    VERDICT_PARK,      // later: it hangs on what another worker is about to show
    VERDICT_NONE,      // the process is about to be killed
};

// One notification being answered.
struct question {
    struct intercept *intercept;
    struct worker *worker;
    uint64_t id;
    pid_t tgid;
    int fd;  // argument 0 of bind and listen
    int error;
    int64_t value;
};

static enum verdict answer(struct question *question, int error) {
    question->error = error;
    return VERDICT_ANSWER;
}

static int int_option(int fd, int level, int name) {
    int value = 0;
    socklen_t len = sizeof value;
    return getsockopt(fd, level, name, &value, &len) == 0 ? value : -errno;
}

static bool is_tcp(int fd) {
    int protocol = int_option(fd, SOL_SOCKET, SO_PROTOCOL);
    return int_option(fd, SOL_SOCKET, SO_TYPE) == SOCK_STREAM && (protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP);
}

// ---- what a worker has bound

static void bound_add(struct question *question, int fd, int address) {
    struct record *record = question->intercept->record;
    struct record_bound *row = &record->bound[record->bound_next++ % RECORD_BOUND_MAX];
    *row = (struct record_bound){
        .token = question->worker->record->token, .inode = listeners_inode(fd), .address = address};
}

static int bound_address_of(const struct question *question, int fd) {
    uint64_t inode = listeners_inode(fd);
    for (int i = 0; i < RECORD_BOUND_MAX; i++) {
        const struct record_bound *row = &question->intercept->record->bound[i];
        if (row->token == question->worker->record->token && row->inode == inode) return row->address;
    }
    return -1;
}

struct search {
    uint64_t inode[2];
    bool found;
};

static bool compare_inode(int fd, uint64_t inode, void *arg) {
    struct search *search = arg;
    (void)fd;
    search->found = inode == search->inode[0] || inode == search->inode[1];
    return !search->found;
}

static bool search_process(pid_t pid, void *arg) {
    struct search *search = arg;
    procinfo_socket_each(pid, compare_inode, search);
    return !search->found;
}

// Does this worker still have open what it bound to this address before: its own socket, or the one it was given at listen?
static bool holds_already(const struct question *question, int address) {
    const struct record_worker *record = question->worker->record;
    struct listeners *listeners = question->intercept->listeners;
    struct search search = {0};
    for (int i = 0; i < RECORD_BOUND_MAX; i++) {
        const struct record_bound *row = &question->intercept->record->bound[i];
        if (row->token == record->token && row->address == address) search.inode[0] = row->inode;
    }
    if ((record->addresses >> address & 1) != 0) {
        int row = listeners_find(listeners, address, record->generation, question->worker->slot);
        if (row >= 0) search.inode[1] = question->intercept->record->socket[row].inode;
    }
    if (search.inode[0] == 0 && search.inode[1] == 0) return false;
    procinfo_group_each(record->pid, search_process, &search);
    return search.found;
}

// One call a worker: a second thread that comes in between is not worth a queue.
static bool may_park(const struct question *question) { return question->worker->record->parked.id == 0; }

// ---- another socket for the worker

static void listened(struct question *question, int address, const struct record_address *own) {
    struct record_generation *row = generation_row(question->intercept->record, question->worker->record->generation);
    if (row != NULL && question->fd >= 0 && question->fd < NOTIFY_NUMBERS) row->listening |= UINT64_C(1) << question->fd;
    question->intercept->on_listen(question->intercept->arg, question->worker, address, own);
}

// O_NONBLOCK belongs to the shared open file, so that the last to listen decides; programs that are copies agree.
static void adopt_nonblock(int shared, int own, const struct record_address *at) {
    if (at->unblocked) return;
    int wanted = fcntl(own, F_GETFL), now = fcntl(shared, F_GETFL);
    if (wanted >= 0 && now >= 0 && ((wanted ^ now) & O_NONBLOCK) != 0) fcntl(shared, F_SETFL, now ^ O_NONBLOCK);
}

// Another socket takes the place of the worker's own, under the same number.
static enum verdict give(struct question *question, int own, int row, int address) {
    adopt_nonblock(question->intercept->listeners->fd[row], own, &question->intercept->record->address[address]);
    int flags = procinfo_fd_flags(question->tgid, question->fd);
    bool cloexec = flags < 0 || (flags & O_CLOEXEC) != 0;
    int r = notify_add_fd(question->worker->listener, question->id, question->intercept->listeners->fd[row], question->fd, cloexec);
    if (r < 0) return answer(question, r);
    listened(question, address, NULL);
    return answer(question, 0);
}

// ---- bind

static bool bound_already(int fd, const struct record_address *key) {
    struct record_address now;
    return address_of_socket(&now, fd) == 0 && address_equal(&now, key);
}

// The supervisor's socket of the same port is in the way of an address that is nearly the same.
static bool log_given(const struct question *question, const struct record_address *key) {
    char text[ADDRESS_TEXT_SIZE], given[ADDRESS_TEXT_SIZE];
    const struct record *record = question->intercept->record;
    for (int i = 0; i < (int)record->socket_end; i++) {
        const struct record_address *at = &record->address[record->socket[i].address];
        if (!record->socket[i].given || at->type != key->type || address_port(at) != address_port(key)) continue;
        log_error("worker %d binds %s, but the supervisor holds %s: give both the same address (ListenStream= in the socket unit)",
                  question->worker->slot, address_text(key, text, sizeof text), address_text(at, given, sizeof given));
        return true;
    }
    return false;
}

static void log_holder(const struct question *question, const struct record_address *key) {
    char text[ADDRESS_TEXT_SIZE], holder[128] = "";
    if (log_given(question, key)) return;
    address_text(key, text, sizeof text);
    if (key->type == SOCK_STREAM) procinfo_port_holder(address_port(key), holder, sizeof holder);
    log_error("%s is in use by %s: stop it, or choose another port", text, holder[0] != '\0' ? holder : "another socket");
}

// Whoever may not bind a low port by itself may do so here only because `-u` was given: then that is what it is for.
static bool may_bind_port(const struct question *question, int port) {
    char text[16];
    int error = 0;
    long first = 1024;
    const struct launch *launch = question->intercept->launch;
    if (fd_read_file("/proc/sys/net/ipv4/ip_unprivileged_port_start", text, sizeof text) > 0) first = strtol(text, NULL, 10);
    uid_t uid = procinfo_uid(question->tgid, &error);
    if (port >= first || (error == 0 && uid == geteuid())) return true;
    if (error != 0 || !launch->has_user || uid != launch->uid) return false;
    log_debug("worker %d: port %d is bound for user %u", worker_number(question->worker), port, uid);
    return true;
}

static void shift_to_own_port(const struct question *question, struct record_address *key) {
    int own_port = question->intercept->launch->own_port;
    if (own_port == 0 || address_port(key) != own_port) return;
    address_set_port(key, own_port + worker_number(question->worker));
    log_info("worker %d: port %d is its own here: %d", worker_number(question->worker), own_port, address_port(key));
}

// It is told that it has bound, and gets the one socket there is: at `listen`, or at once where nobody listens.
static enum verdict bind_fixed(struct question *question, int fd, int address) {
    struct intercept *intercept = question->intercept;
    int row = listeners_find(intercept->listeners, address, question->worker->record->generation, question->worker->slot);
    bound_add(question, fd, address);
    if (row >= 0 && intercept->record->address[address].type == SOCK_DGRAM) return give(question, fd, row, address);
    return answer(question, 0);
}

static enum verdict bind_port(struct question *question, int fd, struct record_address *key) {
    struct listeners *listeners = question->intercept->listeners;
    bool shares_already = int_option(fd, SOL_SOCKET, SO_REUSEPORT) > 0;
    shift_to_own_port(question, key);
    if (address_port(key) == 0) return answer(question, bind(fd, &key->at.any, key->len) == 0 ? 0 : -errno);
    if (bound_already(fd, key)) return answer(question, 0);
    if (!may_bind_port(question, address_port(key))) return answer(question, -EACCES);
    int known = listeners_find_address(listeners, key);
    if (known >= 0 && !shares_already && holds_already(question, known)) return answer(question, -EADDRINUSE);
    if (known >= 0 && question->intercept->record->address[known].fixed) return bind_fixed(question, fd, known);
    int r = bind_in_group(listeners, fd, key);
    if (r == -EADDRINUSE) log_holder(question, key);
    if (r != 0) return answer(question, r);
    int address = listeners_address(listeners, key);
    if (address >= 0) bound_add(question, fd, address);
    if (address >= 0 && key->type == SOCK_DGRAM) {
        question->intercept->record->address[address].listened = true;
        question->intercept->on_listen(question->intercept->arg, question->worker, address, NULL);
    }
    return answer(question, 0);
}

static enum verdict bind_inet(struct question *question, const struct sockaddr *any, socklen_t len) {
    struct record_address key;
    scoped_fd fd = link_getfd(question->intercept->link, question->tgid, question->fd);
    if (fd == -EPERM || fd == -EACCES) {
        question->intercept->on_hidden(question->intercept->arg, question->worker);
        return VERDICT_NONE;
    }
    if (fd < 0) return VERDICT_CONTINUE;
    int type = int_option(fd, SOL_SOCKET, SO_TYPE);
    bool datagram = type == SOCK_DGRAM && int_option(fd, SOL_SOCKET, SO_PROTOCOL) == IPPROTO_UDP;
    if (!is_tcp(fd) && !datagram) return VERDICT_CONTINUE;
    bool v6only = any->sa_family == AF_INET6 && int_option(fd, IPPROTO_IPV6, IPV6_V6ONLY) > 0;
    if (address_from(&key, any, len, type, v6only) != 0) return VERDICT_CONTINUE;
    if (datagram && address_is_multicast(&key)) return VERDICT_CONTINUE;
    return bind_port(question, fd, &key);
}

static bool sibling_has_bound(const struct question *question, int address) {
    const struct record_worker *record = question->worker->record;
    if (listeners_find(question->intercept->listeners, address, record->generation, question->worker->slot) >= 0) return false;
    for (int i = 0; i < RECORD_BOUND_MAX; i++) {
        const struct record_bound *row = &question->intercept->record->bound[i];
        if (row->token != 0 && row->token != record->token && row->address == address) return true;
    }
    return false;
}

static uid_t uid_of(const struct question *question) {
    int error = 0;
    uid_t uid = procinfo_uid(question->tgid, &error);
    return error == 0 ? uid : (uid_t)-2;
}

// Removed by a sibling after the first had bound it and before it had a second name: no client can find that socket any more.
// The one that is being bound takes its place, and who accepts from the lost one starts again.
static void give_up_path(struct question *question, int address, int row) {
    struct record *record = question->intercept->record;
    char text[ADDRESS_TEXT_SIZE];
    log_warn("%s was removed by worker %d before it was listened on: it is made anew", address_text(&record->address[address], text, sizeof text),
             worker_number(question->worker));
    listeners_close(question->intercept->listeners, row);
    for (uint32_t i = 0; i < record->slot_end; i++)
        if (record->worker[i].pid != 0 && (record->worker[i].addresses >> address & 1) != 0)
            record->worker[i].stale = record->worker[i].restart_due = true;
}

// The first copy binds by itself; the later ones are told that they did, and get its socket at `listen`.
static enum verdict bind_unix(struct question *question, const struct sockaddr *any, socklen_t len) {
    struct record_address key;
    struct listeners *listeners = question->intercept->listeners;
    scoped_fd fd = link_getfd(question->intercept->link, question->tgid, question->fd);
    int type = fd < 0 ? -1 : int_option(fd, SOL_SOCKET, SO_TYPE);
    if (type != SOCK_STREAM && type != SOCK_SEQPACKET) return VERDICT_CONTINUE;
    if (intercept_unix_key(&key, any, len, type, question->tgid) != 0) return VERDICT_CONTINUE;
    int address = listeners_address(listeners, &key);
    if (address < 0) return VERDICT_CONTINUE;
    if (holds_already(question, address)) return answer(question, -EADDRINUSE);
    // Bound and not listened on yet, a path looks stale: its owner is a sibling that is about to listen.
    if (sibling_has_bound(question, address) && may_park(question)) return VERDICT_PARK;
    bound_add(question, fd, address);
    int row = listeners_find(listeners, address, question->worker->record->generation, question->worker->slot);
    if (row >= 0) intercept_unix_restore(&key, uid_of(question));
    if (row >= 0 && (intercept_unix_is_there(&key) || question->intercept->record->address[address].fixed)) return answer(question, 0);
    if (row >= 0) give_up_path(question, address, row);
    intercept_unix_clear_stale(&key, uid_of(question));
    return VERDICT_CONTINUE;
}

static enum verdict on_bind(struct question *question, const struct seccomp_data *call) {
    struct sockaddr_storage at = {0};
    socklen_t len = (socklen_t)call->args[2];
    if (len < sizeof(sa_family_t) || len > sizeof at) return VERDICT_CONTINUE;
    int n = link_peek(question->intercept->link, question->tgid, call->args[1], &at, len);
    if (n == -EPERM || n == -EACCES) {
        question->intercept->on_hidden(question->intercept->arg, question->worker);
        return VERDICT_NONE;
    }
    if (n >= 0 && !notify_valid(question->worker->listener, question->id)) return VERDICT_NONE;
    if (n != (int)len) return answer(question, -EFAULT);
    switch (at.ss_family) {
        case AF_INET:
        case AF_INET6: return bind_inet(question, (struct sockaddr *)&at, len);
        case AF_UNIX: return bind_unix(question, (struct sockaddr *)&at, len);
        default: return VERDICT_CONTINUE;
    }
}

// ---- listen

static enum verdict listen_shared(struct question *question, int fd, int address) {
    struct intercept *intercept = question->intercept;
    const struct record_worker *record = question->worker->record;
    bool unseen_bind = record->intercept == LAUNCH_INTERCEPT_HAND;
    if (unseen_bind && holds_already(question, address)) return answer(question, -EADDRINUSE);
    if (may_park(question) && judge_parks(intercept->record, address, question->worker->slot)) return VERDICT_PARK;
    int row = listeners_find(intercept->listeners, address, record->generation, question->worker->slot);
    if (row >= 0 && listeners_again(intercept->listeners, row) != 0) {  // whoever had it before may have shut it down
        listeners_close(intercept->listeners, row);
        row = -1;
    }
    if (row >= 0 && intercept->record->socket[row].inode != listeners_inode(fd)) return give(question, fd, row, address);
    if (row < 0) {
        struct record_address *at = &intercept->record->address[address];
        bool first = !at->listened;
        row = listeners_add(intercept->listeners, address, record->generation, question->worker->slot, fd);
        if (row < 0) return answer(question, row);
        char text[ADDRESS_TEXT_SIZE];
        if (first) log_info("listening on %s", address_text(at, text, sizeof text));
        if (at->at.any.sa_family == AF_UNIX) intercept_unix_keep(at, uid_of(question));
    }
    listened(question, address, NULL);
    return answer(question, 0);
}

static enum verdict listen_on_own_port(struct question *question, int fd, int backlog) {
    struct record *record = question->intercept->record;
    struct record_address own;
    if (listen(fd, backlog) != 0) return answer(question, -errno);
    if (!record->port_zero_warned)
        log_warn("worker %d listens on a port that the system chose (port 0): each worker has its own, none is shared",
                 worker_number(question->worker));
    record->port_zero_warned = true;
    listened(question, -1, address_of_socket(&own, fd) == 0 ? &own : NULL);
    return answer(question, 0);
}

static bool is_ephemeral(int port) {
    char text[32];
    int first, last;
    if (fd_read_file("/proc/sys/net/ipv4/ip_local_port_range", text, sizeof text) <= 0) return false;
    return sscanf(text, "%d %d", &first, &last) == 2 && port >= first && port <= last;
}

// In the way `hand` the bind was not seen: the socket's own name says what it was, and a port in the range of those that
// the system chooses counts as chosen by it.
static enum verdict listen_tcp(struct question *question, int fd, int backlog) {
    struct record_address key;
    struct listeners *listeners = question->intercept->listeners;
    int fixed = bound_address_of(question, fd);
    if (fixed >= 0 && question->intercept->record->address[fixed].fixed) return listen_shared(question, fd, fixed);
    if (address_of_socket(&key, fd) != 0 || address_port(&key) == 0) return listen_on_own_port(question, fd, backlog);
    int address = listeners_find_address(listeners, &key);
    bool hand = question->worker->record->intercept == LAUNCH_INTERCEPT_HAND;
    if (address < 0 && hand && !is_ephemeral(address_port(&key))) address = listeners_address(listeners, &key);
    return address < 0 ? listen_on_own_port(question, fd, backlog) : listen_shared(question, fd, address);
}

// A unix socket, or one that came from elsewhere: it can neither be shared nor kept.
static enum verdict listen_unknown(struct question *question) {
    struct record *record = question->intercept->record;
    if (question->worker->record->asked != 0) return VERDICT_CONTINUE;  // it came through the channel, where its `listening` comes too
    if (!record->unknown_warned)
        log_warn("worker %d listens on a socket that Pando did not make: where sockets are handed out (`pando info`) only TCP is shared; "
                 "CAP_SYS_PTRACE would let Pando share it, `-w 1` runs one copy",
                 worker_number(question->worker));
    record->unknown_warned = true;
    listened(question, -1, NULL);
    return VERDICT_CONTINUE;
}

static enum verdict on_listen(struct question *question, const struct seccomp_data *call) {
    struct intercept *intercept = question->intercept;
    bool hand = question->worker->record->intercept == LAUNCH_INTERCEPT_HAND;
    scoped_fd own = -1;
    int fd;
    if (hand) {
        fd = handed_find(&intercept->handed, question->worker->record->token, question->tgid, question->fd);
    } else {
        fd = own = link_getfd(intercept->link, question->tgid, question->fd);
        if (fd == -EPERM || fd == -EACCES) {
            intercept->on_hidden(intercept->arg, question->worker);
            return VERDICT_NONE;
        }
    }
    if (fd < 0) return hand ? listen_unknown(question) : VERDICT_CONTINUE;
    if (hand) bind_set_reuseport(fd, 1);  // the first bound alone; from here on others may join
    if (is_tcp(fd)) return listen_tcp(question, fd, (int)call->args[1]);
    int address = bound_address_of(question, fd);
    return address < 0 ? VERDICT_CONTINUE : listen_shared(question, fd, address);
}

// ---- shutdown, of what several pull from

static int shared_row(const struct record *record, uint64_t inode) {
    for (int i = 0; i < (int)record->socket_end; i++) {
        const struct record_socket *row = &record->socket[i];
        bool stream = row->used && record->address[row->address].type == SOCK_STREAM;
        if (stream && row->slot == LISTENER_SHARED && row->inode == inode) return i;
    }
    return -1;
}

// A socket as it is after the shutdown of a listening one: bound, and closed until it listens again.
static int make_closed(struct question *question, int row, int shared) {
    struct intercept *intercept = question->intercept;
    const struct record_address *at = &intercept->record->address[intercept->record->socket[row].address];
    int fd = socket(at->at.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, int_option(shared, SOL_SOCKET, SO_PROTOCOL));
    if (fd < 0) return -errno;
    fd_set_nonblock(fd, (fcntl(shared, F_GETFL) & O_NONBLOCK) != 0);
    if (at->at.any.sa_family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &(int){at->v6only}, sizeof(int));
    if (at->at.any.sa_family != AF_UNIX && bind_in_group(intercept->listeners, fd, at) == 0) bound_add(question, fd, intercept->record->socket[row].address);
    return fd;
}

// It would be refused to all who pull from it. The worker gets a closed one of its own in its place, and its threads that wait on the
// old one are made to look again: stopped and continued, they find the new one under the number.
static enum verdict on_shutdown(struct question *question) {
    struct intercept *intercept = question->intercept;
    scoped_fd own = link_getfd(intercept->link, question->tgid, question->fd);
    int row = own < 0 || intercept->record->stopping ? -1 : shared_row(intercept->record, listeners_inode(own));
    if (row < 0) return VERDICT_CONTINUE;
    scoped_fd closed = make_closed(question, row, own);
    int flags = procinfo_fd_flags(question->tgid, question->fd);
    int r = closed < 0 ? closed : notify_add_fd(question->worker->listener, question->id, closed, question->fd, flags < 0 || (flags & O_CLOEXEC) != 0);
    if (r < 0 && r != -ENOENT)  // ENOENT: the worker has gone meanwhile
        log_warn("worker %d shuts down a socket that it shares: a closed one in its place cannot be made: %s; it may go on accepting until it ends",
                 worker_number(question->worker), strerror(-r));
    intercept->on_shut(intercept->arg, question->worker);
    return answer(question, 0);
}

// ---- socket, where sockets are handed out

static enum verdict on_socket(struct question *question, const struct seccomp_data *call) {
    struct intercept *intercept = question->intercept;
    int type = (int)call->args[1], protocol = (int)call->args[2];
    if (protocol != 0 && protocol != IPPROTO_TCP && protocol != IPPROTO_MPTCP) return VERDICT_CONTINUE;
    scoped_fd fd = socket((int)call->args[0], type | SOCK_CLOEXEC, protocol);
    if (fd < 0) return answer(question, -errno);
    int r = notify_add_fd(question->worker->listener, question->id, fd, -1, (type & SOCK_CLOEXEC) != 0);
    if (r < 0) return answer(question, r);
    handed_add(&intercept->handed, question->worker->record->token, question->tgid, r, fd_take(&fd));
    question->value = r;
    return answer(question, 0);
}

// Its address may not be read. The first worker binds alone (a stranger on the port is then EADDRINUSE, as it should be)
// and the others wait until it listens; from then on they may join.
static enum verdict on_bind_handed(struct question *question) {
    struct intercept *intercept = question->intercept;
    struct record *record = intercept->record;
    uint64_t token = question->worker->record->token;
    int fd = handed_find(&intercept->handed, token, question->tgid, question->fd);
    if (fd < 0) return VERDICT_CONTINUE;
    if (record->first_listen_ns == 0 && record->scout_token == 0) record->scout_token = token;
    bool alone = record->first_listen_ns == 0 && record->scout_token == token;
    if (record->first_listen_ns == 0 && !alone && may_park(question)) return VERDICT_PARK;
    bool joins = !alone || record->socket_end > 0;  // what the supervisor passed on is there already
    bind_set_reuseport(fd, joins);
    return VERDICT_CONTINUE;
}

bool intercept_holds(struct intercept *intercept, struct worker *worker, int address) {
    return holds_already(&(struct question){.intercept = intercept, .worker = worker}, address);
}

// ---- one notification

static enum verdict decide(struct question *question, const struct seccomp_data *call) {
    switch (call->nr) {
        case SYS_bind:
            return question->worker->record->intercept == LAUNCH_INTERCEPT_HAND ? on_bind_handed(question) : on_bind(question, call);
        case SYS_listen: return on_listen(question, call);
        case SYS_shutdown: return on_shutdown(question);
        case SYS_socket: return on_socket(question, call);
        default: return VERDICT_CONTINUE;
    }
}

static void handle(struct intercept *intercept, struct worker *worker, const struct seccomp_notif *notif) {
    struct question question = {.intercept = intercept,
                                .worker = worker,
                                .id = notif->id,
                                .tgid = procinfo_tgid((pid_t)notif->pid),
                                .fd = (int)notif->data.args[0]};
    int r = 0;
    if (question.tgid <= 0) return;
    intercept->asked_ns = clock_now_ns();
    // What has connected since goes first: a program that closed it may be about to use its port again.
    if (worker->record->intercept == LAUNCH_INTERCEPT_HAND) handed_on_events(&intercept->handed);
    switch (decide(&question, &notif->data)) {
        case VERDICT_ANSWER: r = notify_answer(worker->listener, question.id, question.error, question.value); break;
        case VERDICT_CONTINUE: r = notify_continue(worker->listener, question.id); break;
        case VERDICT_PARK: worker->record->parked = *notif; break;
        case VERDICT_NONE: break;
    }
    if (r != 0 && r != -ENOENT) log_error("worker %d: answering its system call: %s", worker_number(worker), strerror(-r));
}

int intercept_init(struct intercept *intercept) {
    return handed_init(&intercept->handed);
}

bool intercept_on_readable(struct intercept *intercept, struct worker *worker) {
    struct record *record = intercept->record;
    for (int i = 0; i < NOTIFICATIONS_A_TURN && worker->listener >= 0; i++) {
        record->notified_token = worker->record->token;
        int r = notify_receive(worker->listener, &record->notified);
        if (r == 1) handle(intercept, worker, &record->notified);
        record->notified_token = 0;
        if (r <= 0) return r == 0;
    }
    return true;
}

void intercept_resume(struct intercept *intercept, struct worker *worker) {
    struct record *record = intercept->record;
    struct seccomp_notif notif = record->notified;
    if (record->notified_token == 0 || record->notified_token != worker->record->token || worker->listener < 0) return;
    if (notif.id != 0 && notify_valid(worker->listener, notif.id)) handle(intercept, worker, &notif);
    record->notified_token = 0;
}

void intercept_unpark(struct intercept *intercept, struct worker *worker) {
    struct record *record = intercept->record;
    if (worker->record->parked.id == 0) return;
    // Never in neither place: it would be answered by nobody.
    record->notified = worker->record->parked;
    record->notified_token = worker->record->token;
    worker->record->parked.id = 0;
    if (worker->listener >= 0 && notify_valid(worker->listener, record->notified.id)) handle(intercept, worker, &record->notified);
    record->notified_token = 0;
}

void intercept_forget(struct intercept *intercept, uint64_t token) {
    handed_forget(&intercept->handed, token);
    struct record_bound *bound = intercept->record->bound;
    for (int i = 0; i < RECORD_BOUND_MAX; i++)
        if (token != 0 && bound[i].token == token) bound[i] = (struct record_bound){0};
}
