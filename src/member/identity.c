// SPDX-License-Identifier: MIT
#include "identity.h"

#include <errno.h>
#include <limits.h>
#include <pando/worker.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "fd.h"
#include "inherit.h"
#include "message.h"
#include "str.h"

static long number(const char *name, long otherwise) {
    long value;
    const char *text = getenv(name);
    return text != NULL && str_parse_number(text, 0, LONG_MAX, &value) == 0 ? value : otherwise;
}

bool pando_is_worker(void) { return number("PANDO_WORKER", -1) >= 0; }
bool pando_is_primary(void) { return !pando_is_worker(); }
int pando_self_slot(void) { return (int)number("PANDO_WORKER", -1); }
int pando_self_count(void) { return (int)number("PANDO_WORKERS", 0); }
uint32_t pando_self_generation(void) { return (uint32_t)number("PANDO_GENERATION", 0); }
uint64_t pando_self_id(void) { return (uint64_t)number("PANDO_WORKER_ID", 0); }

int identity_channel(void) {
    int fd;
    unsigned long inode;
    struct stat info;
    const char *text = getenv(INHERIT_WORKER_CHANNEL);
    if (text == NULL || sscanf(text, "%d:%lu", &fd, &inode) != 2 || fd < 0) return -1;
    if (fstat(fd, &info) != 0 || !S_ISSOCK(info.st_mode) || info.st_ino != inode) return -1;
    return fd;
}

// Before main: the primary hears that the program runs even if it never opens the channel, and no program that this one
// starts inherits it.
__attribute__((constructor)) static void say_online(void) {
    static const struct {
        uint32_t len;
        uint8_t kind, flags;
        uint16_t number;
    } online = {.kind = MESSAGE_ONLINE};
    int fd = identity_channel();
    if (fd < 0) return;
    fd_set_cloexec(fd, true);
    if (send(fd, &online, sizeof online, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) return;  // the primary is gone: read will tell
}
