// SPDX-License-Identifier: MIT
#include "answer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

struct answer_case {
    const char *text;
    enum answer_next next;
    int status;
    bool closes, ends_at_close;
};

static const struct answer_case cases[] = {
    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", ANSWER_DONE, 200, false, true},
    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", ANSWER_MORE, 200, false, false},
    {"HTTP/1.1 200 OK\r\ncontent-length:  0 \r\n\r\n", ANSWER_DONE, 200, false, true},
    {"HTTP/1.1 200 OK\nContent-Length: 2\nConnection: close\n\nab", ANSWER_DONE, 200, true, true},
    {"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nab", ANSWER_DONE, 200, true, true},
    {"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nab", ANSWER_DONE, 200, false, true},
    {"HTTP/1.0 200 OK\r\n\r\nuntil the end", ANSWER_MORE, 200, true, true},
    {"HTTP/1.1 204 No Content\r\n\r\n", ANSWER_DONE, 204, false, true},
    {"HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\n\r\n", ANSWER_DONE, 304, false, true},
    {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 No\r\nContent-Length: 1\r\n\r\nx", ANSWER_DONE, 503, false, true},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n", ANSWER_DONE, 200, false, true},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nTrailer: t\r\n\r\n", ANSWER_DONE, 200, false, true},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", ANSWER_MORE, 200, false, false},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n3\r\nabc\r\n0\r\n\r\n", ANSWER_DONE, 200, false, true},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n", ANSWER_BAD, 200, false, false},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n", ANSWER_BAD, 200, false, false},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n", ANSWER_BAD, 200, false, false},
    {"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n", ANSWER_BAD, 200, false, false},
    {"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", ANSWER_BAD, 200, false, false},
    {"HTTP/2 200\r\n\r\n", ANSWER_BAD, 0, false, false},
    {"220 hello\r\n", ANSWER_BAD, 0, false, false},
    {"SSH-", ANSWER_BAD, 0, false, false},
    {"HTT", ANSWER_MORE, 0, false, false},
    {"", ANSWER_MORE, 0, false, false},
};

static enum answer_next feed(struct answer *answer, const char *text, size_t step) {
    enum answer_next next = ANSWER_MORE;
    answer_init(answer);
    for (size_t len = strlen(text), at = 0; at < len && next == ANSWER_MORE; at += step)
        next = answer_feed(answer, text + at, step < len - at ? step : len - at);
    return next;
}

static void an_answer_is_over_where_its_framing_says_so_however_it_comes(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        for (size_t step = 1; step < 100; step += step < 8 ? 1 : 37) {
            struct answer answer;
            enum answer_next next = feed(&answer, cases[i].text, step);
            if (next != cases[i].next) print_message("case %zu by %zu: %s\n", i, step, cases[i].text);
            assert_int_equal(next, cases[i].next);
            if (next == ANSWER_BAD) continue;
            assert_int_equal(answer.status, cases[i].status);
            assert_int_equal(answer.closes, cases[i].closes);
            assert_int_equal(answer_ends_here(&answer), cases[i].ends_at_close);
        }
    }
}

static void a_line_of_any_length_is_survived(void **state) {
    (void)state;
    struct answer answer;
    char filler[5000];
    memset(filler, 'x', sizeof filler);
    answer_init(&answer);
    assert_int_equal(answer_feed(&answer, "HTTP/1.1 200 OK\r\nX: ", 20), ANSWER_MORE);
    for (int i = 0; i < 100; i++) assert_int_equal(answer_feed(&answer, filler, sizeof filler), ANSWER_MORE);
    assert_int_equal(answer_feed(&answer, "\r\nContent-Length: 1\r\n\r\nx", 25), ANSWER_DONE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_is_over_where_its_framing_says_so_however_it_comes),
        cmocka_unit_test(a_line_of_any_length_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
