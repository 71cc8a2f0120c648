// SPDX-License-Identifier: MIT
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "backoff.h"
#include "clock.h"

enum { JITTER_STEPS = 41, MIDDLE = 20 };  // random % 41 = 20 is no jitter at all

static void the_first_death_is_followed_at_once(void **unused) {
    (void)unused;
    assert_int_equal(backoff_ns(0, MIDDLE), 0);
    assert_int_equal(backoff_ns(1, MIDDLE), 0);
}

static void the_wait_doubles_from_50_ms_to_30_s(void **unused) {
    (void)unused;
    uint64_t wait = 50 * CLOCK_MS;
    for (uint32_t failures = 2; failures < 12; failures++, wait *= 2)
        assert_int_equal(backoff_ns(failures, MIDDLE), wait < 30 * CLOCK_S ? wait : 30 * CLOCK_S);
}

static void it_never_waits_longer_however_often_it_failed(void **unused) {
    (void)unused;
    assert_int_equal(backoff_ns(1000000, MIDDLE), 30 * CLOCK_S);
    assert_int_equal(backoff_ns(UINT32_MAX, MIDDLE), 30 * CLOCK_S);
}

static void jitter_stays_within_a_fifth_and_reaches_both_ends(void **unused) {
    (void)unused;
    uint64_t least = UINT64_MAX, most = 0;
    for (uint32_t random = 0; random < JITTER_STEPS; random++) {
        uint64_t wait = backoff_ns(5, random);
        if (wait < least) least = wait;
        if (wait > most) most = wait;
    }
    assert_int_equal(least, 320 * CLOCK_MS);
    assert_int_equal(most, 480 * CLOCK_MS);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_death_is_followed_at_once),
        cmocka_unit_test(the_wait_doubles_from_50_ms_to_30_s),
        cmocka_unit_test(it_never_waits_longer_however_often_it_failed),
        cmocka_unit_test(jitter_stays_within_a_fifth_and_reaches_both_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
