// SPDX-License-Identifier: MIT
// A queue where nobody accepts makes a descriptor readable; one where somebody does, does not.
#include <pthread.h>
#include <sys/mman.h>
#include <time.h>

#include "steering_group.h"

#define PATIENCE_MS 10
#define PATIENCE_NS (PATIENCE_MS * UINT64_C(1000000))

static uint64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static bool is_woken(const struct group *group, int patience_ms) {
    struct pollfd wake = {.fd = steering_wake_fd(group->steering), .events = POLLIN};
    return poll(&wake, 1, patience_ms) == 1;
}

static struct group *watched(int count) {
    struct group *group = group_open(AF_INET, STEERING_RR, count, 1);
    assert_int_equal(steering_watch(group->steering, PATIENCE_NS), 0);
    return group;
}

static void a_queue_that_does_not_move_wakes(void **state) {
    (void)state;
    GROUP_NEEDED();
    struct group *group = watched(3);
    assert_false(is_woken(group, 50));
    uint64_t since = now_ms();
    int client = group_dial(group);
    assert_true(is_woken(group, 5000));
    assert_true(now_ms() - since >= PATIENCE_MS);
    steering_wake_take(group->steering);
    assert_true(steering_waited_ns(group->steering, 0) >= PATIENCE_NS);
    assert_int_equal(steering_waited_ns(group->steering, 1), 0);
    int server = group_accept(group, 0);
    for (int i = 0; i < 1000 && steering_waited_ns(group->steering, 0) != 0; i++) usleep(1000);
    assert_int_equal(steering_waited_ns(group->steering, 0), 0);
    steering_wake_take(group->steering);
    assert_false(is_woken(group, 50));
    fd_close(&server);
    group_reset(&client);
    group_close(group);
}

// Less and less often: after 1, 2, 4, 8, 16 ... ticks.
static void a_queue_that_stays_stuck_reminds(void **state) {
    (void)state;
    GROUP_NEEDED();
    struct group *group = watched(2);
    int client = group_dial(group), wakes = 0;
    uint64_t ticks = 0;
    while (ticks < 30 || wakes < 3) {
        assert_true(is_woken(group, 5000));
        steering_wake_take(group->steering);
        wakes++;
        ticks = steering_waited_ns(group->steering, 0) / PATIENCE_NS;
        assert_true(ticks >= UINT64_C(1) << (wakes - 1));
    }
    group_reset(&client);
    group_close(group);
}

static uint64_t longest_ms;  // that nothing was accepted: on a busy machine a wake may be right

static void *accept_slowly(void *arg) {
    const struct group *group = arg;
    int server;
    uint64_t last = now_ms();
    for (int served = 0; served < 200;) {
        if ((server = group_accept(group, 0)) < 0) continue;
        if (now_ms() - last > longest_ms) longest_ms = now_ms() - last;
        last = now_ms();
        usleep(2000);  // a request takes 2 ms: the queue is never empty, and always moves
        fd_close(&server);
        served++;
    }
    return NULL;
}

static void a_queue_that_moves_does_not_wake(void **state) {
    (void)state;
    GROUP_NEEDED();
    struct group *group = watched(1);
    static int client[200];
    pthread_t worker;
    longest_ms = 0;
    assert_int_equal(pthread_create(&worker, NULL, accept_slowly, group), 0);
    for (int i = 0; i < 200; i++) client[i] = group_dial(group);
    int wakes = 0;
    while (group_queue(group->fd[0]) > 2) wakes += is_woken(group, 10);
    pthread_join(worker, NULL);
    if (longest_ms + 1 < PATIENCE_MS) assert_int_equal(wakes, 0);
    for (int i = 0; i < 200; i++) group_reset(&client[i]);
    group_close(group);
}

// Light traffic that is accepted at once uses the same piece of memory for each request.
static void one_at_a_time_does_not_wake(void **state) {
    (void)state;
    GROUP_NEEDED();
    struct group *group = watched(2);
    uint64_t since = now_ms();
    int wakes = 0, server;
    longest_ms = 0;
    while (now_ms() - since < 500) {
        uint64_t dialled = now_ms();
        int client = group_dial(group);
        usleep(3000);  // it waits, but not for long
        group_where_fd(group, client, &server);
        if (now_ms() - dialled > longest_ms) longest_ms = now_ms() - dialled;
        fd_close(&server);
        group_reset(&client);
        wakes += is_woken(group, 0);
    }
    if (longest_ms + 1 < PATIENCE_MS) assert_int_equal(wakes, 0);
    group_close(group);
}

static void the_timer_rests_when_nothing_waits(void **state) {
    (void)state;
    GROUP_NEEDED();
    struct group *group = watched(2);
    int fds[STEERING_FD_COUNT];
    steering_export(group->steering, fds);
    const struct steering_memory *memory = mmap(NULL, sizeof *memory, PROT_READ, MAP_SHARED, fds[STEERING_FD_MEMORY], 0);
    assert_ptr_not_equal(memory, MAP_FAILED);
    for (int i = 0; i < 1000 && memory->watching; i++) usleep(1000);
    assert_int_equal(memory->watching, 0);
    int client = group_dial(group);
    for (int i = 0; i < 5000 && !memory->watching; i++) usleep(1000);
    assert_int_equal(memory->watching, 1);
    group_drain(group);
    for (int i = 0; i < 1000 && memory->watching; i++) usleep(1000);
    assert_int_equal(memory->watching, 0);
    munmap((void *)memory, sizeof *memory);
    group_reset(&client);
    group_close(group);
}

static void a_moved_queue_is_quiet_and_can_wake_again(void **state) {
    (void)state;
    GROUP_NEEDED();
    struct group *group = watched(2);
    const uint16_t only_0[GROUP_MAX] = {1}, both[GROUP_MAX] = {1, 1};
    assert_int_equal(steering_set_weights(group->steering, only_0), 0);
    int clients[10], server;
    for (int i = 0; i < 10; i++) clients[i] = group_dial(group);
    assert_true(is_woken(group, 5000));
    steering_wake_take(group->steering);
    assert_int_equal(steering_set_weights(group->steering, both), 0);
    assert_int_equal(steering_set_weight(group->steering, 0, 0), 0);
    MUST(steering_move_queue(group->steering, 0, group->fd[0], NULL, &group_error));
    while ((server = group_accept(group, 1)) >= 0) group_reset(&server);
    for (int i = 0; i < 1000 && steering_waited_ns(group->steering, 0) != 0; i++) usleep(1000);
    steering_wake_take(group->steering);
    assert_false(is_woken(group, 50));
    int late = group_dial(group);
    assert_true(is_woken(group, 5000));
    group_reset(&late);
    for (int i = 0; i < 10; i++) group_reset(&clients[i]);
    group_close(group);
}

static void watching_survives_a_change_of_hands(void **state) {
    (void)state;
    GROUP_NEEDED();
    struct group *group = watched(2);
    int fds[STEERING_FD_COUNT];
    steering_export(group->steering, fds);
    for (int i = 0; i < STEERING_FD_COUNT; i++) fds[i] = fds[i] < 0 ? -1 : dup(fds[i]);
    steering_close(group->steering);
    int client = group_dial(group);
    usleep(5 * PATIENCE_MS * 1000);
    MUST(steering_import(&group->steering, fds, &group_error));
    assert_true(is_woken(group, 0));  // it stuck while nobody was there
    steering_wake_take(group->steering);
    assert_true(steering_waited_ns(group->steering, 0) > 0);
    assert_int_equal(steering_watch(group->steering, PATIENCE_NS), 0);
    group_drain(group);
    group_reset(&client);
    client = group_dial(group);
    steering_wake_take(group->steering);
    assert_true(is_woken(group, 5000));
    group_reset(&client);
    group_close(group);
}

// The first connection after a socket joined says that the group has grown.
static void a_socket_that_joins_wakes(void **state) {
    (void)state;
    GROUP_NEEDED();
    struct group *group = group_open(AF_INET, STEERING_RR, 2, 1);
    group_where(group);
    assert_false(is_woken(group, 0));
    scoped_fd stranger = group_join(group);
    group_where(group);
    assert_true(is_woken(group, 5000));
    steering_wake_take(group->steering);
    assert_int_equal(steering_strangers(group->steering), 1);
    group_where(group);
    assert_false(is_woken(group, 50));
    group_close(group);
}

static void watching_can_be_turned_off(void **state) {
    (void)state;
    GROUP_NEEDED();
    struct group *group = watched(2);
    assert_int_equal(steering_watch(group->steering, 0), 0);
    int client = group_dial(group);
    assert_false(is_woken(group, 100));
    group_reset(&client);
    group_close(group);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_queue_that_does_not_move_wakes),    cmocka_unit_test(a_queue_that_stays_stuck_reminds),
        cmocka_unit_test(a_queue_that_moves_does_not_wake),    cmocka_unit_test(one_at_a_time_does_not_wake),
        cmocka_unit_test(the_timer_rests_when_nothing_waits),  cmocka_unit_test(a_moved_queue_is_quiet_and_can_wake_again),
        cmocka_unit_test(watching_survives_a_change_of_hands), cmocka_unit_test(watching_can_be_turned_off),
        cmocka_unit_test(a_socket_that_joins_wakes),
    };
    return cmocka_run_group_tests(tests, group_namespace, NULL);
}
