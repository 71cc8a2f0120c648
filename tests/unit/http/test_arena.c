// SPDX-License-Identifier: MIT
// base/arena: here because http is what it was made for.
#include "test.h"

#include <limits.h>

#include "arena.h"

static char first[256] __attribute__((aligned(16)));

static void texts_are_as_printf_makes_them(void **state) {
    (void)state;
    struct arena arena;
    char expected[512];
    size_t len;
    arena_init(&arena, first, sizeof first, 1 << 20);
#define SAME(...)                                                    \
    do {                                                             \
        int want = snprintf(expected, sizeof expected, __VA_ARGS__); \
        char *text = arena_printf(&arena, &len, __VA_ARGS__);        \
        assert_string_equal(text, expected);                         \
        assert_int_equal(len, want);                                 \
        assert_int_equal((uintptr_t)text % 8, 0);                    \
    } while (0)
    for (int i = 0; i < 30; i++) {  // through the first block and beyond it
        SAME("plain");
        SAME("%s-%d-%u-%%", "text", -5, 7u);
        SAME("%ld %lu %lld %llu %zu", LONG_MIN, ULONG_MAX, LLONG_MIN, ULLONG_MAX, (size_t)0);
        SAME("%d %d", INT_MIN, INT_MAX);
        SAME("%05.1fms|%.3s|%-4d|%c|%x", 3.14159, "abcdef", 3, 'c', 255);
        SAME("%s", "");
        SAME("%s mixed %5d", "plain then", 42);
    }
    arena_reset(&arena);
}

static void the_ceiling_holds(void **state) {
    (void)state;
    struct arena arena;
    arena_init(&arena, first, sizeof first, 100000);
    assert_null(arena_take(&arena, 100001));
    assert_non_null(arena_take(&arena, 60000));
    assert_null(arena_take(&arena, 60000));
    assert_null(arena_take(&arena, SIZE_MAX - 3));
    arena_reset(&arena);
    assert_non_null(arena_take(&arena, 60000));
    assert_ptr_equal(arena_take(&arena, 8), first);
    arena_reset(&arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(texts_are_as_printf_makes_them), cmocka_unit_test(the_ceiling_holds)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
