// SPDX-License-Identifier: MIT
#include "adopt.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control.h"
#include "fd.h"
#include "given.h"
#include "home.h"
#include "log.h"
#include "notify.h"
#include "program.h"
#include "steer.h"
#include "str.h"
#include "upgrade.h"
#include "watches.h"

// Everything the keeper told in answer to HELLO.
struct told {
    struct link_event *event;  // owned
    size_t len, cap;
    uint64_t adopted_outputs;
};

static int told_add(struct told *told, const struct link_event *event) {
    if (told->len == told->cap) {
        size_t cap = told->cap * 2 + 64;
        struct link_event *grown = realloc(told->event, cap * sizeof *grown);
        if (grown == NULL) return -ENOMEM;
        told->event = grown;
        told->cap = cap;
    }
    told->event[told->len++] = *event;
    return 0;
}

static int hear(struct primary *primary, struct told *told) {
    struct link_event event;
    int r = link_hello(&primary->link);
    while (r == 0 && primary->link.first != NULL && link_next_event(&primary->link, &event) == 1) r = told_add(told, &event);
    return r;
}

// Takes the descriptor of (kind, key) out of what was told; -1 = not held.
static int take_held(struct told *told, enum held_kind kind, uint64_t key) {
    for (size_t i = 0; i < told->len; i++) {
        struct keeper_message *message = &told->event[i].message;
        if (message->verb == KEEPER_HELD && message->kind == kind && message->key == key) return fd_take(&told->event[i].fd[0]);
    }
    return -1;
}

// Some of a kind, for nobody: out of the keeper's hands too.
static void drop_held(struct primary *primary, struct told *told, enum held_kind kind) {
    for (size_t i = 0; i < told->len; i++) {
        struct keeper_message *message = &told->event[i].message;
        if (message->verb != KEEPER_HELD || message->kind != kind) continue;
        fd_close(&told->event[i].fd[0]);
        link_drop(&primary->link, kind, message->key);
    }
}

// ---- launch, record, ring, control

static int load_launch(struct primary *primary, struct told *told, struct pando_error *error) {
    scoped_fd memfd = take_held(told, HELD_LAUNCH, 1);
    if (memfd < 0) return error_say(error, EPROTO, "start: the keeper holds no launch data: start Pando with `pando run`");
    return launch_load(&primary->launch, memfd, error);
}

static int open_record(struct primary *primary, struct told *told, bool *out_fresh, struct pando_error *error) {
    scoped_fd memfd = take_held(told, HELD_RECORD, 0);
    *out_fresh = memfd < 0;
    primary->adopted_record = memfd >= 0;
    int r = memfd >= 0 ? record_map(memfd, &primary->pool.record) : record_create(&primary->pool.record, &memfd);
    if (r == -EPROTO) return error_say(error, EPROTO, "take over: the record is of another version of Pando");
    if (r == 0 && *out_fresh) r = link_hold(&primary->link, HELD_RECORD, 0, memfd);
    if (r == 0 && primary->pool.record->generation == 0) {  // killed before it had begun: so do we
        *out_fresh = true;
        record_clear(primary->pool.record);
        drop_held(primary, told, HELD_SOCKET);
        drop_held(primary, told, HELD_STEERING);
    }
    return r == 0 ? 0 : error_set(error, -r, "start: make the record");
}

static int open_ring(struct primary *primary, struct told *told, struct pando_error *error) {
    scoped_fd memfd = take_held(told, HELD_LOG_RING, 0);
    primary->output.ring = memfd >= 0 ? ring_map(memfd) : ring_create(&memfd);
    if (primary->output.ring == NULL) return error_set(error, ENOMEM, "start: make the ring of output lines");
    return link_hold(&primary->link, HELD_LOG_RING, 0, memfd);
}

static int open_channel_memory(struct primary *primary, struct told *told, struct pando_error *error) {
    scoped_fd memfd = take_held(told, HELD_CHANNEL_MEMORY, 0);
    primary->channel_memory = worker_channel_memory_map(&memfd);
    if (primary->channel_memory == NULL) return error_set(error, ENOMEM, "start: make the memory of the workers' channels");
    return link_hold(&primary->link, HELD_CHANNEL_MEMORY, 0, memfd);
}

static void open_control(struct primary *primary, struct told *told) {
    int listener = take_held(told, HELD_CONTROL, 0);
    primary->lock = take_held(told, HELD_LOCK, 0);
    primary->ready = take_held(told, HELD_READY, 0);
    primary->control = listener < 0 ? NULL : control_open(primary, listener);
    if (primary->control == NULL) log_error("the control socket cannot be served: `pando status` and its like will not work");
}

// ---- children and what belongs to them

static void adopt_child(struct primary *primary, struct told *told, struct link_event *event) {
    const struct keeper_message *message = &event->message;
    struct pool_fds fds = {-1, -1, -1, -1};
    struct worker *worker =
        pool_adopt(&primary->pool, message, fd_take(&event->fd[0]), fd_take(&event->fd[1]));
    if (worker == NULL) return;
    fds.out = take_held(told, HELD_OUTPUT, message->key << 1);
    fds.err = take_held(told, HELD_OUTPUT, message->key << 1 | 1);
    fds.ready_pipe = take_held(told, HELD_READY_PIPE, message->key);
    fds.channel = take_held(told, HELD_CHANNEL, message->key);
    watches_start(primary, worker, &fds);
}

// A primary that was killed half-way may have left pipes of processes that never were, and sockets of no row.
static void adopt_rest(struct primary *primary, struct link_event *event) {
    const struct keeper_message *message = &event->message;
    if (message->verb == KEEPER_HELD && event->fd[0] >= 0) {
        if (message->kind == HELD_SOCKET)
            listeners_adopt(&primary->pool.listeners, message->key, fd_take(&event->fd[0]));
        else if (message->kind == HELD_LAUNCH || message->kind == HELD_DIRECTORY || message->kind == HELD_PROGRAM)
            generations_adopt(&primary->pool.generations, (enum held_kind)message->kind, message->key, fd_take(&event->fd[0]));
        else if (message->kind == HELD_STEERING)
            steer_adopt(&primary->pool.listeners, message->key, fd_take(&event->fd[0]));
        else if (message->kind == HELD_UPGRADER)
            control_adopt_upgrader(primary->control, fd_take(&event->fd[0]));
        else if (message->kind == HELD_OUTPUT || message->kind == HELD_READY_PIPE || message->kind == HELD_CHANNEL)
            link_drop(&primary->link, (enum held_kind)message->kind, message->key);
    }
    for (int i = 0; i < 2; i++) fd_close(&event->fd[i]);
}

static void adopt_all(struct primary *primary, struct told *told) {
    for (uint32_t slot = 0; slot < primary->pool.record->slot_end; slot++) {
        int fd = take_held(told, HELD_NOTIFY_SOCKET, slot);
        if (fd >= 0) watches_notify_socket(primary, (int)slot, fd);
    }
    for (size_t i = 0; i < told->len; i++)
        if (told->event[i].message.verb == KEEPER_CHILD) adopt_child(primary, told, &told->event[i]);
    for (size_t i = 0; i < told->len; i++) adopt_rest(primary, &told->event[i]);
    for (size_t i = 0; i < told->len; i++) {
        const struct keeper_message *message = &told->event[i].message;
        if (message->verb == KEEPER_CHILD && message->exited)
            pool_on_exited(&primary->pool, message->key, message->pid, message->status);
    }
    pool_reconcile(&primary->pool);
    watches_resume_channels(primary);
}

// ---- what our own supervisor passed on

// The names in LISTEN_FDNAMES, in order, as sd_listen_fds_with_names(3) reads them.
static void name_given(char *names, struct given *given, size_t count) {
    for (size_t i = 0; i < count; i++) {
        char *name = names != NULL ? strsep(&names, ":") : NULL;
        given[i].name = name != NULL && *name != '\0' ? name : "unknown";
    }
}

static void count_given(struct primary *primary, const struct told *told) {
    for (size_t i = 0; i < told->len; i++)
        primary->given_count += told->event[i].message.verb == KEEPER_HELD && told->event[i].message.kind == HELD_GIVEN;
}

static int take_given(struct primary *primary, struct told *told) {
    size_t count = (size_t)primary->given_count;
    const char *text = getenv("LISTEN_FDNAMES");
    scoped_str names = text != NULL ? strdup(text) : NULL;
    struct given *given = count > 0 ? calloc(count, sizeof *given) : NULL;
    const struct launch *launch = &primary->launch;
    if (count > 0 && given == NULL) return -ENOMEM;
    for (size_t i = 0; i < count; i++) given[i].fd = take_held(told, HELD_GIVEN, i);
    name_given(names, given, count);
    primary->given_slots = given_take(&primary->pool.listeners, given, count, launch->has_user ? launch->uid : geteuid());
    free(given);
    return 0;
}

void adopt_given_done(struct primary *primary) {
    for (int i = 0; i < primary->given_count; i++) link_drop(&primary->link, HELD_GIVEN, (uint64_t)i);
}

static int adopt_told(struct primary *primary, struct told *told, struct pando_error *error) {
    bool fresh;
    int r = load_launch(primary, told, error);
    if (r == 0) r = open_record(primary, told, &fresh, error);
    if (r == 0) r = open_ring(primary, told, error);
    if (r == 0) r = open_channel_memory(primary, told, error);
    if (r == 0 && (r = output_init(&primary->output, primary->loop, &primary->launch)) != 0) error_set(error, -r, "start: make the output");
    if (r != 0) return r;
    enum log_form form = primary->launch.log_format == LAUNCH_LOG_JSON ? LOG_FORM_JSON
                         : primary->launch.log_is_terminal             ? LOG_FORM_SHORT
                                                                       : LOG_FORM_FULL;
    log_init("primary", primary->launch.name, form, LOG_LEVEL_INFO);
    log_set_sink(output_pando_line, &primary->output);
    open_control(primary, told);
    notify_make_directory(&primary->launch, primary->pool.notify_directory, sizeof primary->pool.notify_directory);
    r = pool_open(&primary->pool, error);
    if (r != 0) return r;
    primary->pool.record->primaries++;
    if (primary->pool.record->program[0] == '\0')
        program_self(primary->pool.record->program, sizeof primary->pool.record->program);
    count_given(primary, told);
    if (!fresh) adopt_all(primary, told);
    if (fresh && (r = take_given(primary, told)) != 0) return error_set(error, -r, "start: take the supervisor's sockets");
    upgrade_adopted(primary);
    return link_settled(&primary->link);
}

int adopt(struct primary *primary, struct pando_error *error) {
    struct told told = {0};
    int r = hear(primary, &told);
    if (r != 0) primary->adopted_record = true;  // what cannot be heard of may be there all the same
    r = r == 0 ? adopt_told(primary, &told, error) : error_set(error, -r, "start: talk to the keeper");
    for (size_t i = 0; i < told.len; i++)
        for (int k = 0; k < 2; k++) fd_close(&told.event[i].fd[k]);
    free(told.event);
    return r;
}

void adopt_write_pids(const struct primary *primary) {
    char path[HOME_PATH_MAX + 128], fresh[HOME_PATH_MAX + 160];
    snprintf(path, sizeof path, "%s/%s.pids", primary->launch.home, primary->launch.name);
    snprintf(fresh, sizeof fresh, "%s.new", path);
    FILE *file = fopen(fresh, "we");
    if (file == NULL) return;
    for (uint32_t i = 0; i < primary->pool.record->slot_end; i++) {
        const struct record_worker *record = &primary->pool.record->worker[i];
        if (record->pid > 0) fprintf(file, "%d %llu\n", record->pid, (unsigned long long)record->start_ticks);
    }
    if (fclose(file) == 0) rename(fresh, path);
}
