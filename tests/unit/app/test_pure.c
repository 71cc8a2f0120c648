// SPDX-License-Identifier: MIT
// The pure modules: URLs, static paths, ranges, negotiation, freshness, types, multipart.
#include "test.h"

#include <errno.h>
#include <sys/types.h>
#include <pando/app.h>

#include "fresh.h"
#include "mime.h"
#include "multipart_parse.h"
#include "negotiate.h"
#include "range.h"
#include "static_path.h"
#include "url.h"

static void decoding(void **state) {
    (void)state;
    static const struct {
        const char *text, *out;
        bool plus;
    } rows[] = {{"a%20b", "a b", false},    {"a+b", "a+b", false},
                {"a+b", "a b", true},       {"%c3%bc", "\xc3\xbc", false},
                {"%", NULL, false},         {"%2", NULL, false},
                {"%zz", NULL, false},       {"%00", NULL, false},
                {"%c0%ae", NULL, false},    {"%ff", NULL, false},
                {"%ed%a0%80", NULL, false}, {"%f4%90%80%80", NULL, false},
                {"%2520", "%20", false},    {"%f0%9f%98%80", "\xf0\x9f\x98\x80", false},
                {"%e2%82", NULL, false}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char out[64];
        ssize_t len = url_decode(rows[i].text, strlen(rows[i].text), rows[i].plus, out);
        if (rows[i].out)
            assert_string_equal(out, rows[i].out);
        else
            assert_int_equal(len, -EILSEQ);
    }
}

static void encoding(void **state) {
    (void)state;
    char out[128];
    url_encode("/a b?x=%20&y=\"\r\n", 16, out);
    assert_string_equal(out, "/a%20b?x=%20&y=%22%0D%0A");
    url_encode_component("a/b&c", 5, out);
    assert_string_equal(out, "a%2Fb%26c");
    url_escape_html("<a href='x'>&\"", 14, out);
    assert_string_equal(out, "&lt;a href=&#39;x&#39;&gt;&amp;&quot;");
}

static void paths(void **state) {
    (void)state;
    static const struct {
        const char *path, *out;
        int result;
    } rows[] = {{"/", ".", 0},
                {"/a", "a", 0},
                {"//a//b/", "a/b", 0},
                {"/./a", "a", 0},
                {"/..", NULL, -ENOENT},
                {"/a/../b", NULL, -ENOENT},
                {"/%2e%2e", NULL, -ENOENT},
                {"/.a", NULL, -ENOENT},
                {"/a/.b/c", NULL, -ENOENT},
                {"/a%2fb", NULL, -ENOENT},
                {"/a%5cb", NULL, -ENOENT},
                {"/%00", NULL, -EILSEQ},
                {"/%c0%af", NULL, -EILSEQ},
                {"/a%20b", "a b", 0},
                {"/...", NULL, -ENOENT},
                {"/a..b", "a..b", 0}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char out[64];
        bool folder;
        assert_int_equal(static_path(rows[i].path, strlen(rows[i].path), false, out, &folder), rows[i].result);
        if (rows[i].out) assert_string_equal(out, rows[i].out);
    }
}

static void ranges(void **state) {
    (void)state;
    uint64_t at, len;
    assert_int_equal(range_parse("bytes=2-4", 10, &at, &len), RANGE_ONE);
    assert_true(at == 2 && len == 3);
    assert_int_equal(range_parse("bytes=-4", 10, &at, &len), RANGE_ONE);
    assert_true(at == 6 && len == 4);
    assert_int_equal(range_parse("bytes=10-", 10, &at, &len), RANGE_UNSATISFIABLE);
    assert_int_equal(range_parse("bytes=-1", 0, &at, &len), RANGE_UNSATISFIABLE);
    static const char *const none[] = {"bytes=",        "bytes=-",   "bytes=1",
                                       "bytes=1-2,3-4", "bytes=3-1", "bytes=+1-2",
                                       "bytes=1-2x",    "items=1-2", "bytes=99999999999999999999-"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) assert_int_equal(range_parse(none[i], 10, &at, &len), RANGE_NONE);
}

static void negotiation(void **state) {
    (void)state;
    static const char *const types[] = {"text/html", "application/json"}, *const codings[] = {"gzip", "identity"};
    assert_int_equal(negotiate(NEGOTIATE_TYPE, NULL, types, 2), 0);
    assert_int_equal(negotiate(NEGOTIATE_TYPE, "application/*, text/html;q=0.9", types, 2), 1);
    assert_int_equal(negotiate(NEGOTIATE_TYPE, "image/png", types, 2), -1);
    assert_int_equal(negotiate(NEGOTIATE_TYPE, "text/html;q=0, */*", types, 2), 1);
    assert_int_equal(negotiate(NEGOTIATE_ENCODING, NULL, codings, 2), 1);
    assert_int_equal(negotiate(NEGOTIATE_ENCODING, "gzip", codings, 2), 0);
    assert_int_equal(negotiate(NEGOTIATE_ENCODING, "*;q=0", codings, 2), -1);
}

static void dates_and_etags(void **state) {
    (void)state;
    assert_int_equal(fresh_parse_date("Sun, 06 Nov 1994 08:49:37 GMT"), 784111777);
    assert_int_equal(fresh_parse_date("Sunday, 06-Nov-94 08:49:37 GMT"), 784111777);
    assert_int_equal(fresh_parse_date("Sun Nov  6 08:49:37 1994"), 784111777);
    assert_int_equal(fresh_parse_date("tomorrow"), -1);
    assert_true(fresh_etag_matches("\"a\", W/\"b\"", "\"b\""));
    assert_true(fresh_etag_matches("*", "\"b\""));
    assert_false(fresh_etag_matches("\"ab\"", "\"b\""));
}

static void types(void **state) {
    (void)state;
    static const char *const rows[][2] = {
        {"html", "text/html; charset=utf-8"},    {"HTML", "text/html; charset=utf-8"}, {"png", "image/png"},
        {"7z", "application/x-7z-compressed"},   {"zst", "application/zstd"},          {"c", "text/x-c"},
        {"js", "text/javascript; charset=utf-8"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_memory_equal(mime_of_extension(rows[i][0], strlen(rows[i][0])).data, rows[i][1], strlen(rows[i][1]));
    assert_null(mime_of_extension("nosuch", 6).data);
    assert_null(mime_of_name("a.b/c").data);
    static const char *const all[] = {"aac",         "atom", "avi",  "avif",  "bin",   "bmp",    "bz2",  "css",  "csv",  "deb",  "doc",
                                      "docx",        "eot",  "epub", "flac",  "form",  "gif",    "gz",   "h",    "heic", "htm",  "ico",
                                      "ics",         "jar",  "jpeg", "jpg",   "json",  "jsonld", "log",  "m4a",  "m4v",  "map",  "markdown",
                                      "md",          "mid",  "mjs",  "mov",   "mp3",   "mp4",    "mpeg", "odt",  "ogg",  "ogv",  "otf",
                                      "pdf",         "ppt",  "pptx", "ps",    "rar",   "rss",    "rtf",  "sh",   "svg",  "tar",  "text",
                                      "tif",         "tiff", "toml", "ts",    "ttf",   "txt",    "vtt",  "wasm", "wav",  "weba", "webm",
                                      "webmanifest", "webp", "woff", "woff2", "xhtml", "xls",    "xlsx", "xml",  "yaml", "yml",  "zip"};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        assert_non_null(mime_of_extension(all[i], strlen(all[i])).data);  // so the table is in order
}

static void boundaries(void **state) {
    (void)state;
    static struct multipart parser;
    assert_true(multipart_init(&parser, "multipart/form-data; boundary=\"a b\""));
    assert_true(multipart_init(&parser, "multipart/form-data; Boundary=x; a=b"));
    assert_false(multipart_init(&parser, "multipart/form-data"));
    assert_false(multipart_init(&parser, "multipart/form-data; boundary="));
    assert_false(multipart_init(
        &parser, "multipart/form-data; boundary=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(decoding), cmocka_unit_test(encoding),    cmocka_unit_test(paths),
                                       cmocka_unit_test(ranges),   cmocka_unit_test(negotiation), cmocka_unit_test(dates_and_etags),
                                       cmocka_unit_test(types),    cmocka_unit_test(boundaries)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
