// SPDX-License-Identifier: MIT
// For the tests of steering: a network namespace of one's own, and a group of listening sockets in it.
#pragma once

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "fd.h"
#include "steering.h"

#define GROUP_MAX 1024

struct group {
    struct steering *steering;
    int count;
    int fd[GROUP_MAX];
    struct sockaddr_storage name;
    socklen_t name_len;
};

static struct pando_error group_error;
static char group_why_not[PANDO_ERROR_TEXT_SIZE];  // "" = the tests can run

static inline void group_setting(const char *path, const char *value) {
    scoped_fd fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0 && write(fd, value, strlen(value)) == (ssize_t)strlen(value));
}

static inline void group_cookies(const char *value) { group_setting("/proc/sys/net/ipv4/tcp_syncookies", value); }

static inline void group_loopback_up(void) {
    struct ifreq request = {.ifr_name = "lo"};
    scoped_fd fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(ioctl(fd, SIOCGIFFLAGS, &request), 0);
    request.ifr_flags |= IFF_UP;
    assert_int_equal(ioctl(fd, SIOCSIFFLAGS, &request), 0);
}

static inline int group_namespace(void **state) {
    (void)state;
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if (unshare(CLONE_NEWNET) != 0) {
        snprintf(group_why_not, sizeof group_why_not, "a network namespace: %s", strerror(errno));
        return 0;
    }
    group_loopback_up();
    if (steering_probe(&group_error) != 0) snprintf(group_why_not, sizeof group_why_not, "%s", group_error.text);
    return 0;
}

#define GROUP_NEEDED()                                     \
    do {                                                   \
        if (group_why_not[0] != '\0') {                    \
            print_message("skipped: %s\n", group_why_not); \
            skip();                                        \
        }                                                  \
    } while (0)

// What fails the test when it is not so, with the sentence.
#define MUST(call)                                                            \
    do {                                                                      \
        int must = (call);                                                    \
        if (must != 0) fail_msg("%s: %d: %s", #call, must, group_error.text); \
    } while (0)

static inline int group_socket(int family, int protocol) {
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);
    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &(int){1}, sizeof(int)), 0);
    return fd;
}

// Another socket of the group, listening; not yet steered to.
static inline int group_join(struct group *group) {
    int fd = group_socket(group->name.ss_family, 0);
    if (group->name.ss_family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &(int){0}, sizeof(int));
    assert_int_equal(bind(fd, (struct sockaddr *)&group->name, group->name_len), 0);
    assert_int_equal(listen(fd, 4096), 0);
    group->name_len = sizeof group->name;
    assert_int_equal(getsockname(fd, (struct sockaddr *)&group->name, &group->name_len), 0);
    return fd;
}

static inline void group_name(struct group *group, int family) {
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_ANY)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_ANY_INIT};
    memset(&group->name, 0, sizeof group->name);
    if (family == AF_INET) memcpy(&group->name, &v4, sizeof v4);
    if (family == AF_INET6) memcpy(&group->name, &v6, sizeof v6);
    group->name_len = family == AF_INET ? sizeof v4 : sizeof v6;
}

static inline void group_add(struct group *group) {
    int slot = group->count++;
    group->fd[slot] = group_join(group);
    MUST(steering_add(group->steering, (unsigned)slot, group->fd[slot], &group_error));
}

static inline struct group *group_open(int family, enum steering_policy policy, int count, unsigned weight) {
    static struct group group;
    group.count = 0;
    group_name(&group, family);
    struct steering_options options = {.slots = count + 8 > GROUP_MAX ? GROUP_MAX : (unsigned)count + 8, .policy = policy};
    MUST(steering_open(&group.steering, &options, &group_error));
    uint16_t weights[GROUP_MAX] = {0};
    for (int i = 0; i < count; i++) {
        group_add(&group);
        weights[i] = (uint16_t)weight;
    }
    assert_int_equal(steering_set_weights(group.steering, weights), 0);
    return &group;
}

static inline void group_close(struct group *group) {
    steering_close(group->steering);
    for (int i = 0; i < group->count; i++) fd_close(&group->fd[i]);
}

// ---- clients

static inline struct sockaddr_storage group_target(const struct group *group, int family, socklen_t *out_len) {
    struct sockaddr_storage to = {0};
    uint16_t port = ((const struct sockaddr_in *)&group->name)->sin_port;
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = port, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = port, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    if (family == AF_INET) memcpy(&to, &v4, sizeof v4);
    if (family == AF_INET6) memcpy(&to, &v6, sizeof v6);
    *out_len = family == AF_INET ? sizeof v4 : sizeof v6;
    return to;
}

static inline int group_dial_by(const struct group *group, int family) {
    socklen_t len;
    struct sockaddr_storage to = group_target(group, family, &len);
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    if (connect(fd, (struct sockaddr *)&to, len) != 0) fail_msg("connect: %s", strerror(errno));
    return fd;
}

static inline int group_dial(const struct group *group) { return group_dial_by(group, group->name.ss_family); }

// An IPv4 client with this address.
static inline int group_dial_from(const struct group *group, uint32_t address) {
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(address)};
    socklen_t len;
    struct sockaddr_storage to = group_target(group, AF_INET, &len);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&from, sizeof from), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, len), 0);
    return fd;
}

// Ends a connection at once, so that nothing of it is left on the machine.
static inline void group_reset(int *fd) {
    struct linger at_once = {.l_onoff = 1};
    if (*fd >= 0) setsockopt(*fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    fd_close(fd);
}

// ---- queues

static inline int group_queue(int fd) {
    struct tcp_info info = {0};
    socklen_t len = sizeof info;
    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 ? (int)info.tcpi_unacked : -1;
}

static inline int group_queued(const struct group *group) {
    int all = 0;
    for (int i = 0; i < group->count; i++) all += group_queue(group->fd[i]);
    return all;
}

// Loopback delivers late on a busy machine.
static inline void group_wait_queued(const struct group *group, int count) {
    for (int i = 0; i < 30000 && group_queued(group) != count; i++) usleep(1000);
    assert_int_equal(group_queued(group), count);
}

static inline int group_accept(const struct group *group, int slot) { return accept4(group->fd[slot], NULL, NULL, SOCK_CLOEXEC); }

static inline void group_drain(const struct group *group) {
    for (int i = 0; i < group->count; i++)
        for (int fd = group_accept(group, i); fd >= 0; fd = group_accept(group, i)) group_reset(&fd);
}

// Opens one connection and says in which slot's queue it stands; it is accepted there.
static inline int group_where_fd(const struct group *group, int client, int *out_server) {
    struct pollfd ready[GROUP_MAX];
    for (int i = 0; i < group->count; i++) ready[i] = (struct pollfd){.fd = group->fd[i], .events = POLLIN};
    assert_int_equal(poll(ready, (nfds_t)group->count, 30000), 1);
    for (int i = 0; i < group->count; i++) {
        if (ready[i].revents == 0) continue;
        *out_server = group_accept(group, i);
        assert_true(*out_server >= 0);
        return i;
    }
    (void)client;
    return -1;
}

// Where does the next connection go? Opened, accepted and ended.
static inline int group_where(const struct group *group) {
    int client = group_dial(group), server;
    int slot = group_where_fd(group, client, &server);
    group_reset(&client);
    fd_close(&server);
    return slot;
}

static inline int group_live(const struct group *group, int slot) { return steering_counts(group->steering, (unsigned)slot).live; }

static inline void group_wait_live(const struct group *group, int slot, int live) {
    for (int i = 0; i < 30000 && group_live(group, slot) != live; i++) usleep(1000);
    assert_int_equal(group_live(group, slot), live);
}
