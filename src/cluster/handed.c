// SPDX-License-Identifier: MIT
#include "handed.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>

#include "clock.h"
#include "fd.h"

#define HANDED_UNUSED_NS (10 * CLOCK_S)

int handed_init(struct handed *handed) {
    for (int i = 0; i < RECORD_HANDED_MAX; i++) handed->socket[i] = (struct handed_socket){.fd_here = -1};
    handed->epoll = epoll_create1(EPOLL_CLOEXEC);
    return handed->epoll >= 0 ? 0 : -errno;
}

static void let_go(struct handed_socket *row) {
    fd_close(&row->fd_here);
    row->token = 0;
}

void handed_deinit(struct handed *handed) {
    for (int i = 0; i < RECORD_HANDED_MAX; i++) let_go(&handed->socket[i]);
    fd_close(&handed->epoll);
}

static struct handed_socket *free_row(struct handed *handed) {
    struct handed_socket *oldest = &handed->socket[0];
    for (int i = 0; i < RECORD_HANDED_MAX; i++) {
        if (handed->socket[i].token == 0) return &handed->socket[i];
        if (handed->socket[i].since_ns < oldest->since_ns) oldest = &handed->socket[i];
    }
    let_go(oldest);
    return oldest;
}

void handed_add(struct handed *handed, uint64_t token, pid_t tgid, int fd_there, int fd_take) {
    struct handed_socket *row = free_row(handed);
    *row = (struct handed_socket){
        .token = token, .tgid = tgid, .fd_there = fd_there, .fd_here = fd_take, .since_ns = clock_now_ns()};
    struct epoll_event event = {.events = EPOLLOUT | EPOLLET, .data.u32 = (uint32_t)(row - handed->socket)};
    if (epoll_ctl(handed->epoll, EPOLL_CTL_ADD, fd_take, &event) != 0) let_go(row);
}

int handed_find(const struct handed *handed, uint64_t token, pid_t tgid, int fd_there) {
    const struct handed_socket *best = NULL;
    for (int i = 0; i < RECORD_HANDED_MAX; i++) {
        const struct handed_socket *row = &handed->socket[i];
        if (row->token != token || row->fd_there != fd_there) continue;
        bool better = best == NULL || (row->tgid == tgid) > (best->tgid == tgid) ||
                      ((row->tgid == tgid) == (best->tgid == tgid) && row->since_ns > best->since_ns);
        if (better) best = row;
    }
    return best == NULL ? -1 : best->fd_here;
}

void handed_forget(struct handed *handed, uint64_t token) {
    for (int i = 0; i < RECORD_HANDED_MAX; i++)
        if (handed->socket[i].token == token) let_go(&handed->socket[i]);
}

static bool is_idle(int fd) {
    struct tcp_info info = {0};
    socklen_t len = sizeof info;
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) != 0) return false;
    return info.tcpi_state == TCP_CLOSE || info.tcpi_state == TCP_LISTEN;
}

void handed_on_events(struct handed *handed) {
    struct epoll_event events[32];
    int count = epoll_wait(handed->epoll, events, 32, 0);
    for (int i = 0; i < count; i++) {
        struct handed_socket *row = &handed->socket[events[i].data.u32 % RECORD_HANDED_MAX];
        if (row->token != 0 && !is_idle(row->fd_here)) let_go(row);
    }
}

void handed_sweep(struct handed *handed, uint64_t now_ns) {
    for (int i = 0; i < RECORD_HANDED_MAX; i++)
        if (handed->socket[i].token != 0 && now_ns - handed->socket[i].since_ns > HANDED_UNUSED_NS) let_go(&handed->socket[i]);
}
