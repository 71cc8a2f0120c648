// SPDX-License-Identifier: MIT
// struct launch as JSON in a sealed memfd. Arguments, variables and paths are bytes, not text: what is not UTF-8 travels
// as {"bytes": "<hex>"}. The reader believes nothing, as a debugger's hand or an older version may have written it.
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "fd.h"
#include "launch_parts.h"
#include "str.h"

#define LAUNCH_JSON_MAX (64 << 20)  // twice hex of all that execve(2) takes
#define scoped_json __attribute__((cleanup(launch_json_free))) json_t

static void launch_json_free(json_t **value) { json_decref(*value); }

static json_t *launch_pack_bytes(const char *text) {
    size_t len = strlen(text);
    scoped_str hex = malloc(2 * len + 1);
    if (!hex) return NULL;
    for (size_t i = 0; i < len; i++) snprintf(hex + 2 * i, 3, "%02x", (unsigned char)text[i]);
    return json_pack("{s:s}", "bytes", len ? hex : "");
}

static json_t *launch_pack_text(const char *text) {
    if (!text) return json_null();
    json_t *plain = json_string(text);  // refuses what is not UTF-8
    return plain ? plain : launch_pack_bytes(text);
}

static json_t *launch_pack_list(char *const *list) {
    json_t *array = json_array();
    for (; array && list && *list; list++) {
        if (json_array_append_new(array, launch_pack_text(*list)) == 0) continue;
        json_decref(array);
        return NULL;
    }
    return array;
}

static json_t *launch_pack_groups(const struct launch *launch) {
    json_t *array = json_array();
    for (size_t i = 0; array && i < launch->group_count; i++) json_array_append_new(array, json_integer(launch->groups[i]));
    return array;
}

// RLIM_INFINITY and times fit a signed 64-bit integer only as a pattern of bits; it comes back the same.
static json_t *launch_pack(const struct launch *launch) {
    return json_pack(
        "{s:s, s:I, s:b, s:b, s:b, s:b, s:s, s:i, s:I, s:I, s:I, s:i, s:i, s:s, s:s, s:b, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, "
        "s:I, s:I, s:s, s:s, s:b, s:I, s:I, s:I, s:i, s:I, s:I, s:b, s:b, s:o, s:s, s:b, s:b, s:b, s:i}",
        "name", launch->name, "workers", (json_int_t)launch->workers, "detach", launch->detach, "fail_fast", launch->fail_fast, "pin",
        launch->pin, "has_user", launch->has_user, "ready", launch_ready_name[launch->ready], "ready_fd", launch->ready_fd,
        "ready_delay_ns", (json_int_t)launch->ready_delay_ns, "ready_timeout_ns", (json_int_t)launch->ready_timeout_ns, "kill_timeout_ns",
        (json_int_t)launch->kill_timeout_ns, "stop_signal", launch->stop_signal, "own_port", launch->own_port, "intercept",
        launch_intercept_name[launch->intercept], "log_format", launch_log_name[launch->log_format], "log_is_terminal",
        launch->log_is_terminal, "uid", (json_int_t)launch->uid, "gid", (json_int_t)launch->gid, "groups", launch_pack_groups(launch),
        "user", launch_pack_text(launch->user), "log_file", launch_pack_text(launch->log_file), "directory",
        launch_pack_text(launch->directory), "home", launch_pack_text(launch->home), "argv", launch_pack_list(launch->argv), "envp",
        launch_pack_list(launch->envp), "nofile_soft", (json_int_t)launch->nofile_soft, "nofile_hard", (json_int_t)launch->nofile_hard,
        "balance", launch_balance_name[launch->balance], "mode", launch_mode_name[launch->mode], "no_rescue", launch->no_rescue,
        "rescue_after_ns", (json_int_t)launch->rescue_after_ns, "hang_timeout_ns", (json_int_t)launch->hang_timeout_ns,
        "drain_timeout_ns", (json_int_t)launch->drain_timeout_ns, "surge", (int)launch->surge, "stable_ns", (json_int_t)launch->stable_ns,
        "keep_old_ns", (json_int_t)launch->keep_old_ns, "cooperative", launch->cooperative, "allow_new_address", launch->allow_new_address,
        "ready_path", launch_pack_text(launch->ready_path), "channel", launch_channel_name[launch->channel], "node_cluster",
        launch->node_cluster, "relay", launch->relay, "stop_message", launch->stop_message, "warm_up", (int)launch->warm_up);
}

int launch_seal(const struct launch *launch) {
    scoped_json *root = launch_pack(launch);
    if (!root) return -ENOMEM;
    scoped_str text = json_dumps(root, JSON_COMPACT);
    return text ? fd_memfd_sealed("pando-launch", text, strlen(text)) : -ENOMEM;
}

static int launch_hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static char *launch_unpack_hex(const char *hex) {
    size_t len = strlen(hex) / 2;
    char *text = calloc(len + 1, 1);
    bool valid = text && strlen(hex) % 2 == 0;
    for (size_t i = 0; valid && i < len; i++) {
        int high = launch_hex_digit(hex[2 * i]), low = launch_hex_digit(hex[2 * i + 1]);
        valid = high >= 0 && low >= 0 && high + low > 0;  // a NUL would end the string here
        if (valid) text[i] = (char)(high << 4 | low);
    }
    if (!valid) str_free(&text);
    return text;
}

// A new string, or NULL.
static char *launch_unpack_text(const json_t *value) {
    if (json_is_string(value)) return strdup(json_string_value(value));
    const json_t *bytes = json_object_size(value) == 1 ? json_object_get(value, "bytes") : NULL;
    return json_is_string(bytes) ? launch_unpack_hex(json_string_value(bytes)) : NULL;
}

static bool launch_unpack_optional(const json_t *value, char **out) { return json_is_null(value) || (*out = launch_unpack_text(value)); }

static bool launch_unpack_path(const json_t *value, char **out) {
    *out = launch_unpack_text(value);
    return *out && **out == '/';
}

static bool launch_unpack_list(const json_t *array, char ***out) {
    size_t count = json_array_size(array);
    if (!json_is_array(array) || !(*out = calloc(count + 1, sizeof **out))) return false;
    for (size_t i = 0; i < count; i++)
        if (!((*out)[i] = launch_unpack_text(json_array_get(array, i)))) return false;
    return true;
}

static bool launch_unpack_id(json_int_t number, uint32_t *out) {
    *out = (uint32_t)number;
    return number >= 0 && number < UINT32_MAX;  // the last one means "unchanged" to setresuid(2)
}

static bool launch_unpack_groups(const json_t *array, struct launch *launch) {
    size_t count = json_array_size(array);
    if (!json_is_array(array) || count > LAUNCH_GROUP_MAX) return false;
    launch->groups = calloc(count + 1, sizeof *launch->groups);
    if (!launch->groups) return false;
    for (size_t i = 0; i < count; i++) {
        const json_t *id = json_array_get(array, i);
        if (!json_is_integer(id) || !launch_unpack_id(json_integer_value(id), &launch->groups[i])) return false;
    }
    launch->group_count = count;
    return true;
}

// What json_unpack fills before anything is believed; pointers are borrowed from the document.
struct launch_document {
    const char *name, *ready, *intercept, *log_format, *balance, *mode, *channel;
    json_int_t rescue_after_ns, hang_timeout_ns, drain_timeout_ns, stable_ns, keep_old_ns;
    int surge, warm_up, cooperative, allow_new_address;
    json_int_t workers, ready_delay_ns, ready_timeout_ns, kill_timeout_ns, uid, gid, nofile_soft, nofile_hard;
    int node_cluster, relay, stop_message, no_rescue, detach, fail_fast, pin, has_user, log_is_terminal, ready_fd, stop_signal, own_port;
    json_t *ready_path, *groups, *user, *log_file, *directory, *home, *argv, *envp;
};

static int launch_read_document(json_t *root, struct launch_document *out, json_error_t *json_error) {
    return json_unpack_ex(
        root, json_error, JSON_STRICT,
        "{s:s, s:I, s:b, s:b, s:b, s:b, s:s, s:i, s:I, s:I, s:I, s:i, s:i, s:s, s:s, s:b, s:I, s:I, s:o, s:o, s:o, s:o, s:o, "
        "s:o, s:o, s:I, s:I, s:s, s:s, s:b, s:I, s:I, s:I, s:i, s:I, s:I, s:b, s:b, s:o, s:s, s:b, s:b, s:b, s?i}",
        "name", &out->name, "workers", &out->workers, "detach", &out->detach, "fail_fast", &out->fail_fast, "pin", &out->pin, "has_user",
        &out->has_user, "ready", &out->ready, "ready_fd", &out->ready_fd, "ready_delay_ns", &out->ready_delay_ns, "ready_timeout_ns",
        &out->ready_timeout_ns, "kill_timeout_ns", &out->kill_timeout_ns, "stop_signal", &out->stop_signal, "own_port", &out->own_port,
        "intercept", &out->intercept, "log_format", &out->log_format, "log_is_terminal", &out->log_is_terminal, "uid", &out->uid, "gid",
        &out->gid, "groups", &out->groups, "user", &out->user, "log_file", &out->log_file, "directory", &out->directory, "home", &out->home,
        "argv", &out->argv, "envp", &out->envp, "nofile_soft", &out->nofile_soft, "nofile_hard", &out->nofile_hard,
        "balance", &out->balance, "mode", &out->mode, "no_rescue", &out->no_rescue, "rescue_after_ns", &out->rescue_after_ns,
        "hang_timeout_ns", &out->hang_timeout_ns, "drain_timeout_ns", &out->drain_timeout_ns, "surge", &out->surge, "stable_ns",
        &out->stable_ns, "keep_old_ns", &out->keep_old_ns, "cooperative", &out->cooperative, "allow_new_address", &out->allow_new_address,
        "ready_path", &out->ready_path, "channel", &out->channel, "node_cluster", &out->node_cluster, "relay", &out->relay,
        "stop_message", &out->stop_message, "warm_up", &out->warm_up);
}

static bool launch_unpack_choice(const char *const *names, size_t count, const char *text, int *out) {
    *out = launch_find_name(names, count, text);
    return *out >= 0;
}

static bool launch_numbers_valid(const struct launch_document *from) {
    return from->workers >= 0 && from->workers <= LAUNCH_WORKERS_MAX && from->own_port >= 0 && from->own_port <= 65535 &&
           from->stop_signal >= 1 && from->stop_signal <= SIGRTMAX && from->ready_delay_ns >= 0 && from->ready_timeout_ns > 0 &&
           from->kill_timeout_ns >= 0 && from->drain_timeout_ns >= 0 && from->stable_ns >= 0 && from->keep_old_ns >= 0 && from->surge >= 1 &&
           from->surge <= LAUNCH_WORKERS_MAX && from->warm_up >= 1 && from->warm_up <= LAUNCH_WARM_UP_MAX && from->rescue_after_ns > 0 && from->hang_timeout_ns >= 0;
}

static bool launch_ready_valid(const struct launch *launch) {
    if (launch->ready != LAUNCH_READY_FD) return true;
    return launch->ready_fd >= LAUNCH_READY_FD_MIN && launch->ready_fd <= LAUNCH_READY_FD_MAX;
}

static bool launch_unpack_choices(struct launch *launch, const struct launch_document *from) {
    int ready, intercept, log_format, balance, mode, channel;
    if (!launch_unpack_choice(launch_ready_name, LAUNCH_READY_COUNT, from->ready, &ready) ||
        !launch_unpack_choice(launch_intercept_name, LAUNCH_INTERCEPT_COUNT, from->intercept, &intercept) ||
        !launch_unpack_choice(launch_log_name, LAUNCH_LOG_COUNT, from->log_format, &log_format) ||
        !launch_unpack_choice(launch_balance_name, LAUNCH_BALANCE_COUNT, from->balance, &balance) ||
        !launch_unpack_choice(launch_mode_name, LAUNCH_MODE_COUNT, from->mode, &mode) ||
        !launch_unpack_choice(launch_channel_name, LAUNCH_CHANNEL_COUNT, from->channel, &channel))
        return false;
    launch->channel = (enum launch_channel)channel;
    launch->balance = (enum launch_balance)balance;
    launch->mode = (enum launch_mode)mode;
    launch->ready = (enum launch_ready)ready;
    launch->ready_fd = from->ready_fd;
    launch->intercept = (enum launch_intercept)intercept;
    launch->log_format = (enum launch_log)log_format;
    return launch_ready_valid(launch);
}

static void launch_unpack_plain(struct launch *launch, const struct launch_document *from) {
    str_copy(launch->name, sizeof launch->name, from->name);
    launch->workers = (long)from->workers;
    launch->detach = from->detach;
    launch->fail_fast = from->fail_fast;
    launch->pin = from->pin;
    launch->has_user = from->has_user;
    launch->ready_delay_ns = (uint64_t)from->ready_delay_ns;
    launch->ready_timeout_ns = (uint64_t)from->ready_timeout_ns;
    launch->kill_timeout_ns = (uint64_t)from->kill_timeout_ns;
    launch->stop_signal = from->stop_signal;
    launch->drain_timeout_ns = (uint64_t)from->drain_timeout_ns;
    launch->surge = (uint32_t)from->surge;
    launch->warm_up = (uint32_t)from->warm_up;
    launch->stable_ns = (uint64_t)from->stable_ns;
    launch->keep_old_ns = (uint64_t)from->keep_old_ns;
    launch->cooperative = from->cooperative;
    launch->allow_new_address = from->allow_new_address;
    launch->own_port = from->own_port;
    launch->log_is_terminal = from->log_is_terminal;
    launch->node_cluster = from->node_cluster;
    launch->relay = from->relay;
    launch->stop_message = from->stop_message;
    launch->no_rescue = from->no_rescue;
    launch->rescue_after_ns = (uint64_t)from->rescue_after_ns;
    launch->hang_timeout_ns = (uint64_t)from->hang_timeout_ns;
    launch->nofile_soft = (uint64_t)from->nofile_soft;
    launch->nofile_hard = (uint64_t)from->nofile_hard;
}

// The member that was refused, or NULL. What was filled so far is for launch_deinit.
static const char *launch_unpack(struct launch *launch, const struct launch_document *from) {
    if (!launch_name_valid(from->name)) return "name";
    if (!launch_numbers_valid(from)) return "a number out of range";
    launch_unpack_plain(launch, from);
    if (!launch_unpack_choices(launch, from)) return "a choice of words";
    if (!launch_unpack_id(from->uid, &launch->uid) || !launch_unpack_id(from->gid, &launch->gid)) return "uid or gid";
    if (!launch_unpack_groups(from->groups, launch)) return "groups";
    if (!launch_unpack_optional(from->user, &launch->user)) return "user";
    if (!launch_unpack_optional(from->ready_path, &launch->ready_path)) return "ready_path";
    if (launch->ready == LAUNCH_READY_HTTP && (!launch->ready_path || !launch_ready_path_valid(launch->ready_path))) return "ready_path";
    if (!json_is_null(from->log_file) && !launch_unpack_path(from->log_file, &launch->log_file)) return "log_file";
    if (!launch_unpack_path(from->directory, &launch->directory)) return "directory";
    if (!launch_unpack_path(from->home, &launch->home)) return "home";
    if (!launch_unpack_list(from->argv, &launch->argv) || !launch->argv[0] || !*launch->argv[0]) return "argv";
    if (!launch_unpack_list(from->envp, &launch->envp)) return "envp";
    return NULL;
}

static int launch_read_memfd(int memfd, char **out_text, size_t *out_len, struct pando_error *error) {
    struct stat info;
    if (fstat(memfd, &info)) return error_set(error, errno, "launch description");
    if (info.st_size <= 0 || info.st_size > LAUNCH_JSON_MAX)
        return error_say(error, EINVAL, "launch description: %jd bytes is no size for one", (intmax_t)info.st_size);
    scoped_str text = malloc((size_t)info.st_size);
    if (!text) return error_set(error, ENOMEM, "launch description");
    ssize_t got = pread(memfd, text, (size_t)info.st_size, 0);
    if (got != info.st_size) return error_set(error, got < 0 ? errno : EIO, "read the launch description");
    *out_len = (size_t)got;
    *out_text = text;
    text = NULL;
    return 0;
}

int launch_load(struct launch *launch, int memfd, struct pando_error *error) {
    scoped_str text = NULL;
    size_t len = 0;
    json_error_t json_error;
    struct launch_document document = {.warm_up = 1};  // an older Pando does not write it
    int err = launch_read_memfd(memfd, &text, &len, error);
    if (err) return err;
    scoped_json *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &json_error);
    if (!root || launch_read_document(root, &document, &json_error))
        return error_say(error, EINVAL, "launch description: %s", json_error.text);
    struct launch loaded = {0};
    const char *refused = launch_unpack(&loaded, &document);
    if (refused) {
        launch_deinit(&loaded);
        return error_say(error, EINVAL, "launch description: not acceptable: %s", refused);
    }
    *launch = loaded;
    return 0;
}
