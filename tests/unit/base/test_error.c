// SPDX-License-Identifier: MIT
#include "error.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void the_reason_follows_the_sentence(void **state) {
    (void)state;
    struct pando_error error;
    assert_int_equal(error_set(&error, EADDRINUSE, "listen on port %d", 3000), -EADDRINUSE);
    assert_int_equal(error.code, EADDRINUSE);
    assert_string_equal(error.text, "listen on port 3000: Address already in use");
}

static void a_sentence_may_stand_alone(void **state) {
    (void)state;
    struct pando_error error;
    assert_int_equal(error_say(&error, EINVAL, "--workers %s: not a number", "x"), -EINVAL);
    assert_string_equal(error.text, "--workers x: not a number");
}

static void nobody_has_to_listen(void **state) {
    (void)state;
    assert_int_equal(error_set(NULL, ENOENT, "open"), -ENOENT);
    assert_int_equal(error_say(NULL, ENOENT, "open"), -ENOENT);
}

static void the_reason_survives_a_sentence_too_long(void **state) {
    (void)state;
    struct pando_error error;
    char path[2 * PANDO_ERROR_TEXT_SIZE];
    memset(path, 'p', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    error_set(&error, ENOENT, "%s", path);
    assert_int_equal(strlen(error.text), PANDO_ERROR_TEXT_SIZE - 1);
    assert_non_null(strstr(error.text, "pp: No such file or directory"));
    error_say(&error, ENOENT, "%s", path);
    assert_int_equal(strlen(error.text), PANDO_ERROR_TEXT_SIZE - 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_reason_follows_the_sentence),
        cmocka_unit_test(a_sentence_may_stand_alone),
        cmocka_unit_test(nobody_has_to_listen),
        cmocka_unit_test(the_reason_survives_a_sentence_too_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
