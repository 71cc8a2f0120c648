// SPDX-License-Identifier: MIT
// The end of a channel, as Node has it: the primary says DRAIN and the worker closes it when it has finished; or the worker
// says LEAVING and closes it when the primary has answered LEAVE; or it breaks, and the process ends.
#include "self.h"

#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "clock.h"
#include "error.h"
#include "fd.h"
#include "identity.h"
#include "inherit.h"

enum { ANSWER_PATIENCE_MS = 30000 };

// A frame that arrived while an answer was waited for.
struct kept {
    struct kept *next;
    struct message message;  // fd owned
    char data[];
};

int pando_message_take_fd(struct pando_message *message) { return fd_take(&message->fd); }

struct json_t *pando_message_json(const struct pando_message *message) {
    return json_loadb(message->data.data, message->data.len, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
}

// ---- the end

static void on_poll_closed(uv_handle_t *handle) {
    pando_self *self = handle->data;
    self->polling = false;
    if (self->freed) free(self);
}

static void forget_kept(pando_self *self) {
    for (struct kept *kept; (kept = self->kept) != NULL;) {
        self->kept = kept->next;
        fd_close(&kept->message.fd);
        free(kept);
    }
    self->kept_last = &self->kept;
    self->kept_bytes = 0;
}

static void drop_channel(pando_self *self) {
    if (self->channel == NULL) return;
    if (self->polling) uv_close((uv_handle_t *)&self->poll, on_poll_closed);
    message_channel_close(self->channel);
    self->channel = NULL;
    forget_kept(self);
}

// `broken`: the primary has closed it without a word.
static void disconnected(pando_self *self, bool broken) {
    bool announced = self->draining || self->leaving || self->ending;
    drop_channel(self);
    if (self->options.on_disconnect != NULL && !self->freed) self->options.on_disconnect(self, self->options.arg);
    if (broken && !announced && !self->options.stay) exit(0);
}

static void end_when_written(pando_self *self) {
    if (self->channel == NULL) return;
    self->ending = true;
    if (message_channel_flush(self->channel) == 1)
        self_update(self);
    else
        disconnected(self, false);
}

void pando_self_disconnect(pando_self *self) {
    if (self == NULL || self->channel == NULL || self->ending || self->leaving) return;
    if (self->draining) {
        end_when_written(self);
        return;
    }
    self->leaving = true;
    if (message_channel_put(self->channel, MESSAGE_LEAVING, 0, NULL, 0, -1) < 0)
        end_when_written(self);
    else
        self_update(self);
}

const struct member_finisher *member_finisher(const pando_self *self) { return &self->finisher; }
void member_set_finisher(pando_self *self, const struct member_finisher *finisher) { self->finisher = *finisher; }

void pando_self_close(pando_self *self) {
    if (self == NULL || self->freed) return;
    self->freed = true;
    if (self->finisher.free != NULL) self->finisher.free(self->finisher.arg);
    self->finisher = (struct member_finisher){0};
    if (self->channel != NULL) message_channel_flush(self->channel);
    drop_channel(self);
    if (!self->polling && !self->in_callback) free(self);
}

// ---- arriving

static void on_user_message(pando_self *self, struct message *message) {
    struct pando_message out = {.data = {message->data, message->len},
                                .is_json = message->kind == MESSAGE_JSON,
                                .fd_was_lost = message->has_fd && message->fd < 0,
                                .fd = fd_take(&message->fd)};
    if (self->options.on_message != NULL) self->options.on_message(self, &out, self->options.arg);
    fd_close(&out.fd);
}

static void on_drain(pando_self *self) {
    if (self->draining) return;
    self->draining = true;
    if (self->finisher.drain != NULL)
        self->finisher.drain(self, self->finisher.arg);
    else if (self->options.on_draining != NULL)
        self->options.on_draining(self, self->options.arg);
    else
        end_when_written(self);
}

static void deliver(pando_self *self, struct message *message) {
    switch (message->kind) {
        case MESSAGE_BYTES:
        case MESSAGE_JSON: on_user_message(self, message); break;
        case MESSAGE_DRAIN: on_drain(self); break;
        case MESSAGE_LEAVE:
            if (self->leaving) end_when_written(self);
            break;
        case MESSAGE_LISTENED:  // its asker has given up
        case MESSAGE_ONLINE:
        case MESSAGE_OPENED:
        case MESSAGE_READY:
        case MESSAGE_LISTEN:
        case MESSAGE_LEAVING:
        case MESSAGE_KIND_END: break;
    }
}

static bool keep(pando_self *self, struct message *message) {
    size_t size = sizeof(struct kept) + message->len;
    struct kept *kept = self->kept_bytes + size > MESSAGE_QUEUE_DEFAULT ? NULL : malloc(size);
    if (kept == NULL) return false;
    memcpy(kept->data, message->data, message->len);
    kept->next = NULL;
    kept->message = *message;
    kept->message.fd = fd_take(&message->fd);
    kept->message.data = kept->data;
    *self->kept_last = kept;
    self->kept_last = &kept->next;
    self->kept_bytes += size;
    return true;
}

static void deliver_kept(pando_self *self) {
    struct kept *kept;
    while (self->channel != NULL && !self->freed && !self->awaiting && (kept = self->kept) != NULL) {
        self->kept = kept->next;
        if (self->kept == NULL) self->kept_last = &self->kept;
        self->kept_bytes -= sizeof *kept + kept->message.len;
        deliver(self, &kept->message);
        fd_close(&kept->message.fd);
        free(kept);
    }
}

static bool on_message(void *arg, struct message *message) {
    pando_self *self = arg;
    if (!self->awaiting) {
        deliver_kept(self);
        deliver(self, message);
        return true;
    }
    if (message->kind != MESSAGE_LISTENED || message->number != self->asked) {
        if (!keep(self, message)) self->answer = -ENOBUFS, self->answered = true;
        return !self->answered;
    }
    int32_t result = -EPROTO;
    if (message->len == sizeof result) memcpy(&result, message->data, sizeof result);
    if (result == 0 && message->fd < 0) result = -EMFILE;
    self->answer = result;
    self->answer_fd = fd_take(&message->fd);
    self->answered = true;
    return false;
}

static void dispatch_read(pando_self *self) {
    deliver_kept(self);
    if (self->channel == NULL) return;
    int r = message_channel_resume(self->channel);
    if (r == 1 && self->channel != NULL) r = message_channel_on_readable(self->channel);
    if (r != 1 && self->channel != NULL) disconnected(self, true);
}

static void dispatch_write(pando_self *self) {
    if (self->channel == NULL) return;
    int r = message_channel_flush(self->channel);
    if (r == 0 && self->ending) {
        disconnected(self, false);
        return;
    }
    if (r == -EPIPE || !self->held_back || message_channel_queued(self->channel) > MESSAGE_HIGH_WATER) return;
    self->held_back = false;
    if (self->options.on_writable != NULL) self->options.on_writable(self, self->options.arg);
}

void pando_self_dispatch(pando_self *self) {
    if (self == NULL || self->channel == NULL || self->in_callback) return;
    self->in_callback = true;
    dispatch_read(self);
    dispatch_write(self);
    self->in_callback = false;
    if (self->freed) {
        if (!self->polling) free(self);
        return;
    }
    self_update(self);
}

// ---- the loop

static void on_poll(uv_poll_t *poll, int status, int events) {
    pando_self *self = poll->data;
    (void)events;
    if (status != 0) self->watched = 0;  // libuv has stopped it; reading tells what it was
    pando_self_dispatch(self);
}

void self_update(pando_self *self) {
    if (!self->polling || self->channel == NULL) return;
    int wanted = UV_READABLE | (pando_self_wants_write(self) ? UV_WRITABLE : 0);
    if (wanted == self->watched) return;
    self->watched = wanted;
    uv_poll_start(&self->poll, wanted, on_poll);
}

int pando_self_fd(const pando_self *self) { return self == NULL || self->channel == NULL ? -1 : message_channel_fd(self->channel); }

bool pando_self_wants_write(const pando_self *self) {
    if (self == NULL || self->channel == NULL) return false;
    bool undelivered = self->kept != NULL || message_channel_has_more(self->channel);
    return undelivered || self->held_back || message_channel_queued(self->channel) > 0;
}

bool pando_self_is_connected(const pando_self *self) { return self != NULL && self->channel != NULL && !self->ending; }

static int open_channel(pando_self *self, int fd, struct pando_error *error) {
    const struct pando_self_options *options = &self->options;
    struct message_channel_options with = {
        .message_max = options->max_message_bytes, .queue_max = options->max_queued_bytes, .on_message = on_message, .arg = self};
    self->channel = message_channel_open(fd, &with);
    if (self->channel == NULL) return error_set(error, ENOMEM, "open the channel to the primary");
    unsetenv(INHERIT_WORKER_CHANNEL);
    if (options->loop != NULL) {
        int r = uv_poll_init(options->loop, &self->poll, fd);
        if (r != 0) return error_set(error, -r, "watch the channel to the primary");
        self->poll.data = self;
        self->polling = true;
        if (options->background) uv_unref((uv_handle_t *)&self->poll);
    }
    message_channel_put(self->channel, MESSAGE_OPENED, 0, NULL, 0, -1);
    message_channel_flush(self->channel);
    self_update(self);
    return 0;
}

int pando_self_open(pando_self **out, const struct pando_self_options *options, struct pando_error *error) {
    if (out == NULL) return error_say(error, EINVAL, "open the channel to the primary: nowhere to put it");
    pando_self *self = calloc(1, sizeof *self);
    if (self == NULL) return error_set(error, ENOMEM, "open the channel to the primary");
    if (options != NULL) self->options = *options;
    self->kept_last = &self->kept;
    self->answer_fd = -1;
    int fd = identity_channel();
    int r = fd < 0 ? 0 : open_channel(self, fd, error);
    if (r != 0) {
        message_channel_close(self->channel);
        free(self);
        return r;
    }
    *out = self;
    return 0;
}

// ---- leaving

// At once when it can: a program that sends and then ends without another turn of its loop has sent.
static int send_frame(pando_self *self, enum message_kind kind, const void *data, size_t len, int fd) {
    if (self == NULL || self->channel == NULL) return -ENOTCONN;
    if (self->ending) return -EPIPE;
    int r = message_channel_put(self->channel, kind, 0, data, len, fd);
    if (r >= 0 && message_channel_flush(self->channel) == -EPIPE) return -EPIPE;
    if (r == 1 && message_channel_queued(self->channel) <= MESSAGE_HIGH_WATER) r = 0;
    if (r == 1 || r == -EAGAIN) self->held_back = true;
    if (message_channel_queued(self->channel) > 0) self_update(self);
    return r;
}

int pando_self_send(pando_self *self, const void *data, size_t len, int fd) {
    if (data == NULL && len > 0) return -EINVAL;
    return send_frame(self, MESSAGE_BYTES, data, len, fd);
}

int pando_self_send_json(pando_self *self, const struct json_t *json, int fd) {
    char *text = json == NULL ? NULL : json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY);
    if (text == NULL) return -EINVAL;
    int r = send_frame(self, MESSAGE_JSON, text, strlen(text), fd);
    free(text);
    return r;
}

// sd_notify(3)'s protocol, for those who started this with a NOTIFY_SOCKET.
static int notify_ready(void) {
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    const char *path = getenv("NOTIFY_SOCKET");
    if (path == NULL || (path[0] != '/' && path[0] != '@')) return 0;
    size_t len = strlen(path);
    if (len >= sizeof at.sun_path) return -ENAMETOOLONG;
    memcpy(at.sun_path, path, len);
    if (path[0] == '@') at.sun_path[0] = '\0';
    scoped_fd fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    return sendto(fd, "READY=1", 7, MSG_NOSIGNAL, (struct sockaddr *)&at, size) < 0 ? -errno : 0;
}

int pando_self_ready(pando_self *self) {
    if (self == NULL || self->channel == NULL) return notify_ready();
    int r = send_frame(self, MESSAGE_READY, NULL, 0, -1);
    return r < 0 ? r : 0;
}

int self_ask(pando_self *self, const void *data, size_t len) {
    uint64_t deadline_ns = clock_now_ns() + ANSWER_PATIENCE_MS * CLOCK_MS;
    self->asked++;
    int r = message_channel_put(self->channel, MESSAGE_LISTEN, self->asked, data, len, -1);
    if (r < 0) return r;
    self->awaiting = true;
    self->answered = false;
    r = message_channel_resume(self->channel);
    while (!self->answered && r == 1) {
        uint64_t now_ns = clock_now_ns();
        bool more = message_channel_flush(self->channel) == 1;
        struct pollfd poll_fd = {.fd = message_channel_fd(self->channel), .events = (short)(POLLIN | (more ? POLLOUT : 0))};
        int ready = now_ns >= deadline_ns ? 0 : poll(&poll_fd, 1, (int)((deadline_ns - now_ns) / CLOCK_MS) + 1);
        if (ready == 0) self->answer = -ETIMEDOUT, self->answered = true;
        if (ready > 0 && (poll_fd.revents & ~POLLOUT) != 0) r = message_channel_on_readable(self->channel);
    }
    self->awaiting = false;
    self_update(self);
    if (!self->answered) return r == 0 ? -EPIPE : r;
    return self->answer == 0 ? fd_take(&self->answer_fd) : self->answer;
}
