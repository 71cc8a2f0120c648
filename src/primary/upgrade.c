// SPDX-License-Identifier: MIT
#include "upgrade.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "control.h"
#include "fd.h"
#include "inherit.h"
#include "log.h"
#include "program.h"
#include "str.h"

enum { EXAMINE_MS = 5000, FLUSH_MS = 1000, EXAMINE_TEXT = 1024, EXAMINE_FDS = 5 };

enum examined { EXAMINED_PROGRAM, EXAMINED_KEEPER, EXAMINED_COUNT };

struct upgrade {
    struct primary *primary;  // borrowed
    char path[EXAMINED_COUNT][4096];
    int executable[EXAMINED_COUNT];  // owned: O_PATH
    int state, answer;               // owned: what a keeper would get; what the examined one says
    enum examined now;
    uv_process_t process;
    uv_timer_t patience;
    bool late;
    int64_t exit_code;
    int exit_signal;
    long channel[EXAMINED_COUNT];
};

static void on_closed(uv_handle_t *handle) {
    struct upgrade *upgrade = handle->data;
    for (int i = 0; i < EXAMINED_COUNT; i++) fd_close(&upgrade->executable[i]);
    fd_close(&upgrade->state);
    fd_close(&upgrade->answer);
    free(upgrade);
}

static void end(struct upgrade *upgrade) {
    upgrade->primary->upgrade = NULL;
    uv_close((uv_handle_t *)&upgrade->patience, on_closed);
}

static void refuse(struct primary *primary, const char *why) {
    str_copy(primary->upgrade_why, sizeof primary->upgrade_why, why);
    primary->upgrade_state = UPGRADE_REFUSED;
    log_error("upgrade: %s", why);
    primary_wake(primary);
}

static void refuse_path(struct upgrade *upgrade, enum examined which, const char *why) {
    char text[PANDO_ERROR_TEXT_SIZE];
    snprintf(text, sizeof text, "%.120s: %.100s; the running Pando goes on", upgrade->path[which], why);
    refuse(upgrade->primary, text);
    end(upgrade);
}

// ---- the change

// Only a failure comes back: else this process has been killed, and its successor answers.
static void change(struct upgrade *upgrade) {
    struct primary *primary = upgrade->primary;
    struct record *record = primary->pool.record;
    struct stat info = {0};
    fstat(upgrade->executable[EXAMINED_PROGRAM], &info);
    log_info("upgrade: %s takes over", upgrade->path[EXAMINED_PROGRAM]);
    control_hold_upgraders(primary->control);
    record->upgrade_inode = info.st_ino;
    str_copy(record->upgrade_from, sizeof record->upgrade_from, PANDO_VERSION);
    record->upgrading = true;
    outlet_flush(primary->output.out, FLUSH_MS);
    outlet_flush(primary->output.err, FLUSH_MS);
    int r = link_upgrade(&primary->link, upgrade->executable[EXAMINED_PROGRAM], upgrade->executable[EXAMINED_KEEPER]);
    record->upgrading = false;
    control_drop_upgraders(primary->control);
    if (r != 0) refuse_path(upgrade, EXAMINED_KEEPER, r == -EPIPE ? "the keeper ended over it" : strerror(-r));
}

// ---- the examination

static void examine(struct upgrade *upgrade);

static long channel_of(const char *answer) {
    long channel = -1;
    return sscanf(answer, "channel %ld", &channel) == 1 ? channel : -1;
}

static void read_answer(const struct upgrade *upgrade, char *out, size_t size) {
    ssize_t n = read(upgrade->answer, out, size - 1);
    out[n > 0 ? n : 0] = '\0';
    if (strncmp(out, "channel ", 8) != 0) out[strcspn(out, "\n")] = '\0';
}

static void judge(struct upgrade *upgrade, int64_t exit_code, int signo) {
    char answer[EXAMINE_TEXT], why[EXAMINE_TEXT + 64];
    enum examined which = upgrade->now;
    read_answer(upgrade, answer, sizeof answer);
    upgrade->channel[which] = channel_of(answer);
    if (upgrade->late)
        snprintf(why, sizeof why, "it does not say whether it can take over within %d s", EXAMINE_MS / 1000);
    else if (signo != 0)
        snprintf(why, sizeof why, "asked whether it can take over, it ends by signal %s", str_signal(signo));
    else if (exit_code != 0)
        snprintf(why, sizeof why, "it cannot take over: %s (exit code %d)", answer, (int)exit_code);
    else if (upgrade->channel[which] != CHANNEL_VERSION)
        snprintf(why, sizeof why, "it cannot take over: its keeper and primary speak another version (%ld) than the running ones (%d)",
                 upgrade->channel[which], CHANNEL_VERSION);
    else
        why[0] = '\0';
    if (why[0] != '\0') {
        refuse_path(upgrade, which, why);
    } else if (++upgrade->now < EXAMINED_COUNT) {
        examine(upgrade);
    } else {
        change(upgrade);
    }
}

static void on_process_closed(uv_handle_t *handle) {
    struct upgrade *upgrade = handle->data;
    uv_timer_stop(&upgrade->patience);
    judge(upgrade, upgrade->exit_code, upgrade->exit_signal);
}

static void on_examined(uv_process_t *process, int64_t exit_code, int signo) {
    struct upgrade *upgrade = process->data;
    upgrade->exit_code = exit_code;
    upgrade->exit_signal = signo;
    uv_close((uv_handle_t *)process, on_process_closed);
}

static void on_late(uv_timer_t *timer) {
    struct upgrade *upgrade = timer->data;
    upgrade->late = true;
    uv_process_kill(&upgrade->process, SIGKILL);
}

static int spawn(struct upgrade *upgrade, int answer) {
    const struct link *link = &upgrade->primary->link;
    char file[32], fd[16];
    char *of_program[] = {(char[]){"pando"}, (char[]){INHERIT_EXAMINE_VERB}, NULL};
    char *of_keeper[] = {(char[]){"pando-keeper"}, (char[]){INHERIT_EXAMINE_VERB}, fd, NULL};
    bool is_keeper = upgrade->now == EXAMINED_KEEPER;
    uv_stdio_container_t stdio[EXAMINE_FDS] = {{.flags = UV_IGNORE}};
    for (int i = 1; i < EXAMINE_FDS; i++) stdio[i].flags = UV_INHERIT_FD;
    stdio[1].data.fd = stdio[2].data.fd = answer;
    stdio[INHERIT_EXAMINE_RECORD].data.fd = is_keeper ? upgrade->state : link_held(link, HELD_RECORD, 0);
    stdio[INHERIT_EXAMINE_LAUNCH].data.fd = link_held(link, HELD_LAUNCH, 1);
    snprintf(file, sizeof file, "/proc/self/fd/%d", upgrade->executable[upgrade->now]);
    snprintf(fd, sizeof fd, "%d", INHERIT_EXAMINE_STATE);
    uv_process_options_t options = {
        .exit_cb = on_examined, .file = file, .args = is_keeper ? of_keeper : of_program, .stdio = stdio, .stdio_count = EXAMINE_FDS};
    upgrade->process.data = upgrade;
    return uv_spawn(upgrade->primary->loop, &upgrade->process, &options);
}

static void on_not_spawned(uv_handle_t *handle) {
    struct upgrade *upgrade = handle->data;
    refuse_path(upgrade, upgrade->now, uv_strerror((int)upgrade->exit_code));
}

static void examine(struct upgrade *upgrade) {
    int ends[2];
    fd_close(&upgrade->answer);
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) {
        refuse_path(upgrade, upgrade->now, strerror(errno));
        return;
    }
    upgrade->answer = ends[0];
    upgrade->exit_code = spawn(upgrade, ends[1]);
    fd_close(&ends[1]);
    if (upgrade->exit_code != 0)
        uv_close((uv_handle_t *)&upgrade->process, on_not_spawned);
    else
        uv_timer_start(&upgrade->patience, on_late, EXAMINE_MS, 0);
}

// ---- begin

static int open_executable(struct upgrade *upgrade, enum examined which) {
    struct stat info;
    int fd = open(upgrade->path[which], O_PATH | O_CLOEXEC);
    if (fd < 0) return -errno;
    upgrade->executable[which] = fd;
    if (fstat(fd, &info) != 0) return -errno;
    if (!S_ISREG(info.st_mode)) return -EACCES;
    return access(upgrade->path[which], X_OK) == 0 ? 0 : -errno;
}

static void begin(struct upgrade *upgrade, const char *program) {
    struct primary *primary = upgrade->primary;
    char *keeper = upgrade->path[EXAMINED_KEEPER];
    str_copy(upgrade->path[EXAMINED_PROGRAM], sizeof upgrade->path[0], program);
    int r = open_executable(upgrade, EXAMINED_PROGRAM);
    if (r != 0) {
        refuse_path(upgrade, EXAMINED_PROGRAM, strerror(-r));
        return;
    }
    r = program_find_keeper(program, keeper, sizeof upgrade->path[0]);
    if (r == 0) r = open_executable(upgrade, EXAMINED_KEEPER);
    if (r != 0) {
        refuse_path(upgrade, EXAMINED_KEEPER, strerror(-r));
        return;
    }
    upgrade->state = link_state(&primary->link);
    if (upgrade->state < 0)
        refuse_path(upgrade, EXAMINED_KEEPER, strerror(-upgrade->state));
    else
        examine(upgrade);
}

bool upgrade_begin(struct primary *primary, const char *program) {
    if (primary->upgrade != NULL) return false;
    struct upgrade *upgrade = calloc(1, sizeof *upgrade);
    primary->upgrade_state = UPGRADE_RUNNING;
    if (upgrade == NULL) {
        refuse(primary, strerror(ENOMEM));
        return true;
    }
    upgrade->primary = primary;
    upgrade->state = upgrade->answer = -1;
    for (int i = 0; i < EXAMINED_COUNT; i++) upgrade->executable[i] = -1;
    uv_timer_init(primary->loop, &upgrade->patience);
    upgrade->patience.data = upgrade;
    primary->upgrade = upgrade;
    begin(upgrade, program != NULL ? program : primary->pool.record->program);
    return true;
}

// ---- the other side

// The primary that was asked may have been killed before the keeper was: then this is still the program that it was.
static bool is_the_new_program(const struct record *record) {
    struct stat info;
    return stat("/proc/self/exe", &info) == 0 && info.st_ino == record->upgrade_inode;
}

static void explain_failure(const struct primary *primary, char *out, size_t size) {
    int status = primary->link.trial_status;
    if (primary->link.trial != KEEPER_TRIAL_FAILED)
        str_copy(out, size, "the primary was killed meanwhile: ask again");
    else if (WIFSIGNALED(status))
        snprintf(out, size, "the new primary was killed by signal %s before it had taken over; the old Pando is back", str_signal(WTERMSIG(status)));
    else
        snprintf(out, size, "the new primary ended with code %d before it had taken over; the old Pando is back", WEXITSTATUS(status));
}

void upgrade_adopted(struct primary *primary) {
    struct record *record = primary->pool.record;
    char why[PANDO_ERROR_TEXT_SIZE];
    if (!record->upgrading) return;
    if (primary->link.trial == KEEPER_TRIAL_FAILED || !is_the_new_program(record)) {
        explain_failure(primary, why, sizeof why);
        refuse(primary, why);
    } else {
        primary->upgrade_state = UPGRADE_DONE;
        program_self(record->program, sizeof record->program);
        log_info("upgraded from version %s to %s: %s", record->upgrade_from, PANDO_VERSION, record->program);
    }
    record->upgrading = false;
    control_drop_upgraders(primary->control);
    primary_wake(primary);
}
