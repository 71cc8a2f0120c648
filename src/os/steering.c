// SPDX-License-Identifier: MIT
// Works on descriptors and one block of shared memory, so that whoever is handed those can go on. All that was decided
// stands in the memory; this process has nothing of its own to lose.
#include "steering.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "clock.h"
#include "fd.h"
#include "steering_bank.h"
#include "steering_load.h"

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

#define BUSY_NS CLOCK_S
#define BUSY_STEP_US 2000
#define SETTLE_STEP_US 50
#define SETTLE_NS (2 * CLOCK_MS)

struct steering {
    int fd[STEERING_FD_COUNT];  // owned; -1 = none
    struct steering_memory *memory;
};

// ---- life

static size_t memory_size(void) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return (sizeof(struct steering_memory) + page - 1) / page * page;
}

void steering_close(struct steering *steering) {
    if (steering == NULL) return;
    if (steering->memory != NULL) munmap(steering->memory, memory_size());
    for (int i = 0; i < STEERING_FD_COUNT; i++) fd_close(&steering->fd[i]);
    free(steering);
}

// Consumes the descriptors. NULL: no memory.
static struct steering *take_fds(int fds_take[static STEERING_FD_COUNT]) {
    struct steering *steering = calloc(1, sizeof *steering);
    for (int i = 0; i < STEERING_FD_COUNT; i++) {
        if (steering != NULL)
            steering->fd[i] = fd_take(&fds_take[i]);
        else
            fd_close(&fds_take[i]);
    }
    return steering;
}

static int map_memory(struct steering *steering, struct pando_error *error) {
    void *memory = mmap(NULL, memory_size(), PROT_READ | PROT_WRITE, MAP_SHARED, steering->fd[STEERING_FD_MEMORY], 0);
    if (memory == MAP_FAILED) return error_set(error, errno, "mapping the memory of the steering program");
    steering->memory = memory;
    return 0;
}

int steering_open(struct steering **out, const struct steering_options *options, struct pando_error *error) {
    if (options->slots == 0 || options->slots > STEERING_SLOT_MAX)
        return error_say(error, EINVAL, "steering has room for 1 to %d slots, not %u", STEERING_SLOT_MAX, options->slots);
    int fds[STEERING_FD_COUNT];
    int r = steering_load(options->slots, fds, error);
    if (r != 0) return r;
    struct steering *steering = take_fds(fds);
    if (steering == NULL) return error_set(error, ENOMEM, "steering");
    if ((r = map_memory(steering, error)) != 0) {
        steering_close(steering);
        return r;
    }
    struct steering_memory *memory = steering->memory;
    memory->magic = STEERING_MEMORY_MAGIC;
    memory->version = STEERING_MEMORY_VERSION;
    memory->size = sizeof *memory;
    memory->slots = options->slots;
    memory->lobby = memory->moving = STEERING_SLOTS;
    memory->policy = options->policy;
    memory->looks = steering->fd[STEERING_FD_LEARN] >= 0;
    memory->counts = steering->fd[STEERING_FD_COUNT_LINK] >= 0;
    *out = steering;
    return 0;
}

static bool is_ours(const struct steering_memory *memory) {
    return memory->magic == STEERING_MEMORY_MAGIC && memory->version == STEERING_MEMORY_VERSION && memory->size == sizeof *memory;
}

// A socket can have a place in one map alone.
static int refuse(struct steering *steering, struct pando_error *error) {
    for (uint32_t slot = 0; slot < STEERING_SLOT_MAX; slot++) bpf_map_delete_elem(steering->fd[STEERING_FD_SOCKETS], &slot);
    steering_close(steering);
    return error_say(error, EPROTO, "the steering program in force is another version's");
}

int steering_import(struct steering **out, int fds_take[static STEERING_FD_COUNT], struct pando_error *error) {
    struct bpf_map_info info = {0};
    uint32_t size = sizeof info;
    struct steering *steering = take_fds(fds_take);
    if (steering == NULL) return error_set(error, ENOMEM, "steering");
    int r = bpf_obj_get_info_by_fd(steering->fd[STEERING_FD_MEMORY], &info, &size);
    if (r == 0 && info.value_size != sizeof(struct steering_memory)) return refuse(steering, error);
    if ((r = map_memory(steering, error)) != 0) {
        steering_close(steering);
        return r;
    }
    if (!is_ours(steering->memory)) return refuse(steering, error);
    *out = steering;
    return 0;
}

void steering_export(const struct steering *steering, int out_fds[static STEERING_FD_COUNT]) {
    memcpy(out_fds, steering->fd, sizeof steering->fd);
}

const char *steering_lacks(const struct steering *steering) {
    static const char *const text[2][2] = {
        {"auto takes turns: it knows neither who waits (that needs CAP_PERFMON) nor what is open (that needs it too, or a cgroup v2)",
         "auto goes by open connections: it does not know who waits (that needs CAP_PERFMON)"},
        {"auto goes by who waits: it does not know what is open (that needs a cgroup v2, or the tracepoint inet_sock_set_state)", ""}};
    return text[steering->memory->looks != 0][steering->memory->counts != 0];
}

static int probe_listener(struct pando_error *error) {
    struct sockaddr_in any_port = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    scoped_fd fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &(int){1}, sizeof(int)) != 0 ||
        bind(fd, (struct sockaddr *)&any_port, sizeof any_port) != 0 || listen(fd, 1) != 0)
        return error_set(error, errno, "a listening socket to try steering with");
    return fd_take(&fd);
}

int steering_probe(struct pando_error *error) {
    struct steering *steering;
    scoped_fd fd = probe_listener(error);
    if (fd < 0) return fd;
    int r = steering_open(&steering, &(struct steering_options){.slots = 1}, error);
    if (r != 0) return r;
    r = steering_add(steering, 0, fd, error);
    steering_close(steering);
    return r;
}

// ---- members

static uint64_t cookie_of(int fd) {
    uint64_t cookie = 0;
    socklen_t len = sizeof cookie;
    return getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len) == 0 ? cookie : 0;
}

static int option_of(int fd, int option) {
    int value = 0;
    socklen_t len = sizeof value;
    return getsockopt(fd, SOL_SOCKET, option, &value, &len) == 0 ? value : -1;
}

static int check_member(int fd, struct pando_error *error) {
    if (option_of(fd, SO_PROTOCOL) == IPPROTO_MPTCP)
        return error_say(error, EOPNOTSUPP,
                         "no eBPF program can choose an MPTCP socket: a plain TCP socket in its place serves the same clients");
    if (option_of(fd, SO_REUSEPORT) != 1)
        return error_say(error, EINVAL, "a socket without SO_REUSEPORT is in no group, and cannot be steered");
    return 0;
}

// A socket that was bound to port 0 forgets its port when it is shut down, and listen(2) alone would draw another one. Bound
// to it again it keeps it; one that was bound to a number of its own never lost it, and answers EINVAL.
static int listen_at(int fd, const void *name, socklen_t len) {
    if (len > 0 && bind(fd, name, len) != 0 && errno != EINVAL) return -errno;
    return listen(fd, INT_MAX) == 0 ? 0 : -errno;
}

// Finds the slot's socket in the kernel, where its queue is read; without that the queue counts as empty. How many are in the
// middle of their handshake with it, or -errno.
static int learn(const struct steering *steering, unsigned slot) {
    uint64_t args[1] = {slot};
    LIBBPF_OPTS(bpf_test_run_opts, run, .ctx_in = args, .ctx_size_in = sizeof args);
    if (steering->fd[STEERING_FD_LEARN] < 0) return -EOPNOTSUPP;
    int r = bpf_prog_test_run_opts(steering->fd[STEERING_FD_LEARN], &run);
    return r != 0 ? r : (int)run.retval;
}

// A socket that came from an instance that was killed has a place in that one's map until the kernel has cleared it away.
static int enter_map(const struct steering *steering, const uint32_t *slot, const uint64_t *value) {
    uint64_t until = clock_now_ns() + BUSY_NS;
    int r;
    while ((r = bpf_map_update_elem(steering->fd[STEERING_FD_SOCKETS], slot, value, BPF_ANY)) == -EBUSY && clock_now_ns() < until)
        usleep(BUSY_STEP_US);
    return r;
}

// Tagged before it listens, so that every connection inherits the tag. The entry is gone after a shutdown(2), and comes back
// by hand only.
static int enter(struct steering *steering, uint32_t slot, int fd, struct pando_error *error) {
    struct steering_memory *memory = steering->memory;
    uint64_t cookie = cookie_of(fd), there = 0, value = (uint64_t)fd;
    uint32_t tag[2] = {slot, 0};
    int r = 0;
    bool known = bpf_map_lookup_elem(steering->fd[STEERING_FD_SOCKETS], &slot, &there) == 0 && there == cookie;
    if (!known) r = bpf_map_update_elem(steering->fd[STEERING_FD_TAGS], &fd, tag, BPF_ANY);
    if (r != 0) return error_set(error, -r, "slot %u: tagging its socket", slot);
    if (option_of(fd, SO_ACCEPTCONN) != 1) r = listen_at(fd, memory->moving_name, memory->moving == slot ? memory->moving_name_len : 0);
    if (r != 0) return error_set(error, -r, "slot %u: listening", slot);
    if (!known) r = enter_map(steering, &slot, &value);
    if (r == -EBUSY) return error_say(error, EBUSY, "slot %u: its socket has a place in this or another steering already", slot);
    if (r != 0) return error_set(error, -r, "slot %u: entering its socket", slot);
    if (memory->cookie[slot] != cookie || memory->seat[slot].address == 0) learn(steering, slot);
    memory->cookie[slot] = cookie;
    return 0;
}

int steering_add(struct steering *steering, unsigned slot, int fd, struct pando_error *error) {
    assert(slot < steering->memory->slots);
    int r = check_member(fd, error);
    if (r == 0) r = enter(steering, slot, fd, error);
    if (r != 0) return r;
    if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_EBPF, &steering->fd[STEERING_FD_CHOOSE], sizeof(int)) != 0)
        return error_set(error, errno, "attaching the steering program to the sockets' group");
    if (steering->memory->moving == slot) steering->memory->moving = STEERING_SLOTS;
    steering_bank_turn(steering->memory);
    return 0;
}

void steering_remove(struct steering *steering, unsigned slot) {
    struct steering_memory *memory = steering->memory;
    assert(slot < memory->slots);
    bool was_there = memory->cookie[slot] != 0 || memory->weight[slot] != 0;
    memory->cookie[slot] = 0;
    memory->weight[slot] = 0;
    if (was_there) steering_bank_turn(memory);
    memory->members = 0;  // of before: the next connection tells
    bpf_map_delete_elem(steering->fd[STEERING_FD_SOCKETS], &(uint32_t){slot});
    memory->seat[slot].address = memory->head[slot] = 0;
    memory->waits[slot] = 0;
}

// ---- policy's knobs

int steering_set_weights(struct steering *steering, const uint16_t *weights) {
    struct steering_memory *memory = steering->memory;
    if (!steering_bank_can(weights, memory->slots)) return -E2BIG;
    memcpy(memory->weight, weights, memory->slots * sizeof *weights);
    steering_bank_turn(memory);
    return 0;
}

int steering_set_weight(struct steering *steering, unsigned slot, unsigned weight) {
    assert(slot < steering->memory->slots && weight <= STEERING_WEIGHT_MAX);
    uint16_t weights[STEERING_SLOTS];
    memcpy(weights, steering->memory->weight, sizeof weights);
    weights[slot] = (uint16_t)weight;
    return steering_set_weights(steering, weights);
}

unsigned steering_weight(const struct steering *steering, unsigned slot) {
    assert(slot < steering->memory->slots);
    return steering->memory->weight[slot];
}

void steering_set_probe(struct steering *steering, unsigned slot, uint16_t port) {
    steering->memory->probe_slot = slot;
    steering->memory->probe_port = htons(port);
}

void steering_set_lobby(struct steering *steering, int slot) {
    steering->memory->lobby = slot < 0 ? STEERING_SLOTS : (uint32_t)slot;
    steering_bank_turn(steering->memory);
}

void steering_set_policy(struct steering *steering, enum steering_policy policy) { steering->memory->policy = policy; }

// ---- moving a queue

static bool any_other_fit(const struct steering_memory *memory, unsigned slot) {
    for (unsigned other = 0; other < memory->slots; other++)
        if (other != slot && steering_bank_fit(memory, other)) return true;
    return false;
}

// The kernel resets a connection whose handshake ends in the very moment in which its socket does not listen. So those under
// way are waited for, at least as long as it takes the other processors to finish with a SYN that they are at.
static void let_handshakes_end(const struct steering *steering, unsigned slot) {
    uint64_t since = clock_now_ns();
    do usleep(SETTLE_STEP_US);
    while (learn(steering, slot) != 0 && clock_now_ns() - since < SETTLE_NS);
}

// What a successor needs to finish this stands in the memory before it begins.
static int begin_move(struct steering *steering, unsigned slot, int fd) {
    struct steering_memory *memory = steering->memory;
    socklen_t len = sizeof memory->moving_name;
    if (getsockname(fd, (struct sockaddr *)memory->moving_name, &len) != 0) return -errno;
    memory->moving_name_len = len;
    __atomic_store_n(&memory->moving, slot, __ATOMIC_RELEASE);
    steering_bank_turn(memory);
    let_handshakes_end(steering, slot);
    return shutdown(fd, SHUT_RD) == 0 ? 0 : -errno;
}

int steering_move_queue(struct steering *steering, unsigned slot, int fd, unsigned *out_moved, struct pando_error *error) {
    struct steering_memory *memory = steering->memory;
    assert(slot < memory->slots);
    if (!any_other_fit(memory, slot)) return error_say(error, EAGAIN, "slot %u: no other slot is fit to take its queue", slot);
    uint64_t before = memory->tally[slot].moved_out;
    int r = begin_move(steering, slot, fd);
    if (r != 0)
        error_set(error, -r, "slot %u: taking its queue", slot);
    else
        r = enter(steering, slot, fd, error);
    memory->moving = STEERING_SLOTS;
    steering_bank_turn(memory);
    if (r != 0) steering_remove(steering, slot);
    if (r == 0 && out_moved != NULL) *out_moved = (unsigned)(memory->tally[slot].moved_out - before);
    return r;
}

// ---- watching queues

int steering_watch(struct steering *steering, uint64_t patience_ns) {
    if (steering->fd[STEERING_FD_WATCH] < 0) return -EOPNOTSUPP;
    steering->memory->patience_ns = patience_ns;
    if (patience_ns == 0) return 0;
    LIBBPF_OPTS(bpf_test_run_opts, run);
    int r = bpf_prog_test_run_opts(steering->fd[STEERING_FD_WATCH], &run);
    return r != 0 ? r : run.retval != 0 ? -EIO : 0;
}

int steering_wake_fd(const struct steering *steering) { return steering->fd[STEERING_FD_WAKES]; }

// A ring buffer's first page holds where the reader is, its second where the writer is. What was written says nothing.
void steering_wake_take(struct steering *steering) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    int fd = steering->fd[STEERING_FD_WAKES];
    unsigned long *reader = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    const unsigned long *writer = mmap(NULL, page, PROT_READ, MAP_SHARED, fd, (off_t)page);
    if (reader != MAP_FAILED && writer != MAP_FAILED) __atomic_store_n(reader, __atomic_load_n(writer, __ATOMIC_ACQUIRE), __ATOMIC_RELEASE);
    if (reader != MAP_FAILED) munmap(reader, page);
    if (writer != MAP_FAILED) munmap((void *)writer, page);
}

uint64_t steering_waited_ns(const struct steering *steering, unsigned slot) {
    assert(slot < steering->memory->slots);
    return steering->memory->waits[slot] * steering->memory->patience_ns;
}

// ---- figures

struct steering_counts steering_counts(const struct steering *steering, unsigned slot) {
    assert(slot < steering->memory->slots);
    const struct steering_tally *tally = &steering->memory->tally[slot];
    return (struct steering_counts){
        .chosen = tally->chosen[STEERING_SYN],
        .by_cookie = tally->chosen[STEERING_ACK],
        .moved_in = tally->moved_in,
        .moved_out = tally->moved_out,
        .counted = steering->memory->counts != 0,
        .opened = tally->opened,
        .cut = tally->cut,
        .live = steering->memory->seat[slot].live,
    };
}

unsigned steering_strangers(const struct steering *steering) {
    const struct steering_memory *memory = steering->memory;
    unsigned ours = 0;
    for (unsigned slot = 0; slot < memory->slots; slot++) ours += memory->cookie[slot] != 0;
    return memory->members > ours ? memory->members - ours : 0;
}

static int iterate(const struct steering *steering) {
    scoped_fd link = bpf_link_create(steering->fd[STEERING_FD_RECOUNT], 0, BPF_TRACE_ITER, NULL);
    if (link < 0) return link;
    scoped_fd iterator = bpf_iter_create(link);
    if (iterator < 0) return iterator;
    char nothing[64];
    ssize_t got;
    do got = read(iterator, nothing, sizeof nothing);
    while (got > 0 || (got < 0 && errno == EINTR));
    return got == 0 ? 0 : -errno;
}

int steering_recount(struct steering *steering) {
    struct steering_memory *memory = steering->memory;
    int32_t live[STEERING_SLOTS];
    uint64_t opened[STEERING_SLOTS];
    if (steering->fd[STEERING_FD_RECOUNT] < 0 || !memory->counts) return -EOPNOTSUPP;
    for (unsigned slot = 0; slot < memory->slots; slot++) {
        live[slot] = memory->seat[slot].live;
        opened[slot] = memory->tally[slot].opened;
        memory->counted[slot] = 0;
    }
    int r = iterate(steering);
    if (r != 0) return r;
    int wrong = 0;
    for (unsigned slot = 0; slot < memory->slots; slot++) {
        int32_t off = (int32_t)memory->counted[slot] - live[slot];
        if (off == 0 || memory->seat[slot].live != live[slot] || memory->tally[slot].opened != opened[slot]) continue;
        __atomic_fetch_add(&memory->seat[slot].live, off, __ATOMIC_RELAXED);
        wrong++;
    }
    return wrong;
}
