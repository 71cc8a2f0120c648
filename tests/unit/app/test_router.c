// SPDX-License-Identifier: MIT
// Patterns, and the router's answers that @koa/router is not compared with in tests/koa.
#include "test.h"

#include <errno.h>
#include <pando/app.h>

#include "pattern.h"

static void patterns(void **state) {
    (void)state;
    static const struct {
        const char *pattern, *path, *captures;  // captures NULL: no match
    } rows[] = {
        {"/", "/", ""},
        {"/", "/a", NULL},
        {"/a", "/a", ""},
        {"/a", "/A", ""},
        {"/a", "/a/", ""},
        {"/a/", "/a", ""},
        {"/a", "/ab", NULL},
        {"/:x", "/1", "x=1 "},
        {"/:x", "/", NULL},
        {"/:x", "/1/2", NULL},
        {"/:x/:y", "/1/2", "x=1 y=2 "},
        {"/:x-:y", "/a-b-c", "x=a y=b-c "},
        {"/:x.json", "/a.json", "x=a "},
        {"/*r", "/a/b", "r=a/b "},
        {"/*r", "/", NULL},
        {"/f/*r/end", "/f/a/b/end", "r=a/b "},
        {"/a{/:b}", "/a", ""},
        {"/a{/:b}", "/a/1", "b=1 "},
        {"/a{/:b{/:c}}", "/a/1/2", "b=1 c=2 "},
        {"/a{/:b{/:c}}", "/a/1", "b=1 "},
        {"/a{-x}b", "/a-xb", ""},
        {"/a{-x}b", "/ab", ""},
        {"/\\:a", "/:a", ""},
        {"/:\"my name\"", "/1", "my name=1 "},
        {"", "", ""},
        {"/caf\xc3\xa9", "/caf\xc3\xa9", ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct pattern pattern;
        struct pattern_capture captures[PATTERN_PARAMS];
        assert_int_equal(pattern_init(&pattern, rows[i].pattern), 0);
        int count = pattern_match(&pattern, pando_str_of(rows[i].path), captures);
        char text[128] = "";
        for (int k = 0; k < count; k++)
            sprintf(text + strlen(text), "%.*s=%.*s ", (int)captures[k].name.len, captures[k].name.data, (int)captures[k].value.len,
                    captures[k].value.data);
        if (!rows[i].captures)
            assert_int_equal(count, -1);
        else
            assert_string_equal(text, rows[i].captures), assert_true(count >= 0);
        pattern_deinit(&pattern);
    }
}

static void what_is_no_pattern(void **state) {
    (void)state;
    static const char *const rows[] = {"/:", "/*", "/{a", "/a}", "/(a)", "/a?", "/a+", "/[a]", "/\\", "/:\"a"};
    struct pattern pattern;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) assert_int_equal(pattern_init(&pattern, rows[i]), -EINVAL);
    assert_int_equal(pattern_init(&pattern, "{a}{b}{c}{d}{e}{f}"), -E2BIG);
}

static void hostile_paths_are_bounded(void **state) {
    (void)state;
    struct pattern pattern;
    struct pattern_capture captures[PATTERN_PARAMS];
    assert_int_equal(pattern_init(&pattern, "/:a-:b-:c-:d-:e-:f-:g-x"), 0);
    char path[4001] = "/";
    for (int i = 1; i < 4000; i++) path[i] = i % 2 ? 'a' : '-';
    assert_int_equal(pattern_match(&pattern, pando_str_of(path), captures), -1);
    pattern_deinit(&pattern);
}

static int param_runs;
static void show(pando_ctx *ctx) {
    pando_body_printf(ctx, "%s %s", pando_param(ctx, "id") ? pando_param(ctx, "id") : "-", pando_route_pattern(ctx));
}
static void check_id(pando_ctx *ctx) {
    param_runs++;
    pando_assert(ctx, strcmp(pando_param(ctx, "id"), "0"), 404, "no such id");
    pando_next(ctx);
}
static void urls(pando_ctx *ctx) {
    pando_router *router = pando_arg(ctx);
    pando_body_printf(ctx, "%s %s %s", pando_route_url(ctx, router, "user", "id", "a b", "page", "2", NULL),
                      pando_route_url(ctx, router, "opt", NULL), pando_route_url(ctx, router, "user", NULL) ? "?" : "none");
}
static void go_on(pando_ctx *ctx) { pando_next(ctx); }

static void expect(pando_app *app, const char *method, const char *target, int status, const char *text) {
    struct pando_answer answer;
    assert_int_equal(pando_inject(app, method, target, NULL, NULL, &answer), 0);
    assert_int_equal(answer.status, status);
    if (text) assert_string_equal(answer.body.data, text);
    pando_answer_free(&answer);
}

static void a_router(void **state) {
    (void)state;
    pando_app *app = pando_app_new(NULL);
    pando_router *router = pando_router_new(&(struct pando_router_options){.prefix = "/v1/:tenant", .exclusive = true});
    pando_route(router, "GET", "/users/:id", show, NULL);
    pando_route_name(router, "user");
    pando_route(router, "GET", "/users/:other", go_on, NULL);
    pando_route(router, "GET", "/opt{/:x}", show, NULL);
    pando_route_name(router, "opt");
    pando_route(router, "GET", "/urls", urls, router);
    pando_router_param(router, "id", check_id, NULL);
    pando_use_router_take(app, router);
    pando_router *only = pando_router_new(&(struct pando_router_options){.host = "other.example", .strict = true, .sensitive = true});
    pando_route(only, "GET", "/hosted", show, NULL);
    pando_use_router_take(app, only);
    expect(app, "GET", "/v1/acme/users/7", 200, "7 /v1/:tenant/users/:id");
    assert_int_equal(param_runs, 1);
    expect(app, "GET", "/v1/acme/users/0", 404, "no such id");
    expect(app, "GET", "/v1/acme/users/%ff", 400, NULL);
    expect(app, "GET", "/v1/acme/users/%00", 400, NULL);
    expect(app, "GET", "/v1/acme/users/%2e%2e", 200, ".. /v1/:tenant/users/:id");
    expect(app, "PUT", "/v1/acme/users/7", 405, NULL);
    expect(app, "BREW", "/v1/acme/users/7", 501, NULL);
    expect(app, "GET", "/hosted", 404, NULL);
    struct pando_answer answer;
    pando_inject(app, "GET", "/v1/x/urls", NULL, NULL, &answer);
    assert_non_null(strstr(answer.body.data, " none"));
    pando_answer_free(&answer);
    pando_app_free(app);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(patterns), cmocka_unit_test(what_is_no_pattern),
                                       cmocka_unit_test(hostile_paths_are_bounded), cmocka_unit_test(a_router)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
