// SPDX-License-Identifier: MIT
// unshare(2) cannot be undone, and may succeed and yet give no power over the new namespace (AppArmor's restriction of user namespaces):
// so a child tries first whether loopback comes up.
#include "network.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fd.h"

#define PORT_START "/proc/sys/net/ipv4/ip_unprivileged_port_start"
#define NETSTAT_SIZE 16384

static int write_file(const char *path, const char *text) {
    scoped_fd fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return -errno;
    return fd_write_all(fd, text, strlen(text));
}

// The caller keeps his own number: programs that ask who they are see no difference.
static int map_ids(uid_t uid, gid_t gid) {
    char text[64];
    int err = write_file("/proc/self/setgroups", "deny");
    if (err && err != -ENOENT) return err;
    snprintf(text, sizeof text, "%u %u 1\n", (unsigned)uid, (unsigned)uid);
    err = write_file("/proc/self/uid_map", text);
    snprintf(text, sizeof text, "%u %u 1\n", (unsigned)gid, (unsigned)gid);
    return err ? err : write_file("/proc/self/gid_map", text);
}

static int raise_loopback(void) {
    struct ifreq request = {.ifr_name = "lo"};
    scoped_fd fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &request)) return -errno;
    request.ifr_flags |= IFF_UP;
    return ioctl(fd, SIOCSIFFLAGS, &request) ? -errno : 0;
}

// A new namespace starts with the default: the command must find the low ports as open as they are outside.
static void keep_port_start(const char *outside) {
    char inside[16] = "";
    fd_read_file(PORT_START, inside, sizeof inside);
    if (*outside && strcmp(inside, outside) != 0) write_file(PORT_START, outside);
}

static int enter(int flags, char *step, size_t size) {
    uid_t uid = geteuid();
    gid_t gid = getegid();
    char port_start[16] = "";
    fd_read_file(PORT_START, port_start, sizeof port_start);
    snprintf(step, size, "unshare");
    if (unshare(flags)) return -errno;
    snprintf(step, size, "map the user's id");
    int err = flags & CLONE_NEWUSER ? map_ids(uid, gid) : 0;
    if (err) return err;
    snprintf(step, size, "bring loopback up");
    err = raise_loopback();
    if (!err) keep_port_start(port_start);
    return err;
}

// 0 or -errno: how it went for a child.
static int try_enter(int flags) {
    char step[32];
    pid_t child = fork();
    if (child < 0) return -errno;
    if (child == 0) _exit(-enter(flags, step, sizeof step));
    int status;
    if (TEMP_FAILURE_RETRY(waitpid(child, &status, 0)) < 0) return -errno;
    return WIFEXITED(status) ? -WEXITSTATUS(status) : -EPERM;
}

enum network network_enter(struct pando_error *error) {
    static const struct {
        enum network network;
        int flags;
    } ways[] = {{NETWORK_PRIVATE, CLONE_NEWNET}, {NETWORK_PRIVATE_USER, CLONE_NEWUSER | CLONE_NEWNET}};
    char step[32] = "unshare";
    int err = 0;
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        // Where there is one user only, root's programs could not become another one.
        if (ways[i].network == NETWORK_PRIVATE_USER && geteuid() == 0) continue;
        err = try_enter(ways[i].flags);
        if (err) continue;
        err = enter(ways[i].flags, step, sizeof step);
        if (!err) return ways[i].network;
    }
    error_set(error, -err, "a network namespace of its own (%s)", step);
    return NETWORK_SHARED;
}

// /proc/net/netstat has a line of names, then a line of values, each beginning with "TcpExt:".
static long find_value(const char *names, const char *values, const char *wanted) {
    char *name_at = NULL, *value_at = NULL;
    char *names_copy = strdup(names), *values_copy = strdup(values);
    long found = -1;
    char *name = names_copy ? strtok_r(names_copy, " ", &name_at) : NULL;
    char *value = values_copy ? strtok_r(values_copy, " ", &value_at) : NULL;
    for (; name && value && found < 0; name = strtok_r(NULL, " ", &name_at), value = strtok_r(NULL, " ", &value_at))
        if (strcmp(name, wanted) == 0) found = strtol(value, NULL, 10);
    free(names_copy);
    free(values_copy);
    return found;
}

long network_aborts(void) {
    char text[NETSTAT_SIZE];
    char *line_at = NULL;
    if (fd_read_file("/proc/self/net/netstat", text, sizeof text) < 0) return -1;
    const char *names = strtok_r(text, "\n", &line_at);
    const char *values = strtok_r(NULL, "\n", &line_at);
    if (!names || !values) return -1;
    long unread = find_value(names, values, "TCPAbortOnClose"), late = find_value(names, values, "TCPAbortOnData");
    return unread < 0 || late < 0 ? -1 : unread + late;
}
