// SPDX-License-Identifier: MIT
// The `pando run` under torture: a child like any user's, with a run-time folder of its own, asked through its control socket and driven by
// the verbs of the command line.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "error.h"
#include "interrupt.h"

#define INSTANCE_NAME "torture"

struct output;

struct instance {
    struct interrupt *interrupt;  // borrowed
    const char *pando;            // borrowed: path of the command
    char folder[64];              // ours; "" = not made yet
    int home;                     // owned: the folder
    pid_t pid;                    // `pando run`, which becomes the keeper; 0 = none
    int pidfd;                    // owned
    int status;                   // from waitpid, once `ended`
    bool ended;
    struct output *output;  // owned
};

// A folder for it. 0 or -errno with a sentence.
int instance_init(struct instance *instance, const char *pando, struct interrupt *interrupt, struct pando_error *error);
// `argv` as for execv(3): "pando", "run", ... 0 or -errno with a sentence.
int instance_start(struct instance *instance, char *const *argv, struct pando_error *error);
// Has `pando run` ended? Then `status` is set.
bool instance_has_ended(struct instance *instance);
// The last lines that it wrote, into `out` (size > 0).
void instance_last_lines(struct instance *instance, char *out, size_t size);

enum verb_end { VERB_ENDED, VERB_TOO_SLOW, VERB_INTERRUPTED, VERB_FAILED };
struct verb {
    pid_t pid;
    int output;  // owned while it runs: its standard error
    enum verb_end end;
    int code;        // the exit code, with VERB_ENDED; an errno with VERB_FAILED
    char text[512];  // the first line of what it complained about
};
// Starts `pando WORD...`: words are NULL-terminated, "-n torture" is added behind the first. Then instance_verb_end must be called.
void instance_verb_start(struct instance *instance, char *const *words, struct verb *out);
// Has it ended already? Does not wait.
bool instance_verb_has_ended(const struct verb *verb);
// Waits for its end; kills it after `patience_ns`.
void instance_verb_end(struct instance *instance, uint64_t patience_ns, struct verb *verb);

// Descendants of this process that run (no zombies), reaped as far as they have ended. How many; the first ones as "PID NAME" in `out`.
int instance_left_processes(struct instance *instance, char *out, size_t size);
// Ends whatever is left by KILL and removes the folder; half-built is fine.
void instance_deinit(struct instance *instance);
