// SPDX-License-Identifier: MIT
// What steering costs: the program's time per SYN by the kernel's own statistics, and what its owner does by the clock.
// Needs the rights that steering needs; works in a network namespace of its own. Takes some 15 s.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "clock.h"
#include "fd.h"
#include "steering.h"

enum { CONNECTIONS = 200, ROUNDS = 25 };

static struct steering *steering;
static int listener[STEERING_SLOT_MAX];
static struct sockaddr_in name;

static void must(bool ok, const char *what) {
    if (ok) return;
    fprintf(stderr, "steering_cost: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void enter_namespace(void) {
    struct rlimit files;
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    must(unshare(CLONE_NEWNET) == 0, "a network namespace");
    scoped_fd fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    must(ioctl(fd, SIOCSIFFLAGS, &request) == 0, "the loopback interface");
}

static int listen_there(void) {
    socklen_t len = sizeof name;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    must(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &(int){1}, sizeof(int)) == 0, "SO_REUSEPORT");
    must(bind(fd, (struct sockaddr *)&name, sizeof name) == 0 && listen(fd, 4096) == 0, "listen");
    must(getsockname(fd, (struct sockaddr *)&name, &len) == 0, "getsockname");
    return fd;
}

static void open_group(unsigned slots) {
    struct pando_error error = {0};
    uint16_t weights[STEERING_SLOT_MAX] = {0};
    name = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (steering_open(&steering, &(struct steering_options){.slots = slots}, &error) != 0) {
        fprintf(stderr, "steering_cost: %s\n", error.text);
        exit(77);
    }
    for (unsigned i = 0; i < slots; i++) {
        listener[i] = listen_there();
        must(steering_add(steering, i, listener[i], &error) == 0, "steering_add");
        weights[i] = 1;
    }
    steering_set_weights(steering, weights);
}

static void close_group(unsigned slots) {
    steering_close(steering);
    for (unsigned i = 0; i < slots; i++) fd_close(&listener[i]);
}

static int dial(void) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(connect(fd, (struct sockaddr *)&name, sizeof name) == 0, "connect");
    return fd;
}

static void reset(int fd) {
    struct linger at_once = {.l_onoff = 1};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(fd);
}

static void drain(unsigned slots) {
    for (unsigned i = 0; i < slots; i++)
        for (int fd = accept(listener[i], NULL, NULL); fd >= 0; fd = accept(listener[i], NULL, NULL)) close(fd);
}

struct cost {
    uint64_t runs, ns;
};

static struct cost cost_of(int program) {
    struct bpf_prog_info info = {0};
    uint32_t len = sizeof info;
    must(bpf_obj_get_info_by_fd(program, &info, &len) == 0, "the program's statistics");
    return (struct cost){info.run_cnt, info.run_time_ns};
}

static double measure_once(int program, unsigned slots, bool leave) {
    struct cost before = cost_of(program);
    for (int i = 0; i < CONNECTIONS; i++) {
        reset(dial());
        if (!leave && i % 16 == 15) drain(slots);
    }
    struct cost after = cost_of(program);
    return (double)(after.ns - before.ns) / (double)(after.runs - before.runs);
}

// ns a run while connections come: each accepted at once, or one left waiting in every queue before, and all that come. The
// least of some rounds: what is more, others on this machine took.
static double measure(int program, unsigned slots, unsigned waiting) {
    static int kept[STEERING_SLOT_MAX];
    double least = 0;
    for (unsigned i = 0; i < waiting * slots; i++) kept[i] = dial();
    for (int i = 0; i < ROUNDS; i++) {
        double once = measure_once(program, slots, waiting > 0);
        if (i == 0 || once < least) least = once;
    }
    for (unsigned i = 0; i < waiting * slots; i++) reset(kept[i]);
    drain(slots);
    return least;
}

static void measure_programs(void) {
    static const char *const policy_name[] = {"auto", "rr", "random", "sticky"};
    static const unsigned sizes[] = {4, 64, 256, 1024};
    printf("ns per SYN             slots");
    for (int k = 0; k < 4; k++) printf("%9u", sizes[k]);
    printf("\n");
    double cost[5][4];
    for (int k = 0; k < 4; k++) {
        int fds[STEERING_FD_COUNT];
        open_group(sizes[k]);
        steering_export(steering, fds);
        for (int policy = 0; policy < STEERING_POLICY_COUNT; policy++) {
            steering_set_policy(steering, policy);
            cost[policy][k] = measure(fds[STEERING_FD_CHOOSE], sizes[k], 0);
        }
        steering_set_policy(steering, STEERING_AUTO);
        cost[4][k] = measure(fds[STEERING_FD_CHOOSE], sizes[k], 1);
        close_group(sizes[k]);
    }
    for (int row = 0; row < 5; row++) {
        printf("  %-7s%-19s", policy_name[row % 4], row == 4 ? " all have a queue" : "");
        for (int k = 0; k < 4; k++) printf("%9.0f", cost[row][k]);
        printf("\n");
    }
}

static void print_us(const char *what, uint64_t since, int count) {
    printf("  %-26s%9.2f us\n", what, (double)(clock_now_ns() - since) / count / 1000);
}

static void measure_owner(unsigned slots) {
    struct pando_error error;
    printf("what the owner does, %u slots\n", slots);
    uint64_t since = clock_now_ns();
    struct steering *other;
    must(steering_open(&other, &(struct steering_options){.slots = slots}, &error) == 0, "steering_open");
    print_us("open (load, verify)", since, 1);
    steering_close(other);
    open_group(slots);
    since = clock_now_ns();
    for (int i = 0; i < 10000; i++) steering_set_weight(steering, 0, (unsigned)i % 2);
    print_us("set_weight", since, 10000);
    steering_set_weight(steering, 0, 1);
    since = clock_now_ns();
    for (int i = 0; i < 2000; i++) steering_add(steering, 1, listener[1], &error);
    print_us("add again", since, 2000);
    since = clock_now_ns();
    for (int i = 0; i < 2000; i++) must(steering_move_queue(steering, 1, listener[1], NULL, &error) == 0, "steering_move_queue");
    print_us("move_queue, empty", since, 2000);
    static int client[1000];
    uint16_t all[STEERING_SLOT_MAX] = {0}, one[STEERING_SLOT_MAX] = {[1] = 1};
    for (unsigned i = 0; i < slots; i++) all[i] = 1;
    steering_set_weights(steering, one);
    for (int i = 0; i < 1000; i++) client[i] = dial();
    steering_set_weights(steering, all);
    since = clock_now_ns();
    must(steering_move_queue(steering, 1, listener[1], NULL, &error) == 0, "steering_move_queue");
    print_us("move_queue, each of 1000", since, 1000);
    since = clock_now_ns();
    must(steering_recount(steering) >= 0, "steering_recount");
    print_us("recount, 1000 open", since, 1);
    for (int i = 0; i < 1000; i++) reset(client[i]);
    close_group(slots);
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    enter_namespace();
    scoped_fd statistics = bpf_enable_stats(BPF_STATS_RUN_TIME);
    must(statistics >= 0, "the kernel's statistics of programs");
    measure_programs();
    fd_close(&statistics);
    measure_owner(64);
}
