// SPDX-License-Identifier: MIT
#include "turn.h"

#include <errno.h>
#include <fcntl.h>

#include "clock.h"
#include "courier.h"
#include "fd.h"
#include "handoff.h"
#include "orphan.h"

void primary_wake(struct primary *primary) { primary->changed = true; }

// ---- what the keeper tells

static void on_keeper_event(struct primary *primary, struct link_event *event) {
    const struct keeper_message *message = &event->message;
    if (message->verb == KEEPER_EXITED) pool_on_exited(&primary->pool, message->key, message->pid, message->status);
    if (message->verb == KEEPER_SIGNAL) {
        primary->role->on_signal(primary, message->signo, message->from_kernel);
        link_heard(&primary->link, message->signo);
    }
    for (int i = 0; i < 2; i++) fd_close(&event->fd[i]);
    primary_wake(primary);
}

static void take_keeper_events(struct primary *primary) {
    struct link_event event;
    int r = 0;
    while (!primary->finished && (r = link_next_event(&primary->link, &event)) == 1) on_keeper_event(primary, &event);
    if (r >= 0 || primary->keeper_gone) return;
    primary->keeper_gone = true;
    watch_pause(primary->channel, true);
    primary->role->on_keeper_gone(primary);
}

static void on_channel(void *arg, int fd) {
    (void)fd;
    take_keeper_events(arg);
}

// ---- the loop

static void on_timer(uv_timer_t *timer) { primary_wake(timer->data); }

static void set_timer(struct primary *primary, uint64_t due_ns, uint64_t now_ns) {
    if (due_ns == CLOCK_NEVER) {
        uv_timer_stop(&primary->timer);
        return;
    }
    uint64_t wait_ms = due_ns <= now_ns ? 0 : (due_ns - now_ns + CLOCK_MS - 1) / CLOCK_MS;
    uv_update_time(primary->loop);
    uv_timer_start(&primary->timer, on_timer, wait_ms, 0);
}

// Requests to the keeper may have brought events along: the loop would not see those, they are in memory already.
static void take(struct primary *primary) {
    if (primary->link.first != NULL) take_keeper_events(primary);
    if (primary->room && !primary->finished) handoff_run(primary);
    if (!primary->changed || primary->finished) return;
    primary->changed = false;
    uint64_t now = clock_now_ns();
    uint64_t due = primary->keeper_gone ? orphan_tick(primary, now) : pool_tick(&primary->pool, now);
    primary->role->after_tick(primary);
    set_timer(primary, primary->changed || primary->link.first != NULL ? now : due, now);
}

// What was sent to workers in this turn leaves now, together.
static void on_before_wait(uv_prepare_t *prepare) {
    struct primary *primary = prepare->data;
    take(primary);
    courier_flush_all(&primary->unsent);
    if (!primary->finished) handoff_rest(primary);
}

static void on_handed(void *arg, int fd) {
    struct primary *primary = arg;
    (void)fd;
    handed_on_events(&primary->pool.intercept.handed);
}

static void on_wakes(void *arg, int fd) {
    struct primary *primary = arg;
    (void)fd;
    pool_on_wakes(&primary->pool);
}

int turn_start(struct primary *primary) {
    int channel = fcntl(primary->link.fd, F_DUPFD_CLOEXEC, 0);
    int wakes = fcntl(primary->pool.listeners.wakes, F_DUPFD_CLOEXEC, 0);
    int handed = fcntl(primary->pool.intercept.handed.epoll, F_DUPFD_CLOEXEC, 0);
    uv_prepare_init(primary->loop, &primary->before_wait);
    uv_timer_init(primary->loop, &primary->timer);
    primary->before_wait.data = primary->timer.data = primary;
    uv_prepare_start(&primary->before_wait, on_before_wait);
    primary->handed = watch_open(primary->loop, handed, on_handed, primary);
    primary->wakes = watch_open(primary->loop, wakes, on_wakes, primary);
    primary->channel = watch_open(primary->loop, channel, on_channel, primary);
    return primary->channel != NULL && primary->handed != NULL && primary->wakes != NULL ? 0 : -ENOMEM;
}
