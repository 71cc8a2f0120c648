// SPDX-License-Identifier: MIT
#include "reload.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "fd.h"
#include "json_text.h"
#include "launch.h"
#include "ring.h"
#include "rollout.h"

enum { OUTPUT_LINES = 20, LOOK_BACK_LINES = 500, PERCENT_MAX = 99 };

// The words of a JSON array of strings, NULL-terminated; the strings are borrowed. NULL: it is something else, or no memory.
static char **words_of(const json_t *options, const json_t *command) {
    size_t count = json_array_size(options) + json_array_size(command);
    bool valid = (options == NULL || json_is_array(options)) && (command == NULL || json_is_array(command));
    char **words = valid ? calloc(count + 2, sizeof *words) : NULL;
    static char end_of_options[] = "--";
    size_t at = 0;
    for (size_t i = 0; words != NULL && i < json_array_size(options); i++) words[at++] = (char *)json_string_value(json_array_get(options, i));
    if (words != NULL && json_array_size(command) > 0) words[at++] = end_of_options;
    for (size_t i = 0; words != NULL && i < json_array_size(command); i++) words[at++] = (char *)json_string_value(json_array_get(command, i));
    for (size_t i = 0; i < at; i++) valid &= words[i] != NULL;
    if (valid) return words;
    free(words);
    return NULL;
}

static int take_environment(struct launch *launch, const json_t *environment, struct pando_error *error) {
    size_t count = json_array_size(environment);
    char **envp = calloc(count + 1, sizeof *envp);
    if (envp == NULL) return error_set(error, ENOMEM, "take over the environment");
    for (size_t i = 0; i < count; i++) {
        const char *text = json_string_value(json_array_get(environment, i));
        if (text == NULL || (envp[i] = strdup(text)) == NULL) {
            for (size_t k = 0; k < i; k++) free(envp[k]);
            free(envp);
            return error_say(error, EINVAL, "environment: give an array of \"NAME=value\"");
        }
    }
    for (char **entry = launch->envp; entry != NULL && *entry != NULL; entry++) free(*entry);
    free(launch->envp);
    launch->envp = envp;
    return 0;
}

static int apply(struct launch *launch, const json_t *request, struct pando_error *error) {
    const json_t *options = json_object_get(request, "options"), *command = json_object_get(request, "command");
    const json_t *environment = json_object_get(request, "environment");
    const char *cwd = json_string_value(json_object_get(request, "cwd"));
    int r = environment == NULL ? 0 : take_environment(launch, environment, error);
    if (r != 0) return r;
    char **words = words_of(options, command);
    int count = 0;
    if (words == NULL) return error_say(error, EINVAL, "options and command: give arrays of strings");
    while (words[count] != NULL) count++;
    r = launch_overlay(launch, count, words, cwd != NULL && cwd[0] == '/' ? cwd : "/", error);
    free(words);
    return r;
}

static int read_canary(const json_t *request, struct rollout_wish *wish, struct pando_error *error) {
    const json_t *percent = json_object_get(request, "canary"), *lasts = json_object_get(request, "for_ms");
    if (percent == NULL) return 0;
    bool valid = json_is_integer(percent) && json_integer_value(percent) >= 1 && json_integer_value(percent) <= PERCENT_MAX &&
                 json_is_integer(lasts) && json_integer_value(lasts) >= 1 && json_integer_value(lasts) <= INT32_MAX;
    if (!valid) return error_say(error, EINVAL, "canary: give 1 to %d (percent), and for_ms, how long", PERCENT_MAX);
    wish->canary_percent = (uint32_t)json_integer_value(percent);
    wish->canary_for_ns = (uint64_t)json_integer_value(lasts) * CLOCK_MS;
    return 0;
}

// A copy of the present generation's launch, changed as asked.
static struct launch *next_launch(const struct primary *primary, const json_t *request, struct pando_error *error) {
    const struct pool *pool = &primary->pool;
    scoped_fd memfd = launch_seal(generations_launch(&pool->generations, pool->record->generation));
    struct launch *launch = calloc(1, sizeof *launch);
    int r = memfd < 0 || launch == NULL ? error_set(error, ENOMEM, "copy the launch data") : launch_load(launch, memfd, error);
    if (r == 0 && request != NULL) r = apply(launch, request, error);
    if (r == 0) return launch;
    if (launch != NULL) launch_deinit(launch);
    free(launch);
    return NULL;
}

int reload_begin(struct primary *primary, const json_t *request, struct pando_error *error) {
    struct rollout_wish wish = {.memfd = -1};
    int r = request == NULL ? 0 : read_canary(request, &wish, error);
    if (r != 0) return r;
    wish.launch_take = next_launch(primary, request, error);
    if (wish.launch_take == NULL) return error->code != 0 ? -error->code : -EINVAL;
    scoped_fd memfd = launch_seal(wish.launch_take);
    wish.memfd = memfd;
    return memfd < 0 ? error_set(error, -memfd, "seal the launch data") : rollout_begin(&primary->pool, &wish, error);
}

json_t *reload_done_json(struct primary *primary) {
    const struct record *record = primary->pool.record;
    struct rollout_sums sums = rollout_sums(&primary->pool);
    return json_pack("{s:i, s:i, s:f, s:I, s:I, s:I}", "generation", (int)record->generation, "workers", pool_ready_count(&primary->pool),
                     "seconds", (double)(clock_now_ns() - record->rollout.began_ns) / 1e9, "served", (json_int_t)sums.served, "moved",
                     (json_int_t)sums.moved, "reset", (json_int_t)sums.reset);
}

struct lines_of {
    char text[16], json[24];  // how a line of that worker begins, or what it has in it
    json_t *list;             // borrowed
};

static void add_line(void *arg, const char *line, size_t len) {
    struct lines_of *lines = arg;
    bool is_json = line[0] == '{' && memmem(line, len, lines->json, strlen(lines->json)) != NULL;
    if (!is_json && strncmp(line, lines->text, strlen(lines->text)) != 0) return;
    json_array_append_new(lines->list, json_text(line, len));
    if (json_array_size(lines->list) > OUTPUT_LINES) json_array_remove(lines->list, 0);
}

json_t *reload_failed_json(struct primary *primary) {
    const char *why = primary->pool.record->rollout.why;
    struct lines_of lines = {.list = json_array()};
    snprintf(lines.text, sizeof lines.text, "[%d] ", primary->pool.record->rollout.failed_number);
    snprintf(lines.json, sizeof lines.json, "\"slot\":%d,", primary->pool.record->rollout.failed_number);
    ring_tail(primary->output.ring, LOOK_BACK_LINES, add_line, &lines);
    return json_pack("{s:b, s:i, s:o, s:o}", "ok", 0, "code", 4, "error", json_text(why, strlen(why)), "output", lines.list);
}
