// SPDX-License-Identifier: MIT
#include "ending.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "fd.h"
#include "home.h"
#include "procinfo.h"
#include "str.h"

#define ENDING_POLL_NS (10 * CLOCK_MS)
#define ENDING_PATIENCE_NS (10 * CLOCK_S)
#define ENDING_RETRIES 20
#define ENDING_PING_S 5
#define ENDING_WORKERS_MAX 4096
#define ENDING_LINE_MAX 40

// A worker on record. The start time tells it from whoever got its pid later.
struct leftover {
    pid_t pid;
    uint64_t start_ticks;
};

struct leftovers {
    size_t count;
    struct leftover worker[ENDING_WORKERS_MAX];
};

static void ending_pause(void) { usleep(ENDING_POLL_NS / 1000); }

// ---- a live instance

// The keeper outlives its primary by a moment; the lock is free when both are gone.
static int ending_wait_lock(const struct client *client, const struct cli_verb *verb) {
    uint64_t deadline_ns = clock_now_ns() + ENDING_PATIENCE_NS;
    while (clock_now_ns() < deadline_ns) {
        pid_t holder = 0;
        scoped_fd lock = home_lock(client->home, client->name, &holder, NULL);
        if (lock >= 0) return CLI_OK;
        if (lock != -EWOULDBLOCK) return cli_complain(verb, CLI_FAILED, "lock of %s: %s", client->name, strerror(-lock));
        ending_pause();
    }
    return cli_complain(verb, CLI_FAILED, "the workers of %s have ended, but its lock is still held", client->name);
}

// Stopping twice is stopping: when a primary dies over the request, its successor is asked again.
int ending_live(struct client *client, const struct cli_verb *verb, bool now) {
    for (int tries = 0; tries < ENDING_RETRIES; tries++) {
        int code = CLI_OK;
        int err = client_send_take(client, json_pack("{s:s, s:b}", "verb", "stop", "now", now));
        json_t *answer = err ? NULL : client_receive(client);
        if (answer) {
            scoped_json *result = client_result_take(verb, answer, &code);
            if (!result) return code;
            while (client_receive(client)) continue;
            return ending_wait_lock(client, verb);
        }
        err = client_connect(client);
        if (err == -ECONNREFUSED || err == -ENOENT) return ending_wait_lock(client, verb);
        ending_pause();
    }
    return cli_complain(verb, CLI_FAILED, "the instance %s does not answer: `kill -9` its keeper, then stop it again", client->name);
}

bool ending_is_orphan(int home, const char *name) {
    scoped_client client = CLIENT_NONE;
    client.home = fcntl(home, F_DUPFD_CLOEXEC, 0);
    str_copy(client.name, sizeof client.name, name);
    if (client.home < 0 || client_connect(&client)) return false;
    client_set_patience(&client, ENDING_PING_S);
    if (client_send_take(&client, json_pack("{s:s}", "verb", "ping"))) return false;
    scoped_json *answer = client_receive(&client);
    return json_is_null(json_object_get(json_object_get(answer, "result"), "pid"));
}

// ---- what a killed instance left

static bool leftover_parse(char *line, struct leftover *out) {
    long pid, start;
    char *space = strchr(line, ' ');
    if (!space) return false;
    *space = '\0';
    if (str_parse_number(line, 2, INT32_MAX, &pid) || str_parse_number(space + 1, 0, LONG_MAX, &start)) return false;
    *out = (struct leftover){.pid = (pid_t)pid, .start_ticks = (uint64_t)start};
    return true;
}

static bool leftover_runs(const struct leftover *worker) {
    struct procinfo info;
    return procinfo_read(worker->pid, &info) == 0 && info.start_ticks == worker->start_ticks && info.state != 'Z' && info.state != 'X';
}

// Only those that still run.
static int leftovers_read(struct leftovers *out, int home, const char *file) {
    const size_t size = (size_t)ENDING_WORKERS_MAX * ENDING_LINE_MAX;
    scoped_str text = malloc(size);
    if (!text) return -ENOMEM;
    ssize_t got = fd_read_file_at(home, file, text, size);
    if (got < 0) return got == -ENOENT ? 0 : (int)got;
    char *rest = text;
    for (char *line = strsep(&rest, "\n"); line && out->count < ENDING_WORKERS_MAX; line = strsep(&rest, "\n")) {
        struct leftover *worker = &out->worker[out->count];
        if (leftover_parse(line, worker) && leftover_runs(worker)) out->count++;
    }
    return 0;
}

// A worker leads its process group. Whoever is stopped must run to hear it.
static void leftovers_signal(const struct leftovers *all, int signo) {
    for (size_t i = 0; i < all->count; i++) {
        if (!leftover_runs(&all->worker[i])) continue;
        kill(-all->worker[i].pid, signo);
        kill(-all->worker[i].pid, SIGCONT);
    }
}

// The rest of a group goes with its leader, at once: its number stays taken while a member lives.
static bool leftovers_wait(struct leftovers *all, uint64_t patience_ns) {
    uint64_t deadline_ns = clock_now_ns() + patience_ns;
    while (true) {
        size_t left = 0;
        for (size_t i = 0; i < all->count; i++) {
            if (leftover_runs(&all->worker[i]))
                all->worker[left++] = all->worker[i];
            else
                kill(-all->worker[i].pid, SIGKILL);
        }
        all->count = left;
        if (left == 0) return true;
        if (clock_now_ns() >= deadline_ns) return false;
        ending_pause();
    }
}

static void leftovers_remove_files(int home, const char *name) {
    static const char *const suffixes[] = {".pids", ".sock"};
    char file[LAUNCH_NAME_MAX + 16];
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) unlinkat(home, home_file(file, sizeof file, name, suffixes[i]), 0);
}

int ending_leftovers(int home, const char *name, bool now) {
    char file[LAUNCH_NAME_MAX + 16];
    struct leftovers *all = calloc(1, sizeof *all);
    if (!all) return -ENOMEM;
    int result = leftovers_read(all, home, home_file(file, sizeof file, name, ".pids"));
    if (result == 0) {
        result = (int)all->count;
        if (!now) leftovers_signal(all, SIGTERM);
        bool ended = !now && leftovers_wait(all, ENDING_PATIENCE_NS);
        if (!ended) leftovers_signal(all, SIGKILL);
        if (!ended && !leftovers_wait(all, ENDING_PATIENCE_NS)) result = -EBUSY;
    }
    free(all);
    if (result >= 0) leftovers_remove_files(home, name);
    return result;
}
