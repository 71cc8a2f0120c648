// SPDX-License-Identifier: MIT
// Built without eBPF, Pando says so and nothing else happens.
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "steering.h"

static void the_reason_is_said(void **state) {
    (void)state;
    struct pando_error error;
    struct steering *steering;
    assert_int_equal(steering_probe(&error), -EOPNOTSUPP);
    assert_non_null(strstr(error.text, "built without eBPF"));
    assert_int_equal(steering_open(&steering, &(struct steering_options){.slots = 1}, &error), -EOPNOTSUPP);
}

static void what_is_handed_over_is_closed(void **state) {
    (void)state;
    struct pando_error error;
    struct steering *steering;
    int fds[STEERING_FD_COUNT];
    for (int i = 0; i < STEERING_FD_COUNT; i++) fds[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_int_equal(steering_import(&steering, fds, &error), -EOPNOTSUPP);
    for (int i = 0; i < STEERING_FD_COUNT; i++) assert_int_equal(fds[i], -1);
    steering_close(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_reason_is_said),
        cmocka_unit_test(what_is_handed_over_is_closed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
