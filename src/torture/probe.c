// SPDX-License-Identifier: MIT
// One request before the load begins: what is it that listens there?
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>

#include "clock.h"
#include "fd.h"
#include "load.h"

#define PROBE_NS (5 * CLOCK_S)

static int probe_connect(const struct load_options *options) {
    struct timeval limit = {.tv_sec = (time_t)(PROBE_NS / CLOCK_S)};
    scoped_fd fd = socket(options->target.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (connect(fd, (const void *)&options->target, options->target_len)) return -errno;
    return fd_take(&fd);
}

bool load_probe(const struct load_options *options, bool *out_http, struct pando_error *error) {
    char request[1024], start[16] = "";
    size_t len = 0;
    scoped_fd fd = probe_connect(options);
    if (fd < 0) return error_set(error, -fd, "connect to it"), false;
    int request_len = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", options->path);
    send(fd, request, (size_t)request_len, MSG_NOSIGNAL);
    while (len < 5) {
        ssize_t got = recv(fd, start + len, sizeof start - len, 0);
        if (got <= 0) break;
        len += (size_t)got;
    }
    *out_http = len >= 5 && strncmp(start, "HTTP/", 5) == 0;
    if (len > 0) return true;
    error_say(error, EPROTO, "it gave no byte of an answer to \"GET %s HTTP/1.1\" within %d s", options->path, (int)(PROBE_NS / CLOCK_S));
    return false;
}
