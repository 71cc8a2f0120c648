// SPDX-License-Identifier: MIT
// The kernel's list of TCP sockets (sock_diag(7)), for the few moments when Pando must know a worker's connections.
// Costs 0.2 ms and more: never on a timer of milliseconds for its own sake.
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct sock_diag_tcp {
    uint64_t inode;  // 0: not (or no longer) owned by a process, e.g. in an accept queue
    uid_t uid;       // the socket's owner
    uint8_t state;   // TCP_ESTABLISHED ... of <netinet/tcp.h>; 12 = a handshake under way (TCP_NEW_SYN_RECV)
    uint16_t local_port, remote_port;
    uint32_t receive_queue, send_queue;       // bytes unread by the program (an unread end of file: one more) / not yet acknowledged
    uint64_t bytes_sent;                      // 0 also when unknown (kernels before 4.19)
    uint32_t last_received_ms, last_sent_ms;  // ms since data last arrived / left (tcp_info); 0 when unknown
};

typedef bool (*sock_diag_fn)(const struct sock_diag_tcp *socket, void *arg);

// Calls `each` for every IPv4 and IPv6 TCP socket that is neither listening nor in TIME_WAIT with this local port (0 = any) in this network
// namespace. Stops when it returns false. 0 or -errno.
int sock_diag_tcp_each(uint16_t local_port, sock_diag_fn each, void *arg);
// The same for the listening ones. receive_queue = connections not yet accepted, send_queue = the backlog's limit.
int sock_diag_tcp_listener_each(uint16_t local_port, sock_diag_fn each, void *arg);
