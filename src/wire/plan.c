// SPDX-License-Identifier: MIT
// No allocation, no jansson: the keeper links this file.
//
//   | struct plan | argv offsets, 0 | strings | envp offsets, 0 | strings | filter | directory | path\0 |
//
// The last byte of a plan is NUL and lies in no array. Hence every offset inside the plan is a terminated string, even
// after the arrays have been overwritten by pointers, whatever a hostile plan lets overlap.
#include "plan.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "fd.h"

#define PLAN_ALIGN 8
#define PLAN_SIZE_MAX (64U << 20)  // execve(2) itself refuses more than 6 MiB of arguments by default
#define PLAN_SEALS (F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW)

static_assert(sizeof(struct sock_filter) == PLAN_ALIGN, "a filter is an array of aligned units");
static_assert(sizeof(char *) == sizeof(uint64_t), "offsets turn into pointers in place");

struct plan_writer {
    char *base;  // borrowed; NULL while only measuring
    size_t at;
};

static size_t plan_reserve(struct plan_writer *writer, size_t len) {
    size_t offset = (writer->at + PLAN_ALIGN - 1) & ~(size_t)(PLAN_ALIGN - 1);
    writer->at = offset + len;
    return offset;
}

static size_t plan_put(struct plan_writer *writer, const void *data, size_t len) {
    size_t offset = plan_reserve(writer, len);
    if (writer->base) memcpy(writer->base + offset, data, len);
    return offset;
}

static size_t plan_put_string(struct plan_writer *writer, const char *text) { return plan_put(writer, text, strlen(text) + 1); }

static size_t plan_put_strings(struct plan_writer *writer, char *const *strings) {
    size_t count = 0;
    while (strings[count]) count++;
    size_t array = plan_reserve(writer, (count + 1) * sizeof(uint64_t));
    for (size_t i = 0; i <= count; i++) {
        uint64_t offset = strings[i] ? plan_put_string(writer, strings[i]) : 0;
        if (writer->base) memcpy(writer->base + array + i * sizeof offset, &offset, sizeof offset);
    }
    return array;
}

// The path comes last: its NUL is the plan's last byte.
static void plan_write(struct plan_writer *writer, struct plan *plan, const struct plan_source *source) {
    plan_reserve(writer, sizeof *plan);
    plan->magic = PLAN_MAGIC;
    plan->argv = (uint32_t)plan_put_strings(writer, source->argv);
    plan->envp = (uint32_t)plan_put_strings(writer, source->envp);
    plan->filter_count = (uint32_t)source->filter_count;
    plan->filter = 0;
    if (source->filter_count > 0)
        plan->filter = (uint32_t)plan_put(writer, source->filter, source->filter_count * sizeof(struct sock_filter));
    plan->directory = source->directory ? (uint32_t)plan_put_string(writer, source->directory) : 0;
    plan->path = (uint32_t)plan_put_string(writer, source->path);
    plan->size = (uint32_t)writer->at;
    if (writer->base) memcpy(writer->base, plan, sizeof *plan);
}

int plan_seal(struct plan *plan, const struct plan_source *source) {
    struct plan_writer writer = {0};
    plan_write(&writer, plan, source);
    size_t size = writer.at;
    if (size > PLAN_SIZE_MAX) return -E2BIG;
    void *image = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (image == MAP_FAILED) return -errno;
    writer = (struct plan_writer){.base = image};
    plan_write(&writer, plan, source);
    int fd = fd_memfd_sealed("pando-plan", image, size);
    munmap(image, size);
    return fd;
}

static bool plan_string_valid(const struct plan *plan, uint64_t offset) { return offset >= sizeof *plan && offset < plan->size; }

static bool plan_filter_valid(const struct plan *plan) {
    if (plan->filter == 0) return plan->filter_count == 0;
    if (plan->filter_count == 0 || plan->filter_count > BPF_MAXINSNS) return false;
    uint64_t end = (uint64_t)plan->filter + plan->filter_count * sizeof(struct sock_filter);
    return plan->filter >= sizeof *plan && plan->filter % PLAN_ALIGN == 0 && end <= plan->size;
}

static bool plan_members_valid(const struct plan *plan) {
    if (plan->magic != PLAN_MAGIC || ((const char *)plan)[plan->size - 1] != '\0') return false;
    for (size_t i = 0; i < PLAN_FD_MAX; i++)
        if (plan->fd_target[i] < PLAN_FD_PROGRAM) return false;
    return plan->group_count <= PLAN_GROUP_MAX && memchr(plan->title, '\0', sizeof plan->title) && plan_filter_valid(plan) &&
           plan_string_valid(plan, plan->path) && (plan->directory == 0 || plan_string_valid(plan, plan->directory));
}

// Turns an array of offsets into an array of pointers. NULL when something lies outside.
static char **plan_link_strings(struct plan *plan, uint32_t array) {
    if (array < sizeof *plan || array % PLAN_ALIGN != 0) return NULL;
    for (uint64_t at = array; at + sizeof(uint64_t) < plan->size; at += sizeof(uint64_t)) {
        uint64_t *entry = (uint64_t *)((char *)plan + at);
        if (*entry == 0) return (char **)((char *)plan + array);
        if (!plan_string_valid(plan, *entry)) return NULL;
        *entry = (uintptr_t)plan + *entry;
    }
    return NULL;
}

static int plan_map_memfd(int memfd, struct plan **out_plan) {
    struct stat info;
    int seals = fcntl(memfd, F_GET_SEALS);
    if (seals < 0) return -errno;
    if ((seals & PLAN_SEALS) != PLAN_SEALS) return -EPERM;
    if (fstat(memfd, &info)) return -errno;
    if (info.st_size <= (off_t)sizeof(struct plan) || info.st_size > (off_t)PLAN_SIZE_MAX) return -EINVAL;
    struct plan *plan = mmap(NULL, (size_t)info.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, memfd, 0);
    if (plan == MAP_FAILED) return -errno;
    if (plan->size != info.st_size) {
        munmap(plan, (size_t)info.st_size);
        return -EINVAL;
    }
    *out_plan = plan;
    return 0;
}

int plan_map(int memfd, struct plan **out_plan, char ***out_argv, char ***out_envp) {
    struct plan *plan = NULL;
    int err = plan_map_memfd(memfd, &plan);
    if (err) return err;
    char **argv = NULL, **envp = NULL;
    if (plan_members_valid(plan)) {
        argv = plan_link_strings(plan, plan->argv);
        envp = plan_link_strings(plan, plan->envp);
    }
    if (!argv || !argv[0] || !envp) {
        plan_unmap(plan);
        return -EINVAL;
    }
    *out_plan = plan;
    *out_argv = argv;
    *out_envp = envp;
    return 0;
}

void plan_unmap(struct plan *plan) {
    if (plan) munmap(plan, plan->size);
}
