// SPDX-License-Identifier: MIT
// Bounded: the last MESSAGES_KEPT are kept, and MESSAGES_KEPT_BYTES of them. With --relay a worker that sends faster than another
// takes is not read for a while; one that takes nothing for PATIENCE_MS is not waited for any longer, and loses what its channel
// has no room for.
#include "messages.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "control.h"
#include "log.h"

enum { PATIENCE_MS = 1000, RELAY_HIGH = 256 * 1024 };

struct kept {
    char *line;  // owned
    size_t len;
};

struct messages {
    struct primary *primary;
    struct kept kept[MESSAGES_KEPT];
    size_t first, count, bytes;
    uv_timer_t patience;
};

static void drop_oldest(struct messages *messages) {
    struct kept *oldest = &messages->kept[messages->first];
    messages->bytes -= oldest->len;
    free(oldest->line);
    messages->first = (messages->first + 1) % MESSAGES_KEPT;
    messages->count--;
}

static void keep(struct messages *messages, const char *line, size_t len) {
    char *copy = strndup(line, len);
    if (copy == NULL) return;
    while (messages->count == MESSAGES_KEPT || (messages->count > 0 && messages->bytes + len > MESSAGES_KEPT_BYTES)) drop_oldest(messages);
    messages->kept[(messages->first + messages->count++) % MESSAGES_KEPT] = (struct kept){copy, len};
    messages->bytes += len;
}

// ---- relaying

static void read_all_again(struct messages *messages) {
    struct primary *primary = messages->primary;
    for (uint32_t i = 0; i < primary->pool.record->slot_end; i++) {
        struct primary_worker *seen = primary->worker[i];
        if (seen == NULL || !seen->node.throttled) continue;
        seen->node.throttled = false;
        if (seen->channel != NULL) worker_channel_pause(seen->channel, false);
    }
}

static void on_patience_over(uv_timer_t *timer) {
    struct messages *messages = timer->data;
    struct primary *primary = messages->primary;
    for (uint32_t i = 0; i < primary->pool.record->slot_end; i++) {
        struct primary_worker *seen = primary->worker[i];
        if (seen != NULL && seen->channel != NULL && worker_channel_queued(seen->channel) > RELAY_HIGH) seen->node.stalled = true;
    }
    read_all_again(messages);
}

static void throttle(struct primary_worker *from) {
    struct messages *messages = from->primary->messages;
    if (from->node.throttled) return;
    from->node.throttled = true;
    worker_channel_pause(from->channel, true);
    if (!uv_is_active((uv_handle_t *)&messages->patience)) uv_timer_start(&messages->patience, on_patience_over, PATIENCE_MS, 0);
}

void messages_room(struct primary_worker *to) {
    if (to->node.lost > 0) log_warn("worker %d reads its messages again: %lu were lost", worker_number(to->worker), to->node.lost);
    to->node.lost = 0;
    to->node.stalled = false;
    if (to->primary->messages == NULL) return;
    uv_timer_stop(&to->primary->messages->patience);
    read_all_again(to->primary->messages);
}

static void relay_to(struct primary_worker *from, struct primary_worker *to, const char *text, size_t len) {
    if (worker_channel_send(to->channel, text, len, -1) != 0 && to->node.lost++ == 0)
        log_warn("worker %d does not read its messages: those of other workers are lost on it", worker_number(to->worker));
    if (worker_channel_queued(to->channel) > RELAY_HIGH && !to->node.stalled) throttle(from);
}

static void relay(struct primary_worker *from, const char *text, size_t len) {
    struct primary *primary = from->primary;
    for (uint32_t i = 0; i < primary->pool.record->slot_end; i++) {
        struct primary_worker *to = primary->worker[i];
        if (to != NULL && to != from && to->channel != NULL && to->channel_kind == LAUNCH_CHANNEL_NODE) relay_to(from, to, text, len);
    }
}

// ---- one message

static struct messages *make(struct primary *primary) {
    struct messages *messages = calloc(1, sizeof *messages);
    if (messages == NULL) return NULL;
    messages->primary = primary;
    uv_timer_init(primary->loop, &messages->patience);
    messages->patience.data = messages;
    return messages;
}

void messages_take(struct primary_worker *from, const char *text, size_t len) {
    static char line[WORKER_CHANNEL_FRAME_MAX + 128];
    struct primary *primary = from->primary;
    if (len > WORKER_CHANNEL_FRAME_MAX) return;
    if (primary->messages == NULL) primary->messages = make(primary);
    if (primary->messages == NULL) return;
    int head = snprintf(line, sizeof line, "{\"slot\":%d,\"pid\":%d,\"message\":", worker_number(from->worker), from->worker->record->pid);
    memcpy(line + head, text, len);
    size_t whole = (size_t)head + len;
    line[whole++] = '}';
    keep(primary->messages, line, whole);
    control_tell_message(primary->control, line, whole);
    if (pool_launch_of(&primary->pool, from->worker)->relay) relay(from, text, len);
}

json_t *messages_json(const struct primary *primary, size_t count) {
    const struct messages *messages = primary->messages;
    json_t *array = json_array();
    size_t have = messages == NULL ? 0 : messages->count;
    for (size_t i = have > count ? have - count : 0; i < have; i++) {
        const struct kept *one = &messages->kept[(messages->first + i) % MESSAGES_KEPT];
        json_t *object = json_loadb(one->line, one->len, JSON_ALLOW_NUL, NULL);
        if (object == NULL) object = json_loadb(one->line, one->len, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, NULL);
        json_array_append_new(array, object);
    }
    return array;
}
