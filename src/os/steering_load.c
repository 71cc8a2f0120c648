// SPDX-License-Identifier: MIT
// Tried first with the right to read kernel memory (queues count), then without.
#include "steering_load.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "cpus.h"
#include "fd.h"
#include "steering.skel.h"
#include "str.h"

#ifndef CAP_PERFMON
#define CAP_PERFMON 38
#define CAP_BPF 39
#endif

#define LOG_SIZE (UINT32_C(1) << 20)
#define NEEDS "steering by eBPF needs CAP_BPF and CAP_NET_ADMIN (and CAP_PERFMON, to see how many wait in a queue)"

static bool may(int capability) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {0};
    if (syscall(SYS_capget, &header, data) != 0) return true;  // the kernel will say
    bool all = (data[0].effective & UINT32_C(1) << CAP_SYS_ADMIN) != 0;
    return all || (data[capability / 32].effective & UINT32_C(1) << capability % 32) != 0;
}

// The verifier's last line that is not a statistic.
static const char *last_words(char *log) {
    const char *last = "";
    char *rest = log;
    for (char *line = strtok_r(rest, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest))
        if (strncmp(line, "processed ", 10) != 0) last = line;
    return last;
}

static void choose_programs(struct steering_bpf *skeleton, unsigned slots, bool can_look) {
    skeleton->rodata->can_look = can_look;
    skeleton->bss->memory.looks = can_look;
    bpf_map__set_max_entries(skeleton->maps.sockets, slots);
    bpf_program__set_autoload(skeleton->progs.count_anywhere, can_look);
    bpf_program__set_autoload(skeleton->progs.learn, can_look);
    bpf_program__set_autoload(skeleton->progs.recount, can_look);
}

// The first cgroup v2 directory is the process's own.
static bool open_cgroup(const char *dir, bool is_v2, void *arg) {
    int *fd = arg;
    if (is_v2) *fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return *fd < 0;
}

// Workers' sockets belong to this process's cgroup or to one below. Where that cannot be watched, all of the machine can.
static struct bpf_link *attach_count(const struct steering_bpf *skeleton) {
    scoped_fd cgroup = -1;
    cpus_cgroup_each("/proc", "", "", open_cgroup, &cgroup);
    struct bpf_link *link = cgroup < 0 ? NULL : bpf_program__attach_cgroup(skeleton->progs.count_in_cgroup, cgroup);
    if (link == NULL && bpf_program__fd(skeleton->progs.count_anywhere) >= 0) link = bpf_program__attach(skeleton->progs.count_anywhere);
    return link;
}

static int duplicates(const int *from, int out_fds[static STEERING_FD_COUNT]) {
    int r = 0;
    for (int i = 0; i < STEERING_FD_COUNT; i++) {
        out_fds[i] = from[i] < 0 ? -1 : fcntl(from[i], F_DUPFD_CLOEXEC, 0);
        if (from[i] >= 0 && out_fds[i] < 0) r = -errno;
    }
    if (r != 0)
        for (int i = 0; i < STEERING_FD_COUNT; i++) fd_close(&out_fds[i]);
    return r;
}

static int take(struct steering_bpf *skeleton, int out_fds[static STEERING_FD_COUNT]) {
    struct bpf_link *link = attach_count(skeleton);
    skeleton->bss->memory.counts = link != NULL;
    const int fds[STEERING_FD_COUNT] = {
        [STEERING_FD_MEMORY] = bpf_map__fd(skeleton->maps.bss),
        [STEERING_FD_SOCKETS] = bpf_map__fd(skeleton->maps.sockets),
        [STEERING_FD_TAGS] = bpf_map__fd(skeleton->maps.tags),
        [STEERING_FD_MOVED] = bpf_map__fd(skeleton->maps.moved),
        [STEERING_FD_CHOOSE] = bpf_program__fd(skeleton->progs.choose),
        [STEERING_FD_LEARN] = bpf_program__fd(skeleton->progs.learn),
        [STEERING_FD_RECOUNT] = bpf_program__fd(skeleton->progs.recount),
        [STEERING_FD_COUNT_LINK] = link != NULL ? bpf_link__fd(link) : -1,
    };
    int r = duplicates(fds, out_fds);
    bpf_link__destroy(link);
    return r;
}

static int try_load(unsigned slots, bool can_look, int out_fds[static STEERING_FD_COUNT], struct pando_error *error) {
    scoped_str log = calloc(1, LOG_SIZE);
    if (log == NULL) return error_set(error, ENOMEM, "loading the steering program");
    // Level 0: written only when the program was refused, by trying once more.
    struct bpf_object_open_opts options = {.sz = sizeof options, .kernel_log_buf = log, .kernel_log_size = LOG_SIZE};
    struct steering_bpf *skeleton = steering_bpf__open_opts(&options);
    if (skeleton == NULL) return error_set(error, errno, "opening the steering program");
    choose_programs(skeleton, slots, can_look);
    int r = steering_bpf__load(skeleton);
    if (r != 0) {
        error_set(error, -r, "loading the steering program (%s)", last_words(log));
    } else {
        r = take(skeleton, out_fds);
        if (r != 0) error_set(error, -r, "duplicating the descriptors of the steering program");
    }
    steering_bpf__destroy(skeleton);
    return r;
}

int steering_load(unsigned slots, int out_fds[static STEERING_FD_COUNT], struct pando_error *error) {
    if (!may(CAP_BPF)) return error_say(error, EPERM, NEEDS ": CAP_BPF is missing");
    if (!may(CAP_NET_ADMIN)) return error_say(error, EPERM, NEEDS ": CAP_NET_ADMIN is missing");
    if (access("/sys/kernel/btf/vmlinux", R_OK) != 0)
        return error_set(error, errno, "steering by eBPF needs the kernel's description of its types, /sys/kernel/btf/vmlinux");
    libbpf_set_print(NULL);
    bool can_look = may(CAP_PERFMON);
    int r = try_load(slots, can_look, out_fds, error);
    return r != 0 && can_look && try_load(slots, false, out_fds, NULL) == 0 ? 0 : r;
}
