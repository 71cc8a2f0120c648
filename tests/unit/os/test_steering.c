// SPDX-License-Identifier: MIT
// Policies, weights and counts, by real connections over the loopback of a network namespace.
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "steering_group.h"

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

// ---- round robin

static void check_rr(int family, int dial_family, int count, const char *cookies) {
    GROUP_NEEDED();
    struct group *group = group_open(family, STEERING_RR, count, 1);
    static int clients[GROUP_MAX * 10];
    group_cookies(cookies);
    for (int i = 0; i < 10 * count; i++) {
        clients[i] = group_dial_by(group, dial_family);
        if ((i + 1) % count != 0) continue;
        group_wait_queued(group, i + 1);
        for (int slot = 0; slot < count; slot++) assert_int_equal(group_queue(group->fd[slot]), (i + 1) / count);
    }
    for (int slot = 0; slot < count; slot++) {
        assert_int_equal(steering_counts(group->steering, (unsigned)slot).chosen, 10);
        assert_int_equal(steering_counts(group->steering, (unsigned)slot).by_cookie, cookies[0] == '2' ? 10 : 0);
        assert_int_equal(steering_counts(group->steering, (unsigned)slot).opened, 10);
    }
    for (int i = 0; i < 10 * count; i++) group_reset(&clients[i]);
    group_cookies("1");
    group_close(group);
}

static void rr_is_exact_over_2_slots(void **state) { (void)state, check_rr(AF_INET, AF_INET, 2, "1"); }
static void rr_is_exact_over_3_slots(void **state) { (void)state, check_rr(AF_INET, AF_INET, 3, "1"); }
static void rr_is_exact_over_8_slots(void **state) { (void)state, check_rr(AF_INET, AF_INET, 8, "1"); }
static void rr_is_exact_over_64_slots(void **state) { (void)state, check_rr(AF_INET, AF_INET, 64, "1"); }
static void rr_is_exact_over_2_slots_with_cookies(void **state) { (void)state, check_rr(AF_INET, AF_INET, 2, "2"); }
static void rr_is_exact_over_3_slots_with_cookies(void **state) { (void)state, check_rr(AF_INET, AF_INET, 3, "2"); }
static void rr_is_exact_over_8_slots_with_cookies(void **state) { (void)state, check_rr(AF_INET, AF_INET, 8, "2"); }
static void rr_is_exact_over_64_slots_with_cookies(void **state) { (void)state, check_rr(AF_INET, AF_INET, 64, "2"); }
static void rr_is_exact_over_ipv6(void **state) { (void)state, check_rr(AF_INET6, AF_INET6, 8, "1"); }
static void rr_is_exact_over_ipv6_with_cookies(void **state) { (void)state, check_rr(AF_INET6, AF_INET6, 8, "2"); }
static void rr_is_exact_for_ipv4_clients_of_ipv6_sockets(void **state) { (void)state, check_rr(AF_INET6, AF_INET, 8, "1"); }

struct dialer {
    pthread_t thread;
    const struct group *group;
    int clients[400];
};

static void *dial_all(void *arg) {
    struct dialer *dialer = arg;
    for (int i = 0; i < 400; i++) dialer->clients[i] = group_dial(dialer->group);
    return NULL;
}

static void rr_is_exact_for_clients_on_several_processors(void **state) {
    (void)state;
    GROUP_NEEDED();
    struct group *group = group_open(AF_INET, STEERING_RR, 8, 1);
    static struct dialer dialer[4];
    for (int i = 0; i < 4; i++) {
        dialer[i].group = group;
        assert_int_equal(pthread_create(&dialer[i].thread, NULL, dial_all, &dialer[i]), 0);
    }
    for (int i = 0; i < 4; i++) pthread_join(dialer[i].thread, NULL);
    group_wait_queued(group, 1600);
    for (int i = 0; i < 8; i++) assert_int_equal(group_queue(group->fd[i]), 200);
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < 400; k++) group_reset(&dialer[i].clients[k]);
    group_close(group);
}

static void rr_counts_ipv4_and_ipv6_clients_as_one(void **state) {
    (void)state;
    GROUP_NEEDED();
    struct group *group = group_open(AF_INET6, STEERING_RR, 4, 1);
    int clients[40];
    for (int i = 0; i < 40; i++) clients[i] = group_dial_by(group, i * 7 % 3 == 0 ? AF_INET : AF_INET6);
    group_wait_queued(group, 40);
    for (int slot = 0; slot < 4; slot++) assert_int_equal(group_queue(group->fd[slot]), 10);
    for (int i = 0; i < 40; i++) group_reset(&clients[i]);
    group_close(group);
}

static void ipv4_and_ipv6_on_one_port_are_two_groups(void **state) {
    (void)state;
    GROUP_NEEDED();
    struct group v4 = *group_open(AF_INET, STEERING_RR, 2, 1), v6 = {.count = 0};
    struct sockaddr_in6 name = {.sin6_family = AF_INET6, .sin6_port = ((struct sockaddr_in *)&v4.name)->sin_port};
    MUST(steering_open(&v6.steering, &(struct steering_options){.slots = 3, .policy = STEERING_RR}, &group_error));
    for (unsigned i = 0; i < 3; i++) {
        int fd = v6.fd[v6.count++] = group_socket(AF_INET6, 0);
        assert_int_equal(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &(int){1}, sizeof(int)), 0);
        assert_int_equal(bind(fd, (struct sockaddr *)&name, sizeof name), 0);
        assert_int_equal(listen(fd, 64), 0);
        MUST(steering_add(v6.steering, i, fd, &group_error));
        assert_int_equal(steering_set_weight(v6.steering, i, 1), 0);
    }
    v6.name = v4.name;
    v6.name.ss_family = AF_INET6;
    int clients[60];
    for (int i = 0; i < 30; i++) clients[i] = group_dial(&v4), clients[30 + i] = group_dial(&v6);
    group_wait_queued(&v4, 30);
    group_wait_queued(&v6, 30);
    for (int i = 0; i < 2; i++) assert_int_equal(group_queue(v4.fd[i]), 15);
    for (int i = 0; i < 3; i++) assert_int_equal(group_queue(v6.fd[i]), 10);
    for (int i = 0; i < 60; i++) group_reset(&clients[i]);
    group_close(&v4);
    group_close(&v6);
}

// The very SYN makes the connection: it is queued before the handshake has ended.
static void rr_is_exact_with_fast_open(void **state) {
    (void)state;
    GROUP_NEEDED();
    group_setting("/proc/sys/net/ipv4/tcp_fastopen", "3");
    struct group *group = group_open(AF_INET, STEERING_RR, 4, 1);
    for (int i = 0; i < 4; i++) assert_int_equal(setsockopt(group->fd[i], IPPROTO_TCP, TCP_FASTOPEN, &(int){64}, sizeof(int)), 0);
    int clients[41], fast = 0;
    socklen_t len;
    struct sockaddr_storage to = group_target(group, AF_INET, &len);
    for (int i = 0; i < 41; i++) {  // the first one learns the cookie
        struct tcp_info info = {0};
        socklen_t info_len = sizeof info;
        clients[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(sendto(clients[i], "hello", 5, MSG_FASTOPEN, (struct sockaddr *)&to, len), 5);
        group_wait_queued(group, i + 1);
        assert_int_equal(getsockopt(clients[i], IPPROTO_TCP, TCP_INFO, &info, &info_len), 0);
        fast += (info.tcpi_options & TCPI_OPT_SYN_DATA) != 0;
    }
    assert_int_equal(fast, 40);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(group_queue(group->fd[i]), i == 0 ? 11 : 10);
        assert_int_equal(group_live(group, i), i == 0 ? 11 : 10);
    }
    for (int i = 0; i < 41; i++) group_reset(&clients[i]);
    group_drain(group);
    for (int i = 0; i < 4; i++) group_wait_live(group, i, 0);
    group_setting("/proc/sys/net/ipv4/tcp_fastopen", "1");
    group_close(group);
}

static void rr_is_exact_with_deferred_accept(void **state) {
    (void)state;
    GROUP_NEEDED();
    struct group *group = group_open(AF_INET, STEERING_RR, 4, 1);
    for (int i = 0; i < 4; i++) assert_int_equal(setsockopt(group->fd[i], IPPROTO_TCP, TCP_DEFER_ACCEPT, &(int){30}, sizeof(int)), 0);
    int clients[40];
    for (int i = 0; i < 40; i++) clients[i] = group_dial(group);
    assert_int_equal(group_queued(group), 0);
    for (int i = 0; i < 40; i++) assert_int_equal(send(clients[i], "x", 1, 0), 1);
    group_wait_queued(group, 40);
    for (int i = 0; i < 4; i++) assert_int_equal(group_queue(group->fd[i]), 10);
    for (int i = 0; i < 40; i++) group_reset(&clients[i]);
    group_close(group);
}

// ---- auto

struct open {
    int client, server;
};

static unsigned drawn = 1;
static unsigned draw(unsigned below) { return (drawn = drawn * 1103515245 + 12345) / 65536 % below; }

// Connections come, wait, are accepted and end at random; each one must go where fewest waited, then fewest were open.
static void auto_picks_the_minimum_at_each_decision(void **state) {
    (void)state;
    GROUP_NEEDED();
    enum { SLOTS = 8, DECISIONS = 3000, OPEN_MAX = 400 };
    struct group *group = group_open(AF_INET, STEERING_AUTO, SLOTS, 1);
    static struct open open[SLOTS][OPEN_MAX];
    int opened[SLOTS] = {0}, accepted[SLOTS] = {0};
    for (int n = 0; n < DECISIONS; n++) {
        int queue[SLOTS], live[SLOTS], least = INT_MAX, chosen = -1;
        for (int i = 0; i < SLOTS; i++) {
            queue[i] = group_queue(group->fd[i]);
            live[i] = group_live(group, i);
            assert_int_equal(queue[i], opened[i] - accepted[i]);
            assert_int_equal(live[i], opened[i]);
            if (queue[i] * 1000 + live[i] < least) least = queue[i] * 1000 + live[i];
        }
        int client = group_dial(group);
        for (int tries = 0; tries < 5000 && chosen < 0; tries++)
            for (int i = 0; i < SLOTS; i++)
                if (group_queue(group->fd[i]) == queue[i] + 1) chosen = i;
        assert_true(chosen >= 0);
        if (queue[chosen] * 1000 + live[chosen] != least)
            fail_msg("decision %d: slot %d had %d waiting and %d open, another one less", n, chosen, queue[chosen], live[chosen]);
        open[chosen][opened[chosen]++].client = client;
        for (unsigned events = draw(4); events > 0; events--) {
            int slot = (int)draw(SLOTS);
            if (draw(3) != 0) {
                if (accepted[slot] == opened[slot]) continue;
                open[slot][accepted[slot]].server = group_accept(group, slot);
                assert_true(open[slot][accepted[slot]++].server >= 0);
            } else if (accepted[slot] > 0) {
                struct open *ends = &open[slot][draw((unsigned)accepted[slot])];
                fd_close(&ends->server);
                group_reset(&ends->client);
                *ends = open[slot][--accepted[slot]];
                memmove(&open[slot][accepted[slot]], &open[slot][accepted[slot] + 1],
                        (size_t)(opened[slot] - accepted[slot] - 1) * sizeof(struct open));
                opened[slot]--;
            }
        }
        for (int i = 0; i < SLOTS; i++) assert_true(opened[i] < OPEN_MAX);
    }
    for (int i = 0; i < SLOTS; i++)
        for (int k = 0; k < opened[i]; k++) {
            if (k < accepted[i]) fd_close(&open[i][k].server);
            group_reset(&open[i][k].client);
        }
    group_close(group);
}

static void auto_takes_turns_when_idle(void **state) {
    (void)state;
    GROUP_NEEDED();
    struct group *group = group_open(AF_INET, STEERING_AUTO, 5, 1);
    int had[5] = {0};
    for (int i = 0; i < 100; i++) had[group_where(group)]++;
    for (int i = 0; i < 5; i++) assert_int_equal(had[i], 20);
    group_close(group);
}

// Whoever comes after one that is passed over gets no more than the others.
static void auto_takes_turns_among_those_that_tie(void **state) {
    (void)state;
    GROUP_NEEDED();
    struct group *group = group_open(AF_INET, STEERING_AUTO, 5, 1);
    uint16_t weights[GROUP_MAX] = {0, 0, 1, 0, 0};
    int client[5], had[5] = {0};
    assert_int_equal(steering_set_weights(group->steering, weights), 0);
    client[0] = group_dial(group);
    for (int i = 0; i < 5; i++) weights[i] = 1;
    assert_int_equal(steering_set_weights(group->steering, weights), 0);
    for (int i = 0; i < 100; i++) {
        int where = -1, one = group_dial(group);
        for (int slot = 0; slot < 5; slot++) {
            int server = slot == 2 ? -1 : group_accept(group, slot);
            if (server < 0) continue;
            where = slot;
            fd_close(&server);
        }
        assert_true(where >= 0);
        had[where]++;
        group_reset(&one);
    }
    for (int i = 0; i < 5; i++) assert_int_equal(had[i], i == 2 ? 0 : 25);
    group_reset(&client[0]);
    group_close(group);
}

static void auto_spreads_idle_connections(void **state) {
    (void)state;
    GROUP_NEEDED();
    struct group *group = group_open(AF_INET, STEERING_AUTO, 8, 1);
    static int clients[256];
    int server;
    for (int i = 0; i < 256; i++) {
        clients[i] = group_dial(group);
        group_where_fd(group, clients[i], &server);  // kept open
    }
    for (int i = 0; i < 8; i++) assert_int_equal(group_live(group, i), 32);
    for (int i = 0; i < 256; i++) group_reset(&clients[i]);
    group_close(group);
}

// ---- sticky

enum { STICKY_CLIENTS = 400 };

static void where_clients_go(const struct group *group, int out[STICKY_CLIENTS]) {
    for (uint32_t i = 0; i < STICKY_CLIENTS; i++) {
        int server, client = group_dial_from(group, 0x7f000001 + i * 0x7f07);
        out[i] = group_where_fd(group, client, &server);
        group_reset(&client);
        fd_close(&server);
    }
}

static int moved_between(const int *before, const int *after, int only_from, int only_to) {
    int moved = 0;
    for (int i = 0; i < STICKY_CLIENTS; i++) {
        if (before[i] == after[i]) continue;
        if (only_from >= 0) assert_int_equal(before[i], only_from);
        if (only_to >= 0) assert_int_equal(after[i], only_to);
        moved++;
    }
    return moved;
}

static int clients_of(const int *where, int slot) {
    int count = 0;
    for (int i = 0; i < STICKY_CLIENTS; i++) count += where[i] == slot;
    return count;
}

static void sticky_moves_only_the_clients_of_a_slot_that_goes(void **state) {
    (void)state;
    GROUP_NEEDED();
    struct group *group = group_open(AF_INET, STEERING_STICKY, 8, 1);
    int first[STICKY_CLIENTS], again[STICKY_CLIENTS], without[STICKY_CLIENTS], back[STICKY_CLIENTS];
    where_clients_go(group, first);
    where_clients_go(group, again);
    assert_int_equal(moved_between(first, again, -1, -1), 0);
    for (int i = 0; i < 8; i++) assert_in_range(clients_of(first, i), 25, 80);  // 50 each, give or take
    assert_int_equal(steering_set_weight(group->steering, 3, 0), 0);
    where_clients_go(group, without);
    assert_int_equal(moved_between(first, without, 3, -1), clients_of(first, 3));
    assert_int_equal(steering_set_weight(group->steering, 3, 1), 0);
    where_clients_go(group, back);
    assert_int_equal(moved_between(first, back, -1, -1), 0);
    group_close(group);
}

static void sticky_moves_clients_only_to_a_slot_that_comes(void **state) {
    (void)state;
    GROUP_NEEDED();
    struct group *group = group_open(AF_INET, STEERING_STICKY, 4, 1);
    int before[STICKY_CLIENTS], after[STICKY_CLIENTS];
    where_clients_go(group, before);
    group_add(group);
    assert_int_equal(steering_set_weight(group->steering, 4, 1), 0);
    where_clients_go(group, after);
    assert_in_range(moved_between(before, after, -1, 4), 50, 110);  // a fifth: 80
    group_close(group);
}

// A canary that grows from a hundredth to a full share takes more and more, and what it has once it keeps.
static void sticky_moves_clients_only_to_a_slot_that_gains_weight(void **state) {
    (void)state;
    GROUP_NEEDED();
    struct group *group = group_open(AF_INET, STEERING_STICKY, 4, 100);
    int before[STICKY_CLIENTS], after[STICKY_CLIENTS];
    const unsigned weight[] = {1, 10, 50, 100, 300};
    const int least[] = {0, 2, 30, 70, 160}, most[] = {12, 30, 80, 130, 240};  // of 400: 1.3, 13, 57, 100, 200
    assert_int_equal(steering_set_weight(group->steering, 1, 0), 0);
    where_clients_go(group, before);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(steering_set_weight(group->steering, 1, weight[i]), 0);
        where_clients_go(group, after);
        moved_between(before, after, -1, 1);
        assert_in_range(clients_of(after, 1), least[i], most[i]);
        memcpy(before, after, sizeof before);
    }
    group_close(group);
}

// An IPv4 client is the same client for an IPv6 socket.
static void sticky_knows_ipv4_clients_of_ipv6_sockets(void **state) {
    (void)state;
    GROUP_NEEDED();
    int v4[STICKY_CLIENTS], v6[STICKY_CLIENTS];
    struct group *group = group_open(AF_INET, STEERING_STICKY, 4, 1);
    where_clients_go(group, v4);
    group_close(group);
    group = group_open(AF_INET6, STEERING_STICKY, 4, 1);
    where_clients_go(group, v6);
    assert_int_equal(moved_between(v4, v6, -1, -1), 0);
    group_close(group);
}

static void sticky_tells_ipv6_clients_apart(void **state) {
    (void)state;
    GROUP_NEEDED();
    struct group *group = group_open(AF_INET6, STEERING_STICKY, 8, 1);
    scoped_fd control = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool used[8] = {false};
    int slots = 0;
    for (uint8_t i = 1; i <= 32; i++) {
        struct sockaddr_in6 from = {.sin6_family = AF_INET6, .sin6_addr = {.s6_addr = {0xfd, [8] = i, [15] = 1}}};
        struct {
            struct in6_addr address;
            uint32_t prefix;
            int interface;
        } request = {.address = from.sin6_addr, .prefix = 128, .interface = (int)if_nametoindex("lo")};
        assert_int_equal(ioctl(control, SIOCSIFADDR, &request), 0);
        int first = -1;
        for (int again = 0; again < 3; again++) {
            socklen_t len;
            struct sockaddr_storage to = group_target(group, AF_INET6, &len);
            int server, client = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
            for (int tries = 0; bind(client, (struct sockaddr *)&from, sizeof from) != 0; tries++) {  // the address is tentative at first
                assert_true(tries < 30000);
                usleep(1000);
            }
            assert_int_equal(connect(client, (struct sockaddr *)&to, len), 0);
            int slot = group_where_fd(group, client, &server);
            if (again > 0) assert_int_equal(slot, first);
            first = slot;
            group_reset(&client);
            fd_close(&server);
        }
        slots += !used[first];
        used[first] = true;
    }
    assert_true(slots >= 7);
    group_close(group);
}

// ---- weights

static void check_weights(enum steering_policy policy, const char *cookies) {
    GROUP_NEEDED();
    const uint16_t weights[GROUP_MAX] = {1, 3, 6, 0, 3, 7};
    struct group *group = group_open(AF_INET, policy, 6, 1);
    assert_int_equal(steering_set_weights(group->steering, weights), 0);
    group_cookies(cookies);
    for (int round = 0; round < 5; round++) {
        int had[6] = {0};
        for (int i = 0; i < 20; i++) had[group_where(group)]++;
        assert_int_equal(had[0], 1);
        assert_int_equal(had[1] + had[4], 6);
        assert_int_equal(had[2], 6);
        assert_int_equal(had[3], 0);
        assert_int_equal(had[5], 7);
        if (policy != STEERING_RANDOM) assert_int_equal(had[1], 3);
    }
    group_cookies("1");
    group_close(group);
}

static void weights_are_exact_in_rr(void **state) { (void)state, check_weights(STEERING_RR, "1"); }
static void weights_are_exact_in_rr_with_cookies(void **state) { (void)state, check_weights(STEERING_RR, "2"); }
static void weights_are_exact_in_auto(void **state) { (void)state, check_weights(STEERING_AUTO, "1"); }
static void weights_are_exact_between_classes_in_random(void **state) { (void)state, check_weights(STEERING_RANDOM, "1"); }

// 5 % for the one new worker among 8, whatever waits in its queue; within the old ones the least loaded is chosen.
static void a_canary_has_its_share_in_auto(void **state) {
    (void)state;
    GROUP_NEEDED();
    struct group *group = group_open(AF_INET, STEERING_AUTO, 9, 19);
    assert_int_equal(steering_set_weight(group->steering, 8, 8), 0);
    static int clients[800];
    for (int i = 0; i < 800; i++) clients[i] = group_dial(group);
    group_wait_queued(group, 800);
    for (int i = 0; i < 8; i++) assert_int_equal(group_queue(group->fd[i]), 95);
    assert_int_equal(group_queue(group->fd[8]), 40);
    for (int i = 0; i < 800; i++) group_reset(&clients[i]);
    group_close(group);
}

static void a_ninth_weight_is_refused_and_changes_nothing(void **state) {
    (void)state;
    GROUP_NEEDED();
    struct group *group = group_open(AF_INET, STEERING_RR, 10, 0);
    for (unsigned i = 0; i < 8; i++) assert_int_equal(steering_set_weight(group->steering, i, i + 1), 0);
    assert_int_equal(steering_set_weight(group->steering, 8, 100), -E2BIG);
    assert_int_equal(steering_weight(group->steering, 8), 0);
    assert_int_equal(steering_set_weight(group->steering, 8, 8), 0);
    group_close(group);
}

static void random_uses_all_slots_alike(void **state) {
    (void)state;
    GROUP_NEEDED();
    struct group *group = group_open(AF_INET, STEERING_RANDOM, 4, 1);
    int had[4] = {0};
    for (int i = 0; i < 800; i++) had[group_where(group)]++;
    for (int i = 0; i < 4; i++) assert_in_range(had[i], 140, 260);  // 200, standard deviation 12
    group_close(group);
}

static void the_policy_can_be_changed_under_way(void **state) {
    (void)state;
    GROUP_NEEDED();
    struct group *group = group_open(AF_INET, STEERING_STICKY, 4, 1);
    int one = group_where(group);
    for (int i = 0; i < 5; i++) assert_int_equal(group_where(group), one);
    steering_set_policy(group->steering, STEERING_RR);
    int had[4] = {0};
    for (int i = 0; i < 40; i++) had[group_where(group)]++;
    for (int i = 0; i < 4; i++) assert_int_equal(had[i], 10);
    group_close(group);
}

// ---- who is fit

static void a_full_queue_is_passed_over(void **state) {
    (void)state;
    GROUP_NEEDED();
    for (enum steering_policy policy = 0; policy < STEERING_POLICY_COUNT; policy++) {
        struct group *group = group_open(AF_INET, policy, 3, 1);
        int clients[60];
        for (int i = 0; i < 3; i++) assert_int_equal(listen(group->fd[i], i == 1 ? 4 : 100), 0);
        for (int i = 0; i < 60; i++) clients[i] = group_dial(group);
        group_wait_queued(group, 60);
        assert_true(group_queue(group->fd[1]) <= 5);
        for (int i = 0; i < 60; i++) group_reset(&clients[i]);
        group_close(group);
    }
}

static void with_nobody_fit_connections_wait_in_the_lobby(void **state) {
    (void)state;
    GROUP_NEEDED();
    struct group *group = group_open(AF_INET, STEERING_AUTO, 4, 0);
    steering_set_lobby(group->steering, 3);
    int clients[20];
    for (int i = 0; i < 20; i++) clients[i] = group_dial(group);
    group_wait_queued(group, 20);
    assert_int_equal(group_queue(group->fd[3]), 20);
    unsigned moved = 0;
    assert_int_equal(steering_move_queue(group->steering, 3, group->fd[3], &moved, &group_error), -EAGAIN);
    assert_int_equal(group_queue(group->fd[3]), 20);
    assert_int_equal(steering_set_weight(group->steering, 0, 1), 0);
    assert_int_equal(steering_set_weight(group->steering, 1, 1), 0);
    MUST(steering_move_queue(group->steering, 3, group->fd[3], &moved, &group_error));
    assert_int_equal(moved, 20);
    for (int i = 0; i < 4; i++) assert_int_equal(group_queue(group->fd[i]), i < 2 ? 10 : 0);
    for (int i = 0; i < 20; i++) group_reset(&clients[i]);
    group_close(group);
}

static void with_nobody_fit_and_no_lobby_connections_wait_in_turn(void **state) {
    (void)state;
    GROUP_NEEDED();
    struct group *group = group_open(AF_INET, STEERING_RR, 4, 0);
    int clients[20];
    for (int i = 0; i < 20; i++) clients[i] = group_dial(group);
    group_wait_queued(group, 20);
    for (int i = 0; i < 4; i++) assert_int_equal(group_queue(group->fd[i]), 5);
    for (int i = 0; i < 20; i++) group_reset(&clients[i]);
    group_close(group);
}

// Weight without a socket is no fitness; a socket that shut itself down is passed over.
static void a_slot_whose_socket_is_gone_is_passed_over(void **state) {
    (void)state;
    GROUP_NEEDED();
    struct group *group = group_open(AF_INET, STEERING_RR, 3, 1);
    int clients[30];
    assert_int_equal(steering_set_weight(group->steering, 5, 1), 0);
    assert_int_equal(shutdown(group->fd[1], SHUT_RD), 0);
    for (int i = 0; i < 30; i++) clients[i] = group_dial(group);
    for (int i = 0; i < 30000 && group_queue(group->fd[0]) + group_queue(group->fd[2]) < 30; i++) usleep(1000);
    assert_int_equal(group_queue(group->fd[0]) + group_queue(group->fd[2]), 30);
    for (int i = 0; i < 30; i++) group_reset(&clients[i]);
    group_close(group);
}

static void an_mptcp_listener_is_refused_and_a_tcp_one_serves_its_clients(void **state) {
    (void)state;
    GROUP_NEEDED();
    scoped_fd listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP);
    if (listener < 0) {
        print_message("skipped: an MPTCP socket: %s\n", strerror(errno));
        skip();
    }
    struct group *group = group_open(AF_INET, STEERING_RR, 2, 1);
    assert_int_equal(setsockopt(listener, SOL_SOCKET, SO_REUSEPORT, &(int){1}, sizeof(int)), 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&group->name, group->name_len), 0);
    assert_int_equal(listen(listener, 16), 0);
    assert_int_equal(steering_add(group->steering, 2, listener, &group_error), -EOPNOTSUPP);
    assert_non_null(strstr(group_error.text, "MPTCP"));
    fd_close(&listener);
    int clients[20];
    socklen_t len;
    struct sockaddr_storage to = group_target(group, AF_INET, &len);
    for (int i = 0; i < 20; i++) {
        clients[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP);
        assert_int_equal(connect(clients[i], (struct sockaddr *)&to, len), 0);
    }
    group_wait_queued(group, 20);
    for (int i = 0; i < 2; i++) assert_int_equal(group_queue(group->fd[i]), 10);
    for (int i = 0; i < 20; i++) fd_close(&clients[i]);
    group_close(group);
}

static void a_stranger_in_the_group_is_seen_and_gets_nothing(void **state) {
    (void)state;
    GROUP_NEEDED();
    struct group *group = group_open(AF_INET, STEERING_RR, 3, 1);
    group_where(group);
    assert_int_equal(steering_strangers(group->steering), 0);
    scoped_fd stranger = group_join(group);
    for (int i = 0; i < 30; i++) group_where(group);
    assert_int_equal(steering_strangers(group->steering), 1);
    assert_int_equal(group_queue(stranger), 0);
    fd_close(&stranger);
    group_where(group);
    assert_int_equal(steering_strangers(group->steering), 0);
    steering_remove(group->steering, 2);
    fd_close(&group->fd[2]);
    assert_int_equal(steering_strangers(group->steering), 0);  // one of our own that is gone is none, though no connection came since
    group->count = 2;
    group_where(group);
    assert_int_equal(steering_strangers(group->steering), 0);
    group_close(group);
}

static void there_is_room_for_1024_slots_and_no_more(void **state) {
    (void)state;
    GROUP_NEEDED();
    struct steering *steering;
    assert_int_equal(steering_open(&steering, &(struct steering_options){.slots = STEERING_SLOT_MAX + 1}, &group_error), -EINVAL);
    assert_int_equal(steering_open(&steering, &(struct steering_options){.slots = 0}, &group_error), -EINVAL);
    struct group *group = group_open(AF_INET, STEERING_RR, STEERING_SLOT_MAX, 1);
    static int clients[STEERING_SLOT_MAX];
    for (int i = 0; i < STEERING_SLOT_MAX; i++) clients[i] = group_dial(group);
    group_wait_queued(group, STEERING_SLOT_MAX);
    for (int i = 0; i < STEERING_SLOT_MAX; i++) assert_int_equal(group_queue(group->fd[i]), 1);
    steering_set_policy(group->steering, STEERING_AUTO);
    for (int i = 0; i < STEERING_SLOT_MAX; i++) group_reset(&clients[i]);
    group_drain(group);
    for (int i = 0; i < STEERING_SLOT_MAX; i++) clients[i] = group_dial(group);
    group_wait_queued(group, STEERING_SLOT_MAX);
    for (int i = 0; i < STEERING_SLOT_MAX; i++) assert_int_equal(group_queue(group->fd[i]), 1);
    for (int i = 0; i < STEERING_SLOT_MAX; i++) group_reset(&clients[i]);
    group_close(group);
}

// ---- counts

static void live_falls_when_the_worker_closes_not_when_the_client_says_goodbye(void **state) {
    (void)state;
    GROUP_NEEDED();
    struct group *group = group_open(AF_INET, STEERING_RR, 1, 1);
    int client[4], server[4];
    for (int i = 0; i < 4; i++) {
        client[i] = group_dial(group);
        group_where_fd(group, client[i], &server[i]);
    }
    assert_int_equal(group_live(group, 0), 4);
    fd_close(&server[0]);  // the worker first
    group_wait_live(group, 0, 3);
    fd_close(&client[1]);  // the client first: the worker has yet to close
    usleep(20000);
    assert_int_equal(group_live(group, 0), 3);
    fd_close(&server[1]);
    group_wait_live(group, 0, 2);
    group_reset(&client[2]);  // reset by the client
    group_wait_live(group, 0, 1);
    group_reset(&server[3]);  // and by the worker
    group_wait_live(group, 0, 0);
    assert_int_equal(steering_counts(group->steering, 0).opened, 4);
    assert_int_equal(steering_counts(group->steering, 0).cut, 2);
    for (int i = 0; i < 4; i++) fd_close(&client[i]), fd_close(&server[i]);
    group_close(group);
}

static void live_falls_when_the_worker_is_killed(void **state) {
    (void)state;
    GROUP_NEEDED();
    struct group *group = group_open(AF_INET, STEERING_RR, 2, 1);
    int client[20], pipe_fds[2];
    assert_int_equal(pipe(pipe_fds), 0);
    pid_t worker = fork();
    if (worker == 0) {
        fcntl(group->fd[0], F_SETFL, 0);
        for (int i = 0; i < 6; i++) accept(group->fd[0], NULL, NULL);
        if (write(pipe_fds[1], "", 1) == 1) pause();
        _exit(0);
    }
    for (int i = 0; i < 20; i++) client[i] = group_dial(group);
    char byte;
    assert_int_equal(read(pipe_fds[0], &byte, 1), 1);
    assert_int_equal(group_live(group, 0), 10);
    kill(worker, SIGKILL);
    waitpid(worker, NULL, 0);
    group_wait_live(group, 0, 4);  // what was queued lives on
    assert_int_equal(group_queue(group->fd[0]), 4);
    assert_int_equal(group_live(group, 1), 10);
    for (int i = 0; i < 20; i++) fd_close(&client[i]);
    close(pipe_fds[0]), close(pipe_fds[1]);
    group_close(group);
}

static struct steering_memory *map_of(const struct steering *steering) {
    int fds[STEERING_FD_COUNT];
    steering_export(steering, fds);
    void *at = mmap(NULL, sizeof(struct steering_memory), PROT_READ | PROT_WRITE, MAP_SHARED, fds[STEERING_FD_MEMORY], 0);
    assert_ptr_not_equal(at, MAP_FAILED);
    return at;
}

static void a_wrong_count_is_put_right(void **state) {
    (void)state;
    GROUP_NEEDED();
    struct group *group = group_open(AF_INET6, STEERING_RR, 3, 1);
    int client[30];
    for (int i = 0; i < 30; i++) client[i] = group_dial_by(group, i % 2 == 0 ? AF_INET : AF_INET6);
    group_wait_queued(group, 30);
    assert_int_equal(steering_recount(group->steering), 0);
    struct steering_memory *memory = map_of(group->steering);
    memory->seat[1].live += 7;
    memory->seat[2].live -= 100;
    assert_int_equal(steering_recount(group->steering), 2);
    for (int i = 0; i < 3; i++) assert_int_equal(group_live(group, i), 10);
    memory->seat[2].live -= 100;  // below nothing is nothing, not very much
    steering_set_policy(group->steering, STEERING_AUTO);
    group_drain(group);
    for (int i = 0; i < 30; i++) group_reset(&client[i]);
    int had[3] = {0};
    for (int i = 0; i < 9; i++) had[group_where(group)]++;
    for (int i = 0; i < 3; i++) assert_int_equal(had[i], 3);
    munmap(memory, sizeof *memory);
    group_close(group);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rr_is_exact_over_2_slots),
        cmocka_unit_test(rr_is_exact_over_3_slots),
        cmocka_unit_test(rr_is_exact_over_8_slots),
        cmocka_unit_test(rr_is_exact_over_64_slots),
        cmocka_unit_test(rr_is_exact_over_2_slots_with_cookies),
        cmocka_unit_test(rr_is_exact_over_3_slots_with_cookies),
        cmocka_unit_test(rr_is_exact_over_8_slots_with_cookies),
        cmocka_unit_test(rr_is_exact_over_64_slots_with_cookies),
        cmocka_unit_test(rr_is_exact_over_ipv6),
        cmocka_unit_test(rr_is_exact_over_ipv6_with_cookies),
        cmocka_unit_test(rr_is_exact_for_ipv4_clients_of_ipv6_sockets),
        cmocka_unit_test(rr_is_exact_for_clients_on_several_processors),
        cmocka_unit_test(rr_counts_ipv4_and_ipv6_clients_as_one),
        cmocka_unit_test(ipv4_and_ipv6_on_one_port_are_two_groups),
        cmocka_unit_test(rr_is_exact_with_fast_open),
        cmocka_unit_test(rr_is_exact_with_deferred_accept),
        cmocka_unit_test(auto_picks_the_minimum_at_each_decision),
        cmocka_unit_test(auto_takes_turns_when_idle),
        cmocka_unit_test(auto_takes_turns_among_those_that_tie),
        cmocka_unit_test(auto_spreads_idle_connections),
        cmocka_unit_test(sticky_moves_only_the_clients_of_a_slot_that_goes),
        cmocka_unit_test(sticky_moves_clients_only_to_a_slot_that_comes),
        cmocka_unit_test(sticky_moves_clients_only_to_a_slot_that_gains_weight),
        cmocka_unit_test(sticky_knows_ipv4_clients_of_ipv6_sockets),
        cmocka_unit_test(sticky_tells_ipv6_clients_apart),
        cmocka_unit_test(weights_are_exact_in_rr),
        cmocka_unit_test(weights_are_exact_in_rr_with_cookies),
        cmocka_unit_test(weights_are_exact_in_auto),
        cmocka_unit_test(weights_are_exact_between_classes_in_random),
        cmocka_unit_test(a_canary_has_its_share_in_auto),
        cmocka_unit_test(a_ninth_weight_is_refused_and_changes_nothing),
        cmocka_unit_test(random_uses_all_slots_alike),
        cmocka_unit_test(the_policy_can_be_changed_under_way),
        cmocka_unit_test(a_full_queue_is_passed_over),
        cmocka_unit_test(with_nobody_fit_connections_wait_in_the_lobby),
        cmocka_unit_test(with_nobody_fit_and_no_lobby_connections_wait_in_turn),
        cmocka_unit_test(a_slot_whose_socket_is_gone_is_passed_over),
        cmocka_unit_test(an_mptcp_listener_is_refused_and_a_tcp_one_serves_its_clients),
        cmocka_unit_test(a_stranger_in_the_group_is_seen_and_gets_nothing),
        cmocka_unit_test(there_is_room_for_1024_slots_and_no_more),
        cmocka_unit_test(live_falls_when_the_worker_closes_not_when_the_client_says_goodbye),
        cmocka_unit_test(live_falls_when_the_worker_is_killed),
        cmocka_unit_test(a_wrong_count_is_put_right),
    };
    return cmocka_run_group_tests(tests, group_namespace, NULL);
}
