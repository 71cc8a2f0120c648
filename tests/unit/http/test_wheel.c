// SPDX-License-Identifier: MIT
#include "test.h"

#include "http_limits.h"
#include "wheel.h"

static struct wheel wheel;

static bool expires(struct wheel_node *node, uint64_t now) {
    struct list_node out;
    list_init(&out);
    wheel_turn(&wheel, now, &out);
    bool found = !list_empty(&out) && list_owner(out.next, struct wheel_node, link) == node;
    while (!list_empty(&out)) list_remove(out.next);
    return found;
}

static void a_deadline_comes_late_by_at_most_two_ticks_and_never_early(void **state) {
    (void)state;
    for (uint64_t wait = 1; wait < 400000; wait = wait * 3 / 2 + 17) {
        struct wheel_node node;
        uint64_t now = 1000000;
        wheel_init(&wheel, now);
        wheel_node_init(&node);
        wheel_set(&wheel, &node, now + wait);
        uint64_t at = now;
        while (!expires(&node, at)) at += LIMIT_TICK_MS;
        assert_true(at >= now + wait);
        assert_true(at <= now + wait + 2 * LIMIT_TICK_MS);
    }
}

static void putting_off_is_lazy_and_bringing_forward_is_not(void **state) {
    (void)state;
    struct wheel_node node;
    wheel_init(&wheel, 0);
    wheel_node_init(&node);
    wheel_set(&wheel, &node, 1000);
    uint64_t slot = node.slot_tick;
    wheel_set(&wheel, &node, 5000);
    assert_int_equal(node.slot_tick, slot);
    assert_false(expires(&node, 2000));
    assert_true(expires(&node, 5500));
    wheel_set(&wheel, &node, 60000);
    wheel_set(&wheel, &node, 6000);
    assert_true(expires(&node, 6500));
}

static void no_deadline_and_removal(void **state) {
    (void)state;
    struct wheel_node node;
    wheel_init(&wheel, 0);
    wheel_node_init(&node);
    wheel_set(&wheel, &node, 1000);
    wheel_set(&wheel, &node, UINT64_MAX);
    assert_false(expires(&node, 100000));
    wheel_set(&wheel, &node, 101000);
    wheel_remove(&node);
    assert_false(expires(&node, 200000));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_deadline_comes_late_by_at_most_two_ticks_and_never_early),
                                       cmocka_unit_test(putting_off_is_lazy_and_bringing_forward_is_not),
                                       cmocka_unit_test(no_deadline_and_removal)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
