// SPDX-License-Identifier: MIT
// One dump: a request, then datagrams of many messages until NLMSG_DONE. The kernel fills a datagram only when the one
// before was read, so walking away in the middle is closing the socket.
//
// A dump walks the whole table of connections, which may have half a million places however few are in use: 1.5 ms in which
// nothing else runs on that processor. The older request (TCPDIAG_GETSOCK) has both families in one walk; where it is not
// understood, the newer one is made for each family.
#include "sock_diag.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/tcp.h>  // the kernel's own: libc's struct tcp_info ends earlier
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fd.h"

// Bits 1 to 12, which every kernel has. Bit 13 asks newer ones for sockets that are bound and no more. The states' names of netinet/tcp.h
// cannot be had together with the headers above. Those in TIME_WAIT belong to nobody and can be tens of thousands.
enum { STATE_TIME_WAIT = 6, STATE_LISTEN = 10 };
#define STATES_ALL (((1U << 13) - 1) & ~1U & ~(1U << STATE_TIME_WAIT))
#define STATES_LISTEN (1U << STATE_LISTEN)

// The kernel sends no datagram larger than the reader's buffer, or than 8 KB before it knows that.
#define DATAGRAM_SIZE 8192

enum dump_next { DUMP_MORE, DUMP_DONE, DUMP_STOPPED, DUMP_FAILED };

struct dump {
    int fd;  // borrowed
    uint16_t local_port;
    sock_diag_fn each;
    void *arg;
    bool found;  // something was reported
    int error;   // with DUMP_FAILED: -errno
};

static int dump_send(int fd, const struct nlmsghdr *message) {
    return TEMP_FAILURE_RETRY(send(fd, message, message->nlmsg_len, 0)) < 0 ? -errno : 0;
}

// In a dump, too, the kernel leaves other ports out.
static int dump_ask_both(int fd, uint32_t states, uint16_t local_port) {
    struct {
        struct nlmsghdr header;
        struct inet_diag_req request;
    } message = {
        .header = {.nlmsg_len = sizeof message, .nlmsg_type = TCPDIAG_GETSOCK, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
        .request = {.idiag_ext = 1 << (INET_DIAG_INFO - 1), .idiag_states = states, .id.idiag_sport = htons(local_port)},
    };
    return dump_send(fd, &message.header);
}

static int dump_ask(int fd, uint8_t family, uint32_t states, uint16_t local_port) {
    struct {
        struct nlmsghdr header;
        struct inet_diag_req_v2 request;
    } message = {
        .header = {.nlmsg_len = sizeof message, .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
        .request = {.sdiag_family = family,
                    .sdiag_protocol = IPPROTO_TCP,
                    .idiag_ext = 1 << (INET_DIAG_INFO - 1),
                    .idiag_states = states,
                    .id.idiag_sport = htons(local_port)},
    };
    return dump_send(fd, &message.header);
}

// Sockets in TIME_WAIT or in a handshake have no tcp_info; older kernels have a shorter one.
static void read_info(const struct nlmsghdr *header, struct sock_diag_tcp *out) {
    const struct inet_diag_msg *body = NLMSG_DATA(header);
    int left = (int)NLMSG_PAYLOAD(header, sizeof *body);
    for (const struct rtattr *attr = (const void *)(body + 1); RTA_OK(attr, left); attr = RTA_NEXT(attr, left)) {
        if (attr->rta_type != INET_DIAG_INFO) continue;
        struct tcp_info info = {0};
        size_t len = RTA_PAYLOAD(attr);
        memcpy(&info, RTA_DATA(attr), len < sizeof info ? len : sizeof info);
        out->last_received_ms = info.tcpi_last_data_recv;
        out->last_sent_ms = info.tcpi_last_data_sent;
        out->bytes_sent = info.tcpi_bytes_sent;
    }
}

static enum dump_next on_socket(struct dump *dump, const struct nlmsghdr *header) {
    if (header->nlmsg_len < NLMSG_LENGTH(sizeof(struct inet_diag_msg))) return DUMP_MORE;
    const struct inet_diag_msg *body = NLMSG_DATA(header);
    struct sock_diag_tcp socket = {
        .inode = body->idiag_inode,
        .uid = body->idiag_uid,
        .state = body->idiag_state,
        .local_port = ntohs(body->id.idiag_sport),
        .remote_port = ntohs(body->id.idiag_dport),
        .receive_queue = body->idiag_rqueue,
        .send_queue = body->idiag_wqueue,
    };
    if (dump->local_port && socket.local_port != dump->local_port) return DUMP_MORE;
    dump->found = true;
    if (socket.state != STATE_LISTEN) read_info(header, &socket);
    return dump->each(&socket, dump->arg) ? DUMP_MORE : DUMP_STOPPED;
}

// NLMSG_ERROR and NLMSG_DONE both begin with an int: 0 or -errno.
static enum dump_next on_end(struct dump *dump, const struct nlmsghdr *header) {
    int error = header->nlmsg_type == NLMSG_ERROR ? -EPROTO : 0;
    if (header->nlmsg_len >= NLMSG_LENGTH(sizeof error)) memcpy(&error, NLMSG_DATA(header), sizeof error);
    dump->error = error;
    return error < 0 ? DUMP_FAILED : DUMP_DONE;
}

static enum dump_next on_message(struct dump *dump, const struct nlmsghdr *header) {
    switch (header->nlmsg_type) {
        case TCPDIAG_GETSOCK:
        case SOCK_DIAG_BY_FAMILY: return on_socket(dump, header);
        case NLMSG_DONE:
        case NLMSG_ERROR: return on_end(dump, header);
        default: return DUMP_MORE;
    }
}

static enum dump_next dump_receive(struct dump *dump) {
    _Alignas(struct nlmsghdr) char data[DATAGRAM_SIZE];
    ssize_t got = TEMP_FAILURE_RETRY(recv(dump->fd, data, sizeof data, MSG_TRUNC));
    if (got < 0 || got > (ssize_t)sizeof data) {
        dump->error = got < 0 ? -errno : -EMSGSIZE;
        return DUMP_FAILED;
    }
    size_t left = (size_t)got;
    enum dump_next next = DUMP_MORE;
    for (const struct nlmsghdr *at = (const void *)data; next == DUMP_MORE && NLMSG_OK(at, left); at = NLMSG_NEXT(at, left))
        next = on_message(dump, at);
    return next;
}

static enum dump_next dump_run(struct dump *dump, int asked) {
    dump->error = asked;
    enum dump_next next = asked ? DUMP_FAILED : DUMP_MORE;
    while (next == DUMP_MORE) next = dump_receive(dump);
    return next;
}

static int dump_all(uint32_t states, struct dump *dump) {
    scoped_fd fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    if (fd < 0) return -errno;
    dump->fd = fd;
    enum dump_next next = dump_run(dump, dump_ask_both(fd, states, dump->local_port));
    if (next == DUMP_FAILED && !dump->found) {
        next = dump_run(dump, dump_ask(fd, AF_INET, states, dump->local_port));
        if (next == DUMP_DONE) next = dump_run(dump, dump_ask(fd, AF_INET6, states, dump->local_port));
    }
    return next == DUMP_FAILED ? dump->error : 0;
}

int sock_diag_tcp_each(uint16_t local_port, sock_diag_fn each, void *arg) {
    return dump_all(STATES_ALL & ~STATES_LISTEN, &(struct dump){.local_port = local_port, .each = each, .arg = arg});
}

int sock_diag_tcp_listener_each(uint16_t local_port, sock_diag_fn each, void *arg) {
    return dump_all(STATES_LISTEN, &(struct dump){.local_port = local_port, .each = each, .arg = arg});
}
