// SPDX-License-Identifier: MIT
// The life of a worker: every (state, event) pair, against the picture in worker.h written out by hand.
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"
#include "worker.h"

#define NO (-1)
#define V WORKER_VACANT
#define S WORKER_STARTING
#define O WORKER_SERVING
#define D WORKER_DRAINING
#define B WORKER_BACKOFF
#define P WORKER_REPLACING
#define R WORKER_RETIRING

static const int expected[WORKER_STATE_COUNT][WORKER_EVENT_COUNT] = {
    //        start ready died  died-ro deadline deadline-ro drain hung  recall
    [V] = {   S,    NO,   NO,   NO,     NO,      NO,         NO,   NO,   NO},
    [S] = {   NO,   O,    B,    V,      S,       R,          D,    NO,   NO},
    [O] = {   NO,   NO,   B,    B,      NO,      NO,         D,    P,    NO},
    [D] = {   NO,   NO,   V,    V,      R,       R,          NO,   NO,   O},
    [B] = {   S,    NO,   NO,   NO,     S,       S,          V,    NO,   NO},
    [P] = {   NO,   NO,   B,    B,      NO,      NO,         R,    NO,   NO},
    [R] = {   NO,   NO,   V,    V,      NO,      NO,         NO,   NO,   NO},
};

static void swallow(void *arg, const char *line, size_t len) {
    (void)line;
    (void)len;
    ++*(int *)arg;
}

static void every_pair_of_state_and_event_leads_where_the_picture_says(void **unused) {
    (void)unused;
    for (int state = 0; state < WORKER_STATE_COUNT; state++)
        for (int event = 0; event < WORKER_EVENT_COUNT; event++)
            assert_int_equal(worker_next((enum worker_state)state, (enum worker_event)event), expected[state][event]);
}

static void moving_sets_the_state_its_time_and_its_deadline(void **unused) {
    (void)unused;
    for (int state = 0; state < WORKER_STATE_COUNT; state++) {
        for (int event = 0; event < WORKER_EVENT_COUNT; event++) {
            if (expected[state][event] == NO) continue;
            struct record_worker record = {.state = (uint32_t)state, .pid = 7};
            struct worker worker = {.record = &record};
            worker_move(&worker, (enum worker_event)event, 1000, 50, NULL);
            assert_int_equal(record.state, expected[state][event]);
            assert_int_equal(record.since_ns, 1000);
            assert_int_equal(record.deadline_ns, 1050);
        }
    }
}

static void a_move_that_the_picture_does_not_have_aborts(void **unused) {
    (void)unused;
    pid_t pid = fork();
    if (pid == 0) {
        struct record_worker record = {.state = WORKER_VACANT};
        struct worker worker = {.record = &record};
        if (freopen("/dev/null", "w", stderr) == NULL) _exit(1);
        worker_move(&worker, WORKER_EVENT_READY, 0, 0, NULL);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void a_state_without_end_has_no_deadline(void **unused) {
    (void)unused;
    struct record_worker record = {.state = WORKER_STARTING};
    struct worker worker = {.record = &record};
    worker_move(&worker, WORKER_EVENT_READY, 1000, CLOCK_NEVER, NULL);
    assert_true(record.deadline_ns == CLOCK_NEVER);
}

static void every_state_and_event_has_a_name(void **unused) {
    (void)unused;
    for (int i = 0; i < WORKER_STATE_COUNT; i++) assert_non_null(worker_state_name[i]);
    for (int i = 0; i < WORKER_EVENT_COUNT; i++) assert_non_null(worker_event_name[i]);
}

static void every_slot_can_become_vacant_again(void **unused) {
    (void)unused;
    for (int from = 0; from < WORKER_STATE_COUNT; from++) {
        bool reached[WORKER_STATE_COUNT] = {false};
        reached[from] = true;
        for (int round = 0; round < WORKER_STATE_COUNT; round++)
            for (int state = 0; state < WORKER_STATE_COUNT; state++)
                for (int event = 0; reached[state] && event < WORKER_EVENT_COUNT; event++)
                    if (expected[state][event] != NO) reached[expected[state][event]] = true;
        assert_true(reached[WORKER_VACANT]);
    }
}

static void a_death_is_one_line_and_an_ordinary_start_none(void **unused) {
    (void)unused;
    int lines = 0;
    log_set_sink(swallow, &lines);
    struct record_worker record = {.state = WORKER_VACANT};
    struct worker worker = {.record = &record};
    worker_move(&worker, WORKER_EVENT_START, 0, 0, NULL);
    worker_move(&worker, WORKER_EVENT_READY, 0, 0, NULL);
    assert_int_equal(lines, 0);
    worker_move(&worker, WORKER_EVENT_DIED, 0, 0, "ended with code 3");
    assert_int_equal(lines, 1);
}

int main(void) {
    int lines = 0;
    log_init("test", "test", LOG_FORM_SHORT, LOG_LEVEL_INFO);
    log_set_sink(swallow, &lines);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pair_of_state_and_event_leads_where_the_picture_says),
        cmocka_unit_test(moving_sets_the_state_its_time_and_its_deadline),
        cmocka_unit_test(a_move_that_the_picture_does_not_have_aborts),
        cmocka_unit_test(a_state_without_end_has_no_deadline),
        cmocka_unit_test(every_state_and_event_has_a_name),
        cmocka_unit_test(every_slot_can_become_vacant_again),
        cmocka_unit_test(a_death_is_one_line_and_an_ordinary_start_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
