// SPDX-License-Identifier: MIT
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "store.h"

static void a_name_is_read_as_it_was_written(void **unused) {
    (void)unused;
    static const struct {
        int row;
        uint32_t index;
    } all[] = {{0, 0}, {7, 3}, {RECORD_SOCKET_MAX - 1, RECORD_SOCKET_MAX - 1}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        char name[STORE_NAME_SIZE];
        int row = -1;
        uint32_t index = 77;
        store_name_write(name, all[i].row, all[i].index);
        assert_true(store_name_read(name, &row, &index));
        assert_int_equal(row, all[i].row);
        assert_int_equal(index, all[i].index);
    }
}

static void what_others_named_is_not_ours(void **unused) {
    (void)unused;
    static const char *const names[] = {"",          "web.socket",  "unknown",     "pando",         "pando-",         "pando-1",
                                        "pando--1",  "pando-1-",    "pando-1-2x",  "pando-x-2",     "pando-4096-0",   "pando-0-4096",
                                        "Pando-1-2", "pando-1-2-3", "pando--1-2",  "pando- 1-2",    "pando-1- 2",     "pando-+1-2",
                                        "pando-0x1-2", "pando-99999999999999999999-1", "pando-1-99999999999999999999", "pando-1.5-2"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        int row = -5;
        uint32_t index = 77;
        assert_false(store_name_read(names[i], &row, &index));
        assert_int_equal(row, -5);
        assert_int_equal(index, 77);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_is_read_as_it_was_written),
        cmocka_unit_test(what_others_named_is_not_ours),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
