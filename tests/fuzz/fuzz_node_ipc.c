// SPDX-License-Identifier: MIT
// A worker writes whatever it likes to its channel, in pieces of any size: the frames are the lines of it, whatever the pieces, and
// each line means the same by the short way and by the long way.
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "node_ipc.h"
#include "worker_channel.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct reader {
    const uint8_t *at, *end;  // what is to come
    size_t frames;
};

static void look_at(const char *text, size_t len) {
    struct node_message quick, slow;
    char *spaced = malloc(len + 1);
    spaced[0] = ' ';
    memcpy(spaced + 1, text, len);
    int a = node_message_parse(&quick, text, len), b = node_message_parse(&slow, spaced, len + 1);
    assert(a == b && quick.verb == slow.verb && quick.ack == slow.ack && quick.accepted == slow.accepted);
    assert(quick.port >= -1 && quick.port <= 65535 && quick.fd >= NODE_FD_NONE);
    node_message_deinit(&quick);
    node_message_deinit(&slow);
    free(spaced);
}

static void on_frame(void *arg, char *text, size_t len) {
    struct reader *reader = arg;
    assert((size_t)(reader->end - reader->at) > len && memcmp(reader->at, text, len) == 0 && reader->at[len] == '\n');
    reader->at += len + 1;
    reader->frames++;
    look_at(text, len);
}

static const struct worker_channel_events events = {.on_frame = on_frame};

// The first byte of a piece says how long it is.
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct worker_channel_memory *memory;
    static uv_loop_t loop;
    static uint64_t token;
    int pair[2], memfd = -1;
    if (memory == NULL) {
        uv_loop_init(&loop);
        memory = worker_channel_memory_map(&memfd);
    }
    uint8_t *text = malloc(size + 1);
    size_t len = 0;
    struct reader reader = {0};
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) abort();
    struct worker_channel *channel = worker_channel_open(&loop, pair[0], ++token, memory, &events, &reader);
    for (size_t at = 0; at < size;) {
        size_t piece = data[at++];
        if (piece > size - at) piece = size - at;
        memcpy(text + len, data + at, piece);
        if (len == 0) reader.at = text;
        reader.end = text + len + piece;
        if (write(pair[1], text + len, piece) != (ssize_t)piece) abort();
        len += piece;
        at += piece;
        uv_run(&loop, UV_RUN_NOWAIT);
    }
    size_t lines = 0;
    for (size_t i = 0; i < len; i++) lines += text[i] == '\n';
    assert(reader.frames == lines);
    worker_channel_close(channel);
    uv_run(&loop, UV_RUN_NOWAIT);
    close(pair[1]);
    free(text);
    return 0;
}
