// SPDX-License-Identifier: MIT
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "act.h"
#include "clock.h"
#include "fd.h"
#include "look.h"
#include "torture.h"

#define VERB_NS (180 * CLOCK_S)
#define INTO_RELOAD_NS (600 * CLOCK_MS)  // the primary is killed at some moment of so long since it began
#define LOOK_NS (2 * CLOCK_MS)
enum { SCALE_STEP = 2, EXIT_REFUSED = 4, WORDS_MAX = 12, PATH_SIZE = 128 };

// Words of a command line, in storage of their own.
struct words {
    int count;
    char text[WORDS_MAX][PATH_SIZE];
    char *word[WORDS_MAX + 1];
};

static void words_add(struct words *words, const char *text) {
    snprintf(words->text[words->count], PATH_SIZE, "%s", text);
    words->word[words->count] = words->text[words->count];
    words->word[++words->count] = NULL;
}

static struct words *words_of(struct words *words, const char *const *texts) {
    words->count = 0;
    for (; *texts; texts++) words_add(words, *texts);
    return words;
}

// It has not ended, or could not be started: that was told. True when it has ended.
static bool has_ended(struct torture *torture, const struct words *words, const struct verb *verb) {
    if (verb->end == VERB_TOO_SLOW)
        torture_broken(torture, "`pando %s` has not ended after %d s", words->word[0], (int)(VERB_NS / CLOCK_S));
    else if (verb->end == VERB_FAILED)
        torture_tell(torture, "`pando %s` could not be started: %s", words->word[0], strerror(verb->code));
    return verb->end == VERB_ENDED;
}

// Runs a verb that must succeed. False when it did not, after saying so.
static bool must(struct torture *torture, const struct words *words) {
    struct verb verb;
    instance_verb_start(&torture->instance, words->word, &verb);
    instance_verb_end(&torture->instance, VERB_NS, &verb);
    if (!has_ended(torture, words, &verb)) return false;
    if (verb.code != 0) torture_broken(torture, "`pando %s` failed with exit code %d: %s", words->word[0], verb.code, verb.text);
    return verb.code == 0;
}

void act_restart(struct torture *torture) {
    struct status before, after;
    struct words words;
    if (!look_whole(torture, &before)) return;
    uint64_t begun_ns = clock_now_ns();
    if (!must(torture, words_of(&words, (const char *const[]){"restart", NULL})) || !look_whole(torture, &after)) return;
    torture_tell(torture, "pando restart: %d workers replaced one after the other in %.0f ms", before.workers, look_ms_since(begun_ns));
    if (!look_all_others(&after, &before)) torture_broken(torture, "`pando restart` left a worker as it was");
}

static void scale(struct torture *torture, int by) {
    struct status before, after;
    struct words words;
    char operand[16];
    snprintf(operand, sizeof operand, "%+d", by);
    if (!look_whole(torture, &before)) return;
    uint64_t begun_ns = clock_now_ns();
    if (!must(torture, words_of(&words, (const char *const[]){"scale", operand, NULL})) || !look_whole(torture, &after)) return;
    torture_tell(torture, "pando scale %s: %d workers after %.0f ms", operand, after.wanted, look_ms_since(begun_ns));
    if (after.wanted != before.wanted + by)
        torture_broken(torture, "`pando scale %s` made %d workers of %d", operand, after.wanted, before.wanted);
}

void act_scale_up(struct torture *torture) { scale(torture, SCALE_STEP); }

void act_scale_down(struct torture *torture) { scale(torture, -SCALE_STEP); }

// ---- reload

// Of the old version nobody serves, or of the new one nobody: `replaced` says which is right.
static void check_generation(struct torture *torture, const char *what, const struct status *before, const struct status *after,
                             bool replaced) {
    for (int i = 0; i < after->workers; i++)
        if (after->worker[i].generation != after->generation)
            torture_broken(torture, "after %s worker %d is of generation %d, not %d", what, after->worker[i].slot,
                           after->worker[i].generation, after->generation);
    if (replaced && after->generation == before->generation)
        torture_broken(torture, "after %s generation %d still serves", what, after->generation);
    if (replaced && !look_all_others(after, before)) torture_broken(torture, "%s left a worker as it was", what);
    if (!replaced && after->generation != before->generation)
        torture_broken(torture, "after %s generation %d serves instead of %d", what, after->generation, before->generation);
    if (!replaced) look_at_untouched(torture, before, after, -1);
}

void act_reload(struct torture *torture) {
    struct status before, after;
    struct words words;
    bool keeps = rand_r(&torture->chance) % 2 == 0;
    if (!look_whole(torture, &before)) return;
    words_of(&words, (const char *const[]){"reload", "--keep-old", keeps ? "20s" : "0", NULL});
    uint64_t begun_ns = clock_now_ns();
    if (!must(torture, &words) || !look_whole(torture, &after)) return;
    torture->can_roll_back = true;
    torture_tell(torture, "pando reload%s: %d new workers serve after %.0f ms", keeps ? " --keep-old" : "", after.workers,
                 look_ms_since(begun_ns));
    check_generation(torture, "`pando reload`", &before, &after, true);
}

void act_rollback(struct torture *torture) {
    struct status before, after;
    struct words words;
    if (!look_whole(torture, &before)) return;
    uint64_t begun_ns = clock_now_ns();
    torture->can_roll_back = false;
    if (!must(torture, words_of(&words, (const char *const[]){"rollback", NULL})) || !look_whole(torture, &after)) return;
    torture_tell(torture, "pando rollback: the version before serves again after %.0f ms", look_ms_since(begun_ns));
    check_generation(torture, "`pando rollback`", &before, &after, true);
}

struct broken_version {
    const char *text;        // "a program that is missing"
    const char *file;        // made in the instance's folder with this content; NULL = none
    int mode;                // of the file
    const char *command[6];  // "" = the file
};

static const struct broken_version broken_versions[] = {
    {"a program that is missing", NULL, 0, {"/no/such/program"}},
    {"a file that is not executable", "#!/bin/sh\nexec sleep 1000\n", 0644, {""}},
    {"a script whose interpreter is missing", "#!/no/such/interpreter\n", 0755, {""}},
    {"a program that fails at once", NULL, 0, {"/bin/sh", "-c", "echo this version is broken; exit 3"}},
    {"a program that ends at once as if all were well", NULL, 0, {"/bin/sh", "-c", "exit 0"}},
    {"a program that crashes", NULL, 0, {"/bin/sh", "-c", "kill -SEGV $$"}},
    {"a program that never listens", NULL, 0, {"/bin/sh", "-c", "exec sleep 1000"}},
};

static bool make_file(const char *path, const struct broken_version *version) {
    unlink(path);
    scoped_fd fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, version->mode);
    return fd >= 0 && fd_write_all(fd, version->file, strlen(version->file)) == 0 && fchmod(fd, (mode_t)version->mode) == 0;
}

void act_reload_broken(struct torture *torture) {
    const struct broken_version *version =
        &broken_versions[(unsigned)rand_r(&torture->chance) % (sizeof broken_versions / sizeof broken_versions[0])];
    struct status before, after;
    struct words words;
    struct verb verb;
    char path[PATH_SIZE];
    snprintf(path, sizeof path, "%s/version", torture->instance.folder);
    if (!look_whole(torture, &before) || (version->file && !make_file(path, version))) return;
    words_of(&words, (const char *const[]){"reload", "--ready-timeout", "1s", "--", NULL});
    for (int i = 0; version->command[i]; i++) words_add(&words, *version->command[i] ? version->command[i] : path);
    uint64_t begun_ns = clock_now_ns();
    instance_verb_start(&torture->instance, words.word, &verb);
    instance_verb_end(&torture->instance, VERB_NS, &verb);
    if (version->file) unlink(path);
    if (!has_ended(torture, &words, &verb) || !look_whole(torture, &after)) return;
    torture_tell(torture, "pando reload to %s: exit code %d after %.0f ms: %s", version->text, verb.code, look_ms_since(begun_ns),
                 verb.text);
    if (verb.code != EXIT_REFUSED)
        torture_broken(torture, "`pando reload` to %s ended with exit code %d instead of %d: %s", version->text, verb.code, EXIT_REFUSED,
                       verb.text);
    check_generation(torture, "a refused `pando reload`", &before, &after, false);
}

static bool is_rolling(const struct status *status, const void *arg) {
    const struct verb *verb = arg;
    return status->rolling || instance_verb_has_ended(verb);
}

// Finished or undone, but never half: the verb says which.
void act_reload_kill(struct torture *torture) {
    struct status before, during, after;
    struct words words;
    struct verb verb;
    uint64_t wait_ns = (uint64_t)rand_r(&torture->chance) % INTO_RELOAD_NS;
    if (!look_whole(torture, &before)) return;
    words_of(&words, (const char *const[]){"reload", "--keep-old", "0", NULL});
    instance_verb_start(&torture->instance, words.word, &verb);
    bool rolling = look_until(torture, &during, VERB_NS, is_rolling, &verb) && interrupt_sleep(&torture->interrupt, wait_ns);
    if (rolling && kill(during.primary, SIGKILL) == 0) torture->killed_primaries++;
    instance_verb_end(&torture->instance, VERB_NS, &verb);
    if (!rolling || !has_ended(torture, &words, &verb) || !look_whole(torture, &after)) return;
    torture_tell(torture, "pando reload, kill -9 the primary (pid %d) after %.0f ms: exit code %d, generation %d serves",
                 (int)during.primary, (double)wait_ns / 1e6, verb.code, after.generation);
    if (verb.code != 0 && verb.code != EXIT_REFUSED)
        torture_broken(torture, "`pando reload` whose primary was killed ended with exit code %d: %s", verb.code, verb.text);
    else
        check_generation(torture, "`pando reload` whose primary was killed", &before, &after, verb.code == 0);
    torture->can_roll_back |= verb.code == 0;
}

// Keeper and primary are replaced by what is on disk, which is the same here; no worker notices.
void act_upgrade(struct torture *torture) {
    struct status before, after;
    struct words words;
    if (!look_whole(torture, &before)) return;
    uint64_t begun_ns = clock_now_ns();
    if (!must(torture, words_of(&words, (const char *const[]){"upgrade", NULL})) || !look_whole(torture, &after)) return;
    torture_tell(torture, "pando upgrade: another primary (pid %d) and the keeper's program anew after %.0f ms", (int)after.primary,
                 look_ms_since(begun_ns));
    if (after.primary == before.primary) torture_broken(torture, "`pando upgrade` left the primary as it was");
    look_at_untouched(torture, &before, &after, -1);
}
