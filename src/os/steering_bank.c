// SPDX-License-Identifier: MIT
// The set of slots turns as a whole: it is written to the bank that is not in force, then `current` turns. A program that
// still reads the old bank decides as if its SYN had come a microsecond earlier. Should it be held up (a virtual processor
// taken away) until that bank is written once more, it may mix two sets: what it finds is a slot number all the same, and
// a slot without a socket is passed over. So nobody waits for readers.
#include "steering_bank.h"

#include <stddef.h>

static bool is_present(const struct steering_memory *memory, unsigned slot) { return memory->cookie[slot] != 0 && memory->moving != slot; }

bool steering_bank_fit(const struct steering_memory *memory, unsigned slot) {
    return is_present(memory, slot) && memory->weight[slot] != 0;
}

// The class of that weight, made when there is none yet. NULL: there are too many.
static struct steering_class *class_of(struct steering_bank *bank, uint16_t weight) {
    for (uint32_t i = 0; i < bank->classes; i++)
        if (bank->class[i].weight == weight) return &bank->class[i];
    if (bank->classes == STEERING_CLASSES) return NULL;
    bank->class[bank->classes] = (struct steering_class){.weight = weight};
    return &bank->class[bank->classes++];
}

bool steering_bank_can(const uint16_t *weights, unsigned slots) {
    struct steering_bank bank = {0};
    for (unsigned slot = 0; slot < slots; slot++)
        if (weights[slot] != 0 && class_of(&bank, weights[slot]) == NULL) return false;
    return true;
}

static void fill_order(struct steering_bank *bank, const struct steering_memory *memory) {
    uint32_t at = 0, lobby = memory->lobby;
    for (unsigned slot = 0; slot < memory->slots; slot++)
        if (steering_bank_fit(memory, slot)) class_of(bank, memory->weight[slot]);
    for (uint32_t i = 0; i < bank->classes; i++) {
        struct steering_class *class = &bank->class[i];
        class->first = at;
        for (unsigned slot = 0; slot < memory->slots; slot++)
            if (steering_bank_fit(memory, slot) && memory->weight[slot] == class->weight) bank->order[at++] = (uint16_t)slot;
        class->count = at - class->first;
    }
    bank->fit = at;
    bank->has_lobby = lobby < memory->slots && is_present(memory, lobby) && !steering_bank_fit(memory, lobby);
    if (bank->has_lobby) bank->order[at++] = (uint16_t)lobby;
    for (unsigned slot = 0; slot < memory->slots; slot++)
        if (is_present(memory, slot) && !steering_bank_fit(memory, slot) && !(bank->has_lobby && slot == lobby))
            bank->order[at++] = (uint16_t)slot;
    bank->members = at;
}

static uint32_t common_divisor(uint32_t a, uint32_t b) {
    while (b != 0) {
        uint32_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

static uint32_t parts_of(const struct steering_class *class) { return class->weight * class->count; }

// A stride near the golden section of the round spreads each class's turns evenly over it.
static void fill_turns(struct steering_bank *bank) {
    uint32_t divisor = 0, end = 0;
    for (uint32_t i = 0; i < bank->classes; i++) divisor = common_divisor(parts_of(&bank->class[i]), divisor);
    for (uint32_t i = 0; i < bank->classes; i++) bank->class[i].end = end += parts_of(&bank->class[i]) / divisor;
    bank->round = end;
    bank->stride = (uint32_t)(end * 0.6180339887);
    while (end > 1 && (bank->stride == 0 || common_divisor(end, bank->stride) != 1)) bank->stride++;
}

void steering_bank_turn(struct steering_memory *memory) {
    uint32_t next = (memory->current & 1) ^ 1;
    struct steering_bank *bank = &memory->bank[next];
    *bank = (struct steering_bank){0};
    fill_order(bank, memory);
    fill_turns(bank);
    __atomic_store_n(&memory->current, next, __ATOMIC_RELEASE);
}
