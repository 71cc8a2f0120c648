// SPDX-License-Identifier: MIT
#include "detach.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "buf.h"
#include "client.h"
#include "fd.h"
#include "inherit.h"
#include "str.h"

#define DETACH_TEXT_MAX 16384
#define DETACH_TAIL_SIZE 2048
#define DETACH_REST_MS 2000  // for the text behind the first byte

static const char *detach_user_home(void) {
    const char *home = getenv("HOME");
    if (home && *home == '/') return home;
    const struct passwd *account = getpwuid(geteuid());
    return account ? account->pw_dir : "/";
}

static char *detach_default_log(const struct launch *launch) {
    scoped_buf path = {0};
    const char *state = getenv("XDG_STATE_HOME");
    if (geteuid() == 0)
        buf_puts(&path, "/var/log");
    else if (state && *state == '/')
        buf_puts(&path, state);
    else
        buf_printf(&path, "%s/.local/state", detach_user_home());
    buf_printf(&path, "/pando/%s.log", launch->name);
    return path.failed ? NULL : strdup(path.data);
}

// All folders above the file.
static int detach_make_folders(const char *file) {
    scoped_str path = strdup(file);
    if (!path) return -ENOMEM;
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(path, 0755) && errno != EEXIST) return -errno;
        *slash = '/';
    }
    return 0;
}

int detach_open_log(struct launch *launch, const struct cli_verb *verb) {
    int err = 0;
    if (!launch->log_file) {
        launch->log_file = detach_default_log(launch);
        err = launch->log_file ? detach_make_folders(launch->log_file) : -ENOMEM;
    }
    scoped_fd fd = err ? -1 : open(launch->log_file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0640);
    if (fd < 0 && !err) err = -errno;
    if (!err) return fd_take(&fd);
    cli_complain(verb, CLI_FAILED, "log file %s: %s (--log-file PATH names another one)", launch->log_file ? launch->log_file : "",
                 strerror(-err));
    return err;
}

int detach_enter(int log) {
    scoped_fd null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (setsid() < 0 || null < 0) return -errno;
    if (dup2(null, STDIN_FILENO) < 0 || dup2(log, STDOUT_FILENO) < 0 || dup2(log, STDERR_FILENO) < 0) return -errno;
    return 0;
}

static void detach_read(int ready, struct buf *out) {
    char bytes[1024];
    int patience_ms = -1;
    while (out->len < DETACH_TEXT_MAX) {
        struct pollfd wait = {.fd = ready, .events = POLLIN};
        int polled = poll(&wait, 1, patience_ms);
        if (polled < 0 && errno == EINTR) continue;
        ssize_t got = polled > 0 ? read(ready, bytes, sizeof bytes) : 0;
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return;
        buf_append(out, bytes, (size_t)got);
        patience_ms = DETACH_REST_MS;
    }
}

// The first line may say which exit code this failure has: "exit=127\n".
static int detach_failed(char *text) {
    long code = CLI_FAILED;
    char *end = strchr(text, '\n');
    if (strncmp(text, "exit=", 5) == 0 && end) {
        *end = '\0';
        if (str_parse_number(text + 5, 1, 255, &code)) code = CLI_FAILED;
        text = end + 1;
    }
    fputs(text, stderr);
    if (*text && text[strlen(text) - 1] != '\n') fputc('\n', stderr);
    return (int)code;
}

// What was written to the log since we opened it is the best there is to say.
static int detach_vanished(const struct launch *launch, const struct cli_verb *verb, int log) {
    char tail[DETACH_TAIL_SIZE + 1] = "";
    off_t start = lseek(log, 0, SEEK_CUR);
    scoped_fd reader = open(launch->log_file, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    off_t end = reader < 0 ? 0 : lseek(reader, 0, SEEK_END);
    if (end - start > DETACH_TAIL_SIZE) start = end - DETACH_TAIL_SIZE;
    ssize_t got = end > start ? pread(reader, tail, DETACH_TAIL_SIZE, start) : 0;
    cli_complain(verb, CLI_FAILED, "it ended before it was ready; log %s", launch->log_file);
    if (got > 0) fwrite(tail, 1, (size_t)got, stderr);
    return CLI_FAILED;
}

// Up can mean that some workers are, and that the others were waited for long enough.
static void detach_print_up(const struct launch *launch, int home) {
    scoped_client client = CLIENT_NONE;
    client.home = fcntl(home, F_DUPFD_CLOEXEC, 0);
    str_copy(client.name, sizeof client.name, launch->name);
    long ready = 0, wanted = 0;
    if (client.home >= 0 && client_connect(&client) == 0) {
        client_set_patience(&client, DETACH_REST_MS / 1000);
        scoped_json *answer = client_send_take(&client, json_pack("{s:s}", "verb", "status")) == 0 ? client_receive(&client) : NULL;
        const json_t *status = json_object_get(answer, "result");
        ready = (long)json_integer_value(json_object_get(status, "ready"));
        wanted = (long)json_integer_value(json_object_get(status, "wanted"));
    }
    if (wanted == 0)
        printf("pando: %s: ready, log %s\n", launch->name, launch->log_file);
    else if (ready == wanted)
        printf("pando: %s: %ld workers ready, log %s\n", launch->name, ready, launch->log_file);
    else
        printf("pando: %s: %ld of %ld workers ready, log %s\n", launch->name, ready, wanted, launch->log_file);
}

int detach_wait(const struct launch *launch, const struct cli_verb *verb, int ready, int log, int home) {
    scoped_buf word = {0};
    detach_read(ready, &word);
    if (word.len == 0) return detach_vanished(launch, verb, log);
    if (word.data[0] != INHERIT_READY_UP) return detach_failed(word.data + 1);
    detach_print_up(launch, home);
    return CLI_OK;
}
