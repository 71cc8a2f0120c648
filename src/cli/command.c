// SPDX-License-Identifier: MIT
#include "command.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define COMMAND_DEFAULT_PATH "/bin:/usr/bin"  // what execvp(3) takes without PATH

// 0 with the path, or the errno that execve(2) would give. The permissions of another user (`-u`) are for the kernel to judge.
static int command_try(const struct launch *launch, const char *folder, size_t folder_len, const char *command, struct buf *path) {
    struct stat info;
    bool is_absolute = folder_len > 0 ? folder[0] == '/' : command[0] == '/';
    buf_consume(path, path->len);
    if (!is_absolute) buf_printf(path, "%s/", launch->directory);
    if (folder_len > 0) buf_printf(path, "%.*s/", (int)folder_len, folder);
    buf_puts(path, command);
    if (path->failed) return ENOMEM;
    if (stat(path->data, &info)) return errno;
    if (S_ISDIR(info.st_mode)) return EISDIR;
    if (!S_ISREG(info.st_mode) || !(info.st_mode & (S_IXUSR | S_IXGRP | S_IXOTH))) return EACCES;
    return launch->has_user || faccessat(AT_FDCWD, path->data, X_OK, AT_EACCESS) == 0 ? 0 : errno;
}

static const char *command_path(const struct launch *launch) {
    for (char **entry = launch->envp; *entry; entry++)
        if (strncmp(*entry, "PATH=", 5) == 0) return *entry + 5;
    return COMMAND_DEFAULT_PATH;
}

// As a shell does it: go on behind a candidate that cannot be run, but remember why it could not.
static int command_search(const struct launch *launch, const char *command, struct buf *path) {
    int reason = ENOENT;
    const char *folder = command_path(launch);
    while (true) {
        size_t len = strcspn(folder, ":");
        int err = command_try(launch, folder, len, command, path);
        if (err == 0) return 0;
        if (err == EACCES) reason = err;
        if (folder[len] == '\0') return reason;
        folder += len + 1;
    }
}

int command_find(const struct cli_verb *verb, const struct launch *launch, struct buf *out_path) {
    const char *command = launch->argv[0];
    bool has_slash = strchr(command, '/') != NULL;
    int err = has_slash ? command_try(launch, "", 0, command, out_path) : command_search(launch, command, out_path);
    switch (err) {
        case 0: return CLI_OK;
        case ENOENT:
        case ENOTDIR:
            if (has_slash) return cli_complain(verb, CLI_NOT_FOUND, "%s: not found (seen from %s)", command, launch->directory);
            return cli_complain(verb, CLI_NOT_FOUND, "%s: not found in PATH=%s", command, command_path(launch));
        case EISDIR: return cli_complain(verb, CLI_NOT_EXECUTABLE, "%s: is a directory, not a program", command);
        case EACCES: return cli_complain(verb, CLI_NOT_EXECUTABLE, "%s: permission denied: is it executable (chmod +x)?", command);
        default: return cli_complain(verb, CLI_NOT_EXECUTABLE, "%s: %s", command, strerror(err));
    }
}

int command_check(const struct cli_verb *verb, const struct launch *launch) {
    scoped_buf path = {0};
    return command_find(verb, launch, &path);
}
