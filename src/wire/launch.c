// SPDX-License-Identifier: MIT
#include "launch.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "launch_parts.h"
#include "node_command.h"

const char *const launch_ready_name[LAUNCH_READY_COUNT] = {
    [LAUNCH_READY_LISTEN] = "listen",
    [LAUNCH_READY_NOTIFY] = "notify",
    [LAUNCH_READY_FD] = "fd",
    [LAUNCH_READY_DELAY] = "delay",
    [LAUNCH_READY_HTTP] = "http",
    [LAUNCH_READY_MESSAGE] = "message",
};

const char *const launch_balance_name[LAUNCH_BALANCE_COUNT] = {
    [LAUNCH_BALANCE_AUTO] = "auto",
    [LAUNCH_BALANCE_RR] = "rr",
    [LAUNCH_BALANCE_RANDOM] = "random",
    [LAUNCH_BALANCE_STICKY] = "sticky",
};
const char *const launch_mode_name[LAUNCH_MODE_COUNT] = {
    [LAUNCH_MODE_AUTO] = "auto",
    [LAUNCH_MODE_SLOT] = "slot",
    [LAUNCH_MODE_PULL] = "pull",
};
const char *const launch_intercept_name[LAUNCH_INTERCEPT_COUNT] = {
    [LAUNCH_INTERCEPT_AUTO] = "auto",
    [LAUNCH_INTERCEPT_READ] = "read",
    [LAUNCH_INTERCEPT_HAND] = "hand",
    [LAUNCH_INTERCEPT_NONE] = "none",
};

const char *const launch_channel_name[LAUNCH_CHANNEL_COUNT] = {
    [LAUNCH_CHANNEL_NONE] = "none",
    [LAUNCH_CHANNEL_NODE] = "node",
    [LAUNCH_CHANNEL_PANDO] = "pando",
    [LAUNCH_CHANNEL_AUTO] = "auto",
};

const char *const launch_log_name[LAUNCH_LOG_COUNT] = {
    [LAUNCH_LOG_TEXT] = "text",
    [LAUNCH_LOG_JSON] = "json",
};

int launch_find_name(const char *const *names, size_t count, const char *text) {
    for (size_t i = 0; i < count; i++)
        if (strcmp(names[i], text) == 0) return (int)i;
    return -1;
}

int launch_list_add_take(char ***list, char *text) {
    size_t count = 0;
    while (*list && (*list)[count]) count++;
    char **longer = text ? reallocarray(*list, count + 2, sizeof *longer) : NULL;
    if (!longer) return free(text), -ENOMEM;
    longer[count] = text;
    longer[count + 1] = NULL;
    *list = longer;
    return 0;
}

void launch_list_free(char ***list) {
    for (char **text = *list; text && *text; text++) free(*text);
    free(*list);
    *list = NULL;
}

bool launch_ready_path_valid(const char *path) {
    return path[0] == '/' && strlen(path) <= LAUNCH_READY_PATH_MAX && strpbrk(path, " \t\r\n") == NULL;
}

void launch_init(struct launch *launch) {
    *launch = (struct launch){
        .ready = LAUNCH_READY_LISTEN,
        .ready_timeout_ns = 60 * CLOCK_S,
        .kill_timeout_ns = 30 * CLOCK_S,
        .stop_signal = SIGTERM,
        .surge = 1,
        .warm_up = 1,
        .stable_ns = 2 * CLOCK_S,
        .intercept = LAUNCH_INTERCEPT_AUTO,
        .channel = LAUNCH_CHANNEL_AUTO,
        .rescue_after_ns = 10 * CLOCK_MS,
    };
}

void launch_deinit(struct launch *launch) {
    free(launch->groups);
    free(launch->user);
    free(launch->log_file);
    free(launch->ready_path);
    free(launch->directory);
    free(launch->home);
    launch_list_free(&launch->argv);
    launch_list_free(&launch->envp);
    *launch = (struct launch){0};
}

enum launch_channel launch_channel_of(const struct launch *launch) {
    enum node_command kind = node_command_kind(launch->argv);
    bool asked = launch->node_cluster || launch->relay || launch->stop_message || launch->ready == LAUNCH_READY_MESSAGE;
    bool is_node = kind == NODE_COMMAND_SCRIPT || kind == NODE_COMMAND_NO_SCRIPT;
    if (launch->channel != LAUNCH_CHANNEL_AUTO) return launch->channel;
    return (asked && kind != NODE_COMMAND_WRAPPER) || is_node ? LAUNCH_CHANNEL_NODE : LAUNCH_CHANNEL_NONE;
}

bool launch_is_node_cluster(const struct launch *launch) {
    return launch->node_cluster && node_command_refusal(launch->argv) == NULL;
}

bool launch_name_char(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
}

bool launch_name_valid(const char *name) {
    size_t len = 0;
    while (launch_name_char(name[len])) len++;
    return name[len] == '\0' && len > 0 && len <= LAUNCH_NAME_MAX && name[0] != '.' && name[0] != '-';
}
