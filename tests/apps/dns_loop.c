// SPDX-License-Identifier: MIT
// `dns_loop PORT`: a thread looks names up without a pause, each time with the netlink bind() that the C library does for it;
// answers with how many it has done and how many went wrong.
#include "http_answer.h"

#include <netdb.h>
#include <pthread.h>
#include <stdatomic.h>

static atomic_long done, failed;

static void *look_up(void *unused) {
    (void)unused;
    for (;;) {
        struct addrinfo *list = NULL, hints = {.ai_flags = AI_ADDRCONFIG, .ai_socktype = SOCK_STREAM};
        if (getaddrinfo("localhost", "80", &hints, &list) == 0)
            freeaddrinfo(list);
        else
            atomic_fetch_add(&failed, 1);
        atomic_fetch_add(&done, 1);
        usleep(5000);
    }
    return NULL;
}

int main(int argc, char **argv) {
    (void)argc;
    int listener = listen_on_port(argv[1], 0);
    pthread_t thread;
    if (pthread_create(&thread, NULL, look_up, NULL) != 0) return 1;
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0) continue;
        char text[128];
        snprintf(text, sizeof text, "pid %d\nlookups %ld\nfailed %ld\n", (int)getpid(), atomic_load(&done), atomic_load(&failed));
        serve_one(fd, text);
        close(fd);
    }
}
