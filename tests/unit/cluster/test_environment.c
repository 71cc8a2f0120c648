// SPDX-License-Identifier: MIT
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "environment.h"

static const struct environment third_of_eight = {
    .slot = 2, .workers = 8, .generation = 4, .cpus_per_worker = 3, .notify_socket = "/run/pando/app.notify/2"};

static void a_worker_is_told_who_it_is(void **unused) {
    (void)unused;
    char *base[] = {"HOME=/root", NULL};
    char **envp = environment_build(base, &third_of_eight);
    assert_string_equal(environment_get(envp, "HOME"), "/root");
    assert_string_equal(environment_get(envp, "PANDO_WORKER"), "2");
    assert_string_equal(environment_get(envp, "PANDO_WORKERS"), "8");
    assert_string_equal(environment_get(envp, "PANDO_GENERATION"), "4");
    assert_string_equal(environment_get(envp, "NODE_APP_INSTANCE"), "2");
    assert_string_equal(environment_get(envp, "WEB_CONCURRENCY"), "1");
    assert_string_equal(environment_get(envp, "PYTHONUNBUFFERED"), "1");
    assert_string_equal(environment_get(envp, "GOMAXPROCS"), "3");
    assert_string_equal(environment_get(envp, "NOTIFY_SOCKET"), "/run/pando/app.notify/2");
    environment_free(envp);
}

static void what_the_user_set_stays(void **unused) {
    (void)unused;
    char *base[] = {"WEB_CONCURRENCY=4", "GOMAXPROCS=1", "PYTHONUNBUFFERED=", NULL};
    char **envp = environment_build(base, &third_of_eight);
    assert_string_equal(environment_get(envp, "WEB_CONCURRENCY"), "4");
    assert_string_equal(environment_get(envp, "GOMAXPROCS"), "1");
    assert_string_equal(environment_get(envp, "PYTHONUNBUFFERED"), "");
    environment_free(envp);
}

static void what_was_meant_for_pando_does_not_reach_a_worker(void **unused) {
    (void)unused;
    char *base[] = {"NOTIFY_SOCKET=/run/systemd/notify", "LISTEN_FDS=1", "LISTEN_PID=7", "LISTEN_FDNAMES=a", "WATCHDOG_USEC=1",
                    "WATCHDOG_PID=1", "NODE_CHANNEL_FD=3", "NODE_UNIQUE_ID=1", "PANDO_WORKER=77", NULL};
    struct environment with = third_of_eight;
    with.notify_socket = NULL;
    char **envp = environment_build(base, &with);
    const char *gone[] = {"NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_USEC", "WATCHDOG_PID",
                          "NODE_CHANNEL_FD", "NODE_UNIQUE_ID"};
    for (size_t i = 0; i < sizeof gone / sizeof *gone; i++) assert_null(environment_get(envp, gone[i]));
    assert_string_equal(environment_get(envp, "PANDO_WORKER"), "2");
    environment_free(envp);
}

static void a_name_that_only_begins_alike_is_another(void **unused) {
    (void)unused;
    char *base[] = {"NOTIFY_SOCKET_DIR=/x", "LISTEN_FDS_MAX=2", NULL};
    char **envp = environment_build(base, &third_of_eight);
    assert_string_equal(environment_get(envp, "NOTIFY_SOCKET_DIR"), "/x");
    assert_string_equal(environment_get(envp, "LISTEN_FDS_MAX"), "2");
    environment_free(envp);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_worker_is_told_who_it_is),
        cmocka_unit_test(what_the_user_set_stays),
        cmocka_unit_test(what_was_meant_for_pando_does_not_reach_a_worker),
        cmocka_unit_test(a_name_that_only_begins_alike_is_another),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
