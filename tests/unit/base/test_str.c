// SPDX-License-Identifier: MIT
#include "str.h"

#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])
#define MS UINT64_C(1000000)
#define S UINT64_C(1000000000)

struct quantity_case {
    const char *text;
    int result;
    uint64_t value;
};

static void a_copy_that_does_not_fit_is_cut_and_says_so(void **state) {
    (void)state;
    char out[4];
    assert_true(str_copy(out, sizeof out, "abc"));
    assert_string_equal(out, "abc");
    assert_false(str_copy(out, sizeof out, "abcd"));
    assert_string_equal(out, "abc");
    assert_false(str_copy(out, 1, "x"));
    assert_string_equal(out, "");
}

static void a_number_is_all_of_the_text_and_in_range(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int result;
        long value;
    } cases[] = {
        {"0", 0, 0},
        {"1024", 0, 1024},
        {"-5", 0, -5},
        {"007", 0, 7},
        {"1025", -ERANGE, 0},
        {"-11", -ERANGE, 0},
        {"", -EINVAL, 0},
        {"-", -EINVAL, 0},
        {"0x", -EINVAL, 0},
        {"4 ", -EINVAL, 0},
        {" 4", -EINVAL, 0},
        {"+4", -EINVAL, 0},
        {"4.0", -EINVAL, 0},
        {"--4", -EINVAL, 0},
        {"99999999999999999999", -ERANGE, 0},
        {"99999999999999999999x", -EINVAL, 0},
        {"-99999999999999999999", -ERANGE, 0},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        long value = 4711;
        assert_int_equal(str_parse_number(cases[i].text, -10, 1024, &value), cases[i].result);
        assert_int_equal(value, cases[i].result ? 4711 : cases[i].value);
    }
}

static void check_quantities(int (*parse)(const char *, uint64_t *), const struct quantity_case *cases, size_t count) {
    for (size_t i = 0; i < count; i++) {
        uint64_t value = 4711;
        int result = parse(cases[i].text, &value);
        if (result != cases[i].result) fail_msg("\"%s\": %d, not %d", cases[i].text, result, cases[i].result);
        assert_true(value == (result ? 4711 : cases[i].value));
    }
}

static void a_duration_without_a_unit_is_seconds(void **state) {
    (void)state;
    static const struct quantity_case cases[] = {{"0", 0, 0}, {"2.5", 0, 2500 * MS}, {"30", 0, 30 * S}};
    check_quantities(str_parse_duration, cases, COUNT(cases));
}

static void durations_take_units_and_nothing_else(void **state) {
    (void)state;
    static const struct quantity_case cases[] = {
        {"250ms", 0, 250 * MS},
        {"30s", 0, 30 * S},
        {"5m", 0, 300 * S},
        {"24h", 0, 86400 * S},
        {"2.5s", 0, 2500 * MS},
        {"0.1ms", 0, MS / 10},
        {"1.00000000019s", 0, S},
        {"", -EINVAL, 0},
        {"s", -EINVAL, 0},
        {"-1s", -EINVAL, 0},
        {"1.s", -EINVAL, 0},
        {".5s", -EINVAL, 0},
        {"1 s", -EINVAL, 0},
        {"1S", -EINVAL, 0},
        {"1sec", -EINVAL, 0},
        {"1e3", -EINVAL, 0},
        {"0x10", -EINVAL, 0},
        {"inf", -EINVAL, 0},
        {"9223372036s", 0, 9223372036 * S},
        {"9223372037s", -ERANGE, 0},
        {"99999999999999999999999999999999999999999h", -ERANGE, 0},
    };
    check_quantities(str_parse_duration, cases, COUNT(cases));
}

static void sizes_are_powers_of_1024(void **state) {
    (void)state;
    static const struct quantity_case cases[] = {
        {"512M", 0, UINT64_C(512) << 20},
        {"2G", 0, UINT64_C(2) << 30},
        {"64K", 0, 65536},
        {"64k", 0, 65536},
        {"1.5K", 0, 1536},
        {"12345", 0, 12345},
        {"7B", 0, 7},
        {"M", -EINVAL, 0},
        {"-1M", -EINVAL, 0},
        {"1MM", -EINVAL, 0},
        {"9999999999T", -ERANGE, 0},
    };
    check_quantities(str_parse_size, cases, COUNT(cases));
}

static void durations_read_well(void **state) {
    (void)state;
    static const struct {
        uint64_t ns;
        const char *text;
    } cases[] = {
        {0, "0s"},       {350 * MS, "350ms"}, {12 * S + 999 * MS, "12s"}, {90 * S, "90s"},
        {180 * S, "3m"}, {7200 * S, "2h"},    {86400 * S, "24h"},         {432000 * S, "5d"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char out[16];
        assert_string_equal(str_duration(cases[i].ns, out, sizeof out), cases[i].text);
    }
}

static void sizes_read_well(void **state) {
    (void)state;
    static const struct {
        uint64_t bytes;
        const char *text;
    } cases[] = {
        {0, "0 B"},          {999, "999 B"},      {1023, "1 KB"},         {812 << 10, "812 KB"},
        {61 << 20, "61 MB"}, {5 << 20, "5.0 MB"}, {1288490189, "1.2 GB"}, {UINT64_MAX, "16 EB"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char out[16];
        assert_string_equal(str_size(cases[i].bytes, out, sizeof out), cases[i].text);
    }
}

static void signals_have_names_both_ways(void **state) {
    (void)state;
    assert_string_equal(str_signal(SIGKILL), "KILL");
    assert_string_equal(str_signal(40), "signal 40");
    assert_string_equal(str_signal(-3), "signal -3");
    assert_int_equal(str_parse_signal("TERM"), SIGTERM);
    assert_int_equal(str_parse_signal("sigusr2"), SIGUSR2);
    assert_int_equal(str_parse_signal("15"), SIGTERM);
    assert_int_equal(str_parse_signal("0"), -EINVAL);
    assert_int_equal(str_parse_signal("65"), -EINVAL);
    assert_int_equal(str_parse_signal("SIG"), -EINVAL);
    assert_int_equal(str_parse_signal("TERMINATE"), -EINVAL);
    for (int signo = 1; signo < 32; signo++) assert_int_equal(str_parse_signal(str_signal(signo)), signo);
}

static void the_distance_of_words_counts_typing_mistakes(void **state) {
    (void)state;
    assert_int_equal(str_distance("", ""), 0);
    assert_int_equal(str_distance("workers", "workers"), 0);
    assert_int_equal(str_distance("worker", "workers"), 1);
    assert_int_equal(str_distance("", "name"), 4);
    assert_int_equal(str_distance("kitten", "sitting"), 3);
    char longest[300];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    assert_int_equal(str_distance(longest, longest), 0);
    assert_int_equal(str_distance(longest, ""), 64);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_copy_that_does_not_fit_is_cut_and_says_so),
        cmocka_unit_test(a_number_is_all_of_the_text_and_in_range),
        cmocka_unit_test(a_duration_without_a_unit_is_seconds),
        cmocka_unit_test(durations_take_units_and_nothing_else),
        cmocka_unit_test(sizes_are_powers_of_1024),
        cmocka_unit_test(durations_read_well),
        cmocka_unit_test(sizes_read_well),
        cmocka_unit_test(signals_have_names_both_ways),
        cmocka_unit_test(the_distance_of_words_counts_typing_mistakes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
