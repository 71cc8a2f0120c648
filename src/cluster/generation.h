// SPDX-License-Identifier: MIT
// Generations: the versions of command, environment and options that have workers, or that a rollback may ask for. Their
// rows are in the record; here is what goes with each row and is held by the keeper: the launch, the working directory,
// the executable. So an old generation respawns what it was, whatever its paths lead to now.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "error.h"
#include "launch.h"
#include "link.h"
#include "record.h"

struct generation {
    struct launch *launch;  // owned; NULL: that of `run`, the first generation's
    int directory;          // owned; O_PATH; -1 = not to be had
    int program;            // owned; O_RDONLY or O_PATH; -1 = not found yet
};

struct generations {
    struct record *record;             // borrowed
    struct link *link;                 // borrowed
    const struct launch *first_launch;  // borrowed
    struct generation at[RECORD_GENERATIONS];  // parallel to record->generations
};

void generations_init(struct generations *generations, struct record *record, struct link *link, const struct launch *first_launch);
void generations_deinit(struct generations *generations);
// Makes a row with the next number. `memfd` (borrowed) is the sealed `launch_take`; both NULL and -1 for the first. Its number, or -errno.
int generations_add(struct generations *generations, struct launch *launch_take, int memfd, struct pando_error *error);
void generations_remove(struct generations *generations, uint32_t number);
// The same command, options, folder and executable under a new number. Its number, or -errno.
int generations_copy(struct generations *generations, uint32_t number, struct pando_error *error);
// Adoption: a descriptor of kind LAUNCH, DIRECTORY or PROGRAM that the keeper held.
void generations_adopt(struct generations *generations, enum held_kind kind, uint64_t number, int held_take);

struct record_generation *generation_row(struct record *record, uint32_t number);  // NULL: no such
const struct launch *generations_launch(const struct generations *generations, uint32_t number);
int generations_directory(const struct generations *generations, uint32_t number);  // borrowed; -1
// The executable, when its path does not lead to it any more and it is no script; else -1: by its path. Borrowed. Notes it the
// first time.
int generations_program(struct generations *generations, uint32_t number, const char *path);
