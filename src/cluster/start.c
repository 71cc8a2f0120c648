// SPDX-License-Identifier: MIT
// Starting the process of a slot: its plan, its pipes, its channel, its notify socket. Whatever must outlive this primary is with the
// keeper before the process runs.
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "clock.h"
#include "cpus.h"
#include "elf_note.h"
#include "environment.h"
#include "fd.h"
#include "log.h"
#include "plan.h"
#include "pool.h"
#include "spawn.h"

enum {
    PIPE_BYTES = 1 << 20,
    CHANNEL_BYTES = 256 << 10,
    CHANNEL_NUMBER = 3,
    SLOT_BITS = 16,  // of a token; the rest counts processes
    EXIT_NOT_FOUND = 127,
    EXIT_NOT_EXECUTABLE = 126,
};

struct start {
    struct pool *pool;
    struct worker *worker;
    const struct launch *launch;  // borrowed: of its generation
    uint64_t token;
    struct pool_fds near;         // owned until handed to the hook
    int far_out, far_err, far_ready, far_channel;  // owned
    struct passed {
        int fd, target;  // borrowed; the number it gets in the worker, or PLAN_FD_*
    } passed[PLAN_FD_MAX];
    size_t passed_count;
    int directory, program;  // borrowed: the generation's; -1 = by their paths
    bool unfiltered;  // the program says of itself that it asks for its sockets
    enum launch_channel channel;
    char path[PATH_MAX];
    char notify_path[108];
};

// execvp(3)'s search, done here: the child must not allocate, and the answer is worth an error of its own.
static int find_program(const struct launch *launch, char *out, size_t size) {
    const char *command = launch->argv[0];
    if (strchr(command, '/') != NULL) return snprintf(out, size, "%s", command) < (int)size ? 0 : -ENAMETOOLONG;
    const char *path = environment_get(launch->envp, "PATH");
    int error = -ENOENT;
    for (path = path != NULL ? path : "/usr/local/bin:/usr/bin:/bin"; *path != '\0';) {
        int len = (int)strcspn(path, ":");
        const char *base = path[0] == '/' ? "" : launch->directory;
        struct stat info;
        bool fits = snprintf(out, size, "%s%s%.*s/%s", base, *base != '\0' ? "/" : "", len, path, command) < (int)size;
        if (fits && stat(out, &info) == 0 && S_ISREG(info.st_mode)) {
            if (access(out, X_OK) == 0) return 0;
            error = -EACCES;
        }
        path += len + (path[len] == ':');
    }
    return error;
}

// The file that will run: by its path from the worker's directory, or the one that the generation has kept.
static bool is_unfiltered(const struct start *start) {
    char whole[PATH_MAX];
    if (start->program >= 0)
        snprintf(whole, sizeof whole, "/proc/self/fd/%d", start->program);
    else if (start->path[0] == '/')
        snprintf(whole, sizeof whole, "%s", start->path);
    else if (start->directory >= 0)
        snprintf(whole, sizeof whole, "/proc/self/fd/%d/%.4000s", start->directory, start->path);
    else if (snprintf(whole, sizeof whole, "%s/%s", start->launch->directory, start->path) >= (int)sizeof whole)
        return false;
    return elf_note_has(whole, ELF_NOTE_PANDO, ELF_NOTE_UNFILTERED);
}

static int make_pipe(int *out_near, int *out_far) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return -errno;
    fd_set_nonblock(ends[0], true);
    fcntl(ends[0], F_SETPIPE_SZ, PIPE_BYTES);  // beyond the user's share of pipe memory it stays as it is
    *out_near = ends[0];
    *out_far = ends[1];
    return 0;
}

static int make_pipes(struct start *start) {
    struct link *link = start->pool->link;
    if (start->pool->given != NULL) return 0;
    int r = make_pipe(&start->near.out, &start->far_out);
    if (r == 0) r = make_pipe(&start->near.err, &start->far_err);
    if (r == 0) r = link_post_hold(link, HELD_OUTPUT, start->token << 1, start->near.out);
    if (r == 0) r = link_post_hold(link, HELD_OUTPUT, start->token << 1 | 1, start->near.err);
    if (r != 0 || start->launch->ready != LAUNCH_READY_FD) return r;
    r = make_pipe(&start->near.ready_pipe, &start->far_ready);
    return r != 0 ? r : link_post_hold(link, HELD_READY_PIPE, start->token, start->near.ready_pipe);
}

// A worker's channel is where Node puts that of its children, unless the user has given the number away.
static int channel_number(const struct start *start) {
    const struct launch *launch = start->launch;
    if (start->pool->given != NULL) return POOL_GIVEN_FD_MAX;
    bool taken = launch->ready == LAUNCH_READY_FD && launch->ready_fd == CHANNEL_NUMBER;
    return taken ? CHANNEL_NUMBER + 1 : CHANNEL_NUMBER;
}

// Messages keep their length where both ends are ours; Node's protocol is a stream. The buffer's size is a wish.
static int make_channel(struct start *start) {
    enum launch_channel kind = start->channel;
    int ends[2], wanted = CHANNEL_BYTES;
    if (kind == LAUNCH_CHANNEL_NONE) return 0;
    if (socketpair(AF_UNIX, (kind == LAUNCH_CHANNEL_NODE ? SOCK_STREAM : SOCK_SEQPACKET) | SOCK_CLOEXEC, 0, ends) != 0) return -errno;
    start->near.channel = ends[0];
    start->far_channel = ends[1];
    fd_set_nonblock(ends[0], true);
    for (int i = 0; i < 2; i++) setsockopt(ends[i], SOL_SOCKET, SO_SNDBUF, &wanted, sizeof wanted);
    // Where a worker ends with its primary, the channel's end has to be the primary's end.
    return start->pool->given != NULL ? 0 : link_post_hold(start->pool->link, HELD_CHANNEL, start->token, start->near.channel);
}

static void drop_pipes(struct start *start) {
    link_drop(start->pool->link, HELD_OUTPUT, start->token << 1);
    link_drop(start->pool->link, HELD_OUTPUT, start->token << 1 | 1);
    link_drop(start->pool->link, HELD_READY_PIPE, start->token);
    link_drop(start->pool->link, HELD_CHANNEL, start->token);
}

static void close_all(struct start *start) {
    fd_close(&start->near.out);
    fd_close(&start->near.err);
    fd_close(&start->near.ready_pipe);
    fd_close(&start->near.channel);
    fd_close(&start->far_channel);
    fd_close(&start->far_out);
    fd_close(&start->far_err);
    fd_close(&start->far_ready);
}

static void fill_user(const struct launch *launch, struct plan *plan) {
    plan->set_user = launch->has_user;
    plan->uid = launch->uid;
    plan->gid = launch->gid;
    plan->group_count = (uint32_t)(launch->group_count < PLAN_GROUP_MAX ? launch->group_count : PLAN_GROUP_MAX);
    for (uint32_t i = 0; i < plan->group_count; i++) plan->groups[i] = launch->groups[i];
}

static void fill_cpu(const struct start *start, struct plan *plan) {
    cpu_set_t may, one;
    if (!start->launch->pin || sched_getaffinity(0, sizeof may, &may) != 0) return;
    int cpu = cpus_pick(&may, worker_number(start->worker));
    if (cpu < 0) return;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    plan->set_affinity = true;
    memcpy(plan->cpus, &one, sizeof one < sizeof plan->cpus ? sizeof one : sizeof plan->cpus);
}

static void give(struct start *start, int fd, int target) {
    if (fd >= 0) start->passed[start->passed_count++] = (struct passed){fd, target};
}

// In the order of the plan.
static void list_given(struct start *start) {
    const struct pool_given *given = start->pool->given;
    give(start, start->far_out, STDOUT_FILENO);
    give(start, start->far_err, STDERR_FILENO);
    give(start, start->far_ready, start->launch->ready_fd);
    for (int i = 0; given != NULL && i < POOL_GIVEN_FD_MAX; i++) give(start, given->fd[i], i);
    give(start, start->far_channel, channel_number(start));
    give(start, start->directory, PLAN_FD_DIRECTORY);
    give(start, start->program, PLAN_FD_PROGRAM);
}

static int make_plan(const struct start *start) {
    const struct pool *pool = start->pool;
    const struct launch *launch = start->launch;
    struct environment with = {.slot = worker_number(start->worker),
                               .workers = (int)pool->record->wanted,
                               .generation = start->worker->record->generation,
                               .cpus_per_worker = pool->cpus / (int)pool->record->wanted > 1 ? pool->cpus / (int)pool->record->wanted : 1,
                               .notify_socket = start->notify_path[0] != '\0' ? start->notify_path : NULL,
                               .channel = start->channel,
                               .channel_fd = channel_number(start),
                               .channel_inode = start->far_channel >= 0 ? listeners_inode(start->far_channel) : 0,
                               .node_id = launch_is_node_cluster(launch) ? start->token >> SLOT_BITS : 0,
                               .id = pool->given != NULL ? start->token >> SLOT_BITS : 0,
                               .on_top = pool->given != NULL ? pool->given->env : NULL};
    bool filtered = pool->filter != NULL && !start->unfiltered;
    struct plan plan = {.magic = PLAN_MAGIC,
                        .filter_flags = filtered ? pool->filter_flags : 0,
                        .no_new_privs = filtered && pool->no_new_privs,
                        .nofile_soft = launch->nofile_soft,
                        .nofile_hard = launch->nofile_hard};
    for (int i = 0; i < PLAN_FD_MAX; i++) plan.fd_target[i] = -1;
    for (size_t i = 0; i < start->passed_count; i++) plan.fd_target[i] = start->passed[i].target;
    snprintf(plan.title, sizeof plan.title, "worker %d", worker_number(start->worker));
    fill_user(launch, &plan);
    fill_cpu(start, &plan);
    char **envp = environment_build(launch->envp, &with);
    if (envp == NULL) return -ENOMEM;
    struct plan_source source = {.argv = launch->argv,
                                 .envp = envp,
                                 .path = start->path,
                                 .directory = launch->directory,
                                 .filter = filtered ? pool->filter : NULL,
                                 .filter_count = filtered ? pool->filter_count : 0};
    int memfd = plan_seal(&plan, &source);
    environment_free(envp);
    return memfd;
}

static int explain(const struct start *start, int r, enum spawn_stage stage, struct pando_error *error, int *out_exit_code) {
    const char *command = start->launch->argv[0];
    bool refused = stage == SPAWN_STAGE_FILTER && (r == -EBUSY || r == -EINVAL || r == -ENOSYS || r == -EPERM);
    if (refused || stage == SPAWN_STAGE_USER) *out_exit_code = 1;
    if (refused)
        return error_say(error, -r,
                         "start %s: %s: %s (%s; `pando run --no-intercept -w 1` runs one copy without sharing)", command,
                         spawn_stage_text[stage], strerror(-r),
                         r == -EBUSY ? "a program above Pando, such as LXD, Incus or another Pando, listens already"
                                     : "seccomp user notification is missing here");
    if (stage == SPAWN_STAGE_USER)
        return error_say(error, -r, "start %s: change to user %s: %s (only root may)", command, start->launch->user, strerror(-r));
    if (stage == SPAWN_STAGE_DIRECTORY)
        return error_set(error, -r, "start %s: change to the directory %s", command, start->launch->directory);
    if (stage == SPAWN_STAGE_EXEC) *out_exit_code = r == -ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE;
    return error_set(error, -r, "start %s: %s", command, spawn_stage_text[stage]);
}

static int spawn_it(struct start *start, struct pando_error *error, int *out_exit_code) {
    struct worker *worker = start->worker;
    uint32_t stage = SPAWN_STAGE_PLAN;
    int fds[PLAN_FD_MAX];
    int r = make_pipes(start);
    if (r == 0) r = make_channel(start);
    if (r != 0) return error_set(error, -r, "start worker %d: make its pipes", worker_number(worker));
    if ((r = pool_fit_filter(start->pool, worker)) != 0) return error_set(error, -r, "start worker %d: build its filter", worker_number(worker));
    list_given(start);
    for (size_t i = 0; i < start->passed_count; i++) fds[i] = start->passed[i].fd;
    scoped_fd memfd = make_plan(start);
    if (memfd < 0) return error_set(error, -memfd, "start worker %d: make its plan", worker_number(worker));
    pid_t pid = 0;
    r = link_spawn(start->pool->link, start->token, memfd, fds, start->passed_count, &pid, &worker->pidfd,
                   &worker->listener, &stage);
    if (r != 0) return explain(start, r, (enum spawn_stage)stage, error, out_exit_code);
    worker->record->pid = pid;
    worker->record->shuts_down_unasked = start->pool->record->mode == LAUNCH_MODE_PULL && start->pool->filter_shut_down == 0;
    worker->others = (struct connections_others){0};
    worker->ask_kernel_ns = worker->look_again_ns = worker->restless_looks = 0;
    return 0;
}

static void make_notify_path(struct start *start) {
    if (start->pool->notify_directory[0] == '\0') return;
    int len = snprintf(start->notify_path, sizeof start->notify_path, "%s/%d", start->pool->notify_directory, start->worker->slot);
    if (len >= (int)sizeof start->notify_path) start->notify_path[0] = '\0';
}

int pool_start_process(struct pool *pool, struct worker *worker, struct pando_error *error, int *out_exit_code) {
    const struct launch *launch = pool_launch_of(pool, worker);
    struct start start = {.pool = pool, .worker = worker, .launch = launch, .near = {-1, -1, -1, -1}, .far_out = -1, .far_err = -1,
                          .far_ready = -1, .far_channel = -1, .directory = -1, .program = -1};
    struct record_worker *record = worker->record;
    start.token = ++pool->record->next_incarnation << SLOT_BITS | (uint64_t)worker->slot;
    int r = find_program(launch, start.path, sizeof start.path);
    if (r != 0) {
        *out_exit_code = r == -ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE;
        return error_set(error, -r, "start %s: find it in PATH", launch->argv[0]);
    }
    if (pool->given == NULL) {
        start.directory = generations_directory(&pool->generations, record->generation);
        start.program = generations_program(&pool->generations, record->generation, start.path);
    }
    start.unfiltered = is_unfiltered(&start);
    start.channel = launch_channel_of(launch);
    if (start.channel == LAUNCH_CHANNEL_NONE && start.unfiltered) start.channel = LAUNCH_CHANNEL_PANDO;
    make_notify_path(&start);
    record->token = start.token;
    record->intercept = pool->record->intercept;
    record->started_ns = clock_now_ns();
    record->first_listen_ns = record->addresses = record->asked = record->ask_ns = 0;
    record->answers = 0;
    record->stale = record->told = record->cut_short = record->bid = record->messaged = record->leaving = record->frozen = record->ready_sign = record->foreign = false;
    record->online = record->opened = false;
    record->tail[0] = '\0';
    r = spawn_it(&start, error, out_exit_code);
    if (r != 0) {
        drop_pipes(&start);
        record->token = 0;
    } else {
        pool->hooks.started(pool->arg, worker, &start.near);
    }
    close_all(&start);
    return r;
}
