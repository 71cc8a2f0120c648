// SPDX-License-Identifier: MIT
#include "home.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "fd.h"
#include "launch.h"
#include "str.h"

#define HOME_BACKLOG SOMAXCONN
#define HOME_LOCK_TRIES 10
#define HOME_MODE 0711
#define HOME_SOCKET_SUFFIX ".sock"

static const char *home_env(const char *name) {
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

static int home_from_env(char *out, size_t size, const char *chosen, struct pando_error *error) {
    scoped_str cwd = NULL;
    if (*chosen != '/' && !(cwd = getcwd(NULL, 0))) return error_set(error, errno, "PANDO_DIR=%s: the current directory", chosen);
    int len = snprintf(out, size, "%s%s%s", cwd ? cwd : "", cwd ? "/" : "", chosen);
    return len < 0 || (size_t)len >= size ? error_set(error, ENAMETOOLONG, "PANDO_DIR=%.100s...", chosen) : 0;
}

int home_path(char *out, size_t size, struct pando_error *error) {
    const char *chosen = home_env("PANDO_DIR");
    const char *runtime = home_env("XDG_RUNTIME_DIR");
    if (chosen) return home_from_env(out, size, chosen, error);
    int len;
    if (geteuid() == 0)
        len = snprintf(out, size, "/run/pando");
    else if (runtime && *runtime == '/')
        len = snprintf(out, size, "%s/pando", runtime);
    else
        len = snprintf(out, size, "/tmp/pando-%u", geteuid());
    return len < 0 || (size_t)len >= size ? error_set(error, ENAMETOOLONG, "XDG_RUNTIME_DIR=%.100s...", runtime) : 0;
}

// The folder's mode is ours to say: workers of another user reach their notify sockets through it, whatever our umask.
static int home_make(const char *path, struct pando_error *error) {
    if (mkdir(path, HOME_MODE)) {
        if (errno == EEXIST) return 0;
        return error_set(error, errno, "make the folder %s (PANDO_DIR names another one)", path);
    }
    scoped_fd fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fchmod(fd, HOME_MODE)) return error_set(error, errno, "set the mode of the folder %s", path);
    return 0;
}

// Anyone may have made a folder in /tmp before us. Root may look into the folder of any user.
static int home_check(int fd, const char *path, struct pando_error *error) {
    struct stat info;
    if (fstat(fd, &info)) return error_set(error, errno, "look at the folder %s", path);
    if (info.st_uid != geteuid() && geteuid() != 0)
        return error_say(error, EPERM, "the folder %s belongs to user %u, not to you (PANDO_DIR names another one)", path, info.st_uid);
    if (info.st_mode & (S_IWGRP | S_IWOTH))
        return error_say(error, EPERM, "others may write to the folder %s: chmod 0711 it, or name another one by PANDO_DIR", path);
    return 0;
}

int home_open(const char *path, struct pando_error *error) {
    int err = home_make(path, error);
    if (err) return err;
    scoped_fd fd = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) return error_set(error, errno, "open the folder %s (PANDO_DIR names another one)", path);
    err = home_check(fd, path, error);
    return err ? err : fd_take(&fd);
}

const char *home_file(char *out, size_t size, const char *name, const char *suffix) {
    snprintf(out, size, "%s%s", name, suffix);
    return out;
}

static void home_address(struct sockaddr_un *out, int dirfd, const char *name) {
    assert(launch_name_valid(name));
    *out = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(out->sun_path, sizeof out->sun_path, "/proc/self/fd/%d/%s%s", dirfd, name, HOME_SOCKET_SUFFIX);
}

// The mode that a socket has before bind(2) is the one its file gets: nobody can connect in between.
int home_listen(int dirfd, const char *name, struct pando_error *error) {
    struct sockaddr_un address;
    home_address(&address, dirfd, name);
    const char *file = strrchr(address.sun_path, '/') + 1;
    scoped_fd fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return error_set(error, errno, "open the control socket");
    if (fchmod(fd, 0600)) return error_set(error, errno, "set the mode of the control socket");
    if (unlinkat(dirfd, file, 0) && errno != ENOENT) return error_set(error, errno, "remove the old control socket %s", file);
    if (bind(fd, (struct sockaddr *)&address, sizeof address)) return error_set(error, errno, "bind the control socket %s", file);
    if (listen(fd, HOME_BACKLOG)) return error_set(error, errno, "listen on the control socket %s", file);
    return fd_take(&fd);
}

int home_connect(int dirfd, const char *name) {
    struct sockaddr_un address;
    home_address(&address, dirfd, name);
    scoped_fd fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    if (connect(fd, (struct sockaddr *)&address, sizeof address)) return -errno;
    return fd_take(&fd);
}

static pid_t home_lock_pid(int lock) {
    char text[32] = "";
    long pid = 0;
    if (pread(lock, text, sizeof text - 1, 0) < 0) return 0;
    text[strcspn(text, "\n")] = '\0';
    return str_parse_number(text, 1, INT32_MAX, &pid) ? 0 : (pid_t)pid;
}

// False when the file was removed between our open and our flock: then the lock guards nothing.
static bool home_lock_is_current(int lock, int dirfd, const char *file) {
    struct stat ours, current;
    return fstat(lock, &ours) == 0 && fstatat(dirfd, file, &current, AT_SYMLINK_NOFOLLOW) == 0 && ours.st_ino == current.st_ino &&
           ours.st_dev == current.st_dev;
}

int home_lock(int dirfd, const char *name, pid_t *out_pid, struct pando_error *error) {
    char file[LAUNCH_NAME_MAX + 8];
    home_file(file, sizeof file, name, ".lock");
    for (int tries = 0; tries < HOME_LOCK_TRIES; tries++) {
        scoped_fd lock = openat(dirfd, file, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (lock < 0) return error_set(error, errno, "open the lock file %s", file);
        if (flock(lock, LOCK_EX | LOCK_NB)) {
            int err = errno;
            if (err == EWOULDBLOCK) *out_pid = home_lock_pid(lock);
            return error_set(error, err, "lock %s", file);
        }
        if (home_lock_is_current(lock, dirfd, file)) return fd_take(&lock);
    }
    return error_say(error, EAGAIN, "lock %s: somebody keeps removing it", file);
}

// Shortened last, so that no reader finds an empty file.
int home_lock_write_pid(int lock, pid_t pid) {
    char text[32];
    int len = snprintf(text, sizeof text, "%d\n", pid);
    if (pwrite(lock, text, (size_t)len, 0) < 0 || ftruncate(lock, len)) return -errno;
    return 0;
}

// The instance that a directory entry stands for, as a new string; NULL for any other file.
static char *home_entry_name(const struct dirent *entry) {
    size_t len = strlen(entry->d_name);
    size_t suffix = strlen(HOME_SOCKET_SUFFIX);
    if (len <= suffix || strcmp(entry->d_name + len - suffix, HOME_SOCKET_SUFFIX) != 0) return NULL;
    if (entry->d_type != DT_SOCK && entry->d_type != DT_UNKNOWN) return NULL;
    char *name = strndup(entry->d_name, len - suffix);
    if (name && !launch_name_valid(name)) str_free(&name);
    return name;
}

static int home_compare(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static int home_read_names(DIR *dir, char ***names, size_t *count) {
    struct dirent *entry;
    while ((entry = readdir(dir))) {
        char *name = home_entry_name(entry);
        if (!name) continue;
        char **more = reallocarray(*names, *count + 2, sizeof **names);
        if (!more) return free(name), -ENOMEM;
        *names = more;
        more[(*count)++] = name;
        more[*count] = NULL;
    }
    return 0;
}

int home_list(int dirfd, char ***out_names) {
    int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) return fd_close(&fd), -errno;
    size_t count = 0;
    char **names = calloc(1, sizeof *names);
    int err = names ? home_read_names(dir, &names, &count) : -ENOMEM;
    closedir(dir);
    if (err) return home_list_free(names), err;
    qsort(names, count, sizeof *names, home_compare);
    *out_names = names;
    return (int)count;
}

void home_list_free(char **names) {
    for (char **name = names; name && *name; name++) free(*name);
    free(names);
}
