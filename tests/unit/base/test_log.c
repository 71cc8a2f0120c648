// SPDX-License-Identifier: MIT
#include "log.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char last_line[8192];
static int line_count;

static void keep_line(void *arg, const char *line, size_t len) {
    (void)arg;
    memcpy(last_line, line, len);
    last_line[len] = '\0';
    line_count++;
    errno = EIO;
}

static void start(enum log_form form, enum log_level level) {
    log_init("primary", "app", form, level);
    log_set_sink(keep_line, NULL);
    line_count = 0;
}

static void a_terminal_gets_the_short_form(void **state) {
    (void)state;
    start(LOG_FORM_SHORT, LOG_LEVEL_INFO);
    log_warn("worker %d was killed", 2);
    assert_string_equal(last_line, "pando: app: worker 2 was killed\n");
}

static void a_file_gets_time_level_role_and_pid(void **state) {
    (void)state;
    start(LOG_FORM_FULL, LOG_LEVEL_INFO);
    log_warn("hello");
    int year, pid, end = 0;
    assert_int_equal(sscanf(last_line, "%d-%*d-%*dT%*d:%*d:%*d.%*dZ warn primary %d pando: app: hello%n", &year, &pid, &end), 2);
    assert_true(year > 2000 && end > 0);
    assert_int_equal(pid, getpid());
}

static void json_lines_are_escaped(void **state) {
    (void)state;
    start(LOG_FORM_JSON, LOG_LEVEL_INFO);
    log_error("say \"%s\"\n\x01\xff", "C:\\");
    assert_non_null(strstr(last_line, "\"level\":\"error\",\"role\":\"primary\""));
    assert_non_null(strstr(last_line, "\"name\":\"app\",\"message\":\"say \\\"C:\\\\\\\"\\n\\u0001\xef\xbf\xbd\"}\n"));
}

static void nobody_forges_a_second_line(void **state) {
    (void)state;
    start(LOG_FORM_SHORT, LOG_LEVEL_INFO);
    log_info("evil\npando: app: all is well\x1b[2J");
    assert_string_equal(last_line, "pando: app: evil?pando: app: all is well?[2J\n");
}

static void a_level_that_is_off_says_nothing(void **state) {
    (void)state;
    start(LOG_FORM_SHORT, LOG_LEVEL_WARN);
    log_info("not this");
    log_debug("nor this");
    assert_int_equal(line_count, 0);
    log_error("this");
    assert_int_equal(line_count, 1);
    assert_false(log_enabled(LOG_LEVEL_DEBUG));
}

static void errno_survives_a_line(void **state) {
    (void)state;
    start(LOG_FORM_FULL, LOG_LEVEL_INFO);
    errno = ENOTUNIQ;
    log_info("sink sets errno");
    assert_int_equal(errno, ENOTUNIQ);
}

static void a_message_too_long_is_cut_but_stays_a_line(void **state) {
    (void)state;
    char text[8192];
    memset(text, '\\', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    for (int form = LOG_FORM_SHORT; form <= LOG_FORM_JSON; form++) {
        start((enum log_form)form, LOG_LEVEL_INFO);
        log_info("%s", text);
        size_t len = strlen(last_line);
        assert_string_equal(last_line + len - (form == LOG_FORM_JSON ? 3 : 1), form == LOG_FORM_JSON ? "\"}\n" : "\n");
    }
}

static void escaping_never_splits_a_character(void **state) {
    (void)state;
    char out[8];
    assert_int_equal(log_json_escape("a\xc3\xa9", 3, out, 4), 3);
    assert_int_equal(log_json_escape("a\xc3\xa9", 3, out, 3), 1);
    assert_string_equal(out, "a");
    assert_int_equal(log_json_escape("x", 1, out, 0), 0);
}

static void invalid_utf8_is_replaced(void **state) {
    (void)state;
    static const char *const bad[] = {"\x80", "\xc0\xaf", "\xe0\x80\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xf8", "\xe2\x82"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char out[64];
        log_json_escape(bad[i], strlen(bad[i]), out, sizeof out);
        assert_memory_equal(out, "\xef\xbf\xbd", 3);
    }
    char out[16];
    log_json_escape("\xf0\x9f\x8c\xb3", 4, out, sizeof out);
    assert_string_equal(out, "\xf0\x9f\x8c\xb3");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_terminal_gets_the_short_form),
        cmocka_unit_test(a_file_gets_time_level_role_and_pid),
        cmocka_unit_test(json_lines_are_escaped),
        cmocka_unit_test(nobody_forges_a_second_line),
        cmocka_unit_test(a_level_that_is_off_says_nothing),
        cmocka_unit_test(errno_survives_a_line),
        cmocka_unit_test(a_message_too_long_is_cut_but_stays_a_line),
        cmocka_unit_test(escaping_never_splits_a_character),
        cmocka_unit_test(invalid_utf8_is_replaced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
