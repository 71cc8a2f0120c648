// SPDX-License-Identifier: MIT
// The rows of the must-reject table are in tests/e2e_http/test_reject.py; here is what a row cannot show.
#include "test.h"

#include "h1_parse.h"

static enum h1_result parse(struct h1_head *head, const char *text) {
    h1_head_init(head, LIMIT_HEADER_BYTES, LIMIT_HEADER_COUNT);
    return h1_head_parse(head, text, strlen(text));
}

static void a_head_is_taken_apart(void **state) {
    (void)state;
    static struct h1_head head;
    const char *text = "PUT /a/b?c=d&e HTTP/1.1\r\nHost: x:1\r\nContent-Length: 12\r\nX-Y:  z w \t\r\n\r\nbody";
    assert_int_equal(parse(&head, text), H1_DONE);
    assert_int_equal(head.method, H1_PUT);
    assert_memory_equal(text + head.path.at, "/a/b", head.path.len);
    assert_memory_equal(text + head.query.at, "c=d&e", head.query.len);
    assert_int_equal(head.field_count, 3);
    assert_int_equal(head.framing, H1_LENGTH);
    assert_int_equal(head.length, 12);
    assert_int_equal(head.fields[2].value.len, 3);
    assert_int_equal(head.size, strlen(text) - 4);
    assert_false(head.close);
}

static void every_prefix_of_a_head_wants_more(void **state) {
    (void)state;
    static struct h1_head head;
    const char *text = "GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n\r\n";
    for (size_t len = 0; len < strlen(text); len++) {
        h1_head_init(&head, LIMIT_HEADER_BYTES, LIMIT_HEADER_COUNT);
        assert_int_equal(h1_head_parse(&head, text, len), H1_MORE);
    }
}

static void bytes_are_refused_as_soon_as_they_are_wrong(void **state) {
    (void)state;
    static struct h1_head head;
    static const char *const texts[] = {"G@", " ", "GET / HTTP/1.1\r\n ", "GET / HTTP/1.1\r\nA: \x01", "GET / HTTP/1.1\rx", "\n", "GET\t"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) assert_int_equal(parse(&head, texts[i]), H1_BAD);
}

static void keep_alive_follows_version_and_connection(void **state) {
    (void)state;
    static struct h1_head head;
    static const struct {
        const char *text;
        bool close;
    } rows[] = {{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", false},
                {"GET / HTTP/1.1\r\nHost: x\r\nConnection: foo, Close\r\n\r\n", true},
                {"GET / HTTP/1.0\r\n\r\n", true},
                {"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", false},
                {"GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n", true}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(parse(&head, rows[i].text), H1_DONE);
        assert_int_equal(head.close, rows[i].close);
    }
}

static void an_upgrade_counts_only_where_it_may(void **state) {
    (void)state;
    static struct h1_head head;
    assert_int_equal(parse(&head, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"), H1_DONE);
    assert_int_equal(head.upgrade.len, 9);
    assert_int_equal(parse(&head, "POST / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"), H1_DONE);
    assert_int_equal(head.upgrade.len, 0);
    assert_int_equal(parse(&head, "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n"), H1_DONE);
    assert_int_equal(head.upgrade.len, 0);
}

static void a_chunked_body_in_pieces(void **state) {
    (void)state;
    const char *text = "5;n=v;q=\"a\\\"b\"\r\nhello\r\n00\r\nX-T: t\r\nCookie: c\r\n\r\nNEXT";
    for (size_t step = 1; step < strlen(text); step++) {
        struct h1_body body = {.framing = H1_CHUNKED};
        struct h1_piece piece;
        char out[16] = "";
        size_t at = 0, have = 0, len = 0, trailers = 0;
        enum h1_result result;
        do {
            result = h1_body_step(&body, text + at, have - at, &piece);
            memcpy(out + len, piece.data ? piece.data : "", piece.len);
            len += piece.len;
            at += piece.used;
            trailers += piece.trailer != NULL;
            if (!piece.used && have < strlen(text)) have = have + step < strlen(text) ? have + step : strlen(text);
        } while (result == H1_MORE);
        assert_int_equal(result, H1_DONE);
        assert_string_equal(out, "hello");
        assert_string_equal(text + at, "NEXT");
        assert_int_equal(trailers, 1);  // Cookie is dropped
    }
}

static void tokens_and_values(void **state) {
    (void)state;
    assert_true(h1_is_token("X-A_b!", 6));
    assert_false(h1_is_token("", 0));
    assert_false(h1_is_token("a b", 3));
    assert_true(h1_is_field_value("a\tb\xff", 4));
    assert_false(h1_is_field_value("a\nb", 3));
    assert_false(h1_is_field_value("a\0b", 3));
    assert_true(h1_has_token("a, Chunked ,b", 13, "chunked"));
    assert_false(h1_has_token("achunked", 8, "chunked"));
    assert_true(h1_same("CoOkie", 6, "cookie", 6));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_head_is_taken_apart),
        cmocka_unit_test(every_prefix_of_a_head_wants_more),
        cmocka_unit_test(bytes_are_refused_as_soon_as_they_are_wrong),
        cmocka_unit_test(keep_alive_follows_version_and_connection),
        cmocka_unit_test(an_upgrade_counts_only_where_it_may),
        cmocka_unit_test(a_chunked_body_in_pieces),
        cmocka_unit_test(tokens_and_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
