// SPDX-License-Identifier: MIT
// A stopped process accepts nothing; what it had accepted is what its descriptors say. Between stop and look somebody else may let it run
// on (Pando itself, having frozen it to take its queue away): so the looking counts only when the processor clocks of all processes
// stood still meanwhile, and is done again otherwise.
#include "victim.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "procinfo.h"
#include "sock_diag.h"

#define FREEZE_NS (5 * CLOCK_S)
enum { PROCESSES_MAX = 1024, LOOKS_MAX = 50 };

struct victims {
    uint16_t port;
    int processes;
    pid_t process[PROCESSES_MAX];
    uint64_t clock_ns[PROCESSES_MAX];
    size_t inodes, inode_room;
    uint64_t *inode;  // owned
    size_t ports, port_room;
    uint16_t *client;  // owned
    int err;
};

static void victims_deinit(struct victims *victims) {
    free(victims->inode);
    free(victims->client);
}

static bool note_process(pid_t pid, void *arg) {
    struct victims *victims = arg;
    if (victims->processes < PROCESSES_MAX) victims->process[victims->processes++] = pid;
    return true;
}

static void find_processes(struct victims *victims, const pid_t *pids, int count) {
    victims->processes = 0;
    for (int i = 0; i < count; i++) {
        int before = victims->processes;
        procinfo_group_each(pids[i], note_process, victims);
        if (victims->processes == before) note_process(pids[i], victims);  // no group of that number: the process alone
    }
}

static void signal_all(const pid_t *pids, int count, int signo) {
    for (int i = 0; i < count; i++)
        if (kill(-pids[i], signo)) kill(pids[i], signo);
}

static bool all_stopped(const struct victims *victims) {
    for (int i = 0; i < victims->processes; i++)
        if (!procinfo_all_stopped(victims->process[i])) return false;
    return true;
}

static int freeze(struct victims *victims, const pid_t *pids, int count) {
    uint64_t end = clock_now_ns() + FREEZE_NS;
    do {
        signal_all(pids, count, SIGSTOP);
        find_processes(victims, pids, count);
        for (int i = 0; i < 20; i++) {
            if (all_stopped(victims)) return 0;
            usleep(100);
        }
    } while (clock_now_ns() < end);
    return -ETIMEDOUT;
}

static bool note_inode(int fd, uint64_t inode, void *arg) {
    struct victims *victims = arg;
    (void)fd;
    if (victims->inodes == victims->inode_room) {
        size_t room = victims->inode_room ? 2 * victims->inode_room : 256;
        uint64_t *grown = reallocarray(victims->inode, room, sizeof *grown);
        if (!grown) return victims->err = -ENOMEM, false;
        victims->inode = grown;
        victims->inode_room = room;
    }
    victims->inode[victims->inodes++] = inode;
    return true;
}

static int compare(const void *a, const void *b) {
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

static bool note_client(const struct sock_diag_tcp *socket, void *arg) {
    struct victims *victims = arg;
    if (socket->inode == 0 || !bsearch(&socket->inode, victims->inode, victims->inodes, sizeof *victims->inode, compare)) return true;
    if (victims->ports == victims->port_room) {
        size_t room = victims->port_room ? 2 * victims->port_room : 256;
        uint16_t *grown = reallocarray(victims->client, room, sizeof *grown);
        if (!grown) return victims->err = -ENOMEM, false;
        victims->client = grown;
        victims->port_room = room;
    }
    victims->client[victims->ports++] = socket->remote_port;
    return true;
}

static int look(struct victims *victims) {
    victims->inodes = victims->ports = 0;
    victims->err = 0;
    for (int i = 0; i < victims->processes; i++) {
        int err = procinfo_socket_each(victims->process[i], note_inode, victims);
        if (err && err != -ESRCH) return err;
        if (victims->err) return victims->err;
    }
    if (victims->inodes == 0) return 0;
    qsort(victims->inode, victims->inodes, sizeof *victims->inode, compare);
    int err = sock_diag_tcp_each(victims->port, note_client, victims);
    return err ? err : victims->err;
}

static void read_clocks(const struct victims *victims, uint64_t *out) {
    for (int i = 0; i < victims->processes; i++) out[i] = procinfo_cpu_clock_ns(victims->process[i]);
}

// They stood still from before the look until now.
static bool stood_still(const struct victims *victims) {
    for (int i = 0; i < victims->processes; i++)
        if (procinfo_cpu_clock_ns(victims->process[i]) != victims->clock_ns[i]) return false;
    return all_stopped(victims);
}

static int freeze_and_look(struct victims *victims, const pid_t *pids, int count) {
    for (int i = 0; i < LOOKS_MAX; i++) {
        int err = freeze(victims, pids, count);
        if (err) return err;
        read_clocks(victims, victims->clock_ns);
        err = look(victims);
        if (err) return err;
        if (stood_still(victims)) return 0;
    }
    return -EAGAIN;
}

int victims_kill(struct load *load, uint16_t port, const pid_t *pids, int count, struct pando_error *error) {
    __attribute__((cleanup(victims_deinit))) struct victims victims = {.port = port};
    int err = freeze_and_look(&victims, pids, count);
    if (err) {
        signal_all(pids, count, SIGCONT);
        return error_set(error, -err, "freeze a worker and list its connections");
    }
    int inside = (int)load_mark_inside(load, victims.client, victims.ports);
    for (int i = 0; i < count; i++) kill(pids[i], SIGKILL);
    return inside;
}
