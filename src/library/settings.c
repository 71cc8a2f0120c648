// SPDX-License-Identifier: MIT
// What forks start: cumulative, copied, and turned into what the engine needs.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "buf.h"
#include "cluster.h"
#include "error.h"
#include "fd.h"

static void list_free(char **list) {
    for (char **at = list; at != NULL && *at != NULL; at++) free(*at);
    free(list);
}

static char **list_copy(char *const *list) {
    size_t count = 0;
    while (list[count] != NULL) count++;
    char **copy = calloc(count + 1, sizeof *copy);
    for (size_t i = 0; copy != NULL && i < count; i++) {
        if ((copy[i] = strdup(list[i])) != NULL) continue;
        list_free(copy);
        return NULL;
    }
    return copy;
}

// A program that was replaced on disk is started anew by the name it had.
static char *own_executable(const char *otherwise) {
    static const char deleted[] = " (deleted)";
    char path[4096];
    ssize_t len = readlink("/proc/self/exe", path, sizeof path - 1);
    if (len <= 0) return otherwise != NULL ? strdup(otherwise) : NULL;
    path[len] = '\0';
    size_t mark = sizeof deleted - 1;
    if ((size_t)len > mark && strcmp(path + len - mark, deleted) == 0) path[(size_t)len - mark] = '\0';
    return strdup(path);
}

static void show(struct settings *settings) {
    settings->now.exec = settings->exec;
    settings->now.cwd = settings->cwd;
    settings->now.args = settings->args;
}

void settings_init(struct settings *settings, int argc, char **argv) {
    static char *const none[] = {NULL};
    settings->exec = own_executable(argc > 0 ? argv[0] : NULL);
    settings->args = list_copy(argc > 1 ? argv + 1 : none);
    show(settings);
}

void settings_deinit(struct settings *settings) {
    free(settings->exec);
    free(settings->cwd);
    list_free(settings->args);
    *settings = (struct settings){0};
}

static int replace(char **to, const char *from) {
    char *copy = strdup(from);
    if (copy == NULL) return -ENOMEM;
    free(*to);
    *to = copy;
    return 0;
}

int settings_merge(struct settings *settings, const struct pando_settings *with) {
    int r = 0;
    char **args = with->args != NULL ? list_copy(with->args) : NULL;
    if (with->args != NULL && args == NULL) return -ENOMEM;
    if (args != NULL) {
        list_free(settings->args);
        settings->args = args;
    }
    if (with->exec != NULL) r = replace(&settings->exec, with->exec);
    if (r == 0 && with->cwd != NULL) r = replace(&settings->cwd, with->cwd);
    if (with->set_user) {
        settings->now.set_user = true;
        settings->now.uid = with->uid;
        settings->now.gid = with->gid;
    }
    if (with->silent) settings->now.silent = true;
    for (int i = 0; i < PANDO_STDIO_COUNT; i++)
        if (with->stdio[i].kind != PANDO_STDIO_DEFAULT) settings->now.stdio[i] = with->stdio[i];
    show(settings);
    return r;
}

// ---- to the engine

static char **command(const struct settings *settings) {
    size_t count = 0;
    while (settings->args[count] != NULL) count++;
    char **argv = calloc(count + 2, sizeof *argv);
    if (argv == NULL) return NULL;
    argv[0] = strdup(settings->exec);
    for (size_t i = 0; i < count; i++) argv[i + 1] = strdup(settings->args[i]);
    for (size_t i = 0; i <= count; i++) {
        if (argv[i] != NULL) continue;
        for (size_t k = 0; k <= count; k++) free(argv[k]);
        free(argv);
        return NULL;
    }
    return argv;
}

// The directory that a relative one is meant from is the program's at the time of the fork.
static char *directory(const struct settings *settings) {
    scoped_buf path = {0};
    char *here = getcwd(NULL, 0);
    if (settings->cwd == NULL || here == NULL) return here;
    if (settings->cwd[0] != '/') buf_printf(&path, "%s/", here);
    buf_puts(&path, settings->cwd);
    free(here);
    return path.failed ? NULL : strdup(path.data);
}

int settings_apply(const pando_cluster *cluster, struct launch *launch, struct pando_error *error) {
    const struct settings *settings = &cluster->settings;
    if (settings->exec == NULL || settings->args == NULL) return error_say(error, ENOENT, "start a worker: what? set exec in the settings");
    char **argv = command(settings);
    char *where = directory(settings);
    if (argv == NULL || where == NULL) {
        list_free(argv);
        free(where);
        return error_set(error, ENOMEM, "start a worker");
    }
    list_free(launch->argv);
    free(launch->directory);
    launch->argv = argv;
    launch->directory = where;
    launch->envp = environ;
    launch->has_user = settings->now.set_user;
    launch->uid = settings->now.uid;
    launch->gid = settings->now.gid;
    if (!settings->now.set_user) return 0;
    char name[32];
    snprintf(name, sizeof name, "%u", settings->now.uid);
    return replace(&launch->user, name) == 0 ? 0 : error_set(error, ENOMEM, "start a worker");
}

static enum pando_stdio_kind kind_of(const struct pando_settings *settings, int number) {
    enum pando_stdio_kind kind = settings->stdio[number].kind;
    bool output = number == STDOUT_FILENO || number == STDERR_FILENO;
    if (kind != PANDO_STDIO_DEFAULT) return kind;
    if (output && settings->silent) return PANDO_STDIO_PIPE;
    if (output && fcntl(number, F_GETFD) < 0) return PANDO_STDIO_NULL;  // the program has closed its own
    return output ? PANDO_STDIO_INHERIT : PANDO_STDIO_DEFAULT;
}

// A socket pair, as Node's: what is past 2 can be used both ways.
static int open_pipe(pando_cluster *cluster, int number, int *opened) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return -errno;
    fd_set_nonblock(ends[0], true);
    fd_close(&cluster->near[number]);
    cluster->near[number] = ends[0];
    *opened = ends[1];
    return 0;
}

static int open_one(pando_cluster *cluster, int number, int *opened) {
    const struct pando_settings *settings = &cluster->settings.now;
    int *given = &cluster->given.fd[number];
    switch (kind_of(settings, number)) {
        case PANDO_STDIO_DEFAULT: *given = -1; return 0;
        case PANDO_STDIO_INHERIT: *given = number; break;
        case PANDO_STDIO_FD: *given = settings->stdio[number].fd; break;
        case PANDO_STDIO_NULL: *given = *opened = open("/dev/null", O_RDWR | O_CLOEXEC); break;
        case PANDO_STDIO_PIPE: {
            int r = open_pipe(cluster, number, opened);
            *given = *opened;
            return r;
        }
    }
    return *given >= 0 && fcntl(*given, F_GETFD) >= 0 ? 0 : -EBADF;
}

int settings_open_stdio(pando_cluster *cluster, int opened[PANDO_STDIO_COUNT], struct pando_error *error) {
    int r = 0;
    for (int i = 0; i < PANDO_STDIO_COUNT; i++) opened[i] = -1;
    for (int i = 0; i < PANDO_STDIO_COUNT && r == 0; i++)
        if ((r = open_one(cluster, i, &opened[i])) != 0) error_set(error, -r, "start a worker: make its descriptor %d", i);
    return r;
}
