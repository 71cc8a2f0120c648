// SPDX-License-Identifier: MIT
// Kills Pando's primary at a system call of one's choice, from outside: nothing in the product knows of it.
//
//   stepper SOCKET -- pando run ...
//
// This process becomes `pando run`; a second one, its tracer, connects to the unix socket SOCKET and obeys it:
//
//   arm N        the primary is killed at the entry of its Nth system call from now on     -> "armed"
//   next N       the next primary is killed at its Nth call, counted from its exec         -> "armed"
//   run          nobody is killed any more                                                 -> "ran N": calls since it was armed
//   (of itself)  "killed N NUMBER": the primary was, at its Nth call, which has that number
//
// `pando run` starts after the first command. Only the main thread's calls count.
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/ptrace.h>

#define KEEPER_OPTIONS (PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC)

enum mode { MODE_RUN, MODE_COUNT };

static struct {
    FILE *out;
    int in;
    pid_t keeper, primary;
    enum mode mode;
    long limit, count;
    long next_limit;  // for the primary to come; 0 = let it run
    bool interrupt;   // `arm` waits until the primary has stopped
    bool killed;
    long killed_call;
} stepper;

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...) {
    va_list args;
    va_start(args, format);
    vfprintf(stepper.out, format, args);
    va_end(args);
    fputc('\n', stepper.out);
    fflush(stepper.out);
}

static void go_on(pid_t pid, int signo) {
    bool counted = pid == stepper.primary && stepper.mode == MODE_COUNT;
    ptrace(counted ? PTRACE_SYSCALL : PTRACE_CONT, pid, NULL, (void *)(long)signo);
}

static bool is_primary(pid_t pid) {
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/%d/cmdline", (int)pid);
    FILE *file = fopen(path, "re");
    if (file == NULL) return false;
    size_t len = fread(line, 1, sizeof line - 1, file);
    fclose(file);
    line[len] = '\0';
    size_t first = strlen(line) + 1;
    return first < len && strcmp(line + first, "--primary") == 0;
}

// A primary of its own kind: its threads and the programs that it starts are nobody's business here.
static void begin_primary(pid_t pid) {
    stepper.primary = pid;
    stepper.count = 0;
    stepper.mode = stepper.next_limit > 0 ? MODE_COUNT : MODE_RUN;
    stepper.limit = stepper.next_limit;
    stepper.next_limit = 0;
    ptrace(PTRACE_SETOPTIONS, pid, NULL, (void *)PTRACE_O_TRACESYSGOOD);
}

static void on_exec(pid_t pid) {
    if (pid == stepper.keeper) {
        ptrace(PTRACE_SETOPTIONS, pid, NULL, (void *)KEEPER_OPTIONS);
        go_on(pid, 0);
    } else if (is_primary(pid)) {
        begin_primary(pid);
        go_on(pid, 0);
    } else {
        ptrace(PTRACE_DETACH, pid, NULL, NULL);
    }
}

static void on_system_call(pid_t pid) {
    struct ptrace_syscall_info info = {0};
    ptrace(PTRACE_GET_SYSCALL_INFO, pid, (void *)sizeof info, &info);
    if (pid == stepper.primary && stepper.mode == MODE_COUNT && info.op == PTRACE_SYSCALL_INFO_ENTRY && ++stepper.count == stepper.limit) {
        stepper.killed = true;
        stepper.killed_call = (long)info.entry.nr;
        kill(pid, SIGKILL);
        return;
    }
    go_on(pid, 0);
}

static void on_end(pid_t pid) {
    if (pid == stepper.keeper) exit(0);
    if (pid != stepper.primary) return;
    stepper.primary = 0;
    stepper.mode = MODE_RUN;
    if (stepper.killed) say("killed %ld %ld", stepper.count, stepper.killed_call);
    stepper.killed = false;
}

static void on_stop(pid_t pid, int status) {
    int signo = WSTOPSIG(status), event = status >> 16;
    // Any other stop may come instead of the one that was asked for.
    if (pid == stepper.primary && stepper.interrupt) {
        stepper.interrupt = false;
        stepper.mode = MODE_COUNT;
        say("armed");
    }
    if (event == PTRACE_EVENT_EXEC) {
        on_exec(pid);
    } else if (event == PTRACE_EVENT_STOP && signo != SIGTRAP) {
        ptrace(PTRACE_LISTEN, pid, NULL, NULL);  // stopped by somebody, and stays so
    } else if (event != 0) {
        go_on(pid, 0);
    } else if (signo == (SIGTRAP | 0x80)) {
        on_system_call(pid);
    } else {
        go_on(pid, signo);
    }
}

static void on_children(void) {
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, __WALL | WNOHANG)) > 0) {
        if (WIFSTOPPED(status))
            on_stop(pid, status);
        else
            on_end(pid);
    }
    if (pid < 0 && errno == ECHILD) exit(0);
}

static void on_command(char *line) {
    long number = 0;
    if (sscanf(line, "arm %ld", &number) == 1) {
        stepper.limit = number;
        stepper.count = 0;
        stepper.interrupt = true;
        ptrace(PTRACE_INTERRUPT, stepper.primary, NULL, NULL);
    } else if (sscanf(line, "next %ld", &number) == 1) {
        stepper.next_limit = number;
        say("armed");
    } else if (strncmp(line, "run", 3) == 0) {
        stepper.mode = MODE_RUN;  // at its next stop
        stepper.next_limit = 0;
        say("ran %ld", stepper.count);
    }
}

static void on_input(void) {
    static char text[256];
    static size_t len;
    ssize_t n = read(stepper.in, text + len, sizeof text - 1 - len);
    if (n <= 0) exit(0);  // everybody is let go
    len += (size_t)n;
    for (char *end; (end = memchr(text, '\n', len)) != NULL;) {
        *end = '\0';
        on_command(text);
        len -= (size_t)(end + 1 - text);
        memmove(text, end + 1, len);
    }
}

static int connect_to(const char *path) {
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    snprintf(at.sun_path, sizeof at.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return fd >= 0 && connect(fd, (struct sockaddr *)&at, sizeof at) == 0 ? fd : -1;
}

static void trace(const char *path, int go) {
    sigset_t set;
    stepper.in = connect_to(path);
    if (stepper.in < 0 || ptrace(PTRACE_SEIZE, stepper.keeper, NULL, (void *)KEEPER_OPTIONS) != 0) {
        perror("stepper");
        exit(1);
    }
    stepper.out = fdopen(dup(stepper.in), "w");
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    struct pollfd polls[2] = {{.fd = stepper.in, .events = POLLIN}, {.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK), .events = POLLIN}};
    on_input();
    close(go);
    for (;;) {
        struct signalfd_siginfo info;
        on_children();
        if (poll(polls, 2, -1) < 0) continue;
        if (polls[0].revents != 0) on_input();
        while (read(polls[1].fd, &info, sizeof info) > 0) {}
    }
}

int main(int argc, char **argv) {
    int go[2];
    char byte;
    if (argc < 4 || strcmp(argv[2], "--") != 0 || pipe(go) != 0) {
        fprintf(stderr, "usage: stepper SOCKET -- COMMAND...\n");
        return 2;
    }
    stepper.keeper = getpid();
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);  // Yama; this is a test
    pid_t child = fork();
    if (child == 0) {
        if (fork() != 0) _exit(0);  // no child of the keeper's
        close(go[0]);
        trace(argv[1], go[1]);
    }
    close(go[1]);
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR) {}
    if (read(go[0], &byte, 1) < 0) return 1;
    close(go[0]);
    execvp(argv[3], argv + 3);
    perror(argv[3]);
    return 127;
}
