// SPDX-License-Identifier: MIT
#include "notify.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "fd.h"
#include "log.h"

enum { SLOT_DIGITS = 8 };

void notify_make_directory(const struct launch *launch, char *out, size_t size) {
    int len = snprintf(out, size, "%s/%s.notify", launch->home, launch->name);
    if (len + SLOT_DIGITS >= (int)sizeof((struct sockaddr_un *)0)->sun_path || len >= (int)size) {
        log_warn("no NOTIFY_SOCKET for the workers: the path %s/%s.notify is too long for a socket; set PANDO_DIR to a shorter one",
                 launch->home, launch->name);
        out[0] = '\0';
        return;
    }
    bool made = (mkdir(out, 0700) == 0 || errno == EEXIST) && (!launch->has_user || chown(out, launch->uid, launch->gid) == 0);
    if (made) return;
    log_warn("no NOTIFY_SOCKET for the workers: making %s: %s", out, strerror(errno));
    out[0] = '\0';
}

void notify_remove_directory(const char *directory) {
    DIR *open = directory[0] != '\0' ? opendir(directory) : NULL;
    for (struct dirent *entry; open != NULL && (entry = readdir(open)) != NULL;)
        if (entry->d_name[0] != '.') unlinkat(dirfd(open), entry->d_name, 0);
    if (open == NULL) return;
    closedir(open);
    rmdir(directory);
}

int notify_open_socket(const char *directory, int slot, const struct launch *launch) {
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    if (snprintf(at.sun_path, sizeof at.sun_path, "%s/%d", directory, slot) >= (int)sizeof at.sun_path) return -ENAMETOOLONG;
    scoped_fd fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -errno;
    unlink(at.sun_path);
    mode_t before = umask(0177);
    int r = bind(fd, (struct sockaddr *)&at, sizeof at) == 0 ? 0 : -errno;
    umask(before);
    if (r == 0 && launch->has_user && lchown(at.sun_path, launch->uid, launch->gid) != 0) r = -errno;
    return r == 0 ? fd_take(&fd) : r;
}

int notify_read(int fd) {
    char text[4096], *rest = text;
    char control[CMSG_SPACE(sizeof(int) * 253)];
    struct iovec iov = {text, sizeof text - 1};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t n = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0) return errno == EINTR ? 0 : -errno;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header != NULL; header = CMSG_NXTHDR(&message, header)) {
        // BARRIER=1 and FDSTORE=1 bring descriptors: closing them is the answer to the first, and all we offer the second.
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
        for (size_t at = 0; at + CMSG_LEN(0) + sizeof(int) <= header->cmsg_len; at += sizeof(int)) {
            int sent;
            memcpy(&sent, CMSG_DATA(header) + at, sizeof sent);
            close(sent);
        }
    }
    text[n] = '\0';
    bool ready = false;
    for (char *line; (line = strsep(&rest, "\n")) != NULL;)
        if (strcmp(line, "READY=1") == 0) ready = true;
    return ready;
}
