// SPDX-License-Identifier: MIT
// A client of the control socket (docs/control.md): finds an instance, sends a request, reads answers.
#pragma once

#include <jansson.h>

#include "buf.h"
#include "cli.h"
#include "launch.h"

struct client {
    char name[LAUNCH_NAME_MAX + 1];
    int home;          // owned: the run-time folder
    int fd;            // owned: the connection
    struct buf input;  // what follows the last answer
};

#define CLIENT_NONE \
    { .home = -1, .fd = -1 }
void client_deinit(struct client *client);
#define scoped_client __attribute__((cleanup(client_deinit))) struct client

void client_json_free(json_t **value);
#define scoped_json __attribute__((cleanup(client_json_free))) json_t

// The run-time folder, not made when missing. Fd, -ENOENT (said nothing), or other -errno after a complaint.
int client_open_home(const struct cli_verb *verb);
// Names of the instances that somebody answers for, as from home_list. Count or -errno.
int client_list_live(int home, char ***out_names);

// Connects to the instance that `name` means; NULL = the only one. CLI_OK, or the exit code after a complaint.
int client_open(struct client *client, const struct cli_verb *verb, const char *name);
// Connects (again) to client->name in client->home. 0 or -errno: -ECONNREFUSED and -ENOENT when nobody is there.
int client_connect(struct client *client);
// How long an answer may take from now on; 0 = for ever.
void client_set_patience(struct client *client, int seconds);

// Sends a request (taken). 0 or -errno.
int client_send_take(struct client *client, json_t *request);
// The next object, the caller's; NULL when the connection has ended, is silent for too long, or speaks nonsense.
json_t *client_receive(struct client *client);

// Sends a request (taken) and waits for its answer. The result, the caller's; or NULL after a complaint, with the exit code.
json_t *client_ask(struct client *client, const struct cli_verb *verb, json_t *request, int *out_code);
// For who follows a stream: it also ends when the primary is replaced, and the next one goes on with it. Connects again and sends the
// request (taken). The answer, the caller's; NULL when the instance has ended.
json_t *client_ask_again(struct client *client, json_t *request);
// The result inside an answer (taken), or NULL after a complaint about it.
json_t *client_result_take(const struct cli_verb *verb, json_t *answer, int *out_code);

// Prints a result on one line of standard output.
void client_print_json(const json_t *value);
