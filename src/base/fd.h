// SPDX-License-Identifier: MIT
// File descriptors: ownership by scope, and the few calls every Pando process needs.
// An `int fd` parameter is borrowed; only functions named *_take consume, on failure too.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

void fd_close(int *fd);        // closes and sets to -1; -1 is fine; keeps errno
int fd_take(int *fd);          // returns the fd and sets the variable to -1: ownership moves to the caller
#define scoped_fd __attribute__((cleanup(fd_close))) int

int fd_set_nonblock(int fd, bool on);  // 0 or -errno
int fd_set_cloexec(int fd, bool on);   // 0 or -errno

// Reads a whole small file into `out` (always NUL-terminated). Bytes read, or -errno; -EFBIG when it does not fit.
// `dirfd` as in openat(2). Suits /proc and /sys, whose files have no size.
ssize_t fd_read_file_at(int dirfd, const char *path, char *out, size_t size);
ssize_t fd_read_file(const char *path, char *out, size_t size);

// Writes all of it to a blocking descriptor, through EINTR and short writes. 0 or -errno.
int fd_write_all(int fd, const void *data, size_t len);

// A memfd with this content, sealed against any change. New fd (CLOEXEC) or -errno.
int fd_memfd_sealed(const char *name, const void *data, size_t len);
