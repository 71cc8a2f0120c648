// SPDX-License-Identifier: MIT
// `says_limits PORT`: answers with what a worker is given: RLIMIT_NOFILE, open descriptors, uid, directory, CPUs, session, environment.
#include "http_answer.h"

#include <dirent.h>
#include <sched.h>
#include <sys/resource.h>

extern char **environ;

static int open_fds(void) {
    int count = -3;  // ".", ".." and the one that reads
    DIR *dir = opendir("/proc/self/fd");
    while (readdir(dir) != NULL) count++;
    closedir(dir);
    return count;
}

int main(int argc, char **argv) {
    (void)argc;
    int fds_at_start = open_fds();
    static char text[65536], directory[4096];
    int listener = listen_on_port(argv[1], 0);
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0) continue;
        struct rlimit limit;
        cpu_set_t cpus;
        getrlimit(RLIMIT_NOFILE, &limit);
        sched_getaffinity(0, sizeof cpus, &cpus);
        int len = snprintf(text, sizeof text,
                           "pid %d\nnofile_soft %ld\nnofile_hard %ld\nfds_at_start %d\nuid %d\ngid %d\ndirectory %s\ncpus %d\nsession %d\n",
                           (int)getpid(), (long)limit.rlim_cur, (long)limit.rlim_max, fds_at_start, (int)getuid(), (int)getgid(),
                           getcwd(directory, sizeof directory), CPU_COUNT(&cpus), (int)getsid(0));
        for (char **entry = environ; *entry != NULL && len < (int)sizeof text - 1024; entry++)
            len += snprintf(text + len, 1000, "env %.900s\n", *entry);
        char request[4096], head[256];
        if (recv(fd, request, sizeof request, 0) > 0) {
            int head_len = snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n", len);
            send(fd, head, (size_t)head_len, MSG_NOSIGNAL);
            send(fd, text, (size_t)len, MSG_NOSIGNAL);
        }
        close(fd);
    }
}
