// SPDX-License-Identifier: MIT
// pando-keeper as this program's child, with one end of a channel.
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cluster.h"
#include "error.h"
#include "fd.h"
#include "inherit.h"

enum { PATH_SIZE = 4096 };
static const char keeper_name[] = "pando-keeper";

static bool is_there(const char *path) { return access(path, X_OK) == 0; }

// Beside the file that has this code: libpando.so in lib or lib/TRIPLET, or a program that is linked statically.
static bool beside(char *out, size_t size) {
    static const char *const places[] = {"", "../bin/", "../../bin/", "../libexec/pando/", "../pando/"};
    Dl_info info;
    char *real = dladdr((void *)(uintptr_t)keeper_start, &info) != 0 && info.dli_fname != NULL ? realpath(info.dli_fname, NULL) : NULL;
    char *slash = real != NULL ? strrchr(real, '/') : NULL;
    bool found = false;
    for (size_t i = 0; slash != NULL && !found && i < sizeof places / sizeof *places; i++)
        found = snprintf(out, size, "%.*s/%s%s", (int)(slash - real), real, places[i], keeper_name) < (int)size && is_there(out);
    free(real);
    return found;
}

static bool in_path(char *out, size_t size) {
    for (const char *at = secure_getenv("PATH"); at != NULL && *at != '\0';) {
        int len = (int)strcspn(at, ":");
        if (len > 0 && snprintf(out, size, "%.*s/%s", len, at, keeper_name) < (int)size && is_there(out)) return true;
        at += len + (at[len] == ':');
    }
    return false;
}

static int find(const pando_cluster *cluster, char *out, size_t size, struct pando_error *error) {
    const char *named = cluster->keeper_path != NULL ? cluster->keeper_path : secure_getenv("PANDO_KEEPER");
    if (named != NULL) {
        if (snprintf(out, size, "%s", named) < (int)size && is_there(out)) return 0;
        return error_set(error, errno, "start the keeper %.200s", named);
    }
    if (beside(out, size) || (snprintf(out, size, "%s/%s", PANDO_BINDIR, keeper_name) < (int)size && is_there(out)) || in_path(out, size))
        return 0;
    return error_say(
        error, ENOENT,
        "start the cluster: %s is neither beside libpando, nor in %s, nor in PATH: install it there, or name it by PANDO_KEEPER",
        keeper_name, PANDO_BINDIR);
}

// A session of its own: the terminal's signals are for the program.
static int spawn_it(pando_cluster *cluster, char *path, int far) {
    char embedded[] = INHERIT_EMBEDDED_VERB, surviving[] = INHERIT_SURVIVING_VERB, name[] = "cluster";
    char *argv[] = {(char *)(uintptr_t)keeper_name, cluster->options.survive ? surviving : embedded, name, NULL};
    uv_stdio_container_t files[INHERIT_CHANNEL + 1] = {[STDIN_FILENO] = {.flags = UV_IGNORE}, [STDOUT_FILENO] = {.flags = UV_IGNORE}};
    files[STDERR_FILENO] = (uv_stdio_container_t){.flags = UV_INHERIT_FD, .data.fd = STDERR_FILENO};
    files[INHERIT_CHANNEL] = (uv_stdio_container_t){.flags = UV_INHERIT_FD, .data.fd = far};
    uv_process_options_t options = {
        .file = path, .args = argv, .flags = UV_PROCESS_DETACHED, .stdio_count = INHERIT_CHANNEL + 1, .stdio = files};
    if (fcntl(STDERR_FILENO, F_GETFD) < 0) files[STDERR_FILENO].flags = UV_IGNORE;
    int r = uv_spawn(cluster->primary.loop, &cluster->keeper, &options);
    uv_unref((uv_handle_t *)&cluster->keeper);
    return r;
}

int keeper_start(pando_cluster *cluster, struct pando_error *error) {
    char path[PATH_SIZE];
    int pair[2];
    int r = find(cluster, path, sizeof path, error);
    if (r != 0) return r;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0)
        return error_set(error, errno, "start the keeper: make its channel");
    scoped_fd far = pair[1];
    cluster->primary.link.fd = pair[0];
    cluster->keeper_used = true;
    r = spawn_it(cluster, path, far);
    if (r != 0) return error_set(error, -r, "start the keeper %.300s", path);
    fd_close(&far);
    cluster->primary.keeper = cluster->keeper.pid;
    r = link_hello(&cluster->primary.link);
    return r == 0 ? 0 : error_set(error, -r, "talk to the keeper %.300s", path);
}
