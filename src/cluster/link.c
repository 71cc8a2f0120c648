// SPDX-License-Identifier: MIT
#include "link.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "fd.h"

void link_init(struct link *link, int channel_take) {
    *link = (struct link){.fd = channel_take};
    link->last = &link->first;
}

// ---- what the keeper holds, here once more

static struct keeper_held *mirror_find(const struct link *link, uint32_t kind, uint64_t key) {
    for (size_t i = 0; i < link->held_len; i++)
        if (link->held[i].kind == kind && link->held[i].key == key) return &link->held[i];
    return NULL;
}

static void mirror_drop(struct link *link, uint32_t kind, uint64_t key) {
    struct keeper_held *row = mirror_find(link, kind, key);
    if (row == NULL) return;
    fd_close(&row->fd);
    *row = link->held[--link->held_len];
}

// Whatever finds no room here is lost with the keeper, and only then.
static void mirror_add(struct link *link, uint32_t kind, uint64_t key, int fd) {
    if (link->alone) return;
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (own < 0) return;
    if (link->held_len == link->held_cap) {
        size_t cap = link->held_cap * 2 + 64;
        struct keeper_held *grown = realloc(link->held, cap * sizeof *grown);
        if (grown == NULL) {
            fd_close(&own);
            return;
        }
        link->held = grown;
        link->held_cap = cap;
    }
    link->held[link->held_len++] = (struct keeper_held){.kind = kind, .key = key, .fd = own};
}

static void mirror_put(struct link *link, uint32_t kind, uint64_t key, int fd) {
    mirror_drop(link, kind, key);
    mirror_add(link, kind, key, fd);
}

int link_held(const struct link *link, enum held_kind kind, uint64_t key) {
    const struct keeper_held *row = mirror_find(link, kind, key);
    return row == NULL ? -1 : row->fd;
}

void link_deinit(struct link *link) {
    for (struct link_event *event; (event = link->first) != NULL;) {
        link->first = event->next;
        for (int i = 0; i < 2; i++) fd_close(&event->fd[i]);
        free(event);
    }
    while (link->held_len > 0) fd_close(&link->held[--link->held_len].fd);
    free(link->held);
    link->held = NULL;
    fd_close(&link->fd);
    link->gone = true;
}

// ---- messages

// Receives one message, waiting for it when `wait`. 1, 0 = nothing there, -EMFILE = one without its descriptors, -EPIPE. A
// keeper that speaks another language is nobody to work with: the next primary may do better.
static int receive(struct link *link, bool wait, struct keeper_message *out, int fds[2]) {
    fds[0] = fds[1] = -1;
    while (!link->gone) {
        size_t count;
        int r = channel_receive(link->fd, out, fds, 2, &count);
        bool arrived = r == 1 || r == -EMFILE;
        if (arrived && out->verb == KEEPER_REPLY && link->owed > 0) {
            link->owed--;
            for (int i = 0; i < 2; i++) fd_close(&fds[i]);
            continue;
        }
        if (arrived) return r;
        if (r == -EPROTO) abort();
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
        if (r != 1 && r != -EMFILE) return r;
        if (r == -EMFILE) link->starved = true;
        if (out->verb == KEEPER_REPLY) return r == 1 ? 0 : r;
        if (out->verb == KEEPER_HELD) mirror_add(link, out->kind, out->key, fds[0]);
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

int link_hello(struct link *link) {
    struct keeper_message answer;
    int none[2];
    int r = call(link, &(struct keeper_message){.verb = KEEPER_HELLO}, NULL, 0, &answer, none);
    if (r == 0 && link->starved) r = -EMFILE;
    if (r != 0) return r;
    link->trial = (enum keeper_trial)answer.kind;
    link->trial_status = answer.status;
    return answer.result;
}

int link_hold(struct link *link, enum held_kind kind, uint64_t key, int fd) {
    mirror_put(link, kind, key, fd);
    return call_plain(link, &(struct keeper_message){.verb = KEEPER_HOLD, .kind = kind, .key = key}, &fd, 1);
}

int link_post_hold(struct link *link, enum held_kind kind, uint64_t key, int fd) {
    mirror_put(link, kind, key, fd);
    return post(link, &(struct keeper_message){.verb = KEEPER_HOLD, .kind = kind, .key = key}, &fd, 1);
}

int link_drop(struct link *link, enum held_kind kind, uint64_t key) {
    mirror_drop(link, kind, key);
    return post(link, &(struct keeper_message){.verb = KEEPER_DROP, .kind = kind, .key = key}, NULL, 0);
}

int link_drop_now(struct link *link, enum held_kind kind, uint64_t key) {
    mirror_drop(link, kind, key);
    return call_plain(link, &(struct keeper_message){.verb = KEEPER_DROP, .kind = kind, .key = key}, NULL, 0);
}

void link_drop_all(struct link *link, enum held_kind kind) {
    for (size_t i = link->held_len; i-- > 0;)
        if (link->held[i].kind == kind) link_drop(link, kind, link->held[i].key);
}

int link_spawn(struct link *link, uint64_t token, int plan, const int *fds, size_t fd_count, pid_t *out_pid, int *out_pidfd,
               int *out_listener, uint32_t *out_stage) {
    struct keeper_message answer;
    int sent[CHANNEL_FD_MAX] = {plan}, got[2];
    if (fd_count > CHANNEL_FD_MAX - 1) return -EINVAL;
    memcpy(sent + 1, fds, fd_count * sizeof *fds);
    int r = call(link, &(struct keeper_message){.verb = KEEPER_SPAWN, .key = token}, sent, fd_count + 1, &answer, got);
    if (r == -EMFILE && answer.result == 0 && answer.pid > 0) link_kill(link, answer.pid, SIGKILL, true);  // nobody could answer it
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

int link_settled(struct link *link) { return post(link, &(struct keeper_message){.verb = KEEPER_SETTLED}, NULL, 0); }

int link_state(struct link *link) {
    struct keeper_message answer;
    int got[2];
    int r = call(link, &(struct keeper_message){.verb = KEEPER_STATE}, NULL, 0, &answer, got);
    return r != 0 ? r : answer.result == 0 ? got[0] : answer.result;
}

int link_upgrade(struct link *link, int program, int keeper) {
    return call_plain(link, &(struct keeper_message){.verb = KEEPER_UPGRADE}, (int[]){program, keeper}, 2);
}

int link_notify(struct link *link, const char *text, int fd) {
    struct keeper_message request = {.verb = KEEPER_NOTIFY, .len = (uint32_t)strlen(text)};
    if (request.len > CHANNEL_DATA_SIZE) return -EMSGSIZE;
    memcpy(request.data, text, request.len);
    return call_plain(link, &request, &fd, fd >= 0 ? 1 : 0);
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
