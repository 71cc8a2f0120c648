// SPDX-License-Identifier: MIT
#include "ask.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "address.h"
#include "bind.h"
#include "fd.h"
#include "intercept_unix.h"
#include "log.h"
#include "procinfo.h"
#include "steer.h"

static int set_option(int fd, int level, int name, int value) {
    return setsockopt(fd, level, name, &value, sizeof value) == 0 ? 0 : -errno;
}

static uid_t uid_of(const struct worker *worker) {
    int error = 0;
    uid_t uid = procinfo_uid(worker->record->pid, &error);
    return error == 0 ? uid : (uid_t)-2;
}

// ---- making it

static int bind_path(const struct ask *ask, int fd, uid_t uid) {
    const char *path = ask->key.at.un.sun_path;
    intercept_unix_clear_stale(&ask->key, uid);
    int before = setfsuid(uid);  // with the worker's rights, wherever Pando's go further
    int r = bind(fd, &ask->key.at.any, ask->key.len) == 0 ? 0 : -errno;
    struct stat info;
    if (r == 0 && path[0] != '\0' && ask->path_mode != 0 && lstat(path, &info) == 0) chmod(path, (info.st_mode & 07777) | ask->path_mode);
    setfsuid((uid_t)before);
    return r;
}

static int bind_inet(struct pool *pool, const struct ask *ask, int fd) {
    if (ask->key.at.any.sa_family == AF_INET6) set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, ask->key.v6only);
    if (ask->key.type == SOCK_STREAM || ask->reuse_address) set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    return bind_in_group(&pool->listeners, fd, &ask->key);
}

static void log_failure(const struct worker *worker, const struct record_address *key, int error) {
    char text[ADDRESS_TEXT_SIZE], holder[128] = "";
    address_text(key, text, sizeof text);
    if (error == EADDRINUSE && key->type == SOCK_STREAM && address_port(key) > 0)
        procinfo_port_holder(address_port(key), holder, sizeof holder);
    log_error("worker %d asks for %s: %s%s%s", worker_number(worker), text, strerror(error), holder[0] != '\0' ? ": in use by " : "", holder);
}

// A bound socket, and the key with the port that it got. New fd or -errno.
static int make_socket(struct pool *pool, const struct worker *worker, const struct ask *ask, struct record_address *out_key) {
    int family = ask->key.at.any.sa_family;
    scoped_fd fd = socket(family, ask->key.type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -errno;
    int r = family == AF_UNIX ? bind_path(ask, fd, uid_of(worker)) : bind_inet(pool, ask, fd);
    if (r != 0) {
        log_failure(worker, &ask->key, -r);
        return r;
    }
    *out_key = ask->key;
    if (address_port(out_key) == 0) {
        r = address_of_socket(out_key, fd);
        out_key->v6only = ask->key.v6only;
        out_key->pair = ask->pair;
    }
    return r == 0 ? fd_take(&fd) : r;
}

// ---- which address is it?

static bool equal_but_for_port(const struct record_address *a, const struct record_address *b) {
    struct record_address other = *b;
    address_set_port(&other, address_port(a));
    return address_equal(a, &other);
}

// The port of the pair-th wish for one that the system chooses.
static int find_pair(const struct listeners *listeners, const struct ask *ask) {
    for (int i = 0; i < RECORD_ADDRESS_MAX; i++) {
        const struct record_address *at = &listeners->record->address[i];
        if (at->used && at->pair == ask->pair && equal_but_for_port(at, &ask->key)) return i;
    }
    return -1;
}

static int find_address(const struct listeners *listeners, const struct ask *ask) {
    return address_port(&ask->key) == 0 ? find_pair(listeners, ask) : listeners_find_address(listeners, &ask->key);
}

// The port that the system chose for an earlier worker is asked for by name.
static struct ask named(const struct listeners *listeners, const struct ask *ask, int address) {
    struct ask with = *ask;
    if (address >= 0) address_set_port(&with.key, address_port(&listeners->record->address[address]));
    return with;
}

static bool passes(const struct pool *pool, const struct ask *ask) {
    bool steered = pool->record->mode == LAUNCH_MODE_SLOT && ask->key.at.any.sa_family != AF_UNIX;
    return ask->pass && ask->key.type == SOCK_STREAM && pool->launch->balance == LAUNCH_BALANCE_RR && !steered;
}

static int add_socket(struct pool *pool, struct worker *worker, const struct ask *ask, int *out_address) {
    struct record_address key;
    struct listeners *listeners = &pool->listeners;
    struct ask wish = named(listeners, ask, *out_address);
    scoped_fd fd = make_socket(pool, worker, &wish, &key);
    if (fd < 0) return fd;
    int address = *out_address >= 0 ? *out_address : listeners_address(listeners, &key);
    if (address < 0) return address;
    struct record_address *at = &listeners->record->address[address];
    bool first = !at->listened;
    if (first) at->passed = passes(pool, ask);
    int row = listeners_add(listeners, address, worker->record->generation, worker->slot, fd);
    if (row < 0) return row;
    char text[ADDRESS_TEXT_SIZE];
    if (first) log_info("listening on %s%s", address_text(at, text, sizeof text), at->passed ? ", connections passed in turn" : "");
    if (at->at.any.sa_family == AF_UNIX) intercept_unix_keep(at, uid_of(worker));
    *out_address = address;
    return row;
}

// `--own-port`: worker N has that port plus N to itself.
static struct ask shifted(const struct pool *pool, const struct worker *worker, const struct ask *ask) {
    struct ask with = *ask;
    int own_port = pool->launch->own_port;
    if (own_port != 0 && address_port(&ask->key) == own_port) address_set_port(&with.key, own_port + worker_number(worker));
    return with;
}

int ask_socket(struct pool *pool, struct worker *worker, const struct ask *asked, int *out_address) {
    struct listeners *listeners = &pool->listeners;
    struct record_worker *record = worker->record;
    struct ask wish = shifted(pool, worker, asked), *ask = &wish;
    int address = find_address(listeners, ask);
    if (address >= 0 && (record->asked >> address & 1) != 0) return -EADDRINUSE;
    int row = address < 0 ? -1 : listeners_find(listeners, address, record->generation, worker->slot);
    if (row >= 0 && listeners_again(listeners, row) != 0) {  // whoever had it before may have shut it down
        listeners_close(listeners, row);
        row = -1;
    }
    if (row >= 0 && ask->key.at.any.sa_family == AF_UNIX) intercept_unix_restore(&ask->key, uid_of(worker));
    if (row >= 0) fd_set_nonblock(listeners->fd[row], true);  // it may have come from the supervisor
    if (row < 0) row = add_socket(pool, worker, ask, &address);
    if (row >= 0) *out_address = address;
    return row;
}

void ask_given(struct pool *pool, struct worker *worker, int address, int row) {
    worker->record->asked |= UINT64_C(1) << address;
    pool->record->socket[row].closed = false;
    pool_update_live(pool, worker);
}

// ---- and closed

static bool somebody_has(const struct pool *pool, int address) {
    for (uint32_t i = 0; i < pool->record->slot_end; i++)
        if (worker_runs(&pool->worker[i]) && (pool->worker[i].record->asked >> address & 1) != 0) return true;
    return false;
}

static void close_rows(struct pool *pool, int address) {
    for (int i = 0; i < (int)pool->record->socket_end; i++)
        if (pool->record->socket[i].used && pool->record->socket[i].address == address) listeners_close(&pool->listeners, i);
}

// One that ends has closed too, and has a successor. The last of those that stay has given the address up, as in Node.
void ask_closed(struct pool *pool, struct worker *worker, int address) {
    struct record_worker *record = worker->record;
    int row = listeners_find(&pool->listeners, address, record->generation, worker->slot);
    bool stays = !record->leaving && (worker_state(worker) == WORKER_SERVING || worker_state(worker) == WORKER_STARTING);
    record->asked &= ~(UINT64_C(1) << address);
    if (row >= 0 && pool->record->socket[row].slot == worker->slot) {
        pool->record->socket[row].closed = true;
        pool_update_live(pool, worker);
        steer_move_queue(&pool->listeners, row);
    }
    if (stays && !somebody_has(pool, address)) close_rows(pool, address);
}
