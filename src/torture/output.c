// SPDX-License-Identifier: MIT
#include "output.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "fd.h"

enum { OUTPUT_KEPT = 16384 };

struct output {
    int fd, stop;  // owned
    pthread_t thread;
    pthread_mutex_t lock;  // of what follows
    size_t len;
    char text[2 * OUTPUT_KEPT];
};

static void output_add(struct output *output, const char *data, size_t len) {
    pthread_mutex_lock(&output->lock);
    if (output->len + len > sizeof output->text) {
        memmove(output->text, output->text + output->len - OUTPUT_KEPT, OUTPUT_KEPT);
        output->len = OUTPUT_KEPT;
    }
    memcpy(output->text + output->len, data, len);
    output->len += len;
    pthread_mutex_unlock(&output->lock);
}

static void *output_main(void *arg) {
    struct output *output = arg;
    char data[OUTPUT_KEPT];
    while (true) {
        struct pollfd wait[] = {{.fd = output->fd, .events = POLLIN}, {.fd = output->stop, .events = POLLIN}};
        if (poll(wait, 2, -1) < 0 && errno != EINTR) return NULL;
        ssize_t got = wait[0].revents ? read(output->fd, data, sizeof data) : -1;
        if (got > 0) output_add(output, data, (size_t)got);
        if (got == 0 || (wait[1].revents && got <= 0)) return NULL;
    }
}

struct output *output_start_take(int fd) {
    struct output *output = calloc(1, sizeof *output);
    scoped_fd owned = fd;
    scoped_fd stop = eventfd(0, EFD_CLOEXEC);
    if (!output || stop < 0) return free(output), NULL;
    output->fd = owned;
    output->stop = stop;
    pthread_mutex_init(&output->lock, NULL);
    if (pthread_create(&output->thread, NULL, output_main, output)) return free(output), NULL;
    fd_take(&owned);
    fd_take(&stop);
    return output;
}

void output_tail(struct output *output, char *out, size_t size) {
    out[0] = '\0';
    if (!output) return;
    pthread_mutex_lock(&output->lock);
    size_t len = output->len < size - 1 ? output->len : size - 1;
    const char *from = output->text + output->len - len;
    memcpy(out, from, len);
    out[len] = '\0';
    bool cut = len < output->len && from[-1] != '\n';
    pthread_mutex_unlock(&output->lock);
    const char *line = cut ? strchr(out, '\n') : NULL;
    if (line) memmove(out, line + 1, strlen(line + 1) + 1);
}

void output_stop(struct output *output) {
    if (!output) return;
    uint64_t one = 1;
    if (write(output->stop, &one, sizeof one) < 0) return;
    pthread_join(output->thread, NULL);
    pthread_mutex_destroy(&output->lock);
    fd_close(&output->fd);
    fd_close(&output->stop);
    free(output);
}
