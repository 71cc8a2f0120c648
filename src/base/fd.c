// SPDX-License-Identifier: MIT
#include "fd.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

void fd_close(int *fd) {
    int saved = errno;
    if (*fd >= 0) close(*fd);
    *fd = -1;
    errno = saved;
}

int fd_take(int *fd) {
    int taken = *fd;
    *fd = -1;
    return taken;
}

static int fd_set_flag(int fd, int get, int set, int flag, bool on) {
    int flags = fcntl(fd, get);
    if (flags < 0) return -errno;
    int wanted = on ? flags | flag : flags & ~flag;
    return wanted == flags || fcntl(fd, set, wanted) == 0 ? 0 : -errno;
}

int fd_set_nonblock(int fd, bool on) { return fd_set_flag(fd, F_GETFL, F_SETFL, O_NONBLOCK, on); }

int fd_set_cloexec(int fd, bool on) { return fd_set_flag(fd, F_GETFD, F_SETFD, FD_CLOEXEC, on); }

static ssize_t fd_read_retry(int fd, void *out, size_t size) {
    ssize_t got;
    do got = read(fd, out, size);
    while (got < 0 && errno == EINTR);
    return got < 0 ? -errno : got;
}

ssize_t fd_read_file_at(int dirfd, const char *path, char *out, size_t size) {
    assert(size > 0);
    out[0] = '\0';
    scoped_fd fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return -errno;
    size_t len = 0;
    ssize_t got;
    while ((got = fd_read_retry(fd, out + len, size - len)) > 0) {
        len += (size_t)got;
        if (len == size) break;
    }
    out[len < size ? len : size - 1] = '\0';
    if (got < 0) return got;
    return len < size ? (ssize_t)len : -EFBIG;
}

ssize_t fd_read_file(const char *path, char *out, size_t size) { return fd_read_file_at(AT_FDCWD, path, out, size); }

int fd_write_all(int fd, const void *data, size_t len) {
    const char *rest = data;
    while (len > 0) {
        ssize_t written = write(fd, rest, len);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return -errno;
        rest += written;
        len -= (size_t)written;
    }
    return 0;
}

// Where vm.memfd_noexec is 2 a memfd must say that it is no program; kernels before 6.3 do not know the flag.
static int fd_memfd_create(const char *name) {
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL) fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    return fd < 0 ? -errno : fd;
}

int fd_memfd_sealed(const char *name, const void *data, size_t len) {
    scoped_fd fd = fd_memfd_create(name);
    if (fd < 0) return fd;
    int err = fd_write_all(fd, data, len);
    if (err) return err;
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)) return -errno;
    return fd_take(&fd);
}
