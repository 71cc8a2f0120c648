// SPDX-License-Identifier: MIT
// Real children in every condition that /proc can show.
#include "procinfo.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "fd.h"

#define NOBODY 65534
#define THREADS 3
#define PATIENCE_MS 30000

typedef void (*setup_fn)(void);

// A child that has run `setup` and now reads for ever from a pipe that nobody writes.
static pid_t child_start(setup_fn setup) {
    int ready[2], never[2];
    assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
    assert_int_equal(pipe2(never, O_CLOEXEC), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    char byte = 0;
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (setup) setup();
        if (write(ready[1], &byte, 1) != 1) _exit(1);
        for (;;)
            if (read(never[0], &byte, 1) == 0) _exit(0);
    }
    close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    close(never[0]);
    close(never[1]);
    return pid;
}

static void child_end(pid_t pid) {
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static pid_t gone_pid(void) {
    pid_t pid = child_start(NULL);
    child_end(pid);
    return pid;
}

static bool wait_for_state(pid_t pid, char wanted) {
    struct procinfo info = {0};
    for (int i = 0; i < PATIENCE_MS && info.state != wanted; i++) {
        if (i > 0) usleep(1000);
        if (procinfo_read(pid, &info)) return false;
    }
    return info.state == wanted;
}

struct seen {
    int numbers[64];
    uint64_t inodes[64];
    int count, limit;  // limit 0: no end
};

static bool note_number(pid_t number, void *arg) {
    struct seen *seen = arg;
    if (seen->count < 64) seen->numbers[seen->count++] = number;
    return seen->count != seen->limit;
}

static bool note_socket(int fd, uint64_t inode, void *arg) {
    struct seen *seen = arg;
    if (seen->count < 64) seen->inodes[seen->count] = inode;
    return note_number(fd, arg);
}

static bool has_number(const struct seen *seen, int number) {
    for (int i = 0; i < seen->count; i++)
        if (seen->numbers[i] == number) return true;
    return false;
}

static void a_process_reads_about_itself(void **state) {
    (void)state;
    struct procinfo info;
    assert_int_equal(procinfo_read(getpid(), &info), 0);
    assert_int_equal(info.ppid, getppid());
    assert_int_equal(info.pgrp, getpgrp());
    assert_int_equal(info.session, getsid(0));
    assert_int_equal(info.state, 'R');
    assert_true(info.rss_bytes > 100 * 1024);
    assert_true(info.start_ticks > 0);
}

static void work_shows_as_processor_time(void **state) {
    (void)state;
    struct procinfo before, after;
    assert_int_equal(procinfo_read(getpid(), &before), 0);
    clock_t end = clock() + CLOCKS_PER_SEC / 10;
    while (clock() < end) continue;
    assert_int_equal(procinfo_read(getpid(), &after), 0);
    uint64_t used_ns = after.cpu_ns - before.cpu_ns;
    assert_true(used_ns >= 50 * 1000000 && used_ns < 1000 * 1000000);
    assert_true(after.start_ticks == before.start_ticks);
}

static void name_like_stat(void) { prctl(PR_SET_NAME, ") R ("); }
static void name_with_newline(void) { prctl(PR_SET_NAME, "a)\nT 1 1 1 1 ("); }
static void name_like_status(void) { prctl(PR_SET_NAME, "x\nTgid:\t1\nUid:"); }

static void a_name_that_looks_like_stat_is_not_believed(void **state) {
    (void)state;
    static const setup_fn names[] = {name_like_stat, name_with_newline, name_like_status};
    for (int i = 0; i < 3; i++) {
        pid_t pid = child_start(names[i]);
        assert_true(wait_for_state(pid, 'S'));
        struct procinfo info;
        assert_int_equal(procinfo_read(pid, &info), 0);
        assert_int_equal(info.ppid, getpid());
        assert_int_equal(info.pgrp, getpgrp());
        assert_int_equal(procinfo_tgid(pid), pid);
        child_end(pid);
    }
}

static void *sleep_for_ever(void *arg) {
    (void)arg;
    for (;;) pause();
    return NULL;
}

static void *spin_for_ever(void *arg) {
    volatile unsigned *counter = arg;
    for (;;) *counter |= 1;
    return NULL;
}

static volatile unsigned spun;

static void start_threads(void) {
    pthread_t thread;
    for (int i = 0; i < THREADS; i++) pthread_create(&thread, NULL, i ? sleep_for_ever : spin_for_ever, (void *)&spun);
    while (!spun) usleep(1000);
}

static void the_threads_of_a_process_are_listed_and_lead_back_to_it(void **state) {
    (void)state;
    pid_t pid = child_start(start_threads);
    struct seen seen = {0};
    procinfo_thread_each(pid, note_number, &seen);
    assert_int_equal(seen.count, THREADS + 1);
    assert_true(has_number(&seen, pid));
    for (int i = 0; i < seen.count; i++) assert_int_equal(procinfo_tgid(seen.numbers[i]), pid);
    seen = (struct seen){.limit = 2};
    procinfo_thread_each(pid, note_number, &seen);
    assert_int_equal(seen.count, 2);
    child_end(pid);
}

static bool wait_all_stopped(pid_t pid) {
    for (int i = 0; i < PATIENCE_MS && !procinfo_all_stopped(pid); i++) usleep(1000);
    return procinfo_all_stopped(pid);
}

static void a_process_is_stopped_when_all_of_its_threads_are(void **state) {
    (void)state;
    pid_t pid = child_start(start_threads);
    assert_false(procinfo_all_stopped(pid));
    kill(pid, SIGSTOP);
    assert_true(wait_all_stopped(pid));
    assert_true(wait_for_state(pid, 'T'));
    kill(pid, SIGCONT);
    assert_true(wait_for_state(pid, 'S'));
    assert_false(procinfo_all_stopped(pid));
    child_end(pid);
    assert_true(procinfo_all_stopped(pid));
}

static void a_process_that_sleeps_is_not_stopped(void **state) {
    (void)state;
    pid_t pid = child_start(NULL);
    assert_true(wait_for_state(pid, 'S'));
    assert_false(procinfo_all_stopped(pid));
    child_end(pid);
}

static void a_zombie_can_still_be_read(void **state) {
    (void)state;
    pid_t pid = child_start(NULL);
    kill(pid, SIGKILL);
    siginfo_t info;
    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    struct procinfo zombie;
    assert_int_equal(procinfo_read(pid, &zombie), 0);
    assert_int_equal(zombie.state, 'Z');
    assert_int_equal(zombie.rss_bytes, 0);
    assert_true(procinfo_all_stopped(pid));
    child_end(pid);
}

static void of_a_process_that_is_gone_everything_says_so(void **state) {
    (void)state;
    pid_t pid = gone_pid();
    struct procinfo info = {.ppid = 7};
    struct seen seen = {0};
    int error = 0;
    assert_int_equal(procinfo_read(pid, &info), -ESRCH);
    assert_int_equal(info.ppid, 7);
    assert_int_equal(procinfo_tgid(pid), -ESRCH);
    procinfo_uid(pid, &error);
    assert_int_equal(error, -ESRCH);
    assert_int_equal(procinfo_syscall(pid), -ESRCH - 1000);
    assert_int_equal(procinfo_signal(pid, SIGTERM), PROCINFO_SIGNAL_UNKNOWN);
    assert_true(procinfo_all_stopped(pid));
    assert_int_equal(procinfo_socket_each(pid, note_socket, &seen), -ESRCH);
    assert_int_equal(procinfo_fd_count(pid), -ESRCH);
    assert_int_equal(procinfo_fd_flags(pid, 0), -ENOENT);
    procinfo_thread_each(pid, note_number, &seen);
    assert_int_equal(seen.count, 0);
}

static void a_group_is_found_when_its_leader_has_died(void **state) {
    (void)state;
    pid_t leader = child_start(NULL);
    pid_t member = child_start(NULL);
    assert_int_equal(setpgid(leader, leader), 0);
    assert_int_equal(setpgid(member, leader), 0);
    struct seen seen = {0};
    procinfo_group_each(leader, note_number, &seen);
    assert_int_equal(seen.count, 2);
    assert_true(has_number(&seen, leader) && has_number(&seen, member));
    child_end(leader);
    seen = (struct seen){0};
    procinfo_group_each(leader, note_number, &seen);
    assert_int_equal(seen.count, 1);
    assert_true(has_number(&seen, member));
    child_end(member);
}

static void on_signal(int signo) { (void)signo; }

static void catch_signals(void) {
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGINT);
    signal(SIGHUP, on_signal);
    signal(SIGRTMAX, on_signal);
    signal(SIGUSR1, SIG_IGN);
    signal(SIGUSR2, SIG_DFL);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
}

static void what_a_signal_would_meet_is_known(void **state) {
    (void)state;
    pid_t pid = child_start(catch_signals);
    assert_int_equal(procinfo_signal(pid, SIGHUP), PROCINFO_SIGNAL_CAUGHT);
    assert_int_equal(procinfo_signal(pid, SIGRTMAX), PROCINFO_SIGNAL_CAUGHT);
    assert_int_equal(procinfo_signal(pid, SIGUSR1), PROCINFO_SIGNAL_IGNORED);
    assert_int_equal(procinfo_signal(pid, SIGINT), PROCINFO_SIGNAL_BLOCKED);
    assert_int_equal(procinfo_signal(pid, SIGUSR2), PROCINFO_SIGNAL_DEFAULT);
    assert_int_equal(procinfo_signal(pid, 0), PROCINFO_SIGNAL_UNKNOWN);
    assert_int_equal(procinfo_signal(pid, 65), PROCINFO_SIGNAL_UNKNOWN);
    child_end(pid);
}

// Makes the line in front of SigCgt half a megabyte long.
static void join_many_groups(void) {
    enum { COUNT = 65536 };
    gid_t *groups = malloc(COUNT * sizeof *groups);
    for (gid_t i = 0; groups && i < COUNT; i++) groups[i] = 4000000000U + i;
    if (!groups || setgroups(COUNT, groups)) _exit(1);
    free(groups);
    catch_signals();
}

static void a_status_of_any_length_is_read(void **state) {
    (void)state;
    if (geteuid() != 0) skip();
    pid_t pid = child_start(join_many_groups);
    assert_int_equal(procinfo_signal(pid, SIGHUP), PROCINFO_SIGNAL_CAUGHT);
    assert_int_equal(procinfo_signal(pid, SIGUSR2), PROCINFO_SIGNAL_DEFAULT);
    child_end(pid);
}

static void become_nobody(void) {
    if (setresuid((uid_t)-1, NOBODY, (uid_t)-1)) _exit(1);
}

static void the_effective_user_is_told(void **state) {
    (void)state;
    int error = -1;
    assert_int_equal(procinfo_uid(getpid(), &error), geteuid());
    assert_int_equal(error, 0);
    if (geteuid() != 0) return;
    pid_t pid = child_start(become_nobody);
    assert_int_equal(procinfo_uid(pid, &error), NOBODY);
    child_end(pid);
}

static void the_call_that_a_thread_waits_in_is_told(void **state) {
    (void)state;
    pid_t pid = child_start(NULL);
    assert_true(wait_for_state(pid, 'S'));
    assert_int_equal(procinfo_syscall(pid), SYS_read);
    child_end(pid);
}

static void a_thread_at_work_is_running_or_in_no_call(void **state) {
    (void)state;
    pid_t pid = child_start(start_threads);
    struct seen seen = {0};
    procinfo_thread_each(pid, note_number, &seen);
    pid_t spinner = seen.numbers[1];
    assert_true(wait_for_state(spinner, 'R'));
    long number = procinfo_syscall(spinner);
    assert_true(number == -1 || number == -2);
    kill(pid, SIGSTOP);
    assert_true(wait_all_stopped(pid));
    assert_int_equal(procinfo_syscall(spinner), -2);
    child_end(pid);
}

static void kills_for_lack_of_memory_are_a_number_or_unknown(void **state) {
    (void)state;
    assert_true(procinfo_oom_kills() >= -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_process_reads_about_itself),
        cmocka_unit_test(work_shows_as_processor_time),
        cmocka_unit_test(a_name_that_looks_like_stat_is_not_believed),
        cmocka_unit_test(the_threads_of_a_process_are_listed_and_lead_back_to_it),
        cmocka_unit_test(a_process_is_stopped_when_all_of_its_threads_are),
        cmocka_unit_test(a_process_that_sleeps_is_not_stopped),
        cmocka_unit_test(a_zombie_can_still_be_read),
        cmocka_unit_test(of_a_process_that_is_gone_everything_says_so),
        cmocka_unit_test(a_group_is_found_when_its_leader_has_died),
        cmocka_unit_test(what_a_signal_would_meet_is_known),
        cmocka_unit_test(a_status_of_any_length_is_read),
        cmocka_unit_test(the_effective_user_is_told),
        cmocka_unit_test(the_call_that_a_thread_waits_in_is_told),
        cmocka_unit_test(a_thread_at_work_is_running_or_in_no_call),
        cmocka_unit_test(kills_for_lack_of_memory_are_a_number_or_unknown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
