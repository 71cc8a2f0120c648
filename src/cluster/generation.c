// SPDX-License-Identifier: MIT
#include "generation.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fd.h"
#include "log.h"

void generations_init(struct generations *generations, struct record *record, struct link *link, const struct launch *first_launch) {
    *generations = (struct generations){.record = record, .link = link, .first_launch = first_launch};
    for (int i = 0; i < RECORD_GENERATIONS; i++) generations->at[i] = (struct generation){.directory = -1, .program = -1};
}

struct record_generation *generation_row(struct record *record, uint32_t number) {
    for (int i = 0; i < RECORD_GENERATIONS; i++)
        if (number != 0 && record->generations[i].number == number) return &record->generations[i];
    return NULL;
}

static struct generation *find(const struct generations *generations, uint32_t number) {
    const struct record_generation *row = generation_row(generations->record, number);
    return row == NULL ? NULL : (struct generation *)&generations->at[row - generations->record->generations];
}

const struct launch *generations_launch(const struct generations *generations, uint32_t number) {
    const struct generation *generation = find(generations, number);
    return generation != NULL && generation->launch != NULL ? generation->launch : generations->first_launch;
}

int generations_directory(const struct generations *generations, uint32_t number) {
    const struct generation *generation = find(generations, number);
    return generation != NULL ? generation->directory : -1;
}

static bool is_script(int fd) {
    char start[2];
    return pread(fd, start, sizeof start, 0) != sizeof start || (start[0] == '#' && start[1] == '!');
}

int generations_program(struct generations *generations, uint32_t number, const char *path) {
    struct generation *generation = find(generations, number);
    struct stat held, there;
    if (generation == NULL) return -1;
    if (generation->program < 0) {
        int at = generation->directory >= 0 ? generation->directory : AT_FDCWD;
        generation->program = openat(at, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        if (generation->program >= 0) link_hold(generations->link, HELD_PROGRAM, number, generation->program);
        return -1;
    }
    int at = generation->directory >= 0 ? generation->directory : AT_FDCWD;
    bool same = fstat(generation->program, &held) == 0 && fstatat(at, path, &there, 0) == 0 && held.st_dev == there.st_dev &&
                held.st_ino == there.st_ino;
    return same || is_script(generation->program) ? -1 : generation->program;
}

static int free_row(const struct record *record) {
    for (int i = 0; i < RECORD_GENERATIONS; i++)
        if (record->generations[i].number == 0) return i;
    return -1;
}

// The keeper has it all before the row says that there is such a generation.
static int add(struct generations *generations, struct generation *from, int memfd, struct pando_error *error) {
    struct record *record = generations->record;
    int row = free_row(record), r = 0;
    uint32_t number = record->last_generation + 1;
    if (row < 0) return error_say(error, EBUSY, "%d generations still have workers that finish what they have: wait for one to end", RECORD_GENERATIONS);
    if (memfd >= 0) r = link_hold(generations->link, HELD_LAUNCH, number, memfd);
    if (r == 0 && from->directory >= 0) r = link_hold(generations->link, HELD_DIRECTORY, number, from->directory);
    if (r == 0 && from->program >= 0) r = link_hold(generations->link, HELD_PROGRAM, number, from->program);
    if (r != 0) return error_set(error, -r, "keep the new generation's launch data");
    generations->at[row] = *from;
    *from = (struct generation){.directory = -1, .program = -1};
    record->generations[row] = (struct record_generation){.number = number};
    record->last_generation = number;
    return (int)number;
}

static void release(struct generation *generation) {
    if (generation->launch != NULL) launch_deinit(generation->launch);
    free(generation->launch);
    fd_close(&generation->directory);
    fd_close(&generation->program);
    *generation = (struct generation){.directory = -1, .program = -1};
}

void generations_deinit(struct generations *generations) {
    for (int i = 0; i < RECORD_GENERATIONS; i++) release(&generations->at[i]);
}

int generations_add(struct generations *generations, struct launch *launch_take, int memfd, struct pando_error *error) {
    const struct launch *launch = launch_take != NULL ? launch_take : generations->first_launch;
    struct generation generation = {.launch = launch_take, .program = -1};
    generation.directory = open(launch->directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int r = add(generations, &generation, memfd, error);
    release(&generation);
    return r;
}

int generations_copy(struct generations *generations, uint32_t number, struct pando_error *error) {
    const struct generation *from = find(generations, number);
    if (from == NULL) return error_say(error, ENOENT, "generation %u is gone", number);
    scoped_fd memfd = launch_seal(generations_launch(generations, number));
    struct generation copy = {.directory = -1, .program = -1};
    int r = memfd < 0 ? error_set(error, -memfd, "copy the launch data of generation %u", number) : 0;
    if (r == 0 && (copy.launch = calloc(1, sizeof *copy.launch)) == NULL) r = error_set(error, ENOMEM, "copy the launch data");
    if (r == 0) r = launch_load(copy.launch, memfd, error);
    if (r == 0 && from->directory >= 0) copy.directory = fcntl(from->directory, F_DUPFD_CLOEXEC, 0);
    if (r == 0 && from->program >= 0) copy.program = fcntl(from->program, F_DUPFD_CLOEXEC, 0);
    if (r == 0) r = add(generations, &copy, memfd, error);
    release(&copy);
    return r;
}

void generations_remove(struct generations *generations, uint32_t number) {
    struct record_generation *row = generation_row(generations->record, number);
    if (row == NULL) return;
    release(&generations->at[row - generations->record->generations]);
    *row = (struct record_generation){0};
    if (number > 1) link_drop(generations->link, HELD_LAUNCH, number);  // the first is the instance's own
    link_drop(generations->link, HELD_DIRECTORY, number);
    link_drop(generations->link, HELD_PROGRAM, number);
}

void generations_adopt(struct generations *generations, enum held_kind kind, uint64_t number, int held_take) {
    struct generation *generation = number <= UINT32_MAX ? find(generations, (uint32_t)number) : NULL;
    scoped_fd fd = held_take;
    struct pando_error error = {0};
    if (generation == NULL) {  // its row was never written, or is gone
        link_drop(generations->link, kind, number);
    } else if (kind == HELD_DIRECTORY) {
        generation->directory = fd_take(&fd);
    } else if (kind == HELD_PROGRAM) {
        generation->program = fd_take(&fd);
    } else if (generation->launch == NULL && (generation->launch = calloc(1, sizeof *generation->launch)) != NULL &&
               launch_load(generation->launch, fd, &error) != 0) {
        free(generation->launch);
        generation->launch = NULL;
        log_error("take over generation %llu: %s", (unsigned long long)number, error.text);
    }
}
