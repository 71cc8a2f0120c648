// SPDX-License-Identifier: MIT
#include "scene.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PATIENCE_S = 120, SKIPPED = 77 };

extern const struct scene scenes_basic[], scenes_disconnect[], scenes_listen[], scenes_message[], scenes_settings[], scenes_bad_input[];
extern const size_t scenes_basic_count, scenes_disconnect_count, scenes_listen_count, scenes_message_count, scenes_settings_count,
    scenes_bad_input_count;

void scene_fail(const char *file, int line, const char *format, ...) {
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    fprintf(stderr, "%s (%d) %s:%d: %s\n", pando_is_worker() ? "worker" : "primary", (int)getpid(), file, line, text);
    fflush(NULL);
    _exit(1);
}

void scene_skip(const char *why) {
    printf("SKIP: %s\n", why);
    exit(SKIPPED);
}

static void on_alarm(int signo) {
    static const char text[] = "the scene does not end\n";
    (void)signo;
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0) _exit(2);
    _exit(1);
}

// ---- primaries

pando_cluster *scene_cluster(int argc, char **argv) {
    struct pando_error error = {0};
    pando_cluster *cluster = pando_cluster_new_with(&(pando_cluster_options){.argc = argc, .argv = argv}, &error);
    if (cluster == NULL) scene_fail(__FILE__, __LINE__, "%s", error.text);
    return cluster;
}

// All of 127.0.0.0/8 is ours, and a pid is nobody else's while we live.
const char *scene_address(void) {
    static char entry[64];
    unsigned pid = (unsigned)getpid();
    if (getenv("SCENE_ADDRESS") != NULL) return getenv("SCENE_ADDRESS");
    snprintf(entry, sizeof entry, "127.%u.%u.%u:7000", 64 + (pid >> 16 & 63), pid >> 8 & 255, pid & 255);
    setenv("SCENE_ADDRESS", entry, 1);
    return getenv("SCENE_ADDRESS");
}

static socklen_t parse(const char *address, struct sockaddr_storage *out) {
    char host[64] = "";
    const char *colon = strrchr(address, ':');
    memset(out, 0, sizeof *out);
    if (address[0] == '[') {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)out;
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons((uint16_t)atoi(colon + 1));
        memcpy(host, address + 1, (size_t)(colon - address) - 2);
        CHECK(inet_pton(AF_INET6, host, &in6->sin6_addr) == 1);
        return sizeof *in6;
    }
    struct sockaddr_in *in = (struct sockaddr_in *)out;
    in->sin_family = AF_INET;
    in->sin_port = htons((uint16_t)atoi(colon + 1));
    memcpy(host, address, (size_t)(colon - address));
    CHECK(inet_pton(AF_INET, host, &in->sin_addr) == 1);
    return sizeof *in;
}

int scene_connect(const char *address) {
    struct sockaddr_storage at;
    struct timeval patience = {.tv_sec = PATIENCE_S / 2};
    socklen_t len = parse(address, &at);
    int fd = socket(at.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (connect(fd, (struct sockaddr *)&at, len) == 0) return fd;
    int error = -errno;
    close(fd);
    return error;
}

int scene_ask(const char *address) {
    char text[64];
    int fd = scene_connect(address);
    if (fd < 0) return fd;
    ssize_t n = recv(fd, text, sizeof text - 1, 0);
    int error = n < 0 ? -errno : -ECONNRESET;
    close(fd);
    if (n <= 0) return error;
    text[n] = '\0';
    return atoi(text);
}

void scene_wait_until(bool (*truth)(void *arg), void *arg) {
    for (int i = 0; i < PATIENCE_S / 2 * 200; i++) {
        if (truth(arg)) return;
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
    scene_fail(__FILE__, __LINE__, "what was waited for did not come");
}

struct threaded {
    uv_work_t work;
    pando_cluster *cluster;
    void (*fn)(pando_cluster *cluster);
    void (*done)(pando_cluster *cluster);
};

static void on_work(uv_work_t *work) {
    struct threaded *threaded = work->data;
    threaded->fn(threaded->cluster);
}

static void on_worked(uv_work_t *work, int status) {
    struct threaded *threaded = work->data;
    CHECK_INT(status, 0);
    threaded->done(threaded->cluster);
    free(threaded);
}

void scene_in_thread(pando_cluster *cluster, void (*work)(pando_cluster *cluster), void (*done)(pando_cluster *cluster)) {
    struct threaded *threaded = malloc(sizeof *threaded);
    CHECK(threaded != NULL);
    *threaded = (struct threaded){.cluster = cluster, .fn = work, .done = done};
    threaded->work.data = threaded;
    CHECK_INT(uv_queue_work(pando_cluster_loop(cluster), &threaded->work, on_work, on_worked), 0);
}

int scene_open_fds(void) {
    int count = 0;
    DIR *dir = opendir("/proc/self/fd");
    CHECK(dir != NULL);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) count += entry->d_name[0] != '.';
    closedir(dir);
    return count - 1;
}

// ---- workers

int plain_listen(const char *address) {
    struct sockaddr_storage at;
    socklen_t len = parse(address, &at);
    int one = 1, fd = socket(at.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    CHECK(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&at, len) == 0 && listen(fd, 511) == 0) return fd;
    int error = -errno;
    close(fd);
    return error;
}

void answer_forever(int listener) {
    for (;;) {
        char text[32];
        struct pollfd readable = {.fd = listener, .events = POLLIN};
        poll(&readable, 1, -1);
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0) continue;
        int len = snprintf(text, sizeof text, "%d\n", (int)getpid());
        if (send(fd, text, (size_t)len, MSG_NOSIGNAL) < 0) fprintf(stderr, "send: %s\n", strerror(errno));
        close(fd);
    }
}

int serve_pids_at(const char *address) {
    int listener = plain_listen(address);
    if (listener < 0) return 100;
    answer_forever(listener);
    return 0;
}

int serve_pids(int argc, char **argv) {
    (void)argc, (void)argv;
    return serve_pids_at(scene_address());
}

// ---- the program

static const struct scene *find(const char *name) {
    const struct {
        const struct scene *table;
        size_t count;
    } all[] = {{scenes_basic, scenes_basic_count},       {scenes_disconnect, scenes_disconnect_count},
               {scenes_listen, scenes_listen_count},     {scenes_message, scenes_message_count},
               {scenes_settings, scenes_settings_count}, {scenes_bad_input, scenes_bad_input_count}};
    for (size_t t = 0; t < SCENE_COUNT(all); t++)
        for (size_t i = 0; i < all[t].count; i++) {
            if (name == NULL)
                puts(all[t].table[i].name);
            else if (strcmp(all[t].table[i].name, name) == 0)
                return &all[t].table[i];
        }
    return NULL;
}

int main(int argc, char **argv) {
    const struct scene *scene = argc > 1 ? find(argv[1]) : NULL;
    if (argc > 1 && strcmp(argv[1], "--list") == 0) return find(NULL), 0;
    if (scene == NULL) return fprintf(stderr, "usage: scenes NAME | --list\n"), 2;
    if (pando_is_worker()) return scene->worker != NULL ? scene->worker(argc, argv) : serve_pids(argc, argv);
    signal(SIGALRM, on_alarm);
    alarm(PATIENCE_S);
    scene->primary(argc, argv);
    return 0;
}
