// SPDX-License-Identifier: MIT
#include "torture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "cpus.h"
#include "look.h"
#include "procinfo.h"
#include "report.h"
#include "str.h"
#include "target.h"

#define START_NS (180 * CLOCK_S)
#define STOP_NS (120 * CLOCK_S)
#define LEFT_NS (10 * CLOCK_S)
#define WARM_UP_NS CLOCK_S
#define STEADY_MIN_NS CLOCK_S
#define STEADY_MAX_NS (15 * CLOCK_S)
#define KEEPER_NS (3 * CLOCK_S)  // of the whole time, kept for the last act
#define CALM_NS (300 * CLOCK_MS)
enum { EXIT_KEPT, EXIT_BROKEN, EXIT_USAGE, EXIT_INTERRUPTED = 130, WORKERS_MIN = 2, WARM_UP_CLIENTS = 8, RATE_MIN = 20, RATE_MAX = 2000 };
#define RATE_SHARE 0.25  // of what it can do: with half of the workers dead there is still room

_Static_assert((int)ACT_COUNT <= (int)LOAD_PHASE_MAX, "each act has its figures apart");

static void tell(struct torture *torture, const char *mark, const char *format, va_list args) {
    double at = torture->start_ns ? (double)(clock_now_ns() - torture->start_ns) / 1e9 : 0;
    fprintf(torture->out, "%7.1f s  %s", at, mark);
    vfprintf(torture->out, format, args);
    fputc('\n', torture->out);
    fflush(torture->out);
}

void torture_tell(struct torture *torture, const char *format, ...) {
    va_list args;
    va_start(args, format);
    tell(torture, "", format, args);
    va_end(args);
}

void torture_broken(struct torture *torture, const char *format, ...) {
    va_list args;
    va_start(args, format);
    if (torture->broken < TORTURE_BROKEN_MAX) vsnprintf(torture->promise[torture->broken++], TORTURE_TEXT_SIZE, format, args);
    va_end(args);
    va_start(args, format);
    tell(torture, "BROKEN: ", format, args);
    va_end(args);
}

static void say(struct torture *torture, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(struct torture *torture, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("pando torture: ", torture->out);
    vfprintf(torture->out, format, args);
    fputc('\n', torture->out);
    fflush(torture->out);
    va_end(args);
}

static int complain(const char *format, ...) __attribute__((format(printf, 1, 2)));
static int complain(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("pando: torture: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    return EXIT_BROKEN;
}

// It never came to a load. The last lines of the command say more than we can.
static int not_judged(struct torture *torture, const char *format, ...) __attribute__((format(printf, 2, 3)));
static int not_judged(struct torture *torture, const char *format, ...) {
    char why[TORTURE_TEXT_SIZE], lines[4096];
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    if (torture->interrupt.signo) return EXIT_INTERRUPTED;
    instance_last_lines(&torture->instance, lines, sizeof lines);
    complain("cannot be judged: %s", why);
    if (*lines) fprintf(stderr, "its last lines:\n%s%s", lines, lines[strlen(lines) - 1] == '\n' ? "" : "\n");
    if (torture->options.json) report_print_not_judged(torture, why);
    return EXIT_BROKEN;
}

// ---- start

// The command beside this program; in the build folder one folder further.
static bool find_pando(char *out, size_t size) {
    static const char *const places[] = {"pando", "../pando/pando", "../../bin/pando"};
    char self[PATH_MAX];
    ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);
    if (len < 0) return false;
    self[len] = '\0';
    *strrchr(self, '/') = '\0';
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        int written = snprintf(out, size, "%s/%s", self, places[i]);
        if (written > 0 && (size_t)written < size && access(out, X_OK) == 0) return true;
    }
    return false;
}

static void enter_network(struct torture *torture) {
    static const char *const text[] = {
        [NETWORK_PRIVATE] = "in a private network",
        [NETWORK_PRIVATE_USER] = "in a private network (user and network namespace)",
    };
    struct pando_error error = {0};
    torture->network = torture->options.shared_network ? NETWORK_SHARED : network_enter(&error);
    if (torture->network != NETWORK_SHARED)
        say(torture, "%s, seed %u", text[torture->network], torture->options.seed);
    else if (torture->options.shared_network)
        say(torture, "in the network of this process, as asked; seed %u", torture->options.seed);
    else
        say(torture, "in the network of this process, seed %u: %s", torture->options.seed, error.text);
}

// One a core, as always; but with a single worker there is little to see.
static void choose_workers(char *out, size_t size) {
    struct cpus cpus;
    cpus_read(&cpus, "/proc", "");
    snprintf(out, size, "%d", cpus.count > WORKERS_MIN ? cpus.count : WORKERS_MIN);
}

static int start_instance(struct torture *torture, struct pando_error *error) {
    char workers[16], option_w[] = "-w", end_of_options[] = "--";
    const struct options *options = &torture->options;
    size_t count = 0, words = 0;
    while (options->command[words]) words++;
    char **argv = calloc(words + OPTIONS_RUN_WORDS_MAX + 16, sizeof *argv);
    if (!argv) return error_set(error, ENOMEM, "start the command");
    char *const begin[] = {(char[]){"pando"},       (char[]){"run"},         (char[]){"-n"},
                           (char[]){INSTANCE_NAME}, (char[]){"--fail-fast"}, (char[]){"--ready-timeout"},
                           (char[]){"20s"},         (char[]){"--stable"},    (char[]){"300ms"}};
    for (size_t i = 0; i < sizeof begin / sizeof begin[0]; i++) argv[count++] = begin[i];
    if (!options->has_workers) {
        choose_workers(workers, sizeof workers);
        argv[count++] = option_w;
        argv[count++] = workers;
    }
    for (int i = 0; i < options->run_words; i++) argv[count++] = options->run_word[i];
    argv[count++] = end_of_options;
    for (size_t i = 0; i < words; i++) argv[count++] = options->command[i];
    int err = instance_start(&torture->instance, argv, error);
    free(argv);
    return err;
}

// EXIT_KEPT when all workers are ready.
static int wait_ready(struct torture *torture, struct status *status) {
    uint64_t begun_ns = clock_now_ns();
    for (; clock_now_ns() < begun_ns + START_NS;
         interrupt_wait(&torture->interrupt, torture->instance.pidfd, clock_now_ns() + 20 * CLOCK_MS)) {
        if (torture->interrupt.signo) return EXIT_INTERRUPTED;
        if (instance_has_ended(&torture->instance)) {
            int code = WIFEXITED(torture->instance.status) ? WEXITSTATUS(torture->instance.status) : EXIT_BROKEN;
            not_judged(torture, "`pando run` ended with exit code %d before its workers were ready", code);
            return code == EXIT_KEPT ? EXIT_BROKEN : code;
        }
        if (status_read(&torture->instance, status) || status->wanted == 0 || status->ready < status->wanted) continue;
        torture->workers = status->wanted;
        str_copy(torture->mode, sizeof torture->mode, status->mode);
        say(torture, "%s: %d workers ready after %.0f ms, %s mode", torture->options.command[0], status->wanted,
            (double)(clock_now_ns() - begun_ns) / 1e6, status->mode);
        return EXIT_KEPT;
    }
    return not_judged(torture, "only %d of %d workers were ready after %d s", status->ready, status->wanted, (int)(START_NS / CLOCK_S));
}

static int find_target(struct torture *torture, const struct status *status) {
    struct pando_error error;
    torture->target = (struct load_options){
        .path = torture->options.path, .keep_alive = torture->options.keep_alive, .patience_ns = torture->options.patience_ns};
    int err = target_find(status, (uint16_t)torture->options.port, &torture->target, torture->address, sizeof torture->address, &error);
    if (err) return not_judged(torture, "%s", error.text);
    torture->port = load_target_port(&torture->target);
    if (!torture->target.http) torture->target.keep_alive = false;
    say(torture, "%s %s", torture->address,
        torture->target.http ? "speaks HTTP"
                             : "speaks something else than HTTP: a connection counts as answered when its first byte comes");
    return EXIT_KEPT;
}

// ---- under load

static bool rest(struct torture *torture, uint64_t ns) { return interrupt_sleep(&torture->interrupt, ns); }

static void choose_rate(struct torture *torture) {
    load_set_phase(torture->load, ACT_WARM_UP);
    torture->times[ACT_WARM_UP] = 1;
    load_set_pace(torture->load, 0, WARM_UP_CLIENTS);
    uint64_t begun_ns = clock_now_ns();
    rest(torture, WARM_UP_NS);
    double most = (double)load_answered(torture->load) * 1e9 / (double)(clock_now_ns() - begun_ns);
    double rate = most * RATE_SHARE;
    torture->per_second = torture->options.rate > 0 ? (double)torture->options.rate
                          : rate < RATE_MIN         ? RATE_MIN
                          : rate > RATE_MAX         ? RATE_MAX
                                                    : rate;
    torture_tell(torture, "as fast as %d clients can: %.0f requests/s; the load: %.0f/s, %s", WARM_UP_CLIENTS, most, torture->per_second,
                 torture->target.keep_alive ? "many on a connection" : "each on a connection of its own");
}

static void steady(struct torture *torture) {
    struct status before, after;
    uint64_t time_ns = torture->options.for_ns / 5;
    if (time_ns < STEADY_MIN_NS) time_ns = STEADY_MIN_NS;
    if (time_ns > STEADY_MAX_NS) time_ns = STEADY_MAX_NS;
    int known = status_read(&torture->instance, &before);
    uint64_t lost = load_lost(torture->load);
    load_set_phase(torture->load, ACT_STEADY);
    torture->times[ACT_STEADY] = 1;
    load_set_pace(torture->load, torture->per_second, 0);
    if (!rest(torture, time_ns)) return;
    if (known == 0 && status_read(&torture->instance, &after) == 0) look_at_untouched(torture, &before, &after, -1);
    lost = load_lost(torture->load) - lost;
    torture_tell(torture, "steady state for %.1f s: %llu requests failed", (double)time_ns / 1e9, (unsigned long long)lost);
}

// One of each kind in any order, then again.
static int shuffle(struct torture *torture, enum act *out) {
    int count = 0;
    for (int act = ACT_FIRST; act < ACT_KILL_KEEPER; act++)
        if (act_is_wanted(torture, (enum act)act)) out[count++] = (enum act)act;
    for (int i = count - 1; i > 0; i--) {
        int j = rand_r(&torture->chance) % (i + 1);
        enum act swap = out[i];
        out[i] = out[j];
        out[j] = swap;
    }
    return count;
}

// Until the time is over, but each kind is done once at least.
static void torment(struct torture *torture, uint64_t end_ns) {
    enum act deck[ACT_COUNT];
    int count = shuffle(torture, deck);
    for (int i = 0; count > 0 && (i < count || clock_now_ns() < end_ns) && torture->broken < TORTURE_BROKEN_MAX; i++) {
        if (i > 0 && i % count == 0) shuffle(torture, deck);
        act_do(torture, deck[i % count]);
        if (!rest(torture, CALM_NS / 2 + (unsigned)rand_r(&torture->chance) % CALM_NS)) return;
    }
    if (count == 0 && end_ns > clock_now_ns()) rest(torture, end_ns - clock_now_ns());
    if (act_is_wanted(torture, ACT_KILL_KEEPER) && !torture->interrupt.signo) act_do(torture, ACT_KILL_KEEPER);
}

// A worker that stays stopped was frozen and forgotten.
static void look_for_stopped(struct torture *torture) {
    struct status status;
    if (status_read(&torture->instance, &status)) return;
    for (int i = 0; i < status.workers; i++) {
        pid_t pid = status.worker[i].pid;
        int looks = 20;
        while (pid > 0 && looks > 0 && procinfo_all_stopped(pid) && kill(pid, 0) == 0) {
            looks--;
            usleep(50000);
        }
        if (looks == 0) torture_broken(torture, "worker %d (pid %d) was left stopped", status.worker[i].slot, (int)pid);
    }
}

static void let_come_to_end(struct torture *torture) {
    uint64_t end_ns = clock_now_ns() + torture->options.patience_ns + CLOCK_S;
    load_drain(torture->load);
    while (load_under_way(torture->load) > 0 && clock_now_ns() < end_ns && rest(torture, 10 * CLOCK_MS)) continue;
    torture->loaded_ns = clock_now_ns() - torture->start_ns;
}

// ---- the end

static void stop_instance(struct torture *torture) {
    struct verb verb;
    char left[128];
    struct interrupt *interrupt = &torture->interrupt;
    int signo = interrupt->signo;
    interrupt->signo = 0;  // a first ^C ends the torture; a second one ends the waiting for a graceful stop
    char *words[] = {(char[]){"stop"}, signo ? (char[]){"--now"} : NULL, NULL};
    instance_verb_start(&torture->instance, words, &verb);
    instance_verb_end(&torture->instance, STOP_NS, &verb);
    if (verb.end == VERB_ENDED && verb.code != 0)
        torture_broken(torture, "`pando stop` failed with exit code %d: %s", verb.code, verb.text);
    else if (verb.end == VERB_TOO_SLOW)
        torture_broken(torture, "`pando stop` has not ended after %d s", (int)(STOP_NS / CLOCK_S));
    uint64_t end_ns = clock_now_ns() + LEFT_NS;
    int count;
    while ((count = instance_left_processes(&torture->instance, left, sizeof left)) > 0 && clock_now_ns() < end_ns && interrupt->signo == 0)
        interrupt_sleep(interrupt, 10 * CLOCK_MS);
    if (count > 0 && interrupt->signo == 0) torture_broken(torture, "`pando stop` left %d processes: %s", count, left);
    int status = torture->instance.status;
    bool killed = WIFSIGNALED(status) && torture->killed_keepers > 0;
    if (count == 0 && !killed && status != 0)
        torture_broken(torture, "`pando run` ended with %s %d", WIFEXITED(status) ? "exit code" : "signal",
                       WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
    if (signo) interrupt->signo = signo;
}

static struct verdict judge(const struct torture *torture, const struct load_result *load, long aborts) {
    bool known = torture->network != NETWORK_SHARED && torture->aborts >= 0 && aborts >= 0;
    struct verdict_case facts = {.load = load, .aborts = known ? aborts - torture->aborts : -1, .crashes = torture->crashes};
    for (int i = 0; i < ACT_COUNT; i++) {
        facts.used[i] = torture->times[i] > 0;
        facts.calm[i] = i < ACT_FIRST;
        facts.drains[i] = act_table[i].drains;
    }
    return verdict_of(&facts);
}

static int conclude(struct torture *torture, const struct load_result *load, long aborts) {
    struct verdict verdict = judge(torture, load, aborts);
    enum outcome outcome = OUTCOME_KEPT;
    if (torture->broken > 0 || !verdict_kept(&verdict))
        outcome = OUTCOME_BROKEN;
    else if (torture->interrupt.signo)
        outcome = OUTCOME_INTERRUPTED;
    else if (verdict.answered == 0)
        outcome = OUTCOME_NOT_JUDGED;
    report_print(torture, load, &verdict, outcome);
    if (torture->options.json) report_print_json(torture, load, &verdict, outcome);
    return outcome == OUTCOME_KEPT ? EXIT_KEPT : outcome == OUTCOME_INTERRUPTED ? EXIT_INTERRUPTED : EXIT_BROKEN;
}

static int under_load(struct torture *torture) {
    static struct load_result result;
    struct pando_error error;
    torture->aborts = network_aborts();
    torture->load = load_start(&torture->target, &error);
    if (!torture->load) return complain("%s", error.text);
    torture->start_ns = clock_now_ns();
    uint64_t end_ns = torture->start_ns + torture->options.for_ns;
    choose_rate(torture);
    if (!torture->interrupt.signo) steady(torture);
    if (!torture->interrupt.signo) torment(torture, act_is_wanted(torture, ACT_KILL_KEEPER) ? end_ns - KEEPER_NS : end_ns);
    let_come_to_end(torture);
    load_read(torture->load, &result);
    long aborts = network_aborts();
    if (!torture->interrupt.signo) look_for_stopped(torture);
    stop_instance(torture);
    return conclude(torture, &result, aborts);
}

static int run(struct torture *torture) {
    struct pando_error error;
    static struct status status;
    int err = instance_init(&torture->instance, torture->pando, &torture->interrupt, &error);
    if (!err) err = start_instance(torture, &error);
    if (err) return complain("%s", error.text);
    int code = wait_ready(torture, &status);
    if (code == EXIT_KEPT) code = find_target(torture, &status);
    if (code == EXIT_KEPT) return under_load(torture);
    if (!instance_has_ended(&torture->instance)) {
        int broken = torture->broken;
        stop_instance(torture);
        torture->broken = broken;
    }
    return code;
}

static void choose_seed(struct torture *torture) {
    unsigned seed = 0;
    if (!torture->options.has_seed && getrandom(&seed, sizeof seed, 0) == (ssize_t)sizeof seed) torture->options.seed = seed >> 1;
    torture->chance = torture->options.seed;
}

int torture_main(int argc, char **argv) {
    static struct torture torture;
    struct pando_error error;
    int parsed = options_parse(&torture.options, argc - 1, argv + 1, &error);
    if (parsed > 0) return options_print_help(), EXIT_KEPT;
    if (parsed < 0) return complain("%s", error.text), EXIT_USAGE;
    if (!find_pando(torture.pando, sizeof torture.pando)) return complain("pando is not installed beside pando-torture");
    torture.out = torture.options.json ? stderr : stdout;
    choose_seed(&torture);
    int err = interrupt_open(&torture.interrupt);
    if (err) return complain("wait for signals: %s", strerror(-err));
    enter_network(&torture);
    int code = run(&torture);
    load_stop(torture.load);
    instance_deinit(&torture.instance);
    interrupt_close(&torture.interrupt);
    return code;
}
