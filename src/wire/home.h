// SPDX-License-Identifier: MIT
// The run-time folder: where an instance's control socket, lock and notify sockets live, and how another process finds them.
//
//   $PANDO_DIR, else /run/pando as root, else $XDG_RUNTIME_DIR/pando, else /tmp/pando-UID (its owner is checked). Mode 0711.
//   NAME.sock    control socket, 0600        NAME.lock   flock'ed by keeper and primary; holds the keeper's pid
//   NAME.pids    "PID STARTTIME" a line: the workers, for whoever comes after a SIGKILL of keeper and primary
//   NAME.notify/ the workers' NOTIFY_SOCKETs
#pragma once

#include <stddef.h>
#include <sys/types.h>

#include "error.h"

#define HOME_PATH_MAX 3072

// The folder's path into `out`; does not touch the file system. 0 or -errno.
int home_path(char *out, size_t size, struct pando_error *error);
// The same, created if missing, owner and mode checked. Returns an O_PATH|O_DIRECTORY fd or -errno.
int home_open(const char *path, struct pando_error *error);

// "NAME.sock" and the like in `out`. Returns `out`.
const char *home_file(char *out, size_t size, const char *name, const char *suffix);

// A unix stream socket for NAME.sock in the folder, through /proc/self/fd so that long paths fit.
// Listening (mode 0600, CLOEXEC, non-blocking), an old socket file replaced: the caller holds the lock. Fd or -errno.
int home_listen(int dirfd, const char *name, struct pando_error *error);
// Connected (blocking, CLOEXEC). -ECONNREFUSED or -ENOENT: nobody there.
int home_connect(int dirfd, const char *name);

// Takes NAME.lock without waiting. Fd, or -EWOULDBLOCK with the holder's pid in `out_pid` (0 if unknown), or other -errno.
int home_lock(int dirfd, const char *name, pid_t *out_pid, struct pando_error *error);
int home_lock_write_pid(int lock, pid_t pid);

// Names of all instances with a control socket there, sorted; *out_names is a NULL-terminated heap array. Count or -errno.
int home_list(int dirfd, char ***out_names);
void home_list_free(char **names);
