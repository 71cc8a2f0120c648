// SPDX-License-Identifier: MIT
#include "test.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "coroutine.h"

static struct coroutine_pool pool;
static char trace[64];

static void say(const char *text) { strcat(trace, text); }

static void twice(void *arg) {
    say(arg);
    coroutine_suspend(&pool);
    say("2");
    coroutine_suspend(&pool);
    say("3");
}

static void it_goes_on_where_it_suspended(void **state) {
    (void)state;
    coroutine_pool_init(&pool, 64 * 1024);
    *trace = '\0';
    bool done;
    struct coroutine *a = coroutine_start(&pool, twice, "a", &done), *b = coroutine_start(&pool, twice, "b", &done);
    assert_false(done);
    assert_false(coroutine_resume(&pool, a));
    assert_false(coroutine_resume(&pool, b));
    assert_true(coroutine_resume(&pool, b));
    assert_true(coroutine_resume(&pool, a));
    assert_string_equal(trace, "ab2233");
    assert_int_equal(pool.live_count, 0);
    assert_int_equal(pool.idle_count, 2);
    coroutine_pool_deinit(&pool);
}

static void start_inner(void *arg) {
    bool done;
    struct coroutine *inner = coroutine_start(&pool, twice, arg, &done);
    say("-");
    coroutine_suspend(&pool);
    while (!coroutine_resume(&pool, inner)) {
    }
    say(".");
}

static void one_may_run_another(void **state) {
    (void)state;
    coroutine_pool_init(&pool, 64 * 1024);
    *trace = '\0';
    bool done;
    struct coroutine *outer = coroutine_start(&pool, start_inner, "i", &done);
    assert_true(coroutine_resume(&pool, outer));
    assert_string_equal(trace, "i-23.");
    coroutine_pool_deinit(&pool);
}

static void count(void *arg) { ++*(int *)arg; }

static void stacks_are_reused(void **state) {
    (void)state;
    coroutine_pool_init(&pool, 64 * 1024);
    int ran = 0;
    bool done;
    struct coroutine *first = NULL;
    for (int i = 0; i < 100000; i++) {
        struct coroutine *co = coroutine_start(&pool, count, &ran, &done);
        if (!first) first = co;
        assert_true(done && co == first);
    }
    assert_int_equal(ran, 100000);
    coroutine_pool_deinit(&pool);
}

static void use_registers(void *arg) {
    double sum = *(double *)arg;
    for (int i = 0; i < 10; i++) {
        sum = sum * 1.5 + i;
        coroutine_suspend(&pool);
    }
    *(double *)arg = sum;
}

static void numbers_survive_a_switch(void **state) {
    (void)state;
    coroutine_pool_init(&pool, 64 * 1024);
    double a = 1, b = 2, expected = 1;
    bool done;
    struct coroutine *x = coroutine_start(&pool, use_registers, &a, &done), *y = coroutine_start(&pool, use_registers, &b, &done);
    while (!coroutine_resume(&pool, x)) coroutine_resume(&pool, y);
    for (int i = 0; i < 10; i++) expected = expected * 1.5 + i;
    assert_true(a == expected);
    while (!coroutine_resume(&pool, y)) {
    }
    coroutine_pool_deinit(&pool);
}

static int deeper(int depth) {
    volatile char room[1024];
    room[0] = (char)depth;
    return depth ? deeper(depth - 1) + room[0] : 0;
}

static void overflow(void *arg) { *(int *)arg = deeper(1 << 20); }

static void an_overflow_hits_the_guard_page(void **state) {
    (void)state;
    pid_t child = fork();
    if (!child) {
        fclose(stderr);
        signal(SIGSEGV, SIG_DFL);
        int out;
        bool done;
        coroutine_pool_init(&pool, 64 * 1024);
        coroutine_start(&pool, overflow, &out, &done);
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(it_goes_on_where_it_suspended), cmocka_unit_test(one_may_run_another),
                                       cmocka_unit_test(stacks_are_reused), cmocka_unit_test(numbers_survive_a_switch),
                                       cmocka_unit_test(an_overflow_hits_the_guard_page)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
