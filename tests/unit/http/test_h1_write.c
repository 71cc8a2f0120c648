// SPDX-License-Identifier: MIT
#include "test.h"

#include "h1_write.h"

static struct block *small(void) {
    static union {
        struct block block;
        char room[sizeof(struct block) + 64];
    } memory;
    memory.block = (struct block){.size = 64};
    return &memory.block;
}

static void dates_are_imf_fixdate(void **state) {
    (void)state;
    char out[30];
    assert_string_equal(h1_date_text(784111777, out), "Sun, 06 Nov 1994 08:49:37 GMT");
    assert_string_equal(h1_date_text(0, out), "Thu, 01 Jan 1970 00:00:00 GMT");
    assert_string_equal(h1_date_text(1709164800, out), "Thu, 29 Feb 2024 00:00:00 GMT");
}

static void a_status_line(void **state) {
    (void)state;
    struct block *block = small();
    assert_true(h1_put_status(block, 404, (struct pando_str){0}));
    assert_memory_equal(block->data, "HTTP/1.1 404 Not Found\r\n", 24);
    block->end = 0;
    assert_true(h1_put_status(block, 299, PANDO_STR("Odd")));
    assert_memory_equal(block->data, "HTTP/1.1 299 Odd\r\n", 18);
}

static void what_does_not_fit_writes_nothing(void **state) {
    (void)state;
    struct block *block = small();
    block->end = 50;
    assert_false(h1_put_field(block, PANDO_STR("A-long-name"), PANDO_STR("value")));
    assert_false(h1_put_number(block, "Content-Length: ", 16, 1));
    assert_int_equal(block->end, 50);
}

static void numbers(void **state) {
    (void)state;
    struct block *block = small();
    assert_true(h1_put_number(block, "L: ", 3, UINT64_MAX));
    assert_memory_equal(block->data, "L: 18446744073709551615\r\n", 25);
    block->end = 0;
    assert_true(h1_put_number(block, "L: ", 3, 0));
    assert_memory_equal(block->data, "L: 0\r\n", 6);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(dates_are_imf_fixdate), cmocka_unit_test(a_status_line),
                                       cmocka_unit_test(what_does_not_fit_writes_nothing), cmocka_unit_test(numbers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
