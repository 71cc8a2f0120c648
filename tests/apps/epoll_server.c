// SPDX-License-Identifier: MIT
// A modern C server: non-blocking, epoll, keep-alive. `epoll_server PORT [MICROSECONDS]`: work before each answer.
// GET /block/MS: all of it stands still for so long; GET /uninterruptible/MS: and no signal reaches it.
#include "http_answer.h"

#include <sys/epoll.h>
#include <sys/wait.h>

struct conn {
    int fd;
    size_t len;
    char buf[8192];
};

static void conn_close(struct conn *conn) {
    close(conn->fd);
    free(conn);
}

// The parent of a vfork waits in the kernel, and cannot even be stopped, until the child is gone.
static void stand_still(const char *request) {
    unsigned ms;
    if (sscanf(request, "GET /block/%u", &ms) == 1) usleep(ms * 1000);
    if (sscanf(request, "GET /uninterruptible/%u", &ms) != 1) return;
    pid_t child = vfork();
    if (child == 0) {
        usleep(ms * 1000);
        _exit(0);
    }
    waitpid(child, NULL, 0);
}

static void conn_on_input(struct conn *conn, useconds_t work) {
    for (;;) {
        ssize_t count = recv(conn->fd, conn->buf + conn->len, sizeof conn->buf - 1 - conn->len, 0);
        if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (count <= 0) break;
        conn->len += (size_t)count;
        conn->buf[conn->len] = '\0';
        size_t taken;
        while ((taken = request_len(conn->buf)) != 0) {
            bool close_after = request_wants_close(conn->buf);
            if (work != 0) usleep(work);
            stand_still(conn->buf);
            if (!answer_pid(conn->fd, close_after) || close_after) {
                conn_close(conn);
                return;
            }
            memmove(conn->buf, conn->buf + taken, conn->len - taken + 1);
            conn->len -= taken;
        }
        if (conn->len == sizeof conn->buf - 1) break;
    }
    conn_close(conn);
}

int main(int argc, char **argv) {
    int listener = listen_on_port(argc > 1 ? argv[1] : "3000", SOCK_NONBLOCK);
    useconds_t work = argc > 2 ? (useconds_t)atoi(argv[2]) : 0;
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        struct epoll_event events[64];
        int count = epoll_wait(epoll, events, 64, -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr != NULL) {
                conn_on_input(events[i].data.ptr, work);
                continue;
            }
            int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
            if (fd < 0) continue;
            struct conn *conn = calloc(1, sizeof *conn);
            if (conn == NULL) abort();
            conn->fd = fd;
            event = (struct epoll_event){.events = EPOLLIN, .data.ptr = conn};
            epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
        }
    }
}
