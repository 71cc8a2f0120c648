// SPDX-License-Identifier: MIT
// The onion, by pando_inject: order, throws, misuse of next, waiting, defer, state, slots.
#include "test.h"

#include <pando/app.h>

static char trace[256], told[256];

static void say(const char *text) { strcat(trace, text); }

static struct pando_answer ask(pando_app *app, const char *target) {
    struct pando_answer answer;
    *trace = *told = '\0';
    assert_int_equal(pando_inject(app, "GET", target, NULL, NULL, &answer), 0);
    return answer;
}

static void on_error(pando_ctx *ctx, const struct pando_failure *failure, void *arg) {
    (void)ctx, (void)arg;
    snprintf(told, sizeof told, "%s: %d %s", failure->middleware ? failure->middleware : "?", failure->status, failure->message);
}

static pando_app *app_of(pando_handler a, const char *a_name, pando_handler b, const char *b_name) {
    pando_app *app = pando_app_new(NULL);
    pando_on_error(app, on_error, NULL);
    if (a) pando_use_named(app, a_name, a, NULL);
    if (b) pando_use_named(app, b_name, b, NULL);
    return app;
}
#define APP(a, b) app_of(a, #a, b, #b)

static void around(pando_ctx *ctx) {
    say("(");
    pando_next(ctx);
    say(")");
}
static void around_waiting(pando_ctx *ctx) {
    say("[");
    pando_sleep(ctx, 1);
    pando_next(ctx);
    pando_sleep(ctx, 1);
    say("]");
}
static void body(pando_ctx *ctx) {
    say(".");
    pando_body_text(ctx, "body");
}
static void throws(pando_ctx *ctx) {
    say("!");
    pando_throw(ctx, 403, "no %d", 7);
}
static void throws_500(pando_ctx *ctx) { pando_throw(ctx, 500, "secret"); }
static void catches(pando_ctx *ctx) {
    const struct pando_failure *failure = pando_try_next(ctx);
    say(failure ? failure->message : "nothing");
    if (failure) pando_body_printf(ctx, "caught %s in %s", failure->message, failure->middleware);
}
static void rethrows(pando_ctx *ctx) {
    const struct pando_failure *failure = pando_try_next(ctx);
    say("r");
    if (failure) pando_rethrow(ctx, failure);
}
static void twice(pando_ctx *ctx) {
    pando_next(ctx);
    pando_next(ctx);
}
static void deferring(pando_ctx *ctx) {
    pando_defer(ctx, (void (*)(void *))(void (*)(void))say, "1");
    pando_defer(ctx, (void (*)(void *))(void (*)(void))say, "2");
    pando_next(ctx);
}
static void nothing(pando_ctx *ctx) { (void)ctx; }

static void upstream_runs_after_downstream(void **state) {
    (void)state;
    pando_app *app = APP(around, around_waiting);
    pando_use(app, body, NULL);
    struct pando_answer answer = ask(app, "/");
    assert_string_equal(trace, "([.])");
    assert_int_equal(answer.status, 200);
    pando_answer_free(&answer);
    pando_app_free(app);
}

static void without_next_the_rest_does_not_run(void **state) {
    (void)state;
    pando_app *app = APP(nothing, body);
    struct pando_answer answer = ask(app, "/");
    assert_string_equal(trace, "");
    assert_int_equal(answer.status, 404);
    pando_answer_free(&answer);
    pando_app_free(app);
}

static void a_throw_skips_what_is_upstream(void **state) {
    (void)state;
    pando_app *app = APP(around, throws);
    struct pando_answer answer = ask(app, "/");
    assert_string_equal(trace, "(!");
    assert_int_equal(answer.status, 403);
    assert_memory_equal(answer.body.data, "no 7", 4);
    assert_string_equal(told, "throws: 403 no 7");
    pando_answer_free(&answer);
    pando_app_free(app);
}

static void a_throw_ends_where_it_is_caught(void **state) {
    (void)state;
    pando_app *app = APP(around, catches);
    pando_use(app, around_waiting, NULL);
    pando_use(app, throws, NULL);
    struct pando_answer answer = ask(app, "/");
    assert_string_equal(trace, "([!no 7)");
    assert_memory_equal(answer.body.data, "caught no 7 in throws", answer.body.len);
    assert_string_equal(told, "");
    pando_answer_free(&answer);
    pando_app_free(app);
}

static void a_caught_throw_can_be_thrown_on(void **state) {
    (void)state;
    pando_app *app = APP(catches, rethrows);
    pando_use(app, throws, NULL);
    struct pando_answer answer = ask(app, "/");
    assert_string_equal(trace, "!rno 7");
    pando_answer_free(&answer);
    pando_app_free(app);
}

static void what_is_not_exposed_is_told_but_not_said(void **state) {
    (void)state;
    pando_app *app = APP(throws_500, NULL);
    struct pando_answer answer = ask(app, "/");
    assert_int_equal(answer.status, 500);
    assert_memory_equal(answer.body.data, "Internal Server Error", answer.body.len);
    assert_string_equal(told, "throws_500: 500 secret");
    pando_answer_free(&answer);
    pando_app_free(app);
}

static void next_twice_is_reported_by_name(void **state) {
    (void)state;
    pando_app *app = APP(twice, body);
    struct pando_answer answer = ask(app, "/");
    assert_int_equal(answer.status, 500);
    assert_string_equal(told, "twice: 500 next() called multiple times by twice");
    pando_answer_free(&answer);
    pando_app_free(app);
}

static pando_ctx *escaped;
static void lets_escape(pando_ctx *ctx) {
    escaped = ctx;
    pando_exchange_hold(pando_ctx_exchange(ctx));
    pando_next(ctx);
}

static void next_after_return_is_reported_by_name(void **state) {
    (void)state;
    pando_app *app = APP(lets_escape, NULL);
    struct pando_answer answer = ask(app, "/");
    pando_next(escaped);
    assert_string_equal(told, "lets_escape: 500 next() called after lets_escape had returned");
    pando_exchange_release(pando_ctx_exchange(escaped));
    pando_answer_free(&answer);
    pando_app_free(app);
}

static jmp_buf escape;
static void jumps_out(pando_ctx *ctx) {
    (void)ctx;
    longjmp(escape, 1);
}
static void leaves_early(pando_ctx *ctx) {
    if (!setjmp(escape)) pando_next(ctx);
}

static void return_before_downstream_is_reported_by_name(void **state) {
    (void)state;
    pando_app *app = APP(leaves_early, jumps_out);
    struct pando_answer answer = ask(app, "/");
    assert_int_equal(answer.status, 500);
    assert_string_equal(told, "leaves_early: 500 leaves_early returned before its downstream had finished");
    pando_answer_free(&answer);
    pando_app_free(app);
}

static void deferred_things_run_last_first_after_a_throw_too(void **state) {
    (void)state;
    pando_app *app = APP(deferring, throws);
    struct pando_answer answer = ask(app, "/");
    assert_string_equal(trace, "!21");
    pando_answer_free(&answer);
    pando_app_free(app);
}

static int slot;
static void sets_state(pando_ctx *ctx) {
    pando_state_set(ctx, "user", "me");
    *pando_slot(ctx, slot) = "slotted";
    pando_next(ctx);
}
static void shows_state(pando_ctx *ctx) {
    pando_body_printf(ctx, "%s %s %s", (char *)pando_state(ctx, "user"), (char *)*pando_slot(ctx, slot),
                      pando_state(ctx, "none") ? "?" : "-");
}

static void state_and_slots_pass_downstream(void **state) {
    (void)state;
    pando_app *app = APP(sets_state, shows_state);
    slot = pando_slot_new(app);
    struct pando_answer answer = ask(app, "/");
    assert_memory_equal(answer.body.data, "me slotted -", 12);
    pando_answer_free(&answer);
    pando_app_free(app);
}

static void resumes_itself(pando_ctx *ctx) {
    pando_resume(ctx);
    pando_suspend(ctx);
    say("on");
}

static void a_resume_before_the_suspend_is_not_lost(void **state) {
    (void)state;
    pando_app *app = APP(resumes_itself, NULL);
    struct pando_answer answer = ask(app, "/");
    assert_string_equal(trace, "on");
    pando_answer_free(&answer);
    pando_app_free(app);
}

static void streams(pando_ctx *ctx) {
    for (int i = 0; i < 1000; i++) assert_int_equal(pando_write(ctx, "0123456789", 10), 0);
}
static void sets_stream(pando_ctx *ctx) { pando_body_stream(ctx, streams, NULL); }

static void an_injected_request_gets_its_chunks_joined(void **state) {
    (void)state;
    pando_app *app = APP(sets_stream, NULL);
    struct pando_answer answer = ask(app, "/");
    assert_int_equal(answer.body.len, 10000);
    assert_memory_equal(pando_answer_header(&answer, "content-type").data, "application/octet-stream", 24);
    pando_answer_free(&answer);
    pando_app_free(app);
}

static void many_requests_leave_nothing_behind(void **state) {
    (void)state;
    pando_app *app = APP(around_waiting, body);
    for (int i = 0; i < 300; i++) {
        struct pando_answer answer = ask(app, "/");
        assert_int_equal(answer.status, 200);
        pando_answer_free(&answer);
    }
    pando_app_free(app);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(upstream_runs_after_downstream),
        cmocka_unit_test(without_next_the_rest_does_not_run),
        cmocka_unit_test(a_throw_skips_what_is_upstream),
        cmocka_unit_test(a_throw_ends_where_it_is_caught),
        cmocka_unit_test(a_caught_throw_can_be_thrown_on),
        cmocka_unit_test(what_is_not_exposed_is_told_but_not_said),
        cmocka_unit_test(next_twice_is_reported_by_name),
        cmocka_unit_test(next_after_return_is_reported_by_name),
        cmocka_unit_test(return_before_downstream_is_reported_by_name),
        cmocka_unit_test(deferred_things_run_last_first_after_a_throw_too),
        cmocka_unit_test(state_and_slots_pass_downstream),
        cmocka_unit_test(a_resume_before_the_suspend_is_not_lost),
        cmocka_unit_test(an_injected_request_gets_its_chunks_joined),
        cmocka_unit_test(many_requests_leave_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
