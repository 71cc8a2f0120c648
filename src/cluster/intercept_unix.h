// SPDX-License-Identifier: MIT
// Unix sockets. A path is bound in the worker itself (its rights, directory and umask); the copies share what the first
// one bound. As many programs remove the path before they bind, a second name (".NAME.pando" beside it) keeps it for them.
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "record.h"

// The key for what process `tgid` binds, relative paths made absolute. 0, or -EINVAL when it cannot be shared (chroot, too long).
int intercept_unix_key(struct record_address *out, const struct sockaddr *any, socklen_t len, int type, pid_t tgid);
// Removes a socket file on which nobody listens, with the rights of `uid`. True when the path is free or was never there.
bool intercept_unix_clear_stale(const struct record_address *address, uid_t uid);
// Keeps a second name for the path; puts the path back from it when somebody removed it; removes it. As `uid`.
void intercept_unix_keep(const struct record_address *address, uid_t uid);
bool intercept_unix_is_there(const struct record_address *address);  // an abstract name always is
void intercept_unix_restore(const struct record_address *address, uid_t uid);
void intercept_unix_release(const struct record_address *address, uid_t uid);
