// SPDX-License-Identifier: MIT
#include "verdict.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

// The phases of the tests: nothing is done, workers are killed, workers are stopped by Pando.
enum { CALM, KILLS, DRAINS };

static struct load_result result;
static struct verdict_case facts;

static int setup(void **state) {
    (void)state;
    memset(&result, 0, sizeof result);
    facts = (struct verdict_case){.load = &result, .calm[CALM] = true, .drains[DRAINS] = true, .used = {true, true, true}};
    for (int i = CALM; i <= DRAINS; i++) result.phase[i].answered = 1000;
    return 0;
}

static void without_failures_all_is_kept(void **state) {
    (void)state;
    struct verdict verdict = verdict_of(&facts);
    assert_true(verdict_kept(&verdict));
    assert_int_equal(verdict.requests, 3000);
    assert_int_equal(verdict.answered, 3000);
}

static void what_was_inside_a_killed_process_breaks_nothing(void **state) {
    (void)state;
    result.phase[KILLS].inside = 7;
    struct verdict verdict = verdict_of(&facts);
    assert_true(verdict_kept(&verdict));
    assert_int_equal(verdict.inside, 7);
    assert_int_equal(verdict.requests, 3007);
}

static void each_of_these_failures_breaks_a_promise_wherever_it_happens(void **state) {
    static const enum load_failure failures[] = {LOAD_REFUSED, LOAD_RESET, LOAD_QUEUED};
    for (size_t i = 0; i < sizeof failures / sizeof failures[0]; i++) {
        for (int phase = CALM; phase <= DRAINS; phase++) {
            setup(state);
            result.phase[phase].failed[failures[i]] = 1;
            struct verdict verdict = verdict_of(&facts);
            assert_false(verdict_kept(&verdict));
            assert_int_equal(verdict.lost_in_queue + verdict.refused + verdict.stranded, 1);
            assert_int_equal(verdict.own_failures, 0);
        }
    }
}

static void a_reset_is_the_programs_own_as_far_as_the_kernel_counted_aborts(void **state) {
    (void)state;
    result.phase[CALM].failed[LOAD_RESET] = 5;
    result.phase[KILLS].failed[LOAD_RESET] = 5;
    result.inside_resets = 3;
    result.other_resets = 2;
    result.client_aborts = 1;
    facts.aborts = 6 + 8;
    struct verdict verdict = verdict_of(&facts);
    assert_int_equal(verdict.lost_in_queue, 2);
    assert_int_equal(verdict.own_failures, 8);
    facts.aborts = 6 + 100;
    verdict = verdict_of(&facts);
    assert_int_equal(verdict.lost_in_queue, 0);
    assert_int_equal(verdict.own_failures, 10);
    facts.aborts = -1;
    verdict = verdict_of(&facts);
    assert_int_equal(verdict.lost_in_queue, 10);
}

static void closed_while_nobody_stops_workers_is_the_programs_own(void **state) {
    static const enum load_failure failures[] = {LOAD_CLOSED, LOAD_CUT, LOAD_BAD};
    for (size_t i = 0; i < sizeof failures / sizeof failures[0]; i++) {
        for (int phase = CALM; phase <= KILLS; phase++) {
            setup(state);
            result.phase[phase].failed[failures[i]] = 1;
            struct verdict verdict = verdict_of(&facts);
            assert_true(verdict_kept(&verdict));
            assert_int_equal(verdict.own_failures, 1);
        }
    }
}

static void closed_while_workers_are_stopped_breaks_a_promise(void **state) {
    static const enum load_failure failures[] = {LOAD_CLOSED, LOAD_CUT, LOAD_BAD, LOAD_SILENT};
    for (size_t i = 0; i < sizeof failures / sizeof failures[0]; i++) {
        setup(state);
        result.phase[DRAINS].failed[failures[i]] = 1;
        struct verdict verdict = verdict_of(&facts);
        assert_false(verdict_kept(&verdict));
        assert_int_equal(verdict.cut_off, 1);
    }
}

static void a_reset_that_a_stopped_worker_caused_breaks_a_promise(void **state) {
    (void)state;
    result.phase[DRAINS].failed[LOAD_RESET] = 1;
    facts.aborts = 1;
    struct verdict verdict = verdict_of(&facts);
    assert_int_equal(verdict.lost_in_queue, 0);
    assert_int_equal(verdict.cut_off, 1);
}

static void a_program_that_fails_alone_is_not_pandos_fault_where_workers_are_stopped(void **state) {
    (void)state;
    result.phase[CALM].failed[LOAD_CLOSED] = 4;
    result.phase[DRAINS].failed[LOAD_CUT] = 3;
    struct verdict verdict = verdict_of(&facts);
    assert_true(verdict_kept(&verdict));
    assert_int_equal(verdict.own_failures, 7);
    setup(state);
    facts.crashes = 1;
    result.phase[DRAINS].failed[LOAD_CLOSED] = 2;
    verdict = verdict_of(&facts);
    assert_true(verdict_kept(&verdict));
    assert_int_equal(verdict.own_failures, 2);
}

static void silence_after_a_kill_breaks_a_promise_unless_the_program_was_silent_before(void **state) {
    (void)state;
    result.phase[KILLS].failed[LOAD_SILENT] = 1;
    struct verdict verdict = verdict_of(&facts);
    assert_int_equal(verdict.cut_off, 1);
    result.phase[CALM].failed[LOAD_SILENT] = 1;
    verdict = verdict_of(&facts);
    assert_true(verdict_kept(&verdict));
    assert_int_equal(verdict.own_failures, 2);
}

static void a_phase_that_did_not_occur_does_not_count(void **state) {
    (void)state;
    facts.used[DRAINS] = false;
    result.phase[DRAINS].failed[LOAD_REFUSED] = 1;
    struct verdict verdict = verdict_of(&facts);
    assert_true(verdict_kept(&verdict));
    assert_int_equal(verdict.requests, 2000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(without_failures_all_is_kept, setup),
        cmocka_unit_test_setup(what_was_inside_a_killed_process_breaks_nothing, setup),
        cmocka_unit_test_setup(each_of_these_failures_breaks_a_promise_wherever_it_happens, setup),
        cmocka_unit_test_setup(a_reset_is_the_programs_own_as_far_as_the_kernel_counted_aborts, setup),
        cmocka_unit_test_setup(closed_while_nobody_stops_workers_is_the_programs_own, setup),
        cmocka_unit_test_setup(closed_while_workers_are_stopped_breaks_a_promise, setup),
        cmocka_unit_test_setup(a_reset_that_a_stopped_worker_caused_breaks_a_promise, setup),
        cmocka_unit_test_setup(a_program_that_fails_alone_is_not_pandos_fault_where_workers_are_stopped, setup),
        cmocka_unit_test_setup(silence_after_a_kill_breaks_a_promise_unless_the_program_was_silent_before, setup),
        cmocka_unit_test_setup(a_phase_that_did_not_occur_does_not_count, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
