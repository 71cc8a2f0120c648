// SPDX-License-Identifier: MIT
// What is started, and with what.
#include "scene.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static int exits, code_sum, failures;

static void on_worker_exit(pando_cluster *cluster, pando_worker *worker, int code, int signo, void *arg) {
    (void)cluster, (void)worker, (void)arg;
    CHECK_INT(signo, 0);
    exits++;
    code_sum += code;
}

static pando_cluster *watched(int argc, char **argv) {
    pando_cluster *cluster = scene_cluster(argc, argv);
    pando_on_exit(cluster, on_worker_exit, NULL);
    return cluster;
}

static void end(pando_cluster *cluster, int wanted_exits, int wanted_sum) {
    CHECK_INT(pando_cluster_run(cluster), 0);
    CHECK_INT(exits, wanted_exits);
    CHECK_INT(code_sum, wanted_sum);
    pando_cluster_free(cluster);
}

static int return_0(int argc, char **argv) { return (void)argc, (void)argv, 0; }

// ---- fork-env: per-fork environment reaches the worker

static void env_primary(int argc, char **argv) {
    setenv("SCENE_INHERITED", "yes", 1);
    setenv("SCENE_CHANGED", "old", 1);
    pando_cluster *cluster = watched(argc, argv);
    CHECK(pando_fork(cluster, (char *[]){"SCENE_CHANGED=new", "SCENE_OWN=1", NULL}) != NULL);
    CHECK(pando_fork(cluster, NULL) != NULL);
    CHECK(pando_fork(cluster, (char *[]){"PANDO_WORKER=77", NULL}) != NULL);  // ours to say
    end(cluster, 3, 11 + 20 + 20);
}

static int env_worker(int argc, char **argv) {
    (void)argc, (void)argv;
    const char *own = getenv("SCENE_OWN"), *changed = getenv("SCENE_CHANGED"), *inherited = getenv("SCENE_INHERITED");
    if (inherited == NULL || strcmp(inherited, "yes") != 0 || pando_self_slot() > 2) return 100;
    return own != NULL ? (strcmp(changed, "new") == 0 ? 11 : 101) : (strcmp(changed, "old") == 0 ? 20 : 102);
}

// ---- cwd

static void cwd_primary(int argc, char **argv) {
    char template[] = "/tmp/pando-scene-XXXXXX", here[4096];
    CHECK(mkdtemp(template) != NULL);
    CHECK(getcwd(here, sizeof here) != NULL);
    pando_cluster *cluster = watched(argc, argv);
    CHECK_INT(pando_setup(cluster, &(struct pando_settings){.cwd = template}), 0);
    CHECK(pando_fork(cluster, (char *[]){(char[]){"SCENE_CWD=/tmp/pando-scene-"}, NULL}) != NULL);
    end(cluster, 1, 5);
    char now[4096];
    CHECK_TEXT(getcwd(now, sizeof now), here);
    rmdir(template);
}

static int cwd_worker(int argc, char **argv) {
    char here[4096];
    (void)argc, (void)argv;
    if (getcwd(here, sizeof here) == NULL) return 100;
    return strncmp(here, getenv("SCENE_CWD"), strlen(getenv("SCENE_CWD"))) == 0 ? 5 : 101;
}

// ---- setup-primary

static int setups;
static void on_setup(pando_cluster *cluster, const struct pando_settings *settings, void *arg) {
    (void)arg;
    CHECK(settings == pando_cluster_settings(cluster));
    setups++;
}

static int count_args(char *const *args) {
    int count = 0;
    while (args[count] != NULL) count++;
    return count;
}

static void setup_primary(int argc, char **argv) {
    pando_cluster *cluster = watched(argc, argv);
    const struct pando_settings *settings = pando_cluster_settings(cluster);
    char self[4096] = "";
    CHECK(readlink("/proc/self/exe", self, sizeof self - 1) > 0);
    CHECK_TEXT(settings->exec, self);
    CHECK_INT(count_args(settings->args), argc - 1);
    CHECK_TEXT(settings->args[0], argv[1]);
    char *args[] = {argv[1], "one", "two", NULL};
    CHECK_INT(pando_setup(cluster, &(struct pando_settings){.args = args}), 0);
    args[1] = "changed afterwards";  // it was copied
    CHECK(pando_fork(cluster, NULL) != NULL);
    end(cluster, 1, 12);
}

static int args_worker(int argc, char **argv) {
    if (argc != 4) return 100;
    return strcmp(argv[2], "one") == 0 && strcmp(argv[3], "two") == 0 ? 12 : 101;
}

// ---- setup-primary-emit: each call is told, after it has returned and before the fork that follows it

static void emit_setup(pando_cluster *cluster, const struct pando_settings *settings, void *arg) {
    CHECK(arg == &setups);
    CHECK_TEXT(settings->cwd, "/tmp");  // what is in force when it is told
    on_setup(cluster, settings, NULL);
}

static void emit_fork(pando_cluster *cluster, pando_worker *worker, void *arg) {
    (void)cluster, (void)worker, (void)arg;
    CHECK_INT(setups, 2);
}

static void emit_primary(int argc, char **argv) {
    pando_cluster *cluster = watched(argc, argv);
    pando_on_setup(cluster, emit_setup, &setups);
    pando_on_fork(cluster, emit_fork, NULL);
    CHECK_INT(pando_setup(cluster, &(struct pando_settings){.cwd = "/"}), 0);
    CHECK_INT(pando_setup(cluster, &(struct pando_settings){.cwd = "/tmp"}), 0);
    CHECK_INT(setups, 0);
    CHECK(pando_fork(cluster, NULL) != NULL);
    end(cluster, 1, 0);
    CHECK_INT(setups, 2);
}

// ---- setup-primary-multiple: again and again, between forks; each fork starts what was said last

static void multiple_primary(int argc, char **argv) {
    pando_cluster *cluster = watched(argc, argv);
    for (int i = 1; i <= 4; i++) {
        char command[16];
        snprintf(command, sizeof command, "exit %d", 1 << i);
        CHECK_INT(pando_setup(cluster, &(struct pando_settings){.exec = "sh", .args = (char *[]){"-c", command, NULL}}), 0);
        CHECK(pando_fork(cluster, NULL) != NULL);
    }
    end(cluster, 4, 2 + 4 + 8 + 16);
}

// ---- setup-primary-cumulative: each call changes what it names and leaves the rest

static void cumulative_primary(int argc, char **argv) {
    pando_cluster *cluster = watched(argc, argv);
    pando_on_setup(cluster, on_setup, NULL);
    CHECK_INT(pando_setup(cluster, &(struct pando_settings){.cwd = "/"}), 0);
    CHECK_TEXT(pando_cluster_settings(cluster)->cwd, "/");
    CHECK_INT(pando_setup(cluster, &(struct pando_settings){.args = (char *[]){argv[1], "more", NULL}}), 0);
    CHECK_TEXT(pando_cluster_settings(cluster)->cwd, "/");
    CHECK_INT(count_args(pando_cluster_settings(cluster)->args), 2);
    CHECK_INT(pando_setup(cluster, NULL), 0);
    CHECK_INT(setups, 0);
    CHECK(pando_fork(cluster, NULL) != NULL);
    CHECK_INT(pando_setup(cluster, &(struct pando_settings){.cwd = "/tmp"}), 0);  // for later forks alone
    CHECK(pando_fork(cluster, NULL) != NULL);
    end(cluster, 2, 1 + 2);
    CHECK_INT(setups, 4);
}

static int cumulative_worker(int argc, char **argv) {
    char here[4096];
    if (argc != 3 || strcmp(argv[2], "more") != 0 || getcwd(here, sizeof here) == NULL) return 100;
    return strcmp(here, "/") == 0 ? 1 : strcmp(here, "/tmp") == 0 ? 2 : 101;
}

// ---- setup-primary-argv: another program

static void exec_primary(int argc, char **argv) {
    pando_cluster *cluster = watched(argc, argv);
    CHECK_INT(pando_setup(cluster, &(struct pando_settings){.exec = "sh", .args = (char *[]){"-c", "exit 9", NULL}}), 0);
    CHECK(pando_fork(cluster, NULL) != NULL);
    end(cluster, 1, 9);
}

static void on_failure(pando_cluster *cluster, pando_worker *worker, const struct pando_error *error, void *arg) {
    (void)cluster, (void)arg;
    CHECK(worker == NULL);
    CHECK_INT(error->code, ENOENT);
    CHECK(strstr(error->text, "/no/such/program") != NULL);
    failures++;
}

static void missing_primary(int argc, char **argv) {
    pando_cluster *cluster = watched(argc, argv);
    pando_on_failure(cluster, on_failure, NULL);
    CHECK_INT(pando_setup(cluster, &(struct pando_settings){.exec = "/no/such/program"}), 0);
    CHECK(pando_fork(cluster, NULL) == NULL);
    CHECK_INT(errno, ENOENT);
    CHECK_INT(failures, 0);
    CHECK_INT(pando_cluster_error(cluster)->code, ENOENT);
    CHECK_INT(pando_setup(cluster, &(struct pando_settings){.exec = "true"}), 0);
    CHECK(pando_fork(cluster, NULL) != NULL);
    end(cluster, 1, 0);
    CHECK_INT(failures, 1);
}

// ---- uid, gid

static void user_primary(int argc, char **argv) {
    if (geteuid() != 0) scene_skip("only root can change the user");
    pando_cluster *cluster = watched(argc, argv);
    char *args[] = {"-c", "exit $(( $(id -u) == 65534 && $(id -g) == 65533 && $(id -G | wc -w) == 1 ))", NULL};
    CHECK_INT(pando_setup(cluster,
                          &(struct pando_settings){.exec = "sh", .args = args, .cwd = "/", .set_user = true, .uid = 65534, .gid = 65533}),
              0);
    CHECK(pando_fork(cluster, NULL) != NULL);
    end(cluster, 1, 1);
}

// ---- fork-stdio: extra pipes can be used, both ways; silent

static void read_all(int fd, char *out, size_t size) {
    size_t len = 0;
    ssize_t n;
    int flags = fcntl(fd, F_GETFL);
    fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
    while (len < size - 1 && (n = read(fd, out + len, size - 1 - len)) > 0) len += (size_t)n;
    out[len] = '\0';
}

static void stdio_primary(int argc, char **argv) {
    char text[64];
    pando_cluster *cluster = watched(argc, argv);
    struct pando_settings settings = {.silent = true};
    settings.stdio[0].kind = PANDO_STDIO_PIPE;
    settings.stdio[3].kind = PANDO_STDIO_PIPE;
    settings.stdio[4] = (struct pando_stdio){PANDO_STDIO_FD, open("/dev/null", O_RDWR | O_CLOEXEC)};
    settings.stdio[5].kind = PANDO_STDIO_NULL;
    CHECK_INT(pando_setup(cluster, &settings), 0);
    pando_worker *worker = pando_fork(cluster, NULL);
    CHECK(worker != NULL);
    CHECK(pando_worker_stdio(worker, 4) == -1 && pando_worker_stdio(worker, 5) == -1 && pando_worker_stdio(worker, 6) == -1);
    CHECK_INT(send(pando_worker_stdio(worker, 3), "abc", 3, 0), 3);
    CHECK_INT(send(pando_worker_stdio(worker, 0), "def", 3, 0), 3);
    read_all(pando_worker_stdio(worker, 1), text, sizeof text);
    CHECK_TEXT(text, "out");
    read_all(pando_worker_stdio(worker, 2), text, sizeof text);
    CHECK_TEXT(text, "err");
    read_all(pando_worker_stdio(worker, 3), text, sizeof text);
    CHECK_TEXT(text, "ABC");
    int taken = pando_worker_stdio_take(worker, 3);
    CHECK(taken >= 0 && pando_worker_stdio(worker, 3) == -1);
    end(cluster, 1, 6);
    close(taken);
    close(settings.stdio[4].fd);
}

static int stdio_worker(int argc, char **argv) {
    char text[8] = "";
    (void)argc, (void)argv;
    if (read(3, text, 3) != 3 || strcmp(text, "abc") != 0 || write(3, "ABC", 3) != 3) return 100;
    if (read(0, text, 3) != 3 || strcmp(text, "def") != 0) return 101;
    if (write(4, "x", 1) != 1 || write(5, "x", 1) != 1) return 102;
    if (write(1, "out", 3) != 3 || write(2, "err", 3) != 3) return 103;
    return 6;
}

// ---- descriptors of the primary do not leak into workers

static void leak_primary(int argc, char **argv) {
    int open_here = open("/dev/null", O_RDWR);  // without O_CLOEXEC
    CHECK(open_here >= 0);
    pando_cluster *cluster = watched(argc, argv);
    CHECK(pando_fork(cluster, NULL) != NULL);
    CHECK(pando_fork(cluster, NULL) != NULL);
    end(cluster, 2, 2);
}

// 0, 1, 2 and the channel.
static int count_worker(int argc, char **argv) { return (void)argc, (void)argv, scene_open_fds() == 4 ? 1 : 100; }

// ---- scheduling policy

static void policy_primary(int argc, char **argv) {
    setenv("NODE_CLUSTER_SCHED_POLICY", "none", 1);
    pando_cluster *cluster = watched(argc, argv);
    CHECK_INT(pando_cluster_policy(cluster), PANDO_SCHED_NONE);
    setenv("PANDO_POLICY", "sticky", 1);
    pando_cluster *other = watched(argc, argv);
    CHECK_INT(pando_cluster_policy(other), PANDO_SCHED_STICKY);
    CHECK_INT(pando_set_policy(other, PANDO_SCHED_RANDOM), 0);
    CHECK_INT(pando_set_policy(other, (enum pando_policy)99), -EINVAL);
    CHECK_INT(pando_cluster_policy(other), PANDO_SCHED_RANDOM);
    pando_cluster_free(other);
    CHECK(pando_fork(cluster, NULL) != NULL);
    CHECK_INT(pando_set_policy(cluster, PANDO_SCHED_RR), -EBUSY);
    end(cluster, 1, 0);
}

const struct scene scenes_settings[] = {
    {"fork_env", env_primary, env_worker},
    {"fork_stdio", stdio_primary, stdio_worker},
    {"fork_inherits_nothing_else", leak_primary, count_worker},
    {"cwd", cwd_primary, cwd_worker},
    {"setup_primary", setup_primary, args_worker},
    {"setup_primary_cumulative", cumulative_primary, cumulative_worker},
    {"setup_primary_emit", emit_primary, return_0},
    {"setup_primary_multiple", multiple_primary, NULL},
    {"setup_primary_exec", exec_primary, NULL},
    {"setup_primary_missing_exec", missing_primary, return_0},
    {"setup_primary_user", user_primary, NULL},
    {"scheduling_policy", policy_primary, return_0},
};
const size_t scenes_settings_count = SCENE_COUNT(scenes_settings);
