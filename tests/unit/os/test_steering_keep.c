// SPDX-License-Identifier: MIT
// A steering outlives the process that opened it, and does with fewer rights what can be done with them.
#include <linux/bpf.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <bpf/bpf.h>

#include "cpus.h"
#include "steering_group.h"

#ifndef CAP_PERFMON
#define CAP_PERFMON 38
#define CAP_BPF 39
#endif

// ---- descriptors from process to process

static void send_fds(int to, const int *fds, int count) {
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int) * 64)];
    } control = {0};
    char mask[64] = {0};
    int there = 0;
    for (int i = 0; i < count; i++) {
        mask[i] = fds[i] >= 0;
        if (fds[i] >= 0) ((int *)CMSG_DATA(&control.header))[there++] = fds[i];
    }
    control.header = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int) * (size_t)there)};
    struct iovec data = {mask, sizeof mask};
    struct msghdr message = {
        .msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)there)};
    if (sendmsg(to, &message, 0) != sizeof mask) _exit(9);
}

static void receive_fds(int from, int *out_fds, int count) {
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int) * 64)];
    } control = {0};
    char mask[64] = {0};
    struct iovec data = {mask, sizeof mask};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    assert_int_equal(recvmsg(from, &message, MSG_CMSG_CLOEXEC), sizeof mask);
    int there = 0;
    for (int i = 0; i < count; i++) out_fds[i] = mask[i] ? ((int *)CMSG_DATA(&control.header))[there++] : -1;
}

enum { KEPT_SLOTS = 4 };

static void be_the_first_primary(int channel, const struct group *like) {
    struct group *group = group_open(like->name.ss_family, STEERING_RR, KEPT_SLOTS, 1);
    int fds[STEERING_FD_COUNT];
    steering_export(group->steering, fds);
    send_fds(channel, fds, STEERING_FD_COUNT);
    send_fds(channel, group->fd, KEPT_SLOTS);
    for (int i = 0; i < 8; i++) group_dial(group);
    if (write(channel, "", 1) != 1) _exit(9);
    pause();
}

// Opened, used and exported by a process that is then killed; what is left are descriptors.
static void inherit(struct group *group, int fds[static STEERING_FD_COUNT]) {
    int channel[2];
    char byte;
    *group = (struct group){.count = KEPT_SLOTS};
    group_name(group, AF_INET);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel), 0);
    pid_t first = fork();
    if (first == 0) {
        be_the_first_primary(channel[1], group);
        _exit(0);
    }
    receive_fds(channel[0], fds, STEERING_FD_COUNT);
    receive_fds(channel[0], group->fd, KEPT_SLOTS);
    assert_int_equal(read(channel[0], &byte, 1), 1);
    kill(first, SIGKILL);
    waitpid(first, NULL, 0);
    close(channel[0]), close(channel[1]);
    group->name_len = sizeof group->name;
    assert_int_equal(getsockname(group->fd[0], (struct sockaddr *)&group->name, &group->name_len), 0);
}

static void steering_goes_on_when_its_process_is_killed(void **state) {
    (void)state;
    GROUP_NEEDED();
    struct group group;
    int fds[STEERING_FD_COUNT], clients[40];
    inherit(&group, fds);
    for (int i = 0; i < KEPT_SLOTS; i++) assert_int_equal(group_queue(group.fd[i]), 2);
    for (int i = 0; i < 20; i++) clients[i] = group_dial(&group);  // nobody is in charge
    group_wait_queued(&group, 28);
    for (int i = 0; i < KEPT_SLOTS; i++) assert_int_equal(group_queue(group.fd[i]), 7);

    MUST(steering_import(&group.steering, fds, &group_error));
    for (int i = 0; i < STEERING_FD_COUNT; i++) assert_int_equal(fds[i], -1);
    for (unsigned i = 0; i < KEPT_SLOTS; i++) {
        MUST(steering_add(group.steering, i, group.fd[i], &group_error));
        assert_int_equal(steering_weight(group.steering, i), 1);
        assert_int_equal(steering_counts(group.steering, i).chosen, 7);
        assert_int_equal(group_live(&group, (int)i), 7);  // the killed one's two are there until somebody accepts them
    }
    for (int i = 20; i < 40; i++) clients[i] = group_dial(&group);
    group_wait_queued(&group, 48);
    for (int i = 0; i < KEPT_SLOTS; i++) assert_int_equal(group_queue(group.fd[i]), 12);
    assert_int_equal(steering_set_weight(group.steering, 2, 0), 0);
    MUST(steering_move_queue(group.steering, 2, group.fd[2], NULL, &group_error));
    for (int i = 0; i < KEPT_SLOTS; i++) assert_int_equal(group_queue(group.fd[i]), i == 2 ? 0 : 16);
    for (int i = 0; i < 40; i++) group_reset(&clients[i]);
    group_drain(&group);
    for (int i = 0; i < KEPT_SLOTS; i++) group_wait_live(&group, i, 0);
    group_close(&group);
}

static void what_another_version_left_is_refused(void **state) {
    (void)state;
    GROUP_NEEDED();
    struct group group;
    int fds[STEERING_FD_COUNT];
    inherit(&group, fds);
    struct steering_memory *memory = mmap(NULL, sizeof *memory, PROT_READ | PROT_WRITE, MAP_SHARED, fds[STEERING_FD_MEMORY], 0);
    assert_ptr_not_equal(memory, MAP_FAILED);
    memory->version++;
    munmap(memory, sizeof *memory);
    assert_int_equal(steering_import(&group.steering, fds, &group_error), -EPROTO);
    for (int i = 0; i < STEERING_FD_COUNT; i++) assert_int_equal(fds[i], -1);
    // Its sockets can be steered anew all the same.
    MUST(steering_open(&group.steering, &(struct steering_options){.slots = KEPT_SLOTS, .policy = STEERING_RR}, &group_error));
    for (unsigned i = 0; i < KEPT_SLOTS; i++) MUST(steering_add(group.steering, i, group.fd[i], &group_error));
    assert_int_equal(steering_set_weight(group.steering, 1, 1), 0);
    group_drain(&group);
    for (int i = 0; i < 5; i++) assert_int_equal(group_where(&group), 1);
    steering_close(group.steering);
    for (int i = 0; i < KEPT_SLOTS; i++) fd_close(&group.fd[i]);
}

static void nothing_to_import_is_an_error(void **state) {
    (void)state;
    GROUP_NEEDED();
    struct steering *steering;
    int fds[STEERING_FD_COUNT];
    for (int i = 0; i < STEERING_FD_COUNT; i++) fds[i] = -1;
    assert_true(steering_import(&steering, fds, &group_error) < 0);
    fds[STEERING_FD_MEMORY] = open("/dev/null", O_RDWR | O_CLOEXEC);
    assert_true(steering_import(&steering, fds, &group_error) < 0);
    assert_int_equal(fds[STEERING_FD_MEMORY], -1);
}

// Killed after shutdown, before listen and the rest. Slot 0 drew the port, and would draw another one.
static void a_move_cut_short_is_finished_by_the_next(void **state) {
    (void)state;
    GROUP_NEEDED();
    struct group group;
    int fds[STEERING_FD_COUNT];
    inherit(&group, fds);
    struct steering_memory *memory = mmap(NULL, sizeof *memory, PROT_READ | PROT_WRITE, MAP_SHARED, fds[STEERING_FD_MEMORY], 0);
    assert_ptr_not_equal(memory, MAP_FAILED);
    memory->moving = 0;
    memory->moving_name_len = group.name_len;
    memcpy(memory->moving_name, &group.name, group.name_len);
    munmap(memory, sizeof *memory);
    assert_int_equal(shutdown(group.fd[0], SHUT_RD), 0);
    assert_int_equal(group_queued(&group), 8);

    MUST(steering_import(&group.steering, fds, &group_error));
    for (unsigned i = 0; i < KEPT_SLOTS; i++) MUST(steering_add(group.steering, i, group.fd[i], &group_error));
    group_drain(&group);
    int had[KEPT_SLOTS] = {0};
    for (int i = 0; i < 40; i++) had[group_where(&group)]++;
    for (int i = 0; i < KEPT_SLOTS; i++) assert_int_equal(had[i], 10);
    group_close(&group);
}

// The sockets themselves hold the program: the last set of slots stays in force.
static void steering_goes_on_when_nobody_holds_it(void **state) {
    (void)state;
    GROUP_NEEDED();
    struct group *group = group_open(AF_INET, STEERING_RR, 4, 1);
    assert_int_equal(steering_set_weight(group->steering, 3, 0), 0);
    steering_close(group->steering);
    group->steering = NULL;
    int clients[30];
    for (int i = 0; i < 30; i++) clients[i] = group_dial(group);
    group_wait_queued(group, 30);
    for (int i = 0; i < 4; i++) assert_int_equal(group_queue(group->fd[i]), i == 3 ? 0 : 10);
    for (int i = 0; i < 30; i++) group_reset(&clients[i]);
    group_close(group);
}

// ---- with fewer rights

static void drop(int capability) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
    if (syscall(SYS_capget, &header, data) != 0) _exit(8);
    data[capability / 32].effective &= ~(UINT32_C(1) << capability % 32);
    data[CAP_SYS_ADMIN / 32].effective &= ~(UINT32_C(1) << CAP_SYS_ADMIN);  // it would stand in for the other
    if (syscall(SYS_capset, &header, data) != 0) _exit(8);
}

static void hide_cgroups(void) {
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 || umount2("/sys/fs/cgroup", MNT_DETACH) != 0)
        _exit(8);
}

// A run of its own, so that a failure ends it; its report goes to stderr.
static void in_child(void (*fn)(void **state)) {
    GROUP_NEEDED();
    const struct CMUnitTest test[] = {cmocka_unit_test(fn)};
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        alarm(30);
        dup2(STDERR_FILENO, STDOUT_FILENO);
        exit(cmocka_run_group_tests_name("with fewer rights", test, NULL, NULL));
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void check_rr_by(struct group *group) {
    int had[4] = {0};
    steering_set_policy(group->steering, STEERING_RR);
    for (int i = 0; i < 40; i++) had[group_where(group)]++;
    for (int i = 0; i < 4; i++) assert_true(had[i] == 10);
}

static void without_perfmon(void **state) {
    (void)state;
    drop(CAP_PERFMON);
    struct group *group = group_open(AF_INET, STEERING_AUTO, 4, 1);
    assert_true(strstr(steering_lacks(group->steering), "CAP_PERFMON") != NULL);
    int server, client[3];
    for (int i = 0; i < 3; i++) {
        client[i] = group_dial(group);
        assert_true(group_where_fd(group, client[i], &server) == i);
    }
    for (int i = 0; i < 5; i++) assert_true(group_where(group) == 3);  // fewest open connections
    int fourth = group_dial(group);
    assert_true(group_where_fd(group, fourth, &server) == 3);
    group_reset(&client[1]);
    group_wait_live(group, 1, 0);
    for (int i = 0; i < 5; i++) assert_true(group_where(group) == 1);
    client[1] = group_dial(group);
    assert_true(group_where_fd(group, client[1], &server) == 1);
    steering_set_policy(group->steering, STEERING_STICKY);
    int used[4] = {0};
    for (uint32_t i = 0; i < 40; i++) {
        int first = -1;
        for (int again = 0; again < 2; again++) {
            int from = group_dial_from(group, 0x7f000001 + i * 0x7f07), slot = group_where_fd(group, from, &server);
            if (again > 0) assert_true(slot == first);
            first = slot;
            group_reset(&from);
            fd_close(&server);
        }
        used[first]++;
    }
    for (int i = 0; i < 4; i++) assert_true(used[i] > 0);
    steering_set_policy(group->steering, STEERING_AUTO);
    assert_true(steering_strangers(group->steering) == 0);
    assert_true(steering_recount(group->steering) == -EOPNOTSUPP);
    uint16_t weights[GROUP_MAX] = {0, 0, 0, 1};
    assert_true(steering_set_weights(group->steering, weights) == 0);
    int waits = group_dial(group);
    group_wait_queued(group, 1);
    weights[1] = weights[2] = 1;
    weights[3] = 0;
    assert_true(steering_set_weights(group->steering, weights) == 0);
    MUST(steering_move_queue(group->steering, 3, group->fd[3], NULL, &group_error));
    assert_true(group_queue(group->fd[1]) + group_queue(group->fd[2]) == 1);
    assert_true(group_live(group, 1) + group_live(group, 2) == 3 && group_live(group, 3) == 1);
    group_reset(&fourth);
    group_reset(&waits);
    group_drain(group);
    for (int i = 0; i < 4; i++) weights[i] = 1;
    assert_true(steering_set_weights(group->steering, weights) == 0);
    check_rr_by(group);
}

static void without_cap_bpf(void **state) {
    (void)state;
    drop(CAP_BPF);
    assert_true(steering_probe(&group_error) == -EPERM);
    assert_true(strstr(group_error.text, "CAP_BPF is missing") != NULL);
}

static void without_net_admin(void **state) {
    (void)state;
    drop(CAP_NET_ADMIN);
    assert_true(steering_probe(&group_error) == -EPERM);
    assert_true(strstr(group_error.text, "CAP_NET_ADMIN is missing") != NULL);
}

static void check_counts(struct group *group) {
    int client[20], server[20];
    steering_set_policy(group->steering, STEERING_AUTO);
    for (int i = 0; i < 20; i++) {
        client[i] = group_dial(group);
        assert_true(group_where_fd(group, client[i], &server[i]) >= 0);
    }
    for (int i = 0; i < 4; i++) assert_true(group_live(group, i) == 5);
    assert_true(steering_recount(group->steering) == 0);
    for (int i = 0; i < 20; i++) {
        if (i % 2 == 0) fd_close(&server[i]);
        group_reset(&client[i]);
    }
    for (int i = 0; i < 4; i++) group_wait_live(group, i, 0);
}

static void without_cgroup(void **state) {
    (void)state;
    hide_cgroups();
    struct group *group = group_open(AF_INET, STEERING_AUTO, 4, 1);
    assert_true(steering_lacks(group->steering)[0] == '\0');
    check_rr_by(group);
    check_counts(group);
}

static void without_cgroup_and_perfmon(void **state) {
    (void)state;
    hide_cgroups();
    drop(CAP_PERFMON);
    struct group *group = group_open(AF_INET, STEERING_AUTO, 4, 1);
    assert_true(strstr(steering_lacks(group->steering), "turns") != NULL);
    int clients[40];
    for (int i = 0; i < 40; i++) clients[i] = group_dial(group);
    group_wait_queued(group, 40);
    for (int i = 0; i < 4; i++) assert_true(group_queue(group->fd[i]) == 10);
    for (int i = 0; i < 40; i++) group_reset(&clients[i]);
    group_drain(group);
    check_rr_by(group);
}

static void everything(void **state) {
    (void)state;
    struct group *group = group_open(AF_INET, STEERING_AUTO, 4, 1);
    assert_true(steering_lacks(group->steering)[0] == '\0');
    check_counts(group);
}

// ---- beside others in the cgroup

static bool first_v2(const char *dir, bool is_v2, void *arg) {
    if (is_v2) snprintf(arg, PATH_MAX, "%s", dir);
    return !is_v2;
}

// Into a cgroup of this test's own.
static int enter_cgroup(char *out_dir) {
    char base[PATH_MAX] = "", procs[PATH_MAX + 16], pid[16];
    cpus_cgroup_each("/proc", "", "", first_v2, base);
    snprintf(out_dir, PATH_MAX, "%.3000s/pando-test-%d", base, getpid());
    if (base[0] == '\0' || mkdir(out_dir, 0755) != 0) return -1;
    snprintf(procs, sizeof procs, "%s/cgroup.procs", out_dir);
    snprintf(pid, sizeof pid, "%d", getpid());
    group_setting(procs, pid);
    return open(out_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void leave_cgroup(char *dir) {
    char procs[PATH_MAX + 16], pid[16];
    snprintf(pid, sizeof pid, "%d", getpid());
    char *slash = strrchr(dir, '/');
    *slash = '\0';
    snprintf(procs, sizeof procs, "%s/cgroup.procs", dir);
    *slash = '/';
    group_setting(procs, pid);
    rmdir(dir);
}

// A sock_ops program that takes all callbacks away from each new connection, or does nothing.
static int other_program(bool takes_callbacks) {
    const struct bpf_insn nothing[] = {{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 1}, {.code = BPF_JMP | BPF_EXIT}};
    const struct bpf_insn takes[] = {
        {.code = BPF_LDX | BPF_MEM | BPF_W, .dst_reg = BPF_REG_2, .src_reg = BPF_REG_1, .off = offsetof(struct bpf_sock_ops, op)},
        {.code = BPF_JMP | BPF_JNE | BPF_K, .dst_reg = BPF_REG_2, .off = 2, .imm = BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB},
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_2, .imm = 0},
        {.code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_sock_ops_cb_flags_set},
        nothing[0],
        nothing[1]};
    int fd = takes_callbacks ? bpf_prog_load(BPF_PROG_TYPE_SOCK_OPS, "other", "MIT", takes, sizeof takes / sizeof takes[0], NULL)
                             : bpf_prog_load(BPF_PROG_TYPE_SOCK_OPS, "other", "MIT", nothing, 2, NULL);
    assert_true(fd >= 0);
    return fd;
}

static void with_another(bool takes_callbacks, unsigned flags) {
    char dir[PATH_MAX];
    scoped_fd cgroup = enter_cgroup(dir);
    if (cgroup < 0) {
        print_message("skipped: no cgroup v2 of one's own\n");
        return;
    }
    scoped_fd other = other_program(takes_callbacks);
    if (flags != BPF_F_ALLOW_MULTI) assert_int_equal(bpf_prog_attach(other, cgroup, BPF_CGROUP_SOCK_OPS, flags), 0);
    struct group *group = group_open(AF_INET, STEERING_AUTO, 4, 1);
    if (flags == BPF_F_ALLOW_MULTI) assert_int_equal(bpf_prog_attach(other, cgroup, BPF_CGROUP_SOCK_OPS, flags), 0);  // after ours
    assert_string_equal(steering_lacks(group->steering), "");
    if (takes_callbacks) {
        for (int i = 0; i < 8; i++) group_where(group);
        for (int i = 0; i < 4; i++) assert_int_equal(group_live(group, i), 2);  // wrong: nobody was told of their end
        assert_int_equal(steering_recount(group->steering), 4);
        for (int i = 0; i < 4; i++) assert_int_equal(group_live(group, i), 0);
    } else {
        check_counts(group);
    }
    bpf_prog_detach2(other, cgroup, BPF_CGROUP_SOCK_OPS);
    group_close(group);
    leave_cgroup(dir);
}

static void beside_another(void **state) { (void)state, with_another(false, BPF_F_ALLOW_MULTI); }
static void below_an_exclusive_one(void **state) { (void)state, with_another(false, 0); }
static void beside_one_that_takes_callbacks(void **state) { (void)state, with_another(true, BPF_F_ALLOW_MULTI); }

static void another_program_in_the_cgroup_does_not_matter(void **state) { (void)state, in_child(beside_another); }
static void an_exclusive_program_in_the_cgroup_is_gone_round(void **state) { (void)state, in_child(below_an_exclusive_one); }
static void counts_that_another_program_spoils_are_put_right(void **state) { (void)state, in_child(beside_one_that_takes_callbacks); }

static void with_all_rights_nothing_is_lacking(void **state) { (void)state, in_child(everything); }
static void without_perfmon_auto_goes_by_open_connections(void **state) { (void)state, in_child(without_perfmon); }
static void without_cap_bpf_the_reason_is_said(void **state) { (void)state, in_child(without_cap_bpf); }
static void without_net_admin_the_reason_is_said(void **state) { (void)state, in_child(without_net_admin); }
static void without_a_cgroup_connections_are_counted_all_the_same(void **state) { (void)state, in_child(without_cgroup); }
static void with_neither_auto_takes_turns(void **state) { (void)state, in_child(without_cgroup_and_perfmon); }

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steering_goes_on_when_its_process_is_killed),
        cmocka_unit_test(what_another_version_left_is_refused),
        cmocka_unit_test(nothing_to_import_is_an_error),
        cmocka_unit_test(a_move_cut_short_is_finished_by_the_next),
        cmocka_unit_test(steering_goes_on_when_nobody_holds_it),
        cmocka_unit_test(with_all_rights_nothing_is_lacking),
        cmocka_unit_test(without_perfmon_auto_goes_by_open_connections),
        cmocka_unit_test(without_cap_bpf_the_reason_is_said),
        cmocka_unit_test(without_net_admin_the_reason_is_said),
        cmocka_unit_test(without_a_cgroup_connections_are_counted_all_the_same),
        cmocka_unit_test(with_neither_auto_takes_turns),
        cmocka_unit_test(another_program_in_the_cgroup_does_not_matter),
        cmocka_unit_test(an_exclusive_program_in_the_cgroup_is_gone_round),
        cmocka_unit_test(counts_that_another_program_spoils_are_put_right),
    };
    return cmocka_run_group_tests(tests, group_namespace, NULL);
}
