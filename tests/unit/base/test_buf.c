// SPDX-License-Identifier: MIT
#include "buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void an_empty_buffer_owns_nothing(void **state) {
    (void)state;
    struct buf buf = {0};
    buf_deinit(&buf);
    buf_deinit(&buf);
    assert_null(buf.data);
    assert_false(buf.failed);
}

static void text_is_appended_and_terminated(void **state) {
    (void)state;
    scoped_buf buf = {0};
    buf_puts(&buf, "worker ");
    buf_printf(&buf, "%d of %d", 2, 8);
    buf_append(&buf, "!", 1);
    buf_append(&buf, NULL, 0);
    assert_string_equal(buf.data, "worker 2 of 8!");
    assert_int_equal(buf.len, strlen(buf.data));
}

static void a_long_text_grows_the_buffer(void **state) {
    (void)state;
    scoped_buf buf = {0};
    for (int i = 0; i < 5000; i++) buf_printf(&buf, "%04d", i);
    assert_int_equal(buf.len, 20000);
    assert_memory_equal(buf.data + 4 * 4999, "4999", 5);
}

static void consuming_keeps_the_rest(void **state) {
    (void)state;
    scoped_buf buf = {0};
    buf_consume(&buf, 0);
    buf_puts(&buf, "line one\nline two");
    buf_consume(&buf, 9);
    assert_string_equal(buf.data, "line two");
    buf_consume(&buf, 8);
    assert_string_equal(buf.data, "");
}

static void an_impossible_size_fails_once_and_for_all(void **state) {
    (void)state;
    scoped_buf buf = {0};
    buf_puts(&buf, "before");
    buf_append(&buf, "", SIZE_MAX - 3);
    assert_true(buf.failed);
    buf_puts(&buf, "after");
    assert_string_equal(buf.data, "before");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_buffer_owns_nothing),
        cmocka_unit_test(text_is_appended_and_terminated),
        cmocka_unit_test(a_long_text_grows_the_buffer),
        cmocka_unit_test(consuming_keeps_the_rest),
        cmocka_unit_test(an_impossible_size_fails_once_and_for_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
