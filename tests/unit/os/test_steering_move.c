// SPDX-License-Identifier: MIT
// What becomes of connections that wait, or are in the middle of their handshake, when their slot's socket is steered away
// from, emptied, or closed. A TUN device plays the client where the handshake must stop half way.
#include <linux/if_tun.h>
#include <netinet/ip.h>
#include <pthread.h>
#include <stdatomic.h>

#include "steering_group.h"

enum { WAITING = 40 };

// ---- whole connections

// `count` connections with data wait in slot 1 of three.
static struct group *waiting_in_slot_1(int family, int *clients, int count) {
    struct group *group = group_open(family, STEERING_AUTO, 3, 0);
    assert_int_equal(steering_set_weight(group->steering, 1, 1), 0);
    for (int i = 0; i < count; i++) {
        clients[i] = group_dial(group);
        assert_int_equal(send(clients[i], &i, sizeof i, 0), sizeof i);
    }
    group_wait_queued(group, count);
    assert_int_equal(group_queue(group->fd[1]), count);
    return group;
}

static void others_are_fit(struct group *group) {
    const uint16_t weights[GROUP_MAX] = {1, 0, 1};
    assert_int_equal(steering_set_weights(group->steering, weights), 0);
}

// Each of the connections is accepted somewhere with its data, answered, and the client hears it.
static void all_are_served(const struct group *group, int *clients, int count) {
    int served = 0;
    for (int slot = 0; slot < group->count; slot++) {
        for (int fd = group_accept(group, slot); fd >= 0; fd = group_accept(group, slot)) {
            int number = -1;
            assert_int_equal(recv(fd, &number, sizeof number, 0), sizeof number);
            assert_in_range(number, 0, count - 1);
            assert_int_equal(send(fd, "ok", 2, 0), 2);
            char answer[2];
            assert_int_equal(recv(clients[number], answer, 2, MSG_WAITALL), 2);
            fd_close(&fd);
            group_reset(&clients[number]);
            served++;
        }
    }
    assert_int_equal(served, count);
}

static void check_move(int family) {
    GROUP_NEEDED();
    int clients[WAITING];
    unsigned moved = 0;
    struct group *group = waiting_in_slot_1(family, clients, WAITING);
    others_are_fit(group);
    MUST(steering_move_queue(group->steering, 1, group->fd[1], &moved, &group_error));
    assert_int_equal(moved, WAITING);
    assert_int_equal(group_queue(group->fd[0]), WAITING / 2);
    assert_int_equal(group_queue(group->fd[1]), 0);
    assert_int_equal(group_queue(group->fd[2]), WAITING / 2);
    assert_int_equal(steering_counts(group->steering, 1).moved_out, WAITING);
    assert_int_equal(steering_counts(group->steering, 2).moved_in, WAITING / 2);
    all_are_served(group, clients, WAITING);
    const uint16_t only_1[GROUP_MAX] = {0, 1, 0};
    assert_int_equal(steering_set_weights(group->steering, only_1), 0);
    for (int i = 0; i < 10; i++) assert_int_equal(group_where(group), 1);
    group_close(group);
}

static void a_queue_moves_to_the_others_with_its_data(void **state) { (void)state, check_move(AF_INET); }
static void an_ipv6_queue_moves_to_the_others_with_its_data(void **state) { (void)state, check_move(AF_INET6); }

static void a_queue_stays_when_nobody_else_is_fit(void **state) {
    (void)state;
    GROUP_NEEDED();
    int clients[WAITING];
    struct group *group = waiting_in_slot_1(AF_INET, clients, WAITING);
    assert_int_equal(steering_move_queue(group->steering, 1, group->fd[1], NULL, &group_error), -EAGAIN);
    assert_int_equal(group_queue(group->fd[1]), WAITING);
    all_are_served(group, clients, WAITING);
    group_close(group);
}

// The live counts go along, again when it moves once more, and end at nothing.
static void moved_connections_are_counted_where_they_are(void **state) {
    (void)state;
    GROUP_NEEDED();
    int clients[WAITING];
    struct group *group = waiting_in_slot_1(AF_INET, clients, WAITING);
    others_are_fit(group);
    MUST(steering_move_queue(group->steering, 1, group->fd[1], NULL, &group_error));
    const uint16_t only_1[GROUP_MAX] = {0, 1, 0};
    assert_int_equal(steering_set_weights(group->steering, only_1), 0);
    MUST(steering_move_queue(group->steering, 2, group->fd[2], NULL, &group_error));
    for (int i = 0; i < 3; i++) assert_int_equal(group_live(group, i), i == 2 ? 0 : WAITING / 2);
    assert_int_equal(steering_recount(group->steering), 0);
    fd_close(&clients[0]);  // one gives up while it waits
    group_wait_queued(group, WAITING);
    int server = group_accept(group, 0);
    assert_true(server >= 0);
    fd_close(&server);
    group_wait_live(group, 0, WAITING / 2 - 1);
    for (int i = 1; i < WAITING; i++) group_reset(&clients[i]);
    group_drain(group);
    for (int i = 0; i < 3; i++) group_wait_live(group, i, 0);
    assert_int_equal(steering_counts(group->steering, 1).opened, WAITING);
    group_close(group);
}

// A client that is moved goes where it would go if it came anew.
static void sticky_moves_clients_where_they_belong(void **state) {
    (void)state;
    GROUP_NEEDED();
    enum { CLIENTS = 60 };
    struct group *group = group_open(AF_INET6, STEERING_STICKY, 4, 1);
    int clients[CLIENTS], again[4] = {0}, server;
    steering_set_weight(group->steering, 0, 0), steering_set_weight(group->steering, 2, 0), steering_set_weight(group->steering, 3, 0);
    for (uint32_t i = 0; i < CLIENTS; i++) clients[i] = group_dial_from(group, 0x7f000001 + i * 0x7f07);
    group_wait_queued(group, CLIENTS);
    const uint16_t others[GROUP_MAX] = {1, 0, 1, 1};
    assert_int_equal(steering_set_weights(group->steering, others), 0);
    MUST(steering_move_queue(group->steering, 1, group->fd[1], NULL, &group_error));
    int queue[4];
    for (int i = 0; i < 4; i++) queue[i] = group_queue(group->fd[i]);
    group_drain(group);
    for (uint32_t i = 0; i < CLIENTS; i++) {
        int client = group_dial_from(group, 0x7f000001 + i * 0x7f07);
        again[group_where_fd(group, client, &server)]++;
        group_reset(&client);
        fd_close(&server);
        group_reset(&clients[i]);
    }
    for (int i = 0; i < 4; i++) assert_int_equal(again[i], queue[i]);
    group_close(group);
}

static void a_long_queue_moves_as_a_whole(void **state) {
    (void)state;
    GROUP_NEEDED();
    static int clients[1000];
    struct group *group = waiting_in_slot_1(AF_INET, clients, 1000);
    for (int i = 0; i < 3; i += 2) assert_int_equal(listen(group->fd[i], 300), 0);  // too small for all of them
    others_are_fit(group);
    MUST(steering_move_queue(group->steering, 1, group->fd[1], NULL, &group_error));
    assert_int_equal(group_queue(group->fd[0]), 500);
    assert_int_equal(group_queue(group->fd[2]), 500);
    all_are_served(group, clients, 1000);
    group_close(group);
}

static void a_socket_bound_to_port_0_keeps_its_port(void **state) {
    (void)state;
    GROUP_NEEDED();
    int clients[WAITING];
    struct group *group = waiting_in_slot_1(AF_INET, clients, WAITING);  // slot 0 drew the port
    others_are_fit(group);
    for (int i = 0; i < 3; i++) {
        MUST(steering_move_queue(group->steering, 0, group->fd[0], NULL, &group_error));
        struct sockaddr_in name;
        socklen_t len = sizeof name;
        assert_int_equal(getsockname(group->fd[0], (struct sockaddr *)&name, &len), 0);
        assert_int_equal(name.sin_port, ((struct sockaddr_in *)&group->name)->sin_port);
    }
    MUST(steering_move_queue(group->steering, 1, group->fd[1], NULL, &group_error));
    all_are_served(group, clients, WAITING);
    group_close(group);
}

// The first member is bound alone and joins later, so that a stranger on the port is noticed.
static void a_first_member_bound_without_reuseport_can_be_emptied(void **state) {
    (void)state;
    GROUP_NEEDED();
    struct group group = {0};
    group_name(&group, AF_INET);
    ((struct sockaddr_in *)&group.name)->sin_port = htons(23456);
    MUST(steering_open(&group.steering, &(struct steering_options){.slots = 4, .policy = STEERING_RR}, &group_error));
    int first = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(first, (struct sockaddr *)&group.name, group.name_len), 0);
    assert_int_equal(setsockopt(first, SOL_SOCKET, SO_REUSEPORT, &(int){1}, sizeof(int)), 0);
    assert_int_equal(listen(first, 100), 0);
    group.fd[group.count++] = first;
    MUST(steering_add(group.steering, 0, first, &group_error));
    group_add(&group);
    group_add(&group);
    const uint16_t weights[GROUP_MAX] = {1, 1, 1};
    assert_int_equal(steering_set_weights(group.steering, weights), 0);
    int clients[30];
    for (int i = 0; i < 30; i++) clients[i] = group_dial(&group);
    group_wait_queued(&group, 30);
    for (unsigned round = 0; round < 6; round++)
        MUST(steering_move_queue(group.steering, round % 3, group.fd[round % 3], NULL, &group_error));
    assert_int_equal(group_queued(&group), 30);
    for (int i = 0; i < 30; i++) group_reset(&clients[i]);
    group_close(&group);
}

static void options_of_the_socket_outlast_the_move(void **state) {
    (void)state;
    GROUP_NEEDED();
    int clients[WAITING];
    group_setting("/proc/sys/net/ipv4/tcp_fastopen", "3");
    struct group *group = waiting_in_slot_1(AF_INET, clients, WAITING);
    assert_int_equal(setsockopt(group->fd[1], IPPROTO_TCP, TCP_FASTOPEN, &(int){64}, sizeof(int)), 0);
    assert_int_equal(setsockopt(group->fd[1], IPPROTO_TCP, TCP_DEFER_ACCEPT, &(int){7}, sizeof(int)), 0);
    assert_int_equal(setsockopt(group->fd[1], IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)), 0);
    others_are_fit(group);
    MUST(steering_move_queue(group->steering, 1, group->fd[1], NULL, &group_error));
    int fast = 0, deferred = 0, nodelay = 0;
    socklen_t len = sizeof(int);
    getsockopt(group->fd[1], IPPROTO_TCP, TCP_FASTOPEN, &fast, &len);
    getsockopt(group->fd[1], IPPROTO_TCP, TCP_DEFER_ACCEPT, &deferred, &len);
    getsockopt(group->fd[1], IPPROTO_TCP, TCP_NODELAY, &nodelay, &len);
    assert_int_equal(fast, 64);
    assert_int_equal(deferred, 7);
    assert_int_equal(nodelay, 1);
    all_are_served(group, clients, WAITING);
    group_setting("/proc/sys/net/ipv4/tcp_fastopen", "1");
    group_close(group);
}

// Without the sysctl for it, and by whoever closes: the program alone sees to it.
static void the_queue_of_a_closed_socket_moves(void **state) {
    (void)state;
    GROUP_NEEDED();
    int clients[WAITING];
    struct group *group = waiting_in_slot_1(AF_INET, clients, WAITING);
    others_are_fit(group);
    steering_remove(group->steering, 1);
    fd_close(&group->fd[1]);
    group->fd[1] = group->fd[2];
    group->count = 2;
    assert_int_equal(group_queue(group->fd[0]), WAITING / 2);
    assert_int_equal(group_queue(group->fd[1]), WAITING / 2);
    group_add(group);  // as slot 2, where the shifted one was: it is entered in its place
    all_are_served(group, clients, WAITING);
    group_close(group);
}

// A server that shuts its listener down itself, as some do before they end.
static void the_queue_of_a_socket_that_its_worker_shut_down_moves(void **state) {
    (void)state;
    GROUP_NEEDED();
    int clients[WAITING];
    struct group *group = waiting_in_slot_1(AF_INET, clients, WAITING);
    const uint16_t weights[GROUP_MAX] = {1, 1, 1};
    assert_int_equal(steering_set_weights(group->steering, weights), 0);
    assert_int_equal(shutdown(group->fd[1], SHUT_RDWR), 0);
    assert_int_equal(group_queued(group), WAITING);
    assert_in_range(group_queue(group->fd[0]), WAITING / 2 - 5, WAITING / 2 + 5);  // slot 1 is chosen too, and passed over
    assert_int_equal(group_queue(group->fd[1]), 0);
    assert_int_equal(steering_counts(group->steering, 1).moved_out, WAITING);
    assert_int_equal(listen(group->fd[1], 100), 0);
    for (int i = 0; i < 10; i++) {  // entered by hand only
        int client = group_dial(group);
        group_reset(&client);
    }
    assert_int_equal(group_queue(group->fd[1]), 0);
    MUST(steering_add(group->steering, 1, group->fd[1], &group_error));
    int client = group_dial(group);
    for (int i = 0; i < 30000 && group_queue(group->fd[1]) == 0; i++) usleep(1000);
    assert_int_equal(group_queue(group->fd[1]), 1);  // auto: it has the shortest queue
    group_reset(&client);
    for (int i = 0; i < WAITING; i++) group_reset(&clients[i]);
    group_close(group);
}

static void adding_twice_and_removing_twice_is_harmless(void **state) {
    (void)state;
    GROUP_NEEDED();
    struct group *group = group_open(AF_INET, STEERING_RR, 3, 1);
    for (unsigned i = 0; i < 3; i++) MUST(steering_add(group->steering, i, group->fd[i], &group_error));
    assert_int_equal(steering_add(group->steering, 4, group->fd[1], &group_error), -EBUSY);
    assert_non_null(strstr(group_error.text, "already"));
    steering_remove(group->steering, 1);
    steering_remove(group->steering, 1);
    assert_int_equal(steering_weight(group->steering, 1), 0);
    for (int i = 0; i < 10; i++) assert_int_not_equal(group_where(group), 1);
    MUST(steering_add(group->steering, 1, group->fd[1], &group_error));
    for (int i = 0; i < 10; i++) assert_int_not_equal(group_where(group), 1);  // until it has a weight
    assert_int_equal(steering_set_weight(group->steering, 1, 1), 0);
    int had[3] = {0};
    for (int i = 0; i < 30; i++) had[group_where(group)]++;
    for (int i = 0; i < 3; i++) assert_int_equal(had[i], 10);
    group_close(group);
}

static void a_socket_is_made_to_listen(void **state) {
    (void)state;
    GROUP_NEEDED();
    struct group group = {0};
    group_name(&group, AF_INET);
    MUST(steering_open(&group.steering, &(struct steering_options){.slots = 2}, &group_error));
    group.fd[group.count++] = group_socket(AF_INET, 0);
    assert_int_equal(bind(group.fd[0], (struct sockaddr *)&group.name, group.name_len), 0);
    MUST(steering_add(group.steering, 0, group.fd[0], &group_error));
    group.name_len = sizeof group.name;
    assert_int_equal(getsockname(group.fd[0], (struct sockaddr *)&group.name, &group.name_len), 0);
    int client = group_dial(&group);
    group_wait_queued(&group, 1);
    assert_int_equal(group_live(&group, 0), 1);
    group_reset(&client);
    scoped_fd alone = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(steering_add(group.steering, 1, alone, &group_error), -EINVAL);
    assert_non_null(strstr(group_error.text, "SO_REUSEPORT"));
    group_close(&group);
}

static void a_slot_can_get_another_socket(void **state) {
    (void)state;
    GROUP_NEEDED();
    struct group *group = group_open(AF_INET, STEERING_RR, 2, 1);
    int successor = group_join(group);
    MUST(steering_add(group->steering, 1, successor, &group_error));
    int old = group->fd[1];
    group->fd[1] = successor;
    int had[2] = {0};
    for (int i = 0; i < 20; i++) had[group_where(group)]++;
    assert_int_equal(had[0], 10);
    assert_int_equal(had[1], 10);
    assert_int_equal(group_queue(old), 0);
    fd_close(&old);
    group_close(group);
}

// ---- under load

enum { LOAD_SLOTS = 4, LOAD_CLIENTS = 3, LOAD_MS = 1500 };

struct load {
    struct group *group;
    pthread_mutex_t awake[LOAD_SLOTS];  // held by whoever accepts, or froze the one who does
    atomic_int next_slot, next_client, answered, failed;
    atomic_bool clients_end, servers_end;
};

static void *serve(void *arg) {
    struct load *load = arg;
    int slot = load->next_slot++;
    while (!load->servers_end) {
        pthread_mutex_lock(&load->awake[slot]);
        int number, fd = group_accept(load->group, slot);
        pthread_mutex_unlock(&load->awake[slot]);
        if (fd < 0)
            usleep(300);  // long enough for a queue to form
        else if (recv(fd, &number, sizeof number, 0) == sizeof number)
            send(fd, &number, sizeof number, MSG_NOSIGNAL);
        fd_close(&fd);
    }
    return NULL;
}

static void *ask(void *arg) {
    struct load *load = arg;
    struct timeval patience = {.tv_sec = 30};
    for (int number = load->next_client++ << 24; !load->clients_end; number++) {
        int answer = -1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        socklen_t len;
        struct sockaddr_storage to = group_target(load->group, AF_INET, &len);
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        bool good = connect(fd, (struct sockaddr *)&to, len) == 0 && send(fd, &number, sizeof number, MSG_NOSIGNAL) == sizeof number &&
                    recv(fd, &answer, sizeof answer, MSG_WAITALL) == sizeof answer && answer == number;
        good ? load->answered++ : load->failed++;
        group_reset(&fd);
    }
    return NULL;
}

static void no_request_fails_while_queues_move(void **state) {
    (void)state;
    GROUP_NEEDED();
    static struct load load;
    pthread_t server[LOAD_SLOTS], client[LOAD_CLIENTS];
    load.group = group_open(AF_INET, STEERING_AUTO, LOAD_SLOTS, 1);
    for (int i = 0; i < LOAD_SLOTS; i++) pthread_mutex_init(&load.awake[i], NULL);
    for (int i = 0; i < LOAD_SLOTS; i++) pthread_create(&server[i], NULL, serve, &load);
    for (int i = 0; i < LOAD_CLIENTS; i++) pthread_create(&client[i], NULL, ask, &load);
    unsigned moves = 0, moved = 0, some;
    for (int ms = 0; ms < LOAD_MS; ms++, moves++) {
        unsigned slot = moves % LOAD_SLOTS;
        assert_int_equal(steering_set_weight(load.group->steering, slot, 0), 0);
        pthread_mutex_lock(&load.awake[slot]);
        MUST(steering_move_queue(load.group->steering, slot, load.group->fd[slot], &some, &group_error));
        pthread_mutex_unlock(&load.awake[slot]);
        assert_int_equal(steering_set_weight(load.group->steering, slot, 1), 0);
        moved += some;
        usleep(1000);
    }
    load.clients_end = true;
    for (int i = 0; i < LOAD_CLIENTS; i++) pthread_join(client[i], NULL);
    load.servers_end = true;
    for (int i = 0; i < LOAD_SLOTS; i++) pthread_join(server[i], NULL);
    print_message("# %d requests, %u moves of %u connections\n", load.answered, moves, moved);
    assert_int_equal(load.failed, 0);
    assert_true(load.answered > 100 && moved > 0);
    for (int i = 0; i < LOAD_SLOTS; i++) group_wait_live(load.group, i, 0);
    assert_int_equal(steering_recount(load.group->steering), 0);
    group_close(load.group);
}

// ---- half-open ones

struct segment {
    struct iphdr ip;
    struct tcphdr tcp;
    char data[8];
};

enum half_end { HALF_STEERED, HALF_EMPTIED, HALF_SHUT_DOWN, HALF_CLOSED };

static int tun_fd = -1;
static uint32_t tun_client;  // the last byte of whose address

static void open_tun(void) {
    if (tun_fd >= 0) return;
    struct ifreq request = {.ifr_name = "tun0", .ifr_flags = IFF_TUN | IFF_NO_PI};
    tun_fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    if (tun_fd < 0 || ioctl(tun_fd, TUNSETIFF, &request) != 0) {
        fd_close(&tun_fd);
        return;
    }
    scoped_fd control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = inet_addr("10.66.0.1")};
    memcpy(&request.ifr_addr, &address, sizeof address);
    assert_int_equal(ioctl(control, SIOCSIFADDR, &request), 0);
    address.sin_addr.s_addr = inet_addr("255.255.255.0");
    memcpy(&request.ifr_netmask, &address, sizeof address);
    assert_int_equal(ioctl(control, SIOCSIFNETMASK, &request), 0);
    assert_int_equal(ioctl(control, SIOCGIFFLAGS, &request), 0);
    request.ifr_flags |= IFF_UP;
    assert_int_equal(ioctl(control, SIOCSIFFLAGS, &request), 0);
}

static uint32_t sum_words(const void *at, size_t len, uint32_t sum) {
    const uint8_t *byte = at;
    for (size_t i = 0; i + 1 < len; i += 2) sum += (uint32_t)byte[i] << 8 | byte[i + 1];
    return len % 2 != 0 ? sum + ((uint32_t)byte[len - 1] << 8) : sum;
}

static uint16_t checksum(uint32_t sum) {
    while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
    return htons((uint16_t)~sum);
}

static void send_segment(const struct group *group, uint16_t from, uint32_t seq, uint32_t ack, uint8_t flags, const char *data) {
    size_t len = strlen(data);
    struct segment segment = {.ip = {.version = 4,
                                     .ihl = 5,
                                     .tot_len = htons((uint16_t)(40 + len)),
                                     .ttl = 64,
                                     .protocol = IPPROTO_TCP,
                                     .saddr = htonl(UINT32_C(0x0a420000) + (tun_client != 0 ? tun_client : 2)),
                                     .daddr = inet_addr("10.66.0.1")},
                              .tcp = {.th_sport = htons(from),
                                      .th_dport = ((const struct sockaddr_in *)&group->name)->sin_port,
                                      .th_seq = htonl(seq),
                                      .th_ack = htonl(ack),
                                      .th_off = 5,
                                      .th_flags = flags,
                                      .th_win = htons(60000)}};
    memcpy(segment.data, data, len);
    segment.ip.check = checksum(sum_words(&segment.ip, 20, 0));
    uint32_t pseudo = sum_words(&segment.ip.saddr, 8, IPPROTO_TCP + 20 + (uint32_t)len);
    segment.tcp.th_sum = checksum(sum_words(&segment.tcp, 20 + len, pseudo));
    assert_int_equal(write(tun_fd, &segment, 40 + len), 40 + (ssize_t)len);
}

// The flags of the next segment to that port; -1: none came.
static int receive_segment(uint16_t to, uint32_t *out_seq, int patience_ms) {
    struct pollfd ready = {.fd = tun_fd, .events = POLLIN};
    while (poll(&ready, 1, patience_ms) == 1) {
        _Alignas(struct iphdr) char bytes[2048];
        ssize_t len = read(tun_fd, bytes, sizeof bytes);
        const struct iphdr *ip = (const void *)bytes;
        const struct tcphdr *tcp = (const void *)(bytes + ip->ihl * 4);
        if (len < 40 || ip->version != 4 || ip->protocol != IPPROTO_TCP || ntohs(tcp->th_dport) != to) continue;
        *out_seq = ntohl(tcp->th_seq);
        return tcp->th_flags;
    }
    return -1;
}

// Whose handshake has ended; segments are taken in late on a busy machine.
static int established(const struct group *group) {
    int count = 0;
    for (int slot = 0; slot < group->count; slot++)
        if (group->fd[slot] >= 0) count += group_queue(group->fd[slot]);
    return count;
}

// 20 clients each send SYN and get their SYN-ACK from slot 1, which then meets its fate; then they go on. Where do they end?
static void check_half(enum half_end end, const char *cookies, int expect_own, const char *data) {
    GROUP_NEEDED();
    open_tun();
    if (tun_fd < 0) {
        print_message("skipped: /dev/net/tun: %s\n", strerror(errno));
        skip();
    }
    enum { HALVES = 20 };
    static uint16_t next_port = 30000;
    uint32_t seq[HALVES], ignored;
    uint16_t port[HALVES];
    struct group *group = group_open(AF_INET, STEERING_AUTO, 3, 0);
    group_cookies(cookies);
    assert_int_equal(steering_set_weight(group->steering, 1, 1), 0);
    for (uint32_t i = 0; i < HALVES; i++) {
        port[i] = next_port++;
        send_segment(group, port[i], 1000 + i, 0, TH_SYN, "");
        assert_int_equal(receive_segment(port[i], &seq[i], 30000), TH_SYN | TH_ACK);
    }
    others_are_fit(group);
    if (end == HALF_EMPTIED) MUST(steering_move_queue(group->steering, 1, group->fd[1], NULL, &group_error));
    if (end == HALF_SHUT_DOWN) assert_int_equal(shutdown(group->fd[1], SHUT_RD), 0);
    if (end == HALF_CLOSED) {
        steering_remove(group->steering, 1);
        fd_close(&group->fd[1]);
    }
    for (uint32_t i = 0; i < HALVES; i++) send_segment(group, port[i], 1001 + i, seq[i] + 1, TH_ACK | TH_PUSH, data);
    int own = 0, other = 0, resets = 0;
    for (int i = 0; i < 30000 && established(group) < HALVES; i++) usleep(1000);
    for (int i = 0; i < HALVES; i++)
        for (int flags = receive_segment(port[i], &ignored, 20); flags >= 0; flags = receive_segment(port[i], &ignored, 0))
            resets += (flags & TH_RST) != 0;
    for (int slot = 0; slot < 3; slot++) {
        if (group->fd[slot] < 0) continue;
        for (int fd = group_accept(group, slot); fd >= 0; fd = group_accept(group, slot)) {
            char got[8] = {0};
            if (data[0] != '\0') assert_int_equal(recv(fd, got, sizeof got, MSG_DONTWAIT), (ssize_t)strlen(data));
            slot == 1 ? own++ : other++;
            assert_int_equal(group_live(group, slot) > 0, 1);
            group_reset(&fd);
        }
        group_wait_live(group, slot, 0);
    }
    assert_int_equal(resets, 0);
    assert_int_equal(own, expect_own);
    assert_int_equal(other, HALVES - expect_own);
    group_cookies("1");
    group_close(group);
}

static void a_handshake_ends_where_it_began_when_steered_away(void **state) { (void)state, check_half(HALF_STEERED, "1", 20, "hi"); }
static void a_handshake_ends_where_it_began_when_emptied(void **state) { (void)state, check_half(HALF_EMPTIED, "1", 20, "hi"); }
static void a_handshake_ends_elsewhere_when_shut_down(void **state) { (void)state, check_half(HALF_SHUT_DOWN, "1", 0, "hi"); }
static void a_handshake_ends_elsewhere_when_closed(void **state) { (void)state, check_half(HALF_CLOSED, "1", 0, "hi"); }
static void a_bare_handshake_ends_elsewhere_when_closed(void **state) { (void)state, check_half(HALF_CLOSED, "1", 0, ""); }
static void with_cookies_a_handshake_ends_elsewhere_when_steered_away(void **state) { (void)state, check_half(HALF_STEERED, "2", 0, "hi"); }
static void with_cookies_a_handshake_ends_elsewhere_when_emptied(void **state) { (void)state, check_half(HALF_EMPTIED, "2", 0, "hi"); }
static void with_cookies_a_handshake_ends_elsewhere_when_closed(void **state) { (void)state, check_half(HALF_CLOSED, "2", 0, "hi"); }

// SYNs from addresses that never answer fill the queues of handshakes; from then on, or always, cookies are sent.
static void check_flood(const char *cookies) {
    GROUP_NEEDED();
    open_tun();
    if (tun_fd < 0) {
        print_message("skipped: /dev/net/tun: %s\n", strerror(errno));
        skip();
    }
    enum { FLOOD = 3000, CLIENTS = 30 };
    struct group *group = group_open(AF_INET, STEERING_RR, 3, 1);
    int client[CLIENTS];
    uint64_t chosen = 0;
    group_cookies(cookies);
    for (int slot = 0; slot < 3; slot++) assert_int_equal(listen(group->fd[slot], 64), 0);
    for (uint32_t i = 0; i < FLOOD; i++) {
        tun_client = 3 + i % 200;
        send_segment(group, (uint16_t)(20000 + i), 7000 + i, 0, TH_SYN, "");
    }
    tun_client = 0;
    uint32_t ignored;
    receive_segment(0, &ignored, 0);  // empties the interface's queue: nobody reads there
    for (int i = 0; i < CLIENTS; i++) client[i] = group_dial(group);
    group_wait_queued(group, CLIENTS);
    for (unsigned slot = 0; slot < 3; slot++) {
        struct steering_counts counts = steering_counts(group->steering, slot);
        assert_int_equal(group_queue(group->fd[slot]), CLIENTS / 3);
        assert_int_equal(counts.opened, CLIENTS / 3);
        assert_int_equal(counts.by_cookie, CLIENTS / 3);
        chosen += counts.chosen;
    }
    assert_true(chosen >= FLOOD / 2 + CLIENTS);
    for (int i = 0; i < CLIENTS; i++) group_reset(&client[i]);
    group_drain(group);
    group_cookies("1");
    group_close(group);
    receive_segment(0, &ignored, 0);
}

static void rr_is_exact_under_a_syn_flood(void **state) { (void)state, check_flood("1"); }
static void rr_is_exact_under_a_syn_flood_with_cookies_forced(void **state) { (void)state, check_flood("2"); }

// A handshake under way is about to wait: auto counts it, so that a burst does not go to one slot.
static void auto_counts_handshakes_under_way(void **state) {
    (void)state;
    GROUP_NEEDED();
    open_tun();
    if (tun_fd < 0) skip();
    enum { BURST = 30 };
    struct group *group = group_open(AF_INET, STEERING_AUTO, 3, 1);
    int waits = group_dial(group), waits_too = group_dial(group);  // slots 0 and 1 have one waiting, 2 has none
    group_wait_queued(group, 2);
    uint32_t seq[BURST];
    for (uint16_t i = 0; i < BURST; i++) {
        send_segment(group, (uint16_t)(40000 + i), 5000, 0, TH_SYN, "");
        assert_int_equal(receive_segment((uint16_t)(40000 + i), &seq[i], 30000), TH_SYN | TH_ACK);
    }
    for (uint16_t i = 0; i < BURST; i++) send_segment(group, (uint16_t)(40000 + i), 5001, seq[i] + 1, TH_ACK, "");
    group_wait_queued(group, BURST + 2);
    for (int i = 0; i < 3; i++) assert_in_range(group_queue(group->fd[i]), 10, 11);
    group_reset(&waits);
    group_reset(&waits_too);
    group_close(group);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_queue_moves_to_the_others_with_its_data),
        cmocka_unit_test(an_ipv6_queue_moves_to_the_others_with_its_data),
        cmocka_unit_test(a_queue_stays_when_nobody_else_is_fit),
        cmocka_unit_test(moved_connections_are_counted_where_they_are),
        cmocka_unit_test(sticky_moves_clients_where_they_belong),
        cmocka_unit_test(a_long_queue_moves_as_a_whole),
        cmocka_unit_test(a_socket_bound_to_port_0_keeps_its_port),
        cmocka_unit_test(a_first_member_bound_without_reuseport_can_be_emptied),
        cmocka_unit_test(options_of_the_socket_outlast_the_move),
        cmocka_unit_test(the_queue_of_a_closed_socket_moves),
        cmocka_unit_test(the_queue_of_a_socket_that_its_worker_shut_down_moves),
        cmocka_unit_test(adding_twice_and_removing_twice_is_harmless),
        cmocka_unit_test(a_socket_is_made_to_listen),
        cmocka_unit_test(a_slot_can_get_another_socket),
        cmocka_unit_test(no_request_fails_while_queues_move),
        cmocka_unit_test(a_handshake_ends_where_it_began_when_steered_away),
        cmocka_unit_test(a_handshake_ends_where_it_began_when_emptied),
        cmocka_unit_test(a_handshake_ends_elsewhere_when_shut_down),
        cmocka_unit_test(a_handshake_ends_elsewhere_when_closed),
        cmocka_unit_test(a_bare_handshake_ends_elsewhere_when_closed),
        cmocka_unit_test(with_cookies_a_handshake_ends_elsewhere_when_steered_away),
        cmocka_unit_test(with_cookies_a_handshake_ends_elsewhere_when_emptied),
        cmocka_unit_test(with_cookies_a_handshake_ends_elsewhere_when_closed),
        cmocka_unit_test(rr_is_exact_under_a_syn_flood),
        cmocka_unit_test(rr_is_exact_under_a_syn_flood_with_cookies_forced),
        cmocka_unit_test(auto_counts_handshakes_under_way),
    };
    return cmocka_run_group_tests(tests, group_namespace, NULL);
}
