// SPDX-License-Identifier: MIT
// The keeper: parent of everything, the process that does not die.
//
//            signals            one channel              children
//   shell ----------> keeper <------------> primary      worker 0, worker 1, ...
//
// It spawns, reaps and holds descriptors, and does for the primary what only an ancestor may (read a worker's memory,
// duplicate its descriptors, stop it). It parses nothing, decides nothing, allocates nothing after start. All it knows is
// two tables: the children, and the descriptors it holds. What the primary must hear is derived from the tables, never
// queued; a primary that dies is replaced and told everything again.
//
// Embedded in a program that is its own primary (libpando) it is that program's child and starts no other: when the program
// ends, the workers are told to end as well, or live on without a primary until they end (surviving).
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "channel.h"
#include "clock.h"
#include "fd.h"
#include "foreign.h"
#include "inherit.h"
#include "keeper.h"
#include "log.h"
#include "plan.h"
#include "sdnotify.h"
#include "spawn.h"

#define RESTART_FIRST_NS (20 * CLOCK_MS)
#define RESTART_LAST_NS (5 * CLOCK_S)
#define PRIMARY_HEALTHY_NS (10 * CLOCK_S)
#define CHANNEL_PATIENCE_MS 5000  // a primary that does not read for so long is stuck, and is replaced
#define TRIAL_NS (10 * CLOCK_S)   // a primary from a new program has so long to take over

enum { START_FAILED_STATUS = 127 << 8 };  // as a shell would say it, as from waitpid(2)
enum { DRAIN_BYTES = 4096, QUICK_DEATHS_MAX = 5, POLL_FIXED = 3 };

static const int forwarded[FORWARDED_MAX] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGTTIN, SIGTTOU};

struct keeper keeper = {.channel = -1, .primary_pidfd = -1, .parent_pidfd = -1};

// A reader of our stderr that stalls costs lines, never the service.
static void write_if_room(void *arg, const char *bytes, size_t len) {
    (void)arg;
    struct pollfd room = {.fd = STDERR_FILENO, .events = POLLOUT};
    if (poll(&room, 1, 0) != 1 || (room.revents & POLLOUT) == 0) return;
    if (write(STDERR_FILENO, bytes, len) < 0) return;
}

// ---- the primary

static void primary_gone(void) {
    fd_close(&keeper.channel);
    keeper.told = false;
    for (size_t i = 0; i < keeper.child_end; i++) keeper.child[i].reported = false;
    for (int i = 0; i < FORWARDED_MAX; i++) keeper.signal_told[i] = 0;
}

// Nobody will tell the sockets of those that die from then on: without us they go with them.
static void held_drop_sockets(void) {
    for (size_t i = 0; i < keeper.held_end; i++)
        if (keeper.held[i].kind == HELD_SOCKET) held_drop(&keeper.held[i]);
}

static void program_ended(void) {
    if (keeper.ending_ns != 0 || keeper.quitting) return;
    primary_gone();
    fd_close(&keeper.parent_pidfd);
    keeper.ending_ns = keeper.surviving ? CLOCK_NEVER : clock_now_ns() + CHANNEL_PATIENCE_MS * CLOCK_MS;
    held_drop_sockets();
    for (size_t i = 0; i < keeper.child_end && !keeper.surviving; i++) {
        if (keeper.child[i].pid <= 0 || keeper.child[i].exited) continue;
        kill(-keeper.child[i].pid, SIGTERM);
        kill(-keeper.child[i].pid, SIGCONT);
    }
}

// At once, then 20 ms doubling to 5 s.
static uint64_t restart_wait_ns(void) {
    if (keeper.quick_deaths <= 1) return 0;
    uint64_t wait = RESTART_FIRST_NS;
    for (int i = 2; i < keeper.quick_deaths && wait < RESTART_LAST_NS; i++) wait *= 2;
    return wait < RESTART_LAST_NS ? wait : RESTART_LAST_NS;
}

// What it wrote to its standard error before that says why.
static void log_death(int status) {
    char next[64] = "another takes over";
    unsigned wait_ms = (unsigned)(restart_wait_ns() / CLOCK_MS);
    if (keeper.quick_deaths > 1)
        snprintf(next, sizeof next, "%d in a row did not stay up, the next starts in %u ms", keeper.quick_deaths, wait_ms);
    if (WIFSIGNALED(status))
        log_warn("the primary was killed by signal %d; the workers serve on, %s", WTERMSIG(status), next);
    else
        log_warn("the primary ended with code %d; the workers serve on, %s", WEXITSTATUS(status), next);
}

// One that was up and was killed by a person has not failed.
static void primary_died(int status) {
    bool killed = keeper.was_up && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    bool healthy = killed || clock_now_ns() - keeper.primary_started_ns >= PRIMARY_HEALTHY_NS;
    primary_gone();
    fd_close(&keeper.primary_pidfd);
    keeper.primary = 0;
    if (keeper.quitting) return;
    if (keeper.trial == KEEPER_TRIAL_RUNNING) {
        become_old(status);
        return;
    }
    keeper.quick_deaths = healthy ? 0 : keeper.quick_deaths + 1;
    keeper.primary_retry_ns = clock_now_ns() + restart_wait_ns();
    log_death(status);
}

static void start_failed(const char *what, int error) {
    if (keeper.trial == KEEPER_TRIAL_RUNNING) {
        log_error("cannot start the primary of the new program: %s: %s", what, strerror(error));
        become_old(START_FAILED_STATUS);
        return;
    }
    keeper.quick_deaths++;
    log_error("cannot start the primary: %s: %s; trying again in 1 s", what, strerror(error));
}

static void primary_start(void) {
    static char program[32], verb[] = INHERIT_PRIMARY_VERB;
    snprintf(program, sizeof program, "/proc/self/fd/%d", held_fd(HELD_PANDO, 0));
    char *argv[] = {(char[]){"pando"}, verb, keeper.name, NULL};
    int pair[2];
    keeper.was_up = false;
    keeper.primary_started_ns = clock_now_ns();
    keeper.primary_retry_ns = keeper.primary_started_ns + CLOCK_S;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0) {
        start_failed("make its channel", errno);
        return;
    }
    struct spawn spawn = {.path = program, .argv = argv, .envp = keeper.envp, .new_session = true};
    for (int i = 0; i < SPAWN_FD_MAX; i++) spawn.fd_source[i] = spawn.fd_target[i] = -1;
    spawn.fd_source[0] = pair[1];
    spawn.fd_target[0] = INHERIT_CHANNEL;
    struct spawned spawned;
    int r = spawn_start(&spawn, &spawned);
    fd_close(&pair[1]);
    if (r != 0) {
        fd_close(&pair[0]);
        start_failed(spawn_stage_text[spawned.failed_stage], -r);
        return;
    }
    keeper.channel = pair[0];
    keeper.primary = spawned.pid;
    keeper.primary_pidfd = spawned.pidfd;
}

// A primary that neither reads nor dies is no primary.
static void primary_replace(const char *why) {
    if (keeper.embedded) {
        log_error("the program %s: its workers are ended", why);
        program_ended();
        return;
    }
    log_error("the primary %s: it is replaced", why);
    if (keeper.primary > 0) kill(keeper.primary, SIGKILL);
    primary_gone();
}

// Waits for room: replies and the telling of HELLO must arrive, and the primary is reading.
static int tell(const struct keeper_message *message, const int *fds, size_t fd_count) {
    for (;;) {
        int r = channel_send(keeper.channel, message, fds, fd_count);
        if (r != -EAGAIN) return r;
        struct pollfd room = {.fd = keeper.channel, .events = POLLOUT};
        if (poll(&room, 1, CHANNEL_PATIENCE_MS) == 0) return -ETIMEDOUT;
    }
}

static void reply(const struct keeper_message *message, const int *fds, size_t fd_count) {
    if (tell(message, fds, fd_count) == -ETIMEDOUT) primary_replace("does not take its answers");
}

static void reply_result(int result) { reply(&(struct keeper_message){.verb = KEEPER_REPLY, .result = result}, NULL, 0); }

// ---- requests

static int hello_children(void) {
    for (size_t i = 0; i < keeper.child_end; i++) {
        struct keeper_child *child = &keeper.child[i];
        if (child->pid == 0) continue;
        struct keeper_message message = {
            .verb = KEEPER_CHILD, .key = child->token, .pid = child->pid, .exited = child->exited, .status = child->status,
            .foreign = child->foreign};
        int fds[2] = {child->pidfd, child->listener};
        int r = tell(&message, fds, child->listener >= 0 ? 2 : 1);
        if (r != 0) return r;
        child->reported = child->exited;
    }
    return 0;
}

static int hello_held(void) {
    for (size_t i = 0; i < keeper.held_end; i++) {
        if (keeper.held[i].kind == 0) continue;
        struct keeper_message message = {.verb = KEEPER_HELD, .kind = keeper.held[i].kind, .key = keeper.held[i].key};
        int r = tell(&message, &keeper.held[i].fd, 1);
        if (r != 0) return r;
    }
    return 0;
}

static void on_hello(void) {
    struct keeper_message answer = {.verb = KEEPER_REPLY, .kind = keeper.trial, .status = keeper.trial_status};
    int r = hello_children();
    if (r == 0) r = hello_held();
    if (r != 0) {
        primary_replace("does not take what it asked for");
        return;
    }
    keeper.told = keeper.was_up = keeper.ever_told = true;
    reply(&answer, NULL, 0);
}

static void on_settled(void) {
    become_settled();
    reply_result(0);
}

static void on_state(void) {
    scoped_fd memfd = become_memfd();
    reply(&(struct keeper_message){.verb = KEEPER_REPLY, .result = memfd < 0 ? memfd : 0}, &memfd, memfd < 0 ? 0 : 1);
}

static void on_upgrade(int *fds, size_t fd_count) {
    reply_result(fd_count != 2 ? -EINVAL : keeper.trial != KEEPER_TRIAL_NONE ? -EBUSY : become_new(fds));
}

static void spawn_from_plan(struct spawn *spawn, const struct plan *plan, char **argv, char **envp, const int *fds, size_t fd_count) {
    const char *base = (const char *)plan;
    *spawn = (struct spawn){
        .path = base + plan->path,
        .argv = argv,
        .envp = envp,
        .directory = plan->directory != 0 ? base + plan->directory : NULL,
        .new_session = true,
        .no_steering = true,
        .set_user = plan->set_user,
        .no_new_privs = plan->no_new_privs,
        .uid = plan->uid,
        .gid = plan->gid,
        .groups = plan->groups,
        .group_count = plan->group_count,
        .nofile_soft = plan->nofile_soft,
        .nofile_hard = plan->nofile_hard,
        .filter = plan->filter != 0 ? (const struct sock_filter *)(base + plan->filter) : NULL,
        .filter_count = plan->filter_count,
        .filter_flags = plan->filter_flags,
    };
    if (plan->set_affinity) spawn->cpus = (const cpu_set_t *)plan->cpus;
    spawn->fd_source[0] = keeper.null;
    spawn->fd_target[0] = STDIN_FILENO;
    for (int i = 0; i + 1 < SPAWN_FD_MAX; i++) {
        bool used = i < PLAN_FD_MAX && (size_t)i + 1 < fd_count && plan->fd_target[i] >= 0;
        spawn->fd_source[i + 1] = used ? fds[i + 1] : -1;
        spawn->fd_target[i + 1] = used ? plan->fd_target[i] : -1;
        if ((size_t)i + 1 >= fd_count || i >= PLAN_FD_MAX) continue;
        if (plan->fd_target[i] == PLAN_FD_DIRECTORY) spawn->directory_fd = fds[i + 1];
        if (plan->fd_target[i] == PLAN_FD_PROGRAM) spawn->program_fd = fds[i + 1];
    }
}

static int spawn_child(uint64_t token, const int *fds, size_t fd_count, struct spawned *out) {
    struct plan *plan;
    char **argv, **envp;
    struct spawn spawn;
    struct keeper_child *row = child_free_row();
    *out = (struct spawned){.pid = -1, .pidfd = -1, .listener = -1, .failed_stage = SPAWN_STAGE_PLAN};
    if (row == NULL) return -EAGAIN;
    if (fd_count < 1) return -EINVAL;
    int r = plan_map(fds[0], &plan, &argv, &envp);
    if (r != 0) return r;
    spawn_from_plan(&spawn, plan, argv, envp, fds, fd_count);
    r = spawn_start(&spawn, out);
    plan_unmap(plan);
    if (r == 0) *row = (struct keeper_child){.pid = out->pid, .token = token, .pidfd = out->pidfd, .listener = out->listener};
    return r;
}

static void on_spawn(const struct keeper_message *request, const int *fds, size_t fd_count) {
    struct spawned spawned;
    int r = spawn_child(request->key, fds, fd_count, &spawned);
    struct keeper_message message = {.verb = KEEPER_REPLY, .result = r, .pid = spawned.pid, .kind = spawned.failed_stage};
    int out[2] = {spawned.pidfd, spawned.listener};
    reply(&message, out, r != 0 ? 0 : spawned.listener >= 0 ? 2 : 1);
}

static bool refuses(pid_t pid) {
    if (!keeper.refuse_foreign) return keeper.refuse;
    const struct keeper_child *child = child_find(getpgid(pid), false);
    return child != NULL && child->foreign;
}

static void on_peek(const struct keeper_message *request) {
    struct keeper_message message = {.verb = KEEPER_REPLY, .result = -EPERM};
    struct iovec near = {message.data, request->len};
    struct iovec far = {(void *)(uintptr_t)request->address, request->len};
    if (request->len > CHANNEL_DATA_SIZE) {
        message.result = -EINVAL;
    } else if (!refuses(request->pid)) {
        ssize_t n = process_vm_readv(request->pid, &near, 1, &far, 1, 0);
        message.result = n >= 0 ? (int)n : -errno;
    }
    reply(&message, NULL, 0);
}

static void on_getfd(const struct keeper_message *request) {
    scoped_fd pidfd = (int)syscall(SYS_pidfd_open, request->pid, 0);
    int open_error = pidfd < 0 ? -errno : 0;
    scoped_fd fd = -1;
    bool refused = refuses(request->pid);
    if (open_error == 0 && !refused) fd = (int)syscall(SYS_pidfd_getfd, pidfd, request->fd, 0);
    int result = open_error != 0 ? open_error : refused ? -EPERM : fd < 0 ? -errno : 0;
    reply(&(struct keeper_message){.verb = KEEPER_REPLY, .result = result}, &fd, result == 0 ? 1 : 0);
}

static void on_kill(const struct keeper_message *request) {
    struct keeper_child *child = child_find(request->pid, false);
    int result = child == NULL    ? -ESRCH
                 : child->foreign ? foreign_kill(child, request->signo, request->to_group)
                 : kill(request->to_group ? -request->pid : request->pid, request->signo) == 0 ? 0
                                                                                              : -errno;
    reply_result(result);
}

static void on_forget(const struct keeper_message *request) {
    struct keeper_child *child = child_find(request->pid, true);
    if (child != NULL) {
        fd_close(&child->pidfd);
        fd_close(&child->listener);
        *child = (struct keeper_child){.pidfd = -1, .listener = -1};
    }
    reply_result(0);
}

static void on_heard(const struct keeper_message *request) {
    for (int i = 0; i < FORWARDED_MAX; i++) {
        if (forwarded[i] != request->signo || keeper.signal_told[i] == 0) continue;
        keeper.signal_told[i]--;
        keeper.signal_count[i]--;
    }
    reply_result(0);
}

// The supervisor takes the word of the process that it started, and of no other (NotifyAccess=main).
static void on_notify(const struct keeper_message *request, const int *fds, size_t fd_count) {
    bool fits = request->len <= CHANNEL_DATA_SIZE;
    reply_result(fits ? sdnotify_send(&keeper.supervisor, request->data, request->len, fds, fd_count) : -EINVAL);
}

static void on_request(const struct keeper_message *request, int *fds, size_t fd_count) {
    switch ((enum keeper_verb)request->verb) {
        case KEEPER_HELLO: on_hello(); return;
        case KEEPER_HOLD: reply_result(fd_count == 1 && request->kind != 0 ? held_put(request->kind, request->key, &fds[0]) : -EINVAL); return;
        case KEEPER_DROP:
            held_drop(held_find(request->kind, request->key));
            reply_result(0);
            return;
        case KEEPER_SPAWN: on_spawn(request, fds, fd_count); return;
        case KEEPER_PEEK: on_peek(request); return;
        case KEEPER_GETFD: on_getfd(request); return;
        case KEEPER_KILL: on_kill(request); return;
        case KEEPER_FORGET: on_forget(request); return;
        case KEEPER_HEARD: on_heard(request); return;
        case KEEPER_SETTLED: on_settled(); return;
        case KEEPER_STATE: on_state(); return;
        case KEEPER_UPGRADE: on_upgrade(fds, fd_count); return;
        case KEEPER_NOTIFY: on_notify(request, fds, fd_count); return;
        case KEEPER_QUIT:
            keeper.quitting = true;
            keeper.exit_code = request->result;
            return;
        case KEEPER_REPLY:
        case KEEPER_CHILD:
        case KEEPER_HELD:
        case KEEPER_EXITED:
        case KEEPER_SIGNAL: break;
    }
    reply_result(-EINVAL);
}

static void on_channel(void) {
    struct keeper_message request;
    int fds[CHANNEL_FD_MAX];
    size_t fd_count;
    while (keeper.channel >= 0 && !keeper.quitting) {
        int r = channel_receive(keeper.channel, &request, fds, CHANNEL_FD_MAX, &fd_count);
        if (r == -EAGAIN || r == -EINTR) return;
        if (r == 0) {
            if (keeper.embedded)
                program_ended();
            else
                primary_gone();
            return;
        }
        if (r == -EMFILE) {
            reply_result(r);
            continue;
        }
        if (r < 0) {
            primary_replace("sends what is no request");
            return;
        }
        on_request(&request, fds, fd_count);
        for (size_t i = 0; i < fd_count; i++) fd_close(&fds[i]);
    }
}

// ---- children and signals

// The group is killed before its leader is reaped: until then nobody else can have the number.
static void reap(void) {
    for (;;) {
        siginfo_t info = {0};
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == 0) return;
        struct keeper_child *child = child_find(info.si_pid, false);
        if (child != NULL) kill(-info.si_pid, SIGKILL);
        int status = 0;
        if (waitpid(info.si_pid, &status, 0) != info.si_pid) continue;
        if (info.si_pid == keeper.primary) {
            on_channel();  // its last words, which may be to quit
            primary_died(status);
        } else if (child != NULL) {
            child->exited = true;
            child->status = status;
        }
    }
}

// Whoever reaps it now may have done so; its group keeps its number as long as it has members.
static void reap_foreign(void) {
    for (size_t i = 0; i < keeper.child_end; i++) {
        struct keeper_child *child = &keeper.child[i];
        if (!child->foreign || child->exited || !foreign_has_ended(child)) continue;
        kill(-child->pid, SIGKILL);
        child->exited = true;
        child->status = foreign_status(child);
    }
}

static size_t poll_foreign(struct pollfd *polls, size_t count) {
    for (size_t i = 0; i < keeper.child_end; i++)
        if (keeper.child[i].foreign && !keeper.child[i].exited) polls[count++] = (struct pollfd){.fd = keeper.child[i].pidfd, .events = POLLIN};
    return count;
}

// An interactive shell passes the HUP of a vanished terminal on with kill(2), as a person would: the terminal itself tells.
static bool has_terminal(void) {
    scoped_fd terminal = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    return terminal >= 0;
}

static void on_signals(void) {
    struct signalfd_siginfo info;
    while (read(keeper.signals, &info, sizeof info) == sizeof info) {
        for (int i = 0; i < FORWARDED_MAX; i++) {
            if ((int)info.ssi_signo != forwarded[i]) continue;
            keeper.signal_count[i]++;
            keeper.signal_from_kernel[i] = info.ssi_code == SI_KERNEL || (keeper.had_terminal && !has_terminal());
        }
    }
    reap();
}

// No primary, and it does not stay up: whoever wants us to stop is obeyed without one. If none ever was, there is nothing
// to keep.
static void act_alone(void) {
    if (keeper.embedded) return;
    if (keeper.channel >= 0 || keeper.quick_deaths < QUICK_DEATHS_MAX) return;
    bool asked = keeper.signal_count[0] + keeper.signal_count[1] > 0;
    if (!asked && keeper.ever_told) return;
    log_error(asked ? "asked to stop while no primary stays up: the workers are killed" : "gives up: no primary could be started");
    keeper.quitting = true;
    keeper.exit_code = 1;
}

// The program has ended. Surviving: who asks us to stop is obeyed.
static void end_with_program(void) {
    bool alive = false;
    if (keeper.ending_ns == 0) return;
    for (size_t i = 0; i < keeper.child_end; i++) alive = alive || (keeper.child[i].pid > 0 && !keeper.child[i].exited);
    bool asked = keeper.signal_count[0] + keeper.signal_count[1] > 0;
    if (!alive || clock_now_ns() >= keeper.ending_ns || (keeper.surviving && asked)) keeper.quitting = true;
}

static void report_signals(void) {
    for (int i = 0; i < FORWARDED_MAX; i++) {
        while (keeper.signal_told[i] < keeper.signal_count[i]) {
            struct keeper_message message = {
                .verb = KEEPER_SIGNAL, .signo = forwarded[i], .from_kernel = keeper.signal_from_kernel[i]};
            if (channel_send(keeper.channel, &message, NULL, 0) != 0) return;
            keeper.signal_told[i]++;
        }
    }
}

// True when something is left to report: the loop then waits for room as well.
static bool report(void) {
    if (!keeper.told) return false;
    report_signals();
    for (size_t i = 0; i < keeper.child_end; i++) {
        struct keeper_child *child = &keeper.child[i];
        if (child->pid == 0 || !child->exited || child->reported) continue;
        struct keeper_message message = {.verb = KEEPER_EXITED, .key = child->token, .pid = child->pid, .status = child->status};
        if (channel_send(keeper.channel, &message, NULL, 0) != 0) return true;
        child->reported = true;
    }
    return false;
}

// ---- while no primary lives, nobody may block in a print

static void drain(int fd) {
    char bytes[DRAIN_BYTES];
    ssize_t n = read(fd, bytes, sizeof bytes);
    if (n > 0) write_if_room(NULL, bytes, (size_t)n);
}

static size_t poll_outputs(struct pollfd *polls, size_t count) {
    for (size_t i = 0; i < keeper.held_end; i++)
        if (keeper.held[i].kind == HELD_OUTPUT) polls[count++] = (struct pollfd){.fd = keeper.held[i].fd, .events = POLLIN};
    return count;
}

// The end of a dead worker's pipe: nothing more can come, and poll would report it for ever.
static void drop_ended(int fd) {
    for (size_t i = 0; i < keeper.held_end; i++)
        if (keeper.held[i].kind == HELD_OUTPUT && keeper.held[i].fd == fd) held_drop(&keeper.held[i]);
}

static void drain_outputs(const struct pollfd *polls, size_t count) {
    for (size_t i = POLL_FIXED; i < count; i++) {
        if (polls[i].revents & POLLIN)
            drain(polls[i].fd);
        else if (polls[i].revents & (POLLHUP | POLLERR | POLLNVAL))
            drop_ended(polls[i].fd);
    }
}

// ---- the loop

static int wait_ms(void) {
    uint64_t now = clock_now_ns(), until = keeper.primary_retry_ns;
    if (keeper.embedded && (keeper.ending_ns == 0 || keeper.ending_ns == CLOCK_NEVER)) return -1;
    if (!keeper.embedded && keeper.primary > 0 && keeper.trial != KEEPER_TRIAL_RUNNING) return -1;
    if (keeper.primary > 0) until = keeper.primary_started_ns + TRIAL_NS;
    if (keeper.embedded) until = keeper.ending_ns;
    return now >= until ? 0 : (int)((until - now) / CLOCK_MS) + 1;
}

static void check_trial(void) {
    if (keeper.trial != KEEPER_TRIAL_RUNNING || keeper.primary == 0 || clock_now_ns() < keeper.primary_started_ns + TRIAL_NS) return;
    if (keeper.channel >= 0) primary_replace("has not taken over in time");
}

static void turn(void) {
    static struct pollfd polls[KEEPER_HELD_MAX + KEEPER_CHILD_MAX + POLL_FIXED];
    bool more = keeper.channel >= 0 && report();
    size_t count = POLL_FIXED;
    polls[0] = (struct pollfd){.fd = keeper.signals, .events = POLLIN};
    polls[1] = (struct pollfd){.fd = keeper.channel, .events = (short)(POLLIN | (more ? POLLOUT : 0))};
    polls[2] = (struct pollfd){.fd = keeper.parent_pidfd, .events = POLLIN};
    if (!keeper.told) count = poll_outputs(polls, count);
    size_t outputs_end = count;
    count = poll_foreign(polls, count);
    if (poll(polls, count, wait_ms()) < 0) return;
    if (polls[0].revents != 0) on_signals();
    if (polls[1].revents != 0) on_channel();
    if (polls[2].revents != 0) {
        on_channel();  // its last words, which may be to quit
        program_ended();
    }
    drain_outputs(polls, outputs_end);
    if (count > outputs_end) reap_foreign();
    end_with_program();
    if (keeper.embedded) return;
    check_trial();
    if (keeper.primary == 0 && !keeper.quitting && clock_now_ns() >= keeper.primary_retry_ns) primary_start();
    act_alone();
}

static void kill_children(bool primary_too) {
    char path[64], list[16384], *end;
    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    if (fd_read_file(path, list, sizeof list) <= 0) return;
    for (char *at = list;; at = end) {
        long pid = strtol(at, &end, 10);
        if (end == at) return;
        if (pid > 1 && (pid != keeper.primary || primary_too)) kill((pid_t)pid, SIGKILL);
    }
}

static bool foreign_run(void) {
    bool run = false;
    reap_foreign();
    for (size_t i = 0; i < keeper.child_end; i++) run |= keeper.child[i].foreign && !keeper.child[i].exited;
    return run;
}

// Everything below us, strangers that became ours included, until the kernel says there is nobody. The primary gets a
// while to say its last words.
static void kill_all(void) {
    uint64_t patience = clock_now_ns() + CHANNEL_PATIENCE_MS * CLOCK_MS;
    reap_foreign();
    for (size_t i = 0; i < keeper.child_end; i++)
        if (keeper.child[i].pid > 0 && !keeper.child[i].exited) kill(-keeper.child[i].pid, SIGKILL);
    for (;;) {
        pid_t pid;
        kill_children(clock_now_ns() > patience);
        while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
            if (pid == keeper.primary) keeper.primary = 0;
        if (pid < 0 && errno == ECHILD && !foreign_run()) return;
        poll(NULL, 0, 1);
    }
}

static void prepare(char **argv, char **envp) {
    sigset_t mask;
    sigemptyset(&mask);
    for (int i = 0; i < FORWARDED_MAX; i++) sigaddset(&mask, forwarded[i]);
    sigaddset(&mask, SIGCHLD);
    sigaddset(&mask, SIGPIPE);
    sigprocmask(SIG_SETMASK, &mask, NULL);
    sigdelset(&mask, SIGPIPE);
    keeper.signals = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
    keeper.null = open("/dev/null", O_RDWR | O_CLOEXEC);
    assert(keeper.signals >= 0 && keeper.null >= 0);
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    const char *refuse = getenv("PANDO_DEBUG_REFUSE");
    keeper.refuse = refuse != NULL && strcmp(refuse, "keeper") == 0;
    keeper.refuse_foreign = refuse != NULL && strcmp(refuse, "foreign") == 0;
    int r = sdnotify_open(&keeper.supervisor, getenv("NOTIFY_SOCKET"));
    if (r != 0) log_warn("the supervisor's NOTIFY_SOCKET=%s cannot be used: %s", getenv("NOTIFY_SOCKET"), strerror(-r));
    keeper.name = argv[1];
    keeper.envp = envp;
}

// The program's other descriptors are none of ours, nor of the workers'.
static int prepare_embedded(char **argv, char **envp) {
    int channel = fcntl(INHERIT_CHANNEL, F_DUPFD_CLOEXEC, INHERIT_KEEPER_END);
    if (channel != INHERIT_KEEPER_END && (channel < 0 || dup3(channel, INHERIT_KEEPER_END, O_CLOEXEC) < 0)) return -errno;
    close(INHERIT_CHANNEL);
    if (syscall(SYS_close_range, INHERIT_KEEPER_END + 1, ~0U, 0) != 0) return -errno;
    keeper.parent_pidfd = (int)syscall(SYS_pidfd_open, getppid(), 0);
    prepare(argv, envp);
    keeper.channel = INHERIT_KEEPER_END;
    keeper.primary_pidfd = -1;
    keeper.embedded = true;
    keeper.surviving = strcmp(argv[1], INHERIT_SURVIVING_VERB) == 0;
    keeper.name = argv[2];
    prctl(PR_SET_NAME, "pando-keeper", 0, 0, 0);
    return 0;
}

static bool is_embedded(int argc, char **argv) {
    return argc == 3 && (strcmp(argv[1], INHERIT_EMBEDDED_VERB) == 0 || strcmp(argv[1], INHERIT_SURVIVING_VERB) == 0);
}

static int main_embedded(char **argv, char **envp) {
    log_init("keeper", argv[2], LOG_FORM_SHORT, LOG_LEVEL_INFO);
    log_set_sink(write_if_room, NULL);
    if (fcntl(INHERIT_CHANNEL, F_GETFD) < 0 || prepare_embedded(argv, envp) != 0) {
        log_error("started without the channel of a program: this is done by libpando");
        return 2;
    }
    while (!keeper.quitting) turn();
    kill_all();
    return keeper.exit_code;
}

static int adopt_inherited(int fd, enum held_kind kind, uint64_t key) {
    if (fcntl(fd, F_GETFD) < 0) return 0;
    int held = fcntl(fd, F_DUPFD_CLOEXEC, INHERIT_KEEPER_END);
    if (held < 0) return -errno;
    close(fd);
    return held_put(kind, key, &held);
}

// They stay where they are, and before the others are moved: those go to the numbers behind them.
static int adopt_given(void) {
    int r = 0;
    for (int fd = INHERIT_GIVEN; r == 0 && fcntl(fd, F_GETFD) >= 0; fd++) {
        int held = fd;
        r = fd_set_cloexec(fd, true);
        if (r == 0) r = held_put(HELD_GIVEN, (uint64_t)(fd - INHERIT_GIVEN), &held);
    }
    return r;
}

static int adopt_all_inherited(void) {
    int r = adopt_given();
    if (r == 0) r = adopt_inherited(INHERIT_LAUNCH, HELD_LAUNCH, 1);
    if (r == 0) r = adopt_inherited(INHERIT_LOCK, HELD_LOCK, 0);
    if (r == 0) r = adopt_inherited(INHERIT_CONTROL, HELD_CONTROL, 0);
    if (r == 0) r = adopt_inherited(INHERIT_PROGRAM, HELD_PANDO, 0);
    if (r == 0) r = adopt_inherited(INHERIT_READY, HELD_READY, 0);
    int self = r == 0 ? open("/proc/self/exe", O_PATH | O_CLOEXEC) : -1;
    return r != 0 ? r : self < 0 ? -errno : held_put(HELD_KEEPER, 0, &self);
}

static int begin(void) {
    int r = adopt_all_inherited();  // first of all: an absent one's number is free for anything we open
    keeper.had_terminal = has_terminal();
    return r;
}

// The old one must not write to the record any more when the next one reads it.
static void end_primary(void) {
    struct pollfd ended = {.fd = keeper.primary_pidfd, .events = POLLIN};
    if (keeper.primary > 0 && kill(keeper.primary, SIGKILL) == 0) poll(&ended, 1, CHANNEL_PATIENCE_MS);
    keeper.primary = 0;
    fd_close(&keeper.primary_pidfd);
    primary_gone();
}

// We are what another keeper, or a primary without one, has become. The primary that is still there is of the old program.
static int resume(const char *fd) {
    int r = become_resume(fd);
    if (r == 0) end_primary();
    return r;
}

int main(int argc, char **argv, char **envp) {
    if (is_embedded(argc, argv)) return main_embedded(argv, envp);
    if (argc == 3 && strcmp(argv[1], INHERIT_EXAMINE_VERB) == 0) return become_examine(argv[2]);
    if (argc != 3 && (argc != 2 || fcntl(INHERIT_PROGRAM, F_GETFD) < 0)) {
        fprintf(stderr, "pando-keeper: started by `pando run`, not by hand\n");
        return 2;
    }
    log_init("keeper", argv[1], isatty(STDERR_FILENO) ? LOG_FORM_SHORT : LOG_FORM_FULL, LOG_LEVEL_INFO);
    log_set_sink(write_if_room, NULL);
    int r = argc == 3 ? resume(argv[2]) : begin();
    if (r != 0) {
        log_error("cannot keep what was inherited: %s", strerror(-r));
        return 1;
    }
    prepare(argv, envp);
    reap();
    while (!keeper.quitting) turn();
    kill_all();
    return keeper.exit_code;
}
