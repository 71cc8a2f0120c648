// SPDX-License-Identifier: MIT
// death KEEPER WORKER SLOT PORT CONNECTIONS WAITING: kills a worker of an instance in slot mode in whose queue connections wait, and prints as
// JSON how long it took, from the SIGKILL on, until its slot was out of the steering, and until the last of those was answered by a sibling.
// The worker is stopped first, so that what it is given stays in its queue: WAITING of the CONNECTIONS that are opened then.
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "fd.h"
#include "steering_memory.h"
#include "str.h"

enum { CONNECTIONS_MAX = 256, PATIENCE_S = 20, FDS_MAX = 4096, LOOK_NS = 20000 };

static int client[CONNECTIONS_MAX];

static void must(bool ok, const char *what) {
    if (ok) return;
    fprintf(stderr, "death: %s: %s\n", what, strerror(errno));
    exit(1);
}

// One of the keeper's descriptors is the array that consists of this one block.
static const struct steering_memory *memory_of(pid_t keeper) {
    scoped_fd process = (int)syscall(SYS_pidfd_open, keeper, 0);
    must(process >= 0, "the keeper");
    for (int number = 0; number < FDS_MAX; number++) {
        char path[64], text[1024], wanted[32];
        snprintf(path, sizeof path, "/proc/%d/fdinfo/%d", (int)keeper, number);
        snprintf(wanted, sizeof wanted, "value_size:\t%zu\n", sizeof(struct steering_memory));
        if (fd_read_file(path, text, sizeof text) <= 0 || strstr(text, wanted) == NULL) continue;
        scoped_fd map = (int)syscall(SYS_pidfd_getfd, process, number, 0);
        const void *at = mmap(NULL, sizeof(struct steering_memory), PROT_READ, MAP_SHARED, map, 0);
        must(map >= 0 && at != MAP_FAILED, "the steering memory");
        return at;
    }
    errno = ENOENT;
    must(false, "the keeper holds no steering");
    return NULL;
}

static bool is_fit(const struct steering_memory *memory, unsigned slot) {
    const volatile struct steering_bank *bank = &memory->bank[*(const volatile uint32_t *)&memory->current & 1];
    for (uint32_t i = 0; i < bank->fit && i < STEERING_SLOTS; i++)
        if (bank->order[i] == slot) return true;
    return false;
}

static int ask(int port) {
    static const char request[] = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(connect(fd, (struct sockaddr *)&to, sizeof to) == 0, "connect");
    must(send(fd, request, sizeof request - 1, MSG_NOSIGNAL) == sizeof request - 1, "send");
    return fd;
}

// Closes those that are answered; how many are not.
static int unanswered(int count, int patience_ms) {
    struct pollfd ready[CONNECTIONS_MAX];
    int left = 0;
    for (int i = 0; i < count; i++) ready[i] = (struct pollfd){.fd = client[i], .events = POLLIN};
    must(poll(ready, (nfds_t)count, patience_ms) >= 0, "poll");
    for (int i = 0; i < count; i++) {
        char answer[4096];
        if (ready[i].revents != 0) {
            must(recv(client[i], answer, sizeof answer, 0) > 0, "a connection that waited");
            fd_close(&client[i]);
        }
        left += client[i] >= 0;
    }
    return left;
}

static long number_of(const char *text, long most) {
    long number;
    if (str_parse_number(text, 0, most, &number) == 0) return number;
    fprintf(stderr, "death: KEEPER WORKER SLOT PORT CONNECTIONS WAITING\n");
    exit(2);
}

int main(int argc, char **argv) {
    if (argc != 7) number_of("", 0);
    pid_t worker = (pid_t)number_of(argv[2], 1 << 30);
    const struct steering_memory *memory = memory_of((pid_t)number_of(argv[1], 1 << 30));
    unsigned slot = (unsigned)number_of(argv[3], STEERING_SLOTS - 1);
    int port = (int)number_of(argv[4], UINT16_MAX), count = (int)number_of(argv[5], CONNECTIONS_MAX), waiting = (int)number_of(argv[6], count);
    must(is_fit(memory, slot), "the slot is not fit");
    must(kill(worker, SIGSTOP) == 0, "stopping the worker");
    for (int i = 0; i < count; i++) client[i] = ask(port);
    uint64_t give_up_ns = clock_now_ns() + PATIENCE_S * CLOCK_S;
    while (unanswered(count, 1) > waiting) must(clock_now_ns() < give_up_ns, "the siblings' answers");
    uint64_t killed_ns = clock_now_ns(), out_ns = 0, answered_ns = 0;
    must(kill(worker, SIGKILL) == 0, "killing the worker");
    while (out_ns == 0 || answered_ns == 0) {
        uint64_t now_ns = clock_now_ns();
        must(now_ns < give_up_ns, "the end of the worker");
        if (out_ns == 0 && !is_fit(memory, slot)) out_ns = now_ns;
        if (answered_ns == 0 && unanswered(count, 0) == 0) answered_ns = clock_now_ns();
        nanosleep(&(struct timespec){.tv_nsec = LOOK_NS}, NULL);  // who looks all the time takes a processor from those that are looked at
    }
    printf("{\"out_us\": %.1f, \"answered_us\": %.1f}\n", (double)(out_ns - killed_ns) / 1000, (double)(answered_ns - killed_ns) / 1000);
    return 0;
}
