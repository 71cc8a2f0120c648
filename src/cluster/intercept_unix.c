// SPDX-License-Identifier: MIT
#include "intercept_unix.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "address.h"
#include "fd.h"

static bool is_path(const struct record_address *address) { return address->at.un.sun_path[0] != '\0'; }

static bool has_own_root(pid_t tgid) {
    char link[64], root[8];
    snprintf(link, sizeof link, "/proc/%d/root", (int)tgid);
    ssize_t n = readlink(link, root, sizeof root);
    return n != 1 || root[0] != '/';
}

static int absolute_path(char *out, size_t size, const char *path, pid_t tgid) {
    char link[64], directory[PATH_MAX];
    snprintf(link, sizeof link, "/proc/%d/cwd", (int)tgid);
    ssize_t n = readlink(link, directory, sizeof directory - 1);
    if (n <= 0) return -EINVAL;
    directory[n] = '\0';
    return snprintf(out, size, "%s/%s", directory, path) < (int)size ? 0 : -EINVAL;
}

int intercept_unix_key(struct record_address *out, const struct sockaddr *any, socklen_t len, int type, pid_t tgid) {
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    size_t path_len = len - offsetof(struct sockaddr_un, sun_path);
    if (len <= offsetof(struct sockaddr_un, sun_path) || path_len > sizeof at.sun_path) return -EINVAL;
    const char *given = ((const struct sockaddr_un *)any)->sun_path;
    if (given[0] == '\0') return address_from(out, any, len, type, false);
    char path[sizeof at.sun_path + 1] = {0};
    memcpy(path, given, path_len);
    if (has_own_root(tgid) || strncmp(path, "/proc/", 6) == 0) return -EINVAL;  // there a path means another thing to each process
    if (path[0] == '/')
        memcpy(at.sun_path, path, sizeof at.sun_path);
    else if (absolute_path(at.sun_path, sizeof at.sun_path, path, tgid) != 0)
        return -EINVAL;
    return address_from(out, (struct sockaddr *)&at, sizeof at, type, false);
}

static bool somebody_listens(const struct record_address *address) {
    scoped_fd probe = socket(AF_UNIX, address->type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (probe < 0) return true;
    return connect(probe, &address->at.any, address->len) == 0 || errno != ECONNREFUSED;
}

bool intercept_unix_clear_stale(const struct record_address *address, uid_t uid) {
    struct stat info;
    if (!is_path(address) || lstat(address->at.un.sun_path, &info) != 0) return true;
    if (!S_ISSOCK(info.st_mode) || somebody_listens(address)) return false;
    int before = setfsuid(uid);
    bool removed = unlink(address->at.un.sun_path) == 0;
    setfsuid((uid_t)before);
    return removed;
}

static bool second_name(const struct record_address *address, char *out, size_t size) {
    const char *path = address->at.un.sun_path;
    const char *slash = strrchr(path, '/');
    if (!is_path(address) || slash == NULL) return false;
    return snprintf(out, size, "%.*s/.%s.pando", (int)(slash - path), path, slash + 1) < (int)size;
}

void intercept_unix_keep(const struct record_address *address, uid_t uid) {
    char second[PATH_MAX];
    if (!second_name(address, second, sizeof second)) return;
    int before = setfsuid(uid);
    unlink(second);
    link(address->at.un.sun_path, second);
    setfsuid((uid_t)before);
}

void intercept_unix_restore(const struct record_address *address, uid_t uid) {
    char second[PATH_MAX];
    if (!second_name(address, second, sizeof second)) return;
    int before = setfsuid(uid);
    link(second, address->at.un.sun_path);  // fails with EEXIST where it is still there
    setfsuid((uid_t)before);
}

bool intercept_unix_is_there(const struct record_address *address) {
    struct stat info;
    return !is_path(address) || lstat(address->at.un.sun_path, &info) == 0 || errno != ENOENT;
}

void intercept_unix_release(const struct record_address *address, uid_t uid) {
    char second[PATH_MAX];
    if (!second_name(address, second, sizeof second)) return;
    int before = setfsuid(uid);
    unlink(second);
    setfsuid((uid_t)before);
}
