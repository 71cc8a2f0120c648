// SPDX-License-Identifier: MIT
#include "environment.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inherit.h"

// Meant for the process that got them: a worker that read them would talk to our supervisor, or take itself for an upgrade.
static const char *const stripped[] = {
    "NOTIFY_SOCKET", "LISTEN_PID",     "LISTEN_FDS",   "LISTEN_FDNAMES", "WATCHDOG_USEC", "WATCHDOG_PID", "FDSTORE",
    "GUNICORN_FD",   "GUNICORN_PID",   "UNICORN_FD",   "UPSTART_FDS",    "NGINX",         "NODE_UNIQUE_ID",
    "NODE_CHANNEL_FD", "NODE_CHANNEL_SERIALIZATION_MODE", "PHP_CLI_SERVER_WORKERS",
    "PANDO_WORKER",  "PANDO_WORKERS",  "PANDO_GENERATION", "NODE_APP_INSTANCE", "PANDO_DEBUG_REFUSE", INHERIT_WORKER_CHANNEL, "PANDO_WORKER_ID",
};

enum { ADDED_MAX = 14, ENTRY_SIZE = 256 };

static bool names(const char *entry, const char *name) {
    size_t len = strlen(name);
    return strncmp(entry, name, len) == 0 && entry[len] == '=';
}

static bool is_stripped(const char *entry) {
    for (size_t i = 0; i < sizeof stripped / sizeof *stripped; i++)
        if (names(entry, stripped[i])) return true;
    return false;
}

const char *environment_get(char *const *envp, const char *name) {
    for (; *envp != NULL; envp++)
        if (names(*envp, name)) return strchr(*envp, '=') + 1;
    return NULL;
}

struct building {
    char **envp;
    size_t len;
    bool failed;
};

static void add(struct building *to, const char *entry) {
    char *copy = strdup(entry);
    if (copy == NULL) to->failed = true;
    to->envp[to->len] = copy;
    if (copy != NULL) to->len++;
}

static void add_number(struct building *to, const char *name, long value) {
    char entry[ENTRY_SIZE];
    snprintf(entry, sizeof entry, "%s=%ld", name, value);
    add(to, entry);
}

static void add_unless_set(struct building *to, const char *name, long value) {
    if (environment_get(to->envp, name) == NULL) add_number(to, name, value);
}

static bool is_replaced(const char *entry, char *const *on_top) {
    size_t len = strcspn(entry, "=");
    for (; on_top != NULL && *on_top != NULL; on_top++)
        if (strncmp(*on_top, entry, len) == 0 && ((*on_top)[len] == '=' || (*on_top)[len] == '\0')) return true;
    return false;
}

static size_t count_entries(char *const *envp) {
    size_t count = 0;
    while (envp != NULL && envp[count] != NULL) count++;
    return count;
}

static void add_channel(struct building *to, const struct environment *with) {
    switch (with->channel) {
        case LAUNCH_CHANNEL_NODE:
            add_number(to, "NODE_CHANNEL_FD", with->channel_fd);
            add(to, "NODE_CHANNEL_SERIALIZATION_MODE=json");
            if (with->node_id != 0) add_number(to, "NODE_UNIQUE_ID", (long)with->node_id);
            break;
        case LAUNCH_CHANNEL_PANDO: {
            char entry[ENTRY_SIZE];
            snprintf(entry, sizeof entry, INHERIT_WORKER_CHANNEL "=%d:%llu", with->channel_fd, (unsigned long long)with->channel_inode);
            add(to, entry);
            break;
        }
        case LAUNCH_CHANNEL_NONE:
        case LAUNCH_CHANNEL_AUTO:
        case LAUNCH_CHANNEL_COUNT: break;
    }
}

char **environment_build(char *const *base, const struct environment *with) {
    struct building to = {.envp = calloc(count_entries(base) + count_entries(with->on_top) + ADDED_MAX, sizeof(char *))};
    if (to.envp == NULL) return NULL;
    for (char *const *at = base; *at != NULL; at++)
        if (!is_stripped(*at) && !is_replaced(*at, with->on_top)) add(&to, *at);
    for (char *const *at = with->on_top; at != NULL && *at != NULL; at++)
        if (!is_stripped(*at)) add(&to, *at);
    add_number(&to, "PANDO_WORKER", with->slot);
    add_number(&to, "PANDO_WORKERS", with->workers);
    add_number(&to, "PANDO_GENERATION", with->generation);
    add_number(&to, "NODE_APP_INSTANCE", with->slot);
    add_unless_set(&to, "WEB_CONCURRENCY", 1);
    add_unless_set(&to, "PYTHONUNBUFFERED", 1);
    add_unless_set(&to, "GOMAXPROCS", with->cpus_per_worker);
    if (with->id > 0) add_number(&to, "PANDO_WORKER_ID", (long)with->id);
    add_channel(&to, with);
    if (with->notify_socket != NULL) {
        char entry[ENTRY_SIZE];
        snprintf(entry, sizeof entry, "NOTIFY_SOCKET=%s", with->notify_socket);
        add(&to, entry);
    }
    if (!to.failed) return to.envp;
    environment_free(to.envp);
    return NULL;
}

void environment_free(char **envp) {
    for (char **at = envp; at != NULL && *at != NULL; at++) free(*at);
    free(envp);
}
