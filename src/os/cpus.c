// SPDX-License-Identifier: MIT
// Two texts lead to the limits. PROC/self/cgroup says where this process is in each hierarchy:
//
//     4:cpu,cpuacct:/docker/abc/inner        v1: number:controllers:path
//     0::/system.slice/web.service           v2
//
// and PROC/self/mountinfo says which part of a hierarchy ("root") can be seen, and where:
//
//     31 30 0:28 /docker/abc /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct
//                root        mount point             type          v1: controllers
//
// The directory is the mount point and what the path has after the root; every directory from there up to the mount
// point may hold a limit, and the smallest wins. Both paths are relative to the cgroup namespace: "/.." is above it.
#include "cpus.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fd.h"
#include "str.h"

#define CPUS_MAX 8192  // the kernel's own ceiling (NR_CPUS)
#define SETS (CPUS_MAX / CPU_SETSIZE)
#define LINE_SIZE (PATH_MAX + 512)
#define FILE_PATH_SIZE (PATH_MAX + 64)

struct lines {
    int fd;  // borrowed
    size_t at, len;
    char chunk[1024];
};

struct mount {
    char *root, *point, *type, *options;  // borrowed: the line
};

struct walk {
    const char *proc_root, *root_prefix, *controller;  // mounts are always as this process sees them
    const char *path;  // in the hierarchy, from PROC/self/cgroup; borrowed: the line
    bool is_v2;
    cpus_cgroup_fn each;
    void *arg;
};

struct reading {
    struct cpus *out;
    size_t prefix_len;
};

static bool lines_fill(struct lines *lines) {
    ssize_t got = TEMP_FAILURE_RETRY(read(lines->fd, lines->chunk, sizeof lines->chunk));
    lines->at = 0;
    lines->len = got > 0 ? (size_t)got : 0;
    return got > 0;
}

// The next line that fits; a longer one is left out, since half a path would name another directory. (mountinfo of a
// host with containers has overlay lines of many KB.)
static bool lines_next(struct lines *lines, char *out, size_t size) {
    size_t len = 0;
    for (;;) {
        if (lines->at == lines->len && !lines_fill(lines)) return false;
        char c = lines->chunk[lines->at++];
        if (c != '\n') {
            if (len < size) out[len] = c;
            if (len < size) len++;
        } else if (len < size) {
            out[len] = '\0';
            return true;
        } else {
            len = 0;
        }
    }
}

static int open_of(const char *proc_root, const char *who, const char *name) {
    char path[FILE_PATH_SIZE];
    if (snprintf(path, sizeof path, "%s/%s/%s", proc_root, who, name) >= (int)sizeof path) return -1;
    return open(path, O_RDONLY | O_CLOEXEC);
}

// True when "a,b,c" has exactly this word.
static bool list_has(const char *list, const char *word) {
    size_t len = strlen(word);
    for (const char *at = list;; at++) {
        size_t item = strcspn(at, ",");
        if (item == len && strncmp(at, word, len) == 0) return true;
        at += item;
        if (!*at) return false;
    }
}

static bool is_octal(const char *text) {
    return text[0] >= '0' && text[0] <= '3' && text[1] >= '0' && text[1] <= '7' && text[2] >= '0' && text[2] <= '7';
}

// mountinfo writes space, tab, newline and backslash as \040, \011, \012 and \134.
static void unescape(char *text) {
    char *to = text;
    for (const char *from = text; *from; to++) {
        bool escaped = from[0] == '\\' && is_octal(from + 1);
        *to = escaped ? (char)((from[1] - '0') << 6 | (from[2] - '0') << 3 | (from[3] - '0')) : from[0];
        from += escaped ? 4 : 1;
    }
    *to = '\0';
}

// A number of optional fields come between the mount's own options and "-".
static bool mount_parse(char *line, struct mount *out) {
    char *save = NULL;
    char *field[6] = {strtok_r(line, " ", &save)};
    for (int i = 1; i < 6; i++)
        if (field[i - 1]) field[i] = strtok_r(NULL, " ", &save);
    char *word = field[5];
    while (word && strcmp(word, "-") != 0) word = strtok_r(NULL, " ", &save);
    if (!word) return false;
    out->root = field[3];
    out->point = field[4];
    out->type = strtok_r(NULL, " ", &save);
    strtok_r(NULL, " ", &save);  // the source says nothing
    out->options = strtok_r(NULL, " ", &save);
    if (!out->type || !out->options) return false;
    unescape(out->root);
    unescape(out->point);
    return true;
}

static bool mount_matches(const struct mount *mount, const struct walk *walk) {
    if (walk->is_v2) return strcmp(mount->type, "cgroup2") == 0;
    return strcmp(mount->type, "cgroup") == 0 && list_has(mount->options, walk->controller);
}

static bool climbs(const char *path) { return strncmp(path, "/..", 3) == 0 && (path[3] == '/' || path[3] == '\0'); }

// The rest of the path below the mount's root: "" for the root itself, NULL when the mount does not show this cgroup.
static const char *path_below(const char *root, const char *path) {
    size_t len = strcmp(root, "/") == 0 ? 0 : strlen(root);
    if (strncmp(root, path, len) == 0 && (path[len] == '/' || path[len] == '\0')) {
        const char *rest = path + len;
        if (climbs(rest)) return NULL;
        return strcmp(rest, "/") == 0 ? "" : rest;
    }
    // A root of nothing but ".." beyond those of the path is above this cgroup. The names on the way down are hidden by
    // the namespace, but the root itself still limits.
    while (climbs(root) && climbs(path)) root += 3, path += 3;
    if (!climbs(root)) return NULL;
    while (climbs(root)) root += 3;
    return *root ? NULL : "";
}

static bool walk_up(const struct walk *walk, const struct mount *mount) {
    const char *rest = path_below(mount->root, walk->path);
    char dir[PATH_MAX];
    if (!rest || snprintf(dir, sizeof dir, "%s%s%s", walk->root_prefix, mount->point, rest) >= (int)sizeof dir) return true;
    size_t base_len = strlen(walk->root_prefix) + strlen(mount->point);
    while (walk->each(dir, walk->is_v2, walk->arg)) {
        if (strlen(dir) <= base_len) return true;
        *strrchr(dir, '/') = '\0';  // there is one: `rest` begins with it
    }
    return false;
}

// Every mount that shows our cgroup is walked, not the first alone: each directory found is ours or above ours.
static bool walk_mounts(const struct walk *walk) {
    scoped_fd fd = open_of(walk->proc_root, "self", "mountinfo");
    if (fd < 0) return true;
    struct lines lines = {.fd = fd};
    char line[LINE_SIZE];
    while (lines_next(&lines, line, sizeof line)) {
        struct mount mount;
        if (mount_parse(line, &mount) && mount_matches(&mount, walk) && !walk_up(walk, &mount)) return false;
    }
    return true;
}

// "4:cpu,cpuacct:/docker/abc"; a path may have more colons.
static bool walk_parse(struct walk *walk, char *line) {
    char *controllers = strchr(line, ':');
    char *path = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!path || path[1] != '/') return false;
    *controllers++ = '\0';
    *path++ = '\0';
    walk->path = path;
    walk->is_v2 = strcmp(line, "0") == 0 && *controllers == '\0';
    return walk->is_v2 || list_has(controllers, walk->controller);
}

static void walk_groups_of(const char *who, struct walk *walk) {
    scoped_fd fd = open_of(walk->proc_root, who, "cgroup");
    if (fd < 0) return;
    struct lines lines = {.fd = fd};
    char line[LINE_SIZE];
    while (lines_next(&lines, line, sizeof line))
        if (walk_parse(walk, line) && !walk_mounts(walk)) return;
}

void cpus_cgroup_each(const char *proc_root, const char *root_prefix, const char *controller, cpus_cgroup_fn each, void *arg) {
    struct walk walk = {.proc_root = proc_root, .root_prefix = root_prefix, .controller = controller, .each = each, .arg = arg};
    walk_groups_of("self", &walk);
}

static ssize_t read_in(const char *dir, const char *name, char *out, size_t size) {
    char path[FILE_PATH_SIZE];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return fd_read_file(path, out, size);
}

static bool add_throttled(const char *dir, bool is_v2, void *arg) {
    (void)is_v2;
    char text[1024];
    const char *at = read_in(dir, "cpu.stat", text, sizeof text) > 0 ? strstr(text, "nr_throttled ") : NULL;
    if (at != NULL) *(uint64_t *)arg += strtoull(at + strlen("nr_throttled "), NULL, 10);
    return true;
}

uint64_t cpus_throttled(const char *proc_root, const char *root_prefix, pid_t pid) {
    uint64_t times = 0;
    char who[16];
    struct walk walk = {.proc_root = proc_root, .root_prefix = root_prefix, .controller = "cpu", .each = add_throttled, .arg = &times};
    snprintf(who, sizeof who, "%d", (int)pid);
    walk_groups_of(who, &walk);
    return times;
}

static bool parse_number(const char **text, uint64_t *out) {
    while (**text == ' ') (*text)++;
    if (**text < '0' || **text > '9') return false;  // strtoull would take "-1"
    char *end;
    errno = 0;
    *out = strtoull(*text, &end, 10);
    *text = end;
    return errno == 0;
}

// "150000" and "100000\n", or both in one text. "max", -1, zero and nonsense are no limit.
static double quota_of(const char *quota_text, const char *period_text) {
    uint64_t quota, period;
    if (!parse_number(&quota_text, &quota)) return CPUS_NO_LIMIT;
    if (!period_text) period_text = quota_text;
    if (!parse_number(&period_text, &period) || period == 0) return CPUS_NO_LIMIT;
    return (double)quota / (double)period;
}

static void source_set(char *source, const char *dir, const char *name) {
    char path[FILE_PATH_SIZE];
    size_t len = (size_t)snprintf(path, sizeof path, "%s/%s", dir, name);
    size_t cut = len < CPUS_SOURCE_SIZE ? 0 : len + strlen("...") + 1 - CPUS_SOURCE_SIZE;
    if (cut > 0) memcpy(path + cut - strlen("..."), "...", strlen("..."));
    str_copy(source, CPUS_SOURCE_SIZE, path + (cut > 0 ? cut - strlen("...") : 0));
}

static double quota_in(const char *dir, bool is_v2) {
    char quota[64], period[64];
    if (read_in(dir, is_v2 ? "cpu.max" : "cpu.cfs_quota_us", quota, sizeof quota) < 0) return CPUS_NO_LIMIT;
    if (is_v2) return quota_of(quota, NULL);
    if (read_in(dir, "cpu.cfs_period_us", period, sizeof period) < 0) return CPUS_NO_LIMIT;
    return quota_of(quota, period);
}

static bool on_quota(const char *dir, bool is_v2, void *arg) {
    const struct reading *reading = arg;
    struct cpus *out = reading->out;
    double quota = quota_in(dir, is_v2);
    if (quota > CPUS_NO_LIMIT && (out->quota <= CPUS_NO_LIMIT || quota < out->quota)) {
        out->quota = quota;
        source_set(out->quota_source, dir + reading->prefix_len, is_v2 ? "cpu.max" : "cpu.cfs_quota_us");
    }
    return true;
}

// The nearest list that says something: it lies within those above it. A v1 group is born with an empty one.
static bool on_cpuset(const char *dir, bool is_v2, void *arg) {
    const struct reading *reading = arg;
    static const char *const names[2][2] = {{"cpuset.effective_cpus", "cpuset.cpus"}, {"cpuset.cpus.effective", NULL}};
    for (int i = 0; i < 2 && names[is_v2][i]; i++) {
        char list[4096];
        if (read_in(dir, names[is_v2][i], list, sizeof list) < 0) continue;
        reading->out->cpuset = cpus_count_list(list);
        if (reading->out->cpuset == 0) continue;
        source_set(reading->out->cpuset_source, dir + reading->prefix_len, names[is_v2][i]);
        return false;
    }
    return true;
}

// A plain cpu_set_t is too small for a machine with more than 1024 processors: EINVAL.
static int affinity_count(void) {
    cpu_set_t sets[SETS];
    return sched_getaffinity(0, sizeof sets, sets) == 0 ? CPU_COUNT_S(sizeof sets, sets) : 0;
}

static int round_up(double quota) {
    if (quota >= CPUS_MAX) return CPUS_MAX;
    int whole = (int)quota;
    return quota > whole ? whole + 1 : whole;
}

static int smallest(const struct cpus *cpus) {
    int known[] = {cpus->affinity, cpus->cpuset, round_up(cpus->quota)};
    int count = cpus->online;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i] > 0 && (count <= 0 || known[i] < count)) count = known[i];
    return count > 0 ? count : 1;
}

void cpus_read(struct cpus *out, const char *proc_root, const char *root_prefix) {
    *out = (struct cpus){.online = (int)sysconf(_SC_NPROCESSORS_ONLN), .affinity = affinity_count(), .quota = CPUS_NO_LIMIT};
    struct reading reading = {.out = out, .prefix_len = strlen(root_prefix)};
    cpus_cgroup_each(proc_root, root_prefix, "cpu", on_quota, &reading);
    cpus_cgroup_each(proc_root, root_prefix, "cpuset", on_cpuset, &reading);
    out->count = smallest(out);
}

// "3" or "0-3" at *text into `sets`.
static bool parse_range(const char **text, cpu_set_t *sets) {
    uint64_t first, last;
    if (!parse_number(text, &first)) return false;
    last = first;
    if (**text == '-') {
        (*text)++;
        if (!parse_number(text, &last)) return false;
    }
    if (first > last || last >= CPUS_MAX) return false;
    for (uint64_t cpu = first; cpu <= last; cpu++) CPU_SET_S(cpu, sizeof(cpu_set_t) * SETS, sets);
    return true;
}

int cpus_count_list(const char *list) {
    cpu_set_t sets[SETS];
    CPU_ZERO_S(sizeof sets, sets);
    while (parse_range(&list, sets)) {
        if (*list == '\n') list++;
        if (*list == '\0') return CPU_COUNT_S(sizeof sets, sets);
        if (*list++ != ',') return 0;
    }
    return 0;
}

int cpus_pick(const cpu_set_t *set, int k) {
    int count = CPU_COUNT(set);
    if (count == 0) return -1;
    int skip = (k % count + count) % count;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, set) && skip-- == 0) return cpu;
    return -1;
}
