// SPDX-License-Identifier: MIT
// One run of `pando torture`, from the start of the command to the verdict.
//
//   network -> folder -> `pando run` -> ready -> what speaks it? -> load: warm-up, steady state, acts ... the keeper last -> stop ->
//   verdict
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "act.h"
#include "instance.h"
#include "interrupt.h"
#include "load.h"
#include "network.h"
#include "options.h"
#include "status.h"
#include "verdict.h"

enum { TORTURE_BROKEN_MAX = 16, TORTURE_TEXT_SIZE = 400 };

struct torture {
    struct options options;
    struct interrupt interrupt;
    struct instance instance;
    enum network network;
    FILE *out;         // borrowed: where the lines for people go
    char pando[4096];  // path of the command beside this one

    // What was found out about the command.
    struct load_options target;
    char address[64];
    uint16_t port;
    char mode[8];
    int workers;  // as started

    struct load *load;  // owned
    long aborts;        // network_aborts at the load's start
    unsigned chance;    // of rand_r
    double per_second;
    uint64_t start_ns;   // of the load
    uint64_t loaded_ns;  // how long it lasted

    unsigned times[ACT_COUNT];  // acts done
    unsigned killed_workers, killed_primaries, killed_keepers, crashes;
    bool can_roll_back;

    // Promises broken other than by lost requests.
    int broken;
    char promise[TORTURE_BROKEN_MAX][TORTURE_TEXT_SIZE];
};

// One line of what is happening, with the time.
void torture_tell(struct torture *torture, const char *format, ...) __attribute__((format(printf, 2, 3)));
// A promise was broken: told at once, and again at the end.
void torture_broken(struct torture *torture, const char *format, ...) __attribute__((format(printf, 2, 3)));

// The exit code.
int torture_main(int argc, char **argv);
