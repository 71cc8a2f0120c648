// SPDX-License-Identifier: MIT
#include "link.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "fd.h"

void link_init(struct link *link, int channel_take) {
    *link = (struct link){.fd = channel_take};
    link->last = &link->first;
}

void link_deinit(struct link *link) {
    for (struct link_event *event; (event = link->first) != NULL;) {
        link->first = event->next;
        for (int i = 0; i < 2; i++) fd_close(&event->fd[i]);
        free(event);
    }
    fd_close(&link->fd);
    link->gone = true;
}

// Receives one message, waiting for it when `wait`. 1, 0 = nothing there, -EPIPE.
static int receive(struct link *link, bool wait, struct keeper_message *out, int fds[2]) {
    fds[0] = fds[1] = -1;
    while (!link->gone) {
        size_t count;
        int r = channel_receive(link->fd, out, fds, 2, &count);
        if (r == 1 && out->verb == KEEPER_REPLY && link->owed > 0) {
            link->owed--;
            for (int i = 0; i < 2; i++) fd_close(&fds[i]);
            continue;
        }
        if (r == 1) return 1;
        if (r != -EAGAIN && r != -EINTR) link->gone = true;
        if (r == -EAGAIN && !wait) return 0;
        struct pollfd readable = {.fd = link->fd, .events = POLLIN};
        if (r == -EAGAIN) poll(&readable, 1, -1);
    }
    return -EPIPE;
}

static int keep_event(struct link *link, const struct keeper_message *message, const int fds[2]) {
    struct link_event *event = malloc(sizeof *event);
    if (event == NULL) return -ENOMEM;
    *event = (struct link_event){.message = *message, .fd = {fds[0], fds[1]}};
    *link->last = event;
    link->last = &event->next;
    return 0;
}

// Out of memory for an event: the keeper is asked again by whoever takes over.
static int await_reply(struct link *link, struct keeper_message *out, int fds[2]) {
    for (;;) {
        int r = receive(link, true, out, fds);
        if (r != 1) return r;
        if (out->verb == KEEPER_REPLY) return 0;
        if (keep_event(link, out, fds) != 0) abort();
    }
}

static int send_request(struct link *link, const struct keeper_message *request, const int *fds, size_t fd_count) {
    int r;
    while (!link->gone && (r = channel_send(link->fd, request, fds, fd_count)) != 0) {
        struct pollfd room = {.fd = link->fd, .events = POLLOUT};
        if (r == -EAGAIN)
            poll(&room, 1, -1);
        else if (r == -EPIPE || r == -ECONNRESET || r == -ENOTCONN)
            link->gone = true;
        else
            return r;
    }
    return link->gone ? -EPIPE : 0;
}

static int call(struct link *link, const struct keeper_message *request, const int *fds, size_t fd_count,
                struct keeper_message *out, int out_fds[2]) {
    int r = send_request(link, request, fds, fd_count);
    return r != 0 ? r : await_reply(link, out, out_fds);
}

static int post(struct link *link, const struct keeper_message *request, const int *fds, size_t fd_count) {
    int r = send_request(link, request, fds, fd_count);
    link->owed += r == 0;
    return r;
}

static int call_plain(struct link *link, const struct keeper_message *request, const int *fds, size_t fd_count) {
    struct keeper_message answer;
    int none[2];
    int r = call(link, request, fds, fd_count, &answer, none);
    if (r != 0) return r;
    for (int i = 0; i < 2; i++) fd_close(&none[i]);
    return answer.result;
}

int link_hello(struct link *link) { return call_plain(link, &(struct keeper_message){.verb = KEEPER_HELLO}, NULL, 0); }

int link_hold(struct link *link, enum held_kind kind, uint64_t key, int fd) {
    return call_plain(link, &(struct keeper_message){.verb = KEEPER_HOLD, .kind = kind, .key = key}, &fd, 1);
}

int link_post_hold(struct link *link, enum held_kind kind, uint64_t key, int fd) {
    return post(link, &(struct keeper_message){.verb = KEEPER_HOLD, .kind = kind, .key = key}, &fd, 1);
}

int link_drop(struct link *link, enum held_kind kind, uint64_t key) {
    return post(link, &(struct keeper_message){.verb = KEEPER_DROP, .kind = kind, .key = key}, NULL, 0);
}

int link_drop_now(struct link *link, enum held_kind kind, uint64_t key) {
    return call_plain(link, &(struct keeper_message){.verb = KEEPER_DROP, .kind = kind, .key = key}, NULL, 0);
}

int link_spawn(struct link *link, uint64_t token, int plan, const int *fds, size_t fd_count, pid_t *out_pid, int *out_pidfd,
               int *out_listener, uint32_t *out_stage) {
    struct keeper_message answer;
    int sent[CHANNEL_FD_MAX] = {plan}, got[2];
    if (fd_count > CHANNEL_FD_MAX - 1) return -EINVAL;
    memcpy(sent + 1, fds, fd_count * sizeof *fds);
    int r = call(link, &(struct keeper_message){.verb = KEEPER_SPAWN, .key = token}, sent, fd_count + 1, &answer, got);
    *out_stage = r == 0 ? answer.kind : 0;
    if (r == 0) r = answer.result;
    if (r != 0) return r;
    *out_pid = answer.pid;
    *out_pidfd = got[0];
    *out_listener = got[1];
    return 0;
}

int link_peek(struct link *link, pid_t pid, uint64_t address, void *out, size_t len) {
    struct keeper_message answer;
    struct keeper_message request = {.verb = KEEPER_PEEK, .pid = pid, .address = address, .len = (uint32_t)len};
    int none[2];
    if (len > CHANNEL_DATA_SIZE) return -EINVAL;
    int r = call(link, &request, NULL, 0, &answer, none);
    if (r != 0) return r;
    if (answer.result > 0) memcpy(out, answer.data, (size_t)answer.result <= len ? (size_t)answer.result : len);
    return answer.result;
}

int link_getfd(struct link *link, pid_t pid, int fd) {
    struct keeper_message answer;
    int got[2];
    int r = call(link, &(struct keeper_message){.verb = KEEPER_GETFD, .pid = pid, .fd = fd}, NULL, 0, &answer, got);
    if (r != 0) return r;
    return answer.result == 0 ? got[0] : answer.result;
}

int link_kill(struct link *link, pid_t pid, int signo, bool to_group) {
    return call_plain(link, &(struct keeper_message){.verb = KEEPER_KILL, .pid = pid, .signo = signo, .to_group = to_group}, NULL, 0);
}

int link_forget(struct link *link, pid_t pid) {
    return post(link, &(struct keeper_message){.verb = KEEPER_FORGET, .pid = pid}, NULL, 0);
}

int link_heard(struct link *link, int signo) {
    return post(link, &(struct keeper_message){.verb = KEEPER_HEARD, .signo = signo}, NULL, 0);
}

int link_quit(struct link *link, int exit_code) {
    return channel_send(link->fd, &(struct keeper_message){.verb = KEEPER_QUIT, .result = exit_code}, NULL, 0);
}

int link_next_event(struct link *link, struct link_event *out) {
    struct link_event *kept = link->first;
    if (kept == NULL) return receive(link, false, &out->message, out->fd);
    *out = *kept;
    link->first = kept->next;
    if (link->first == NULL) link->last = &link->first;
    free(kept);
    return 1;
}
