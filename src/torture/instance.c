// SPDX-License-Identifier: MIT
#include "instance.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "fd.h"
#include "home.h"
#include "output.h"
#include "procinfo.h"

#define END_NS (10 * CLOCK_S)
#define LOOK_NS (5 * CLOCK_MS)
enum { VERB_WORDS_MAX = 16, LEFT_MAX = 64 };

int instance_init(struct instance *instance, const char *pando, struct interrupt *interrupt, struct pando_error *error) {
    const char *parent = getenv("TMPDIR");
    if (!parent || !*parent || strlen(parent) > 32) parent = "/tmp";
    *instance = (struct instance){.interrupt = interrupt, .pando = pando, .home = -1, .pidfd = -1};
    snprintf(instance->folder, sizeof instance->folder, "%s/pando-torture-XXXXXX", parent);
    if (!mkdtemp(instance->folder)) {
        int err = errno;
        instance->folder[0] = '\0';
        return error_set(error, err, "make a folder in %s", parent);
    }
    chmod(instance->folder, 0711);  // workers of another user (-u) must reach their notify sockets
    setenv("PANDO_DIR", instance->folder, 1);
    // A service manager that started us waits for our word, not for that of an instance below.
    static const char *const strange[] = {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"};
    for (size_t i = 0; i < sizeof strange / sizeof strange[0]; i++) unsetenv(strange[i]);
    instance->home = home_open(instance->folder, error);
    if (instance->home < 0) return instance->home;
    // What a killed keeper leaves becomes ours, and is found at the end.
    return prctl(PR_SET_CHILD_SUBREAPER, 1) ? error_set(error, errno, "become the parent of orphans") : 0;
}

// In a session of its own, so that ^C on the terminal is ours; should we be killed, it is told to stop. Other threads may live: nothing
// but calls that are safe then (signal-safety(7)).
static _Noreturn void become(const struct instance *instance, char *const *argv, bool all_output, int output, pid_t parent) {
    int null = open("/dev/null", O_RDWR);
    setsid();
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    sigprocmask(SIG_SETMASK, &instance->interrupt->inherited, NULL);
    if (getppid() == parent && null >= 0 && dup2(null, STDIN_FILENO) >= 0 && dup2(all_output ? output : null, STDOUT_FILENO) >= 0 &&
        dup2(output, STDERR_FILENO) >= 0)
        execv(instance->pando, argv);
    _exit(127);
}

// Starts the command with its standard error, or all output, in a pipe, whose other end is in `out_fd`. Pid or -errno.
static pid_t start(const struct instance *instance, char *const *argv, bool all_output, int *out_fd) {
    int ends[2];
    pid_t parent = getpid();
    if (pipe2(ends, O_CLOEXEC)) return -errno;
    pid_t pid = fork();
    int err = errno;
    if (pid == 0) become(instance, argv, all_output, ends[1], parent);
    close(ends[1]);
    if (pid > 0) {
        *out_fd = ends[0];
        return pid;
    }
    close(ends[0]);
    return -err;
}

int instance_start(struct instance *instance, char *const *argv, struct pando_error *error) {
    int fd = -1;
    pid_t pid = start(instance, argv, true, &fd);
    if (pid < 0) return error_set(error, -pid, "start %s", instance->pando);
    instance->pid = pid;
    instance->output = output_start_take(fd);
    instance->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (instance->pidfd < 0 || !instance->output)
        return error_set(error, instance->pidfd < 0 ? errno : ENOMEM, "watch %s", instance->pando);
    return 0;
}

// Children that ended: `pando run` itself, and orphans.
static void reap(struct instance *instance) {
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
        if (pid != instance->pid) continue;
        instance->status = status;
        instance->ended = true;
    }
}

bool instance_has_ended(struct instance *instance) {
    reap(instance);
    return instance->ended;
}

void instance_last_lines(struct instance *instance, char *out, size_t size) { output_tail(instance->output, out, size); }

// ---- verbs

void instance_verb_start(struct instance *instance, char *const *words, struct verb *out) {
    char *argv[VERB_WORDS_MAX] = {(char[]){"pando"}, words[0], (char[]){"-n"}, (char[]){INSTANCE_NAME}};
    for (int i = 1; words[i] && i + 4 < VERB_WORDS_MAX; i++) argv[3 + i] = words[i];
    *out = (struct verb){.output = -1};
    out->pid = start(instance, argv, false, &out->output);
}

bool instance_verb_has_ended(const struct verb *verb) {
    struct pollfd wait = {.fd = verb->output};
    return verb->pid < 0 || (poll(&wait, 1, 0) > 0 && (wait.revents & POLLHUP));
}

// Until it closes its output, which is when it has ended.
static enum verb_end verb_read(struct interrupt *interrupt, uint64_t deadline_ns, struct verb *verb) {
    size_t len = 0;
    char rest[512];
    while (interrupt_wait(interrupt, verb->output, deadline_ns)) {
        bool fits = len + 1 < sizeof verb->text;
        ssize_t got = read(verb->output, fits ? verb->text + len : rest, fits ? sizeof verb->text - 1 - len : sizeof rest);
        if (got == 0) return VERB_ENDED;
        if (got > 0 && fits) len += (size_t)got;
    }
    return interrupt->signo ? VERB_INTERRUPTED : VERB_TOO_SLOW;
}

void instance_verb_end(struct instance *instance, uint64_t patience_ns, struct verb *verb) {
    int status = 0;
    verb->end = VERB_FAILED;
    verb->code = -verb->pid;
    if (verb->pid < 0) return;
    verb->end = verb_read(instance->interrupt, clock_now_ns() + patience_ns, verb);
    if (verb->end != VERB_ENDED) kill(verb->pid, SIGKILL);
    TEMP_FAILURE_RETRY(waitpid(verb->pid, &status, 0));
    verb->code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    verb->text[strcspn(verb->text, "\n")] = '\0';
    fd_close(&verb->output);
}

// ---- the end

struct left {
    int count;
    pid_t pid[LEFT_MAX];
};

static bool is_ours(const struct left *left, pid_t parent) {
    if (parent == getpid()) return true;
    for (int i = 0; i < left->count; i++)
        if (left->pid[i] == parent) return true;
    return false;
}

// `pando run` puts itself and each worker into sessions; whatever becomes of parents, ancestry leads to us.
static bool note_descendant(pid_t pid, void *arg) {
    struct left *left = arg;
    struct procinfo info;
    if (left->count == LEFT_MAX || procinfo_read(pid, &info) || info.state == 'Z' || info.state == 'X') return true;
    for (int i = 0; i < left->count; i++)
        if (left->pid[i] == pid) return true;
    if (is_ours(left, info.ppid)) left->pid[left->count++] = pid;
    return true;
}

// Parents may come after their children in /proc: again until nothing is added.
static void find_descendants(struct left *left) {
    left->count = 0;
    for (int before = -1; before < left->count;) {
        before = left->count;
        procinfo_each(note_descendant, left);
    }
}

int instance_left_processes(struct instance *instance, char *out, size_t size) {
    struct left left;
    size_t len = 0;
    reap(instance);
    find_descendants(&left);
    if (size > 0) out[0] = '\0';
    for (int i = 0; i < left.count && i < 4 && len < size; i++) {
        char path[48], name[32] = "?";
        snprintf(path, sizeof path, "/proc/%d/comm", (int)left.pid[i]);
        fd_read_file(path, name, sizeof name);
        name[strcspn(name, "\n")] = '\0';
        len += (size_t)snprintf(out + len, size - len, "%s%d %s", i > 0 ? ", " : "", (int)left.pid[i], name);
    }
    return left.count;
}

static void kill_descendants(struct instance *instance) {
    struct left left;
    for (uint64_t end = clock_now_ns() + END_NS; clock_now_ns() < end; usleep(LOOK_NS / 1000)) {
        reap(instance);
        find_descendants(&left);
        if (left.count == 0) return;
        for (int i = 0; i < left.count; i++) kill(left.pid[i], SIGKILL);
    }
}

static int remove_entry(const char *path, const struct stat *info, int flag, struct FTW *where) {
    (void)info, (void)flag, (void)where;
    remove(path);
    return 0;
}

void instance_deinit(struct instance *instance) {
    if (instance->pid > 0) kill_descendants(instance);
    output_stop(instance->output);
    fd_close(&instance->pidfd);
    fd_close(&instance->home);
    if (*instance->folder) nftw(instance->folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}
