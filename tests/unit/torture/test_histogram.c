// SPDX-License-Identifier: MIT
#include "histogram.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static struct histogram histogram;

static int setup(void **state) {
    (void)state;
    memset(&histogram, 0, sizeof histogram);
    return 0;
}

static void an_empty_one_has_no_percentiles(void **state) {
    (void)state;
    assert_int_equal(histogram_percentile_ns(&histogram, 0.99), 0);
}

static void a_percentile_is_off_by_three_percent_at_most(void **state) {
    (void)state;
    static const uint64_t times[] = {0, 1, 31, 32, 33, 63, 64, 1000, 123456, 99999999, UINT64_C(20000000000), UINT64_MAX};
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        setup(state);
        histogram_add(&histogram, times[i]);
        uint64_t got = histogram_percentile_ns(&histogram, 0.5);
        assert_true(got <= times[i]);
        assert_true(times[i] - got <= times[i] / 32);
        assert_true(histogram.max_ns == times[i]);
    }
}

static void percentiles_are_in_order(void **state) {
    (void)state;
    for (uint64_t i = 1; i <= 1000; i++) histogram_add(&histogram, i * 1000);
    assert_true(histogram.count == 1000);
    assert_in_range(histogram_percentile_ns(&histogram, 0.5), 485000, 515000);
    assert_in_range(histogram_percentile_ns(&histogram, 0.99), 960000, 1000000);
    assert_in_range(histogram_percentile_ns(&histogram, 1), 970000, 1000000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(an_empty_one_has_no_percentiles, setup),
        cmocka_unit_test_setup(a_percentile_is_off_by_three_percent_at_most, setup),
        cmocka_unit_test_setup(percentiles_are_in_order, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
