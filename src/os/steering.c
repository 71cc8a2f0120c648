// SPDX-License-Identifier: MIT
// User space's half: loads the program, then works on descriptors and one block of shared memory alone, so that whoever is
// handed those can go on. Everything that is decided stands in the memory; this process has nothing of its own to lose.
//
// The set of slots and their weights turns as a whole: it is written to the bank that is not in force, then `current`
// turns. A program that still reads the old bank decides as if the SYN had come a microsecond earlier. Should it be held up
// (a virtual processor taken away) until that bank is written once more, it may mix two sets: what it finds is a number below
// STEERING_SLOTS all the same, and a slot without a socket is passed over. So no grace period is waited for.
#include "steering.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "cpus.h"
#include "fd.h"
#include "steering.skel.h"

#ifndef CAP_PERFMON
#define CAP_PERFMON 38
#define CAP_BPF 39
#endif
#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

#define LOG_SIZE 65536

struct steering {
    int fd[STEERING_FD_COUNT];  // owned; -1 = none
    struct steering_memory *memory;
};

// ---- what this process may do

static bool may(int capability) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {0};
    if (syscall(SYS_capget, &header, data) != 0) return true;  // the kernel will tell
    uint32_t effective = data[capability / 32].effective;
    return (effective & UINT32_C(1) << capability % 32) != 0 || (data[0].effective & UINT32_C(1) << CAP_SYS_ADMIN) != 0;
}

static int refuse_missing(struct pando_error *error) {
    if (!may(CAP_BPF)) return error_say(error, EPERM, "steering by eBPF needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON: CAP_BPF is missing");
    if (!may(CAP_NET_ADMIN))
        return error_say(error, EPERM, "steering by eBPF needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON: CAP_NET_ADMIN is missing");
    if (access("/sys/kernel/btf/vmlinux", R_OK) != 0)
        return error_set(error, errno, "steering by eBPF needs a kernel that describes its types: /sys/kernel/btf/vmlinux");
    return 0;
}

// ---- the set of slots in force

static bool is_present(const struct steering_memory *memory, unsigned slot) {
    return memory->cookie[slot] != 0 && memory->moving != slot;
}

static bool is_fit(const struct steering_memory *memory, unsigned slot) {
    return is_present(memory, slot) && memory->weight[slot] != 0;
}

static uint32_t common_divisor(uint32_t a, uint32_t b) {
    while (b != 0) {
        uint32_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

// The class of that weight, made when there is none yet. NULL: there are too many.
static struct steering_class *class_of(struct steering_bank *bank, uint16_t weight) {
    for (uint32_t i = 0; i < bank->classes; i++)
        if (bank->class[i].weight == weight) return &bank->class[i];
    if (bank->classes == STEERING_CLASSES) return NULL;
    bank->class[bank->classes] = (struct steering_class){.weight = weight};
    return &bank->class[bank->classes++];
}

static bool bank_classes(struct steering_bank *bank, const uint16_t *weights, unsigned slots) {
    for (unsigned slot = 0; slot < slots; slot++)
        if (weights[slot] != 0 && class_of(bank, weights[slot]) == NULL) return false;
    return true;
}

// A stride near the golden section of the round spreads each class's turns over it.
static void bank_turns(struct steering_bank *bank) {
    uint32_t divisor = 0, end = 0;
    for (uint32_t i = 0; i < bank->classes; i++) divisor = common_divisor(bank->class[i].weight * bank->class[i].count, divisor);
    for (uint32_t i = 0; i < bank->classes && divisor != 0; i++)
        bank->class[i].end = end += bank->class[i].weight * bank->class[i].count / divisor;
    bank->round = end;
    bank->stride = (uint32_t)(end * 0.6180339887);
    while (end > 1 && (bank->stride == 0 || common_divisor(end, bank->stride) != 1)) bank->stride++;
}

static void bank_fill(struct steering_bank *bank, const struct steering_memory *memory, uint32_t lobby) {
    uint32_t at = 0;
    *bank = (struct steering_bank){0};
    for (unsigned slot = 0; slot < memory->slots; slot++)
        if (is_fit(memory, slot)) class_of(bank, memory->weight[slot]);
    for (uint32_t i = 0; i < bank->classes; i++) {
        struct steering_class *class = &bank->class[i];
        class->first = at;
        for (unsigned slot = 0; slot < memory->slots; slot++)
            if (is_fit(memory, slot) && memory->weight[slot] == class->weight) bank->order[at++] = (uint16_t)slot;
        class->count = at - class->first;
    }
    bank->fit = at;
    if (lobby < memory->slots && is_present(memory, lobby) && !is_fit(memory, lobby)) {
        bank->has_lobby = true;
        bank->order[at++] = (uint16_t)lobby;
    }
    for (unsigned slot = 0; slot < memory->slots; slot++)
        if (is_present(memory, slot) && !is_fit(memory, slot) && !(bank->has_lobby && slot == lobby)) bank->order[at++] = (uint16_t)slot;
    bank->members = at;
    bank_turns(bank);
}

static void bank_turn(struct steering *steering) {
    struct steering_memory *memory = steering->memory;
    uint32_t next = memory->current ^ 1;
    bank_fill(&memory->bank[next & 1], memory, memory->lobby);
    __atomic_store_n(&memory->current, next & 1, __ATOMIC_RELEASE);
}

// ---- loading

static int on_cgroup(const char *dir, bool is_v2, int *out_fd) { return is_v2 ? *out_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1; }

static bool each_cgroup(const char *dir, bool is_v2, void *arg) { return on_cgroup(dir, is_v2, arg) < 0; }

// Workers' sockets belong to this process's cgroup or to one below. Where that cannot be watched, all of the machine can.
static int attach_count(struct steering_bpf *skeleton, struct steering_memory *memory) {
    scoped_fd cgroup = -1;
    cpus_cgroup_each("/proc", "", "", each_cgroup, &cgroup);
    struct bpf_link *link = cgroup < 0 ? NULL : bpf_program__attach_cgroup(skeleton->progs.count_in_cgroup, cgroup);
    if (link == NULL && bpf_program__fd(skeleton->progs.count_anywhere) >= 0) link = bpf_program__attach(skeleton->progs.count_anywhere);
    memory->counts = link != NULL;
    if (link == NULL) return -1;
    int fd = fcntl(bpf_link__fd(link), F_DUPFD_CLOEXEC, 0);
    bpf_link__destroy(link);
    return fd;
}

static int duplicate(int fd) { return fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0); }

static int take_descriptors(struct steering *steering, struct steering_bpf *skeleton) {
    int *fd = steering->fd;
    fd[STEERING_FD_MEMORY] = duplicate(bpf_map__fd(skeleton->maps.bss));
    fd[STEERING_FD_SOCKETS] = duplicate(bpf_map__fd(skeleton->maps.sockets));
    fd[STEERING_FD_TAGS] = duplicate(bpf_map__fd(skeleton->maps.tags));
    fd[STEERING_FD_MOVED] = duplicate(bpf_map__fd(skeleton->maps.moved));
    fd[STEERING_FD_CHOOSE] = duplicate(bpf_program__fd(skeleton->progs.choose));
    fd[STEERING_FD_LEARN] = duplicate(bpf_program__fd(skeleton->progs.learn));
    fd[STEERING_FD_RECOUNT] = duplicate(bpf_program__fd(skeleton->progs.recount));
    return fd[STEERING_FD_MEMORY] < 0 || fd[STEERING_FD_SOCKETS] < 0 || fd[STEERING_FD_TAGS] < 0 || fd[STEERING_FD_CHOOSE] < 0 ? -EMFILE : 0;
}

static int map_memory(struct steering *steering) {
    long page = sysconf(_SC_PAGESIZE);
    size_t size = (sizeof *steering->memory + (size_t)page - 1) / (size_t)page * (size_t)page;
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, steering->fd[STEERING_FD_MEMORY], 0);
    if (at == MAP_FAILED) return -errno;
    steering->memory = at;
    return 0;
}

// The verifier's last line but one says what it did not like.
static void last_words(char *log, const char **out) {
    *out = "";
    for (char *line = strtok(log, "\n"); line != NULL; line = strtok(NULL, "\n"))
        if (strncmp(line, "processed ", 10) != 0) *out = line;
}
