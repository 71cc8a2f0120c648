// SPDX-License-Identifier: MIT
#include "client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "fd.h"
#include "home.h"
#include "str.h"

#define CLIENT_ANSWER_MAX (64U << 20)
#define CLIENT_READ_SIZE 65536
#define AGAIN_TRIES 50
#define AGAIN_PAUSE_US 20000

void client_deinit(struct client *client) {
    fd_close(&client->fd);
    fd_close(&client->home);
    buf_deinit(&client->input);
}

void client_json_free(json_t **value) { json_decref(*value); }

int client_open_home(const struct cli_verb *verb) {
    char path[HOME_PATH_MAX];
    struct pando_error error;
    int home = home_path(path, sizeof path, &error);
    if (home == 0) {
        if (access(path, F_OK) && errno == ENOENT) return -ENOENT;
        home = home_open(path, &error);
    }
    if (home < 0) cli_complain(verb, CLI_FAILED, "%s", error.text);
    return home;
}

static bool client_is_live(int home, const char *name) {
    scoped_fd fd = home_connect(home, name);
    return fd >= 0 || (fd != -ECONNREFUSED && fd != -ENOENT);
}

int client_list_live(int home, char ***out_names) {
    char **names;
    int count = home_list(home, &names);
    if (count < 0) return count;
    int live = 0;
    for (int i = 0; i < count; i++) {
        if (client_is_live(home, names[i]))
            names[live++] = names[i];
        else
            free(names[i]);
    }
    names[live] = NULL;
    *out_names = names;
    return live;
}

static int client_complain_none(const struct cli_verb *verb, const char *name) {
    char path[HOME_PATH_MAX] = "?";
    home_path(path, sizeof path, NULL);
    if (name) return cli_complain(verb, CLI_NOT_RUNNING, "no instance named %s is running in %s", name, path);
    return cli_complain(verb, CLI_NOT_RUNNING, "no instance is running in %s", path);
}

static int client_complain_many(const struct cli_verb *verb, char *const *names) {
    scoped_buf list = {0};
    for (; *names; names++) buf_printf(&list, " %s", *names);
    return cli_complain(verb, CLI_USAGE, "several instances are running: pick one by -n:%s", list.data ? list.data : "");
}

// Without a name there must be exactly one.
static int client_pick(struct client *client, const struct cli_verb *verb) {
    char **names;
    int count = client_list_live(client->home, &names);
    if (count < 0) return cli_complain(verb, CLI_FAILED, "list the instances: %s", strerror(-count));
    int code = CLI_OK;
    if (count == 0) code = client_complain_none(verb, NULL);
    if (count > 1) code = client_complain_many(verb, names);
    if (count == 1) str_copy(client->name, sizeof client->name, names[0]);
    home_list_free(names);
    return code;
}

int client_open(struct client *client, const struct cli_verb *verb, const char *name) {
    client->home = client_open_home(verb);
    if (client->home == -ENOENT) return client_complain_none(verb, name);
    if (client->home < 0) return CLI_FAILED;
    int code = CLI_OK;
    if (name)
        str_copy(client->name, sizeof client->name, name);
    else
        code = client_pick(client, verb);
    if (code != CLI_OK) return code;
    int err = client_connect(client);
    if (err == -ECONNREFUSED || err == -ENOENT) return client_complain_none(verb, client->name);
    return err ? cli_complain(verb, CLI_FAILED, "connect to the instance %s: %s", client->name, strerror(-err)) : CLI_OK;
}

int client_connect(struct client *client) {
    fd_close(&client->fd);
    buf_deinit(&client->input);
    int fd = home_connect(client->home, client->name);
    if (fd < 0) return fd;
    client->fd = fd;
    return 0;
}

void client_set_patience(struct client *client, int seconds) {
    struct timeval limit = {.tv_sec = seconds};
    setsockopt(client->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(client->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

int client_send_take(struct client *client, json_t *request) {
    scoped_str text = json_dumps(request, JSON_COMPACT);
    json_decref(request);
    if (!text) return -ENOMEM;
    scoped_buf line = {0};
    buf_printf(&line, "%s\n", text);
    if (line.failed) return -ENOMEM;
    for (size_t at = 0; at < line.len;) {
        ssize_t sent = send(client->fd, line.data + at, line.len - at, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0) return -errno;
        at += (size_t)sent;
    }
    return 0;
}

// True when there is more to look at.
static bool client_fill(struct client *client) {
    static char bytes[CLIENT_READ_SIZE];
    ssize_t got;
    do got = recv(client->fd, bytes, sizeof bytes, 0);
    while (got < 0 && errno == EINTR);
    if (got <= 0) return false;
    buf_append(&client->input, bytes, (size_t)got);
    return !client->input.failed && client->input.len < CLIENT_ANSWER_MAX;
}

json_t *client_receive(struct client *client) {
    char *end = NULL;
    size_t seen = 0;
    while (client->input.len == seen || !(end = memchr(client->input.data + seen, '\n', client->input.len - seen))) {
        seen = client->input.len;
        if (!client_fill(client)) return NULL;
    }
    size_t len = (size_t)(end - client->input.data);
    json_t *value = json_loadb(client->input.data, len, JSON_ALLOW_NUL, NULL);
    // A message of JavaScript's may hold a whole number that is beyond ours.
    if (!value) value = json_loadb(client->input.data, len, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, NULL);
    buf_consume(&client->input, len + 1);
    return value;
}

json_t *client_result_take(const struct cli_verb *verb, json_t *answer, int *out_code) {
    scoped_json *owned = answer;
    json_t *result = json_object_get(owned, "result");
    if (json_is_true(json_object_get(owned, "ok")) && result) return json_incref(result);
    const char *text = json_string_value(json_object_get(owned, "error"));
    int code = (int)json_integer_value(json_object_get(owned, "code"));
    *out_code = code > 0 && code < 256 ? code : CLI_FAILED;
    if (text)
        fprintf(stderr, "pando: %s\n", text);
    else
        cli_complain(verb, *out_code, "the instance gave an answer that is none");
    return NULL;
}

json_t *client_ask(struct client *client, const struct cli_verb *verb, json_t *request, int *out_code) {
    int err = client_send_take(client, request);
    json_t *answer = err ? NULL : client_receive(client);
    if (answer) return client_result_take(verb, answer, out_code);
    *out_code = cli_complain(verb, CLI_FAILED, "the instance %s gave no answer: `pando status -n %s` shows whether it lives", client->name,
                             client->name);
    return NULL;
}

void client_print_json(const json_t *value) {
    json_dumpf(value, stdout, JSON_COMPACT | JSON_ENCODE_ANY);
    putchar('\n');
}

json_t *client_ask_again(struct client *client, json_t *request) {
    scoped_json *kept = request;
    for (int tries = 0; tries < AGAIN_TRIES && client_connect(client) == 0; tries++) {
        json_t *answer = client_send_take(client, json_incref(request)) == 0 ? client_receive(client) : NULL;
        if (answer) return answer;
        usleep(AGAIN_PAUSE_US);
    }
    return NULL;
}
