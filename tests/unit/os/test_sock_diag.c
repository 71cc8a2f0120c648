// SPDX-License-Identifier: MIT
// Real connections over loopback, looked up in the kernel's list.
#include "sock_diag.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "fd.h"

#define FOUND_MAX 512
#define MANY 150

struct pair {
    int listener, client, server;
    uint16_t port, client_port;
};

struct found {
    struct sock_diag_tcp sockets[FOUND_MAX];
    size_t count, limit;
};

static bool collect(const struct sock_diag_tcp *socket, void *arg) {
    struct found *found = arg;
    found->sockets[found->count++] = *socket;
    return found->count < found->limit;
}

static struct found find(uint16_t port) {
    struct found found = {.limit = FOUND_MAX};
    assert_int_equal(sock_diag_tcp_each(port, collect, &found), 0);
    return found;
}

// The one connection with this local port, as soon as it is in this state with so much unread: on a busy machine the
// loopback delivers late.
static struct sock_diag_tcp find_when(uint16_t port, uint8_t state, uint32_t receive_queue) {
    struct found found;
    for (int i = 0; i < 30000; i++) {
        found = find(port);
        assert_int_equal(found.count, 1);
        if (found.sockets[0].state == state && found.sockets[0].receive_queue == receive_queue) return found.sockets[0];
        usleep(1000);
    }
    fail_msg("state %d, %u bytes unread", found.sockets[0].state, found.sockets[0].receive_queue);
    return found.sockets[0];
}

static uint64_t inode_of(int fd) {
    struct stat status;
    assert_int_equal(fstat(fd, &status), 0);
    return status.st_ino;
}

static uint16_t port_of(int fd) {
    struct sockaddr_storage address;
    socklen_t len = sizeof address;
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    return ntohs(((struct sockaddr_in *)&address)->sin_port);  // at the same place in IPv6
}

static int listen_on_loopback(sa_family_t family) {
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    int bound = family == AF_INET ? bind(fd, (struct sockaddr *)&v4, sizeof v4) : bind(fd, (struct sockaddr *)&v6, sizeof v6);
    assert_int_equal(bound, 0);
    assert_int_equal(listen(fd, MANY + 7), 0);
    return fd;
}

static int connect_to(int listener) {
    struct sockaddr_storage address;
    socklen_t len = sizeof address;
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &len), 0);
    int fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, len), 0);
    return fd;
}

static struct pair pair_open(sa_family_t family) {
    struct pair pair = {.listener = listen_on_loopback(family)};
    pair.client = connect_to(pair.listener);
    pair.server = accept4(pair.listener, NULL, NULL, SOCK_CLOEXEC);
    assert_true(pair.server >= 0);
    pair.port = port_of(pair.listener);
    pair.client_port = port_of(pair.client);
    return pair;
}

static void pair_close(struct pair *pair) {
    fd_close(&pair->client);
    fd_close(&pair->server);
    fd_close(&pair->listener);
}

static void check_unread(sa_family_t family) {
    struct pair pair = pair_open(family);
    char data[1234] = {0};
    assert_int_equal(send(pair.client, data, sizeof data, 0), sizeof data);
    struct sock_diag_tcp server = find_when(pair.port, TCP_ESTABLISHED, sizeof data);
    assert_int_equal(server.inode, inode_of(pair.server));
    assert_int_equal(server.uid, geteuid());
    assert_int_equal(server.local_port, pair.port);
    assert_int_equal(server.remote_port, pair.client_port);
    assert_int_equal(server.send_queue, 0);
    pair_close(&pair);
}

static void unread_data_of_an_ipv4_connection_is_seen(void **state) {
    (void)state;
    check_unread(AF_INET);
}

static void unread_data_of_an_ipv6_connection_is_seen(void **state) {
    (void)state;
    check_unread(AF_INET6);
}

static void data_that_nobody_takes_stays_in_the_send_queue(void **state) {
    (void)state;
    struct pair pair = pair_open(AF_INET);
    static char data[65536];
    ssize_t sent;
    do sent = send(pair.server, data, sizeof data, MSG_DONTWAIT);
    while (sent > 0);
    struct found found = find(pair.port);
    assert_int_equal(found.count, 1);
    assert_true(found.sockets[0].send_queue > 0);
    pair_close(&pair);
}

static void the_times_since_data_came_and_went_are_known(void **state) {
    (void)state;
    struct pair pair = pair_open(AF_INET);
    assert_int_equal(send(pair.client, "x", 1, 0), 1);
    find_when(pair.port, TCP_ESTABLISHED, 1);
    usleep(120 * 1000);
    assert_int_equal(send(pair.server, "y", 1, 0), 1);
    struct sock_diag_tcp client = find_when(pair.client_port, TCP_ESTABLISHED, 1);
    struct sock_diag_tcp server = find_when(pair.port, TCP_ESTABLISHED, 1);
    assert_true(server.last_received_ms >= server.last_sent_ms + 100);
    assert_true(client.last_sent_ms >= client.last_received_ms + 100);
    pair_close(&pair);
}

static void a_connection_not_yet_accepted_has_no_inode(void **state) {
    (void)state;
    scoped_fd listener = listen_on_loopback(AF_INET);
    scoped_fd client = connect_to(listener);
    assert_true(client >= 0);
    assert_int_equal(find_when(port_of(listener), TCP_ESTABLISHED, 0).inode, 0);
}

static void a_listener_is_listed_apart_with_its_queue(void **state) {
    (void)state;
    scoped_fd listener = listen_on_loopback(AF_INET6);
    uint16_t port = port_of(listener);
    assert_int_equal(find(port).count, 0);
    scoped_fd client = connect_to(listener);
    assert_true(client >= 0);
    find_when(port, TCP_ESTABLISHED, 0);
    struct found found = {.limit = FOUND_MAX};
    assert_int_equal(sock_diag_tcp_listener_each(port, collect, &found), 0);
    assert_int_equal(found.count, 1);
    assert_int_equal(found.sockets[0].state, TCP_LISTEN);
    assert_int_equal(found.sockets[0].inode, inode_of(listener));
    assert_int_equal(found.sockets[0].receive_queue, 1);
    assert_int_equal(found.sockets[0].send_queue, MANY + 7);
}

// Whoever closed first leaves one behind: tens of thousands on a busy port, and none of them belongs to a process.
static void a_connection_in_time_wait_is_left_out(void **state) {
    (void)state;
    struct pair pair = pair_open(AF_INET);
    assert_true(find(pair.port).count > 0);
    fd_close(&pair.server);
    fd_close(&pair.client);
    for (int i = 0; i < 5000 && find(pair.port).count > 0; i++) usleep(1000);
    assert_int_equal(find(pair.port).count, 0);
    pair_close(&pair);
}

// The FIN takes a number in the stream, and the kernel's difference of numbers counts it.
static void an_end_of_file_not_yet_read_counts_as_one_byte(void **state) {
    (void)state;
    struct pair pair = pair_open(AF_INET);
    assert_int_equal(send(pair.client, "abc", 3, 0), 3);
    shutdown(pair.client, SHUT_WR);
    find_when(pair.port, TCP_CLOSE_WAIT, 3 + 1);
    pair_close(&pair);
}

static void hundreds_of_connections_come_in_several_datagrams(void **state) {
    (void)state;
    scoped_fd listener = listen_on_loopback(AF_INET);
    int clients[MANY];
    for (int i = 0; i < MANY; i++) clients[i] = connect_to(listener);
    struct found found = find(port_of(listener));
    assert_int_equal(found.count, MANY);
    for (int i = 0; i < MANY; i++) fd_close(&clients[i]);
}

static void the_walk_stops_when_told(void **state) {
    (void)state;
    scoped_fd listener = listen_on_loopback(AF_INET);
    scoped_fd first = connect_to(listener);
    scoped_fd second = connect_to(listener);
    assert_true(first >= 0 && second >= 0);
    struct found found = {.limit = 1};
    assert_int_equal(sock_diag_tcp_each(port_of(listener), collect, &found), 0);
    assert_int_equal(found.count, 1);
}

struct search {
    uint16_t port;
    bool found;
};

static bool search_port(const struct sock_diag_tcp *socket, void *arg) {
    struct search *search = arg;
    search->found |= socket->local_port == search->port;
    return !search->found;
}

static void port_zero_is_any_port(void **state) {
    (void)state;
    struct pair pair = pair_open(AF_INET6);
    struct search search = {.port = pair.client_port};
    assert_int_equal(sock_diag_tcp_each(0, search_port, &search), 0);
    assert_true(search.found);
    pair_close(&pair);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unread_data_of_an_ipv4_connection_is_seen),
        cmocka_unit_test(unread_data_of_an_ipv6_connection_is_seen),
        cmocka_unit_test(data_that_nobody_takes_stays_in_the_send_queue),
        cmocka_unit_test(the_times_since_data_came_and_went_are_known),
        cmocka_unit_test(a_connection_not_yet_accepted_has_no_inode),
        cmocka_unit_test(a_listener_is_listed_apart_with_its_queue),
        cmocka_unit_test(a_connection_in_time_wait_is_left_out),
        cmocka_unit_test(an_end_of_file_not_yet_read_counts_as_one_byte),
        cmocka_unit_test(hundreds_of_connections_come_in_several_datagrams),
        cmocka_unit_test(the_walk_stops_when_told),
        cmocka_unit_test(port_zero_is_any_port),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
