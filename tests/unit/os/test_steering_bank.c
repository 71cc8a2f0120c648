// SPDX-License-Identifier: MIT
// What the steering program will read, from weights alone; its turns are taken here as it takes them.
#include "steering_bank.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static struct steering_memory memory;

static const struct steering_bank *turned(const uint16_t *weights, unsigned slots) {
    memset(&memory, 0, sizeof memory);
    memory.slots = slots;
    memory.lobby = memory.moving = STEERING_SLOTS;
    memcpy(memory.weight, weights, slots * sizeof *weights);
    for (unsigned i = 0; i < slots; i++) memory.cookie[i] = 1000 + i;
    steering_bank_turn(&memory);
    return &memory.bank[memory.current];
}

static uint32_t class_at(const struct steering_bank *bank, uint64_t turn) {
    uint64_t place = turn % bank->round * bank->stride % bank->round;
    uint32_t class = 0;
    while (place >= bank->class[class].end) class ++;
    return class;
}

// Of any round of turns each class has its share, whenever one begins to count.
static void check_shares(const struct steering_bank *bank) {
    uint32_t had[STEERING_CLASSES] = {0};
    for (uint64_t turn = 0; turn < 3ULL * bank->round; turn++) {
        had[class_at(bank, turn)]++;
        if (turn >= bank->round) had[class_at(bank, turn - bank->round)]--;
        if (turn + 1 < bank->round) continue;
        uint32_t begin = 0;
        for (uint32_t i = 0; i < bank->classes; begin = bank->class[i++].end) assert_int_equal(had[i], bank->class[i].end - begin);
    }
}

static void equal_weights_are_one_class(void **state) {
    (void)state;
    const struct steering_bank *bank = turned((uint16_t[]){7, 7, 0, 7}, 4);
    assert_int_equal(bank->classes, 1);
    assert_int_equal(bank->fit, 3);
    assert_int_equal(bank->members, 4);
    assert_int_equal(bank->round, 1);
    assert_memory_equal(bank->order, ((uint16_t[]){0, 1, 3, 2}), 4 * sizeof(uint16_t));
}

static void a_class_has_the_weight_of_all_its_slots(void **state) {
    (void)state;
    const struct steering_bank *bank = turned((uint16_t[]){19, 19, 19, 3}, 4);
    assert_int_equal(bank->classes, 2);
    assert_int_equal(bank->round, 20);
    assert_int_equal(bank->class[0].end, 19);
    check_shares(bank);
}

static void shares_are_exact_in_every_window(void **state) {
    (void)state;
    check_shares(turned((uint16_t[]){1, 2, 3, 4, 5, 6, 7, 8}, 8));
    check_shares(turned((uint16_t[]){1, 1000}, 2));
    check_shares(turned((uint16_t[]){65535, 1}, 2));
    check_shares(turned((uint16_t[]){10, 10, 10, 10, 10, 10, 10, 10, 10, 9, 0, 4}, 12));
}

// Not nine old ones and then the new: at a tenth of the share, no more than 17 in a row go without it.
static void turns_are_spread(void **state) {
    (void)state;
    const struct steering_bank *bank = turned((uint16_t[]){90, 10}, 2);
    int row = 0;
    for (uint64_t turn = 0; turn < 100; turn++) {
        row = class_at(bank, turn) == 0 ? row + 1 : 0;
        assert_true(row <= 17);
    }
}

static void a_round_of_all_slots_and_the_largest_weights_fits(void **state) {
    (void)state;
    uint16_t weights[STEERING_SLOTS];
    for (int i = 0; i < STEERING_SLOTS; i++) weights[i] = i == 0 ? 65534 : 65535;
    const struct steering_bank *bank = turned(weights, STEERING_SLOTS);
    assert_int_equal(bank->round, (65534 + 65535 * 1023) / 31);  // both parts are multiples of 31
    assert_true(bank->stride > 0 && bank->stride < bank->round);
}

static void eight_different_weights_are_possible_and_nine_are_not(void **state) {
    (void)state;
    uint16_t weights[STEERING_SLOTS];
    for (int i = 0; i < STEERING_SLOTS; i++) weights[i] = (uint16_t)(i % 9);
    assert_true(steering_bank_can(weights, STEERING_SLOTS));
    weights[STEERING_SLOTS - 1] = 77;
    assert_false(steering_bank_can(weights, STEERING_SLOTS));
}

static void the_lobby_is_first_among_those_steered_away(void **state) {
    (void)state;
    turned((uint16_t[]){0, 5, 0, 0}, 4);
    memory.lobby = 3;
    steering_bank_turn(&memory);
    const struct steering_bank *bank = &memory.bank[memory.current];
    assert_true(bank->has_lobby);
    assert_memory_equal(bank->order, ((uint16_t[]){1, 3, 0, 2}), 4 * sizeof(uint16_t));
}

static void slots_without_a_socket_or_being_emptied_are_left_out(void **state) {
    (void)state;
    turned((uint16_t[]){1, 1, 1, 1}, 4);
    memory.cookie[1] = 0;
    memory.moving = 2;
    steering_bank_turn(&memory);
    const struct steering_bank *bank = &memory.bank[memory.current];
    assert_int_equal(bank->fit, 2);
    assert_int_equal(bank->members, 2);
    assert_memory_equal(bank->order, ((uint16_t[]){0, 3}), 2 * sizeof(uint16_t));
}

static void nobody_at_all_is_an_empty_bank(void **state) {
    (void)state;
    const struct steering_bank *bank = turned((uint16_t[]){0, 0}, 2);
    assert_int_equal(bank->fit, 0);
    assert_int_equal(bank->members, 2);
    assert_int_equal(bank->round, 0);
}

// The bank in force is never written.
static void the_bank_turns(void **state) {
    (void)state;
    const struct steering_bank *before = turned((uint16_t[]){1, 1}, 2);
    struct steering_bank copy = *before;
    memory.weight[0] = 0;
    steering_bank_turn(&memory);
    assert_ptr_not_equal(before, &memory.bank[memory.current]);
    assert_memory_equal(before, &copy, sizeof copy);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_weights_are_one_class),
        cmocka_unit_test(a_class_has_the_weight_of_all_its_slots),
        cmocka_unit_test(shares_are_exact_in_every_window),
        cmocka_unit_test(turns_are_spread),
        cmocka_unit_test(a_round_of_all_slots_and_the_largest_weights_fits),
        cmocka_unit_test(eight_different_weights_are_possible_and_nine_are_not),
        cmocka_unit_test(the_lobby_is_first_among_those_steered_away),
        cmocka_unit_test(slots_without_a_socket_or_being_emptied_are_left_out),
        cmocka_unit_test(nobody_at_all_is_an_empty_bank),
        cmocka_unit_test(the_bank_turns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
