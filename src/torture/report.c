// SPDX-License-Identifier: MIT
#include "report.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"

static const char *const outcome_name[] = {
    [OUTCOME_KEPT] = "kept",
    [OUTCOME_BROKEN] = "broken",
    [OUTCOME_NOT_JUDGED] = "not judged",
    [OUTCOME_INTERRUPTED] = "interrupted",
};

static const char *const network_name[] = {
    [NETWORK_SHARED] = "shared",
    [NETWORK_PRIVATE] = "private",
    [NETWORK_PRIVATE_USER] = "private, in a user namespace",
};

static double ms(uint64_t ns) { return (double)ns / 1e6; }

static uint64_t failed_of(const struct load_tally *tally) {
    uint64_t sum = 0;
    for (int i = 0; i < LOAD_FAILURE_COUNT; i++) sum += tally->failed[i];
    return sum;
}

static void print_row(FILE *out, const struct act_row *row, unsigned times, const struct load_tally *tally) {
    const struct histogram *took = &tally->took;
    fprintf(out, "%-28s %5u %9" PRIu64 " %9.1f %9.1f %9.1f %7" PRIu64 " %7" PRIu64 "\n", row->title, times, tally->answered,
            ms(histogram_percentile_ns(took, 0.5)), ms(histogram_percentile_ns(took, 0.99)), ms(took->max_ns), tally->inside,
            failed_of(tally));
}

static void print_table(const struct torture *torture, const struct load_result *load) {
    fprintf(torture->out, "\n%-28s %5s %9s %9s %9s %9s %7s %7s\n", "WHILE", "TIMES", "ANSWERED", "P50 ms", "P99 ms", "MAX ms", "INSIDE",
            "FAILED");
    for (int i = 0; i < ACT_COUNT; i++)
        if (torture->times[i] > 0) print_row(torture->out, &act_table[i], torture->times[i], &load->phase[i]);
}

static void print_missing(const struct torture *torture) {
    const char *separator = "not done, for lack of time: ";
    for (int i = ACT_FIRST; i < ACT_COUNT; i++) {
        if (!act_is_wanted(torture, (enum act)i) || torture->times[i] > 0) continue;
        fprintf(torture->out, "%s%s", separator, act_table[i].title);
        separator = ", ";
    }
    if (*separator == ',') fputc('\n', torture->out);
}

static void print_sample(const struct torture *torture, const struct load_result *load) {
    for (unsigned i = 0; i < load->samples; i++) {
        const struct load_sample *sample = &load->sample[i];
        fprintf(torture->out, "  %.3f s, %s: client port %u: %s, after %.1f ms\n", (double)sample->at_ns / 1e9,
                act_table[sample->phase].title, sample->port, load_failure_text[sample->failure], ms(sample->after_ns));
    }
}

static void print_count(FILE *out, uint64_t count, const char *what) { fprintf(out, "%9" PRIu64 "  %s\n", count, what); }

static void print_counts(const struct torture *torture, const struct verdict *verdict) {
    FILE *out = torture->out;
    fputc('\n', out);
    print_count(out, verdict->requests, "requests");
    print_count(out, verdict->answered, "answered");
    if (verdict->server_errors > 0) print_count(out, verdict->server_errors, "of them with status 500 or above: the program's own");
    if (verdict->repeated > 0)
        print_count(out, verdict->repeated, "asked again, since a kept connection was closed before the request came");
    print_count(out, verdict->inside, "inside processes that were killed (nobody can save these)");
    print_count(out, verdict->lost_in_queue, "lost in a queue (must be 0)");
    print_count(out, verdict->refused, "refused (must be 0)");
    print_count(out, verdict->stranded, "left in a queue that nobody served (must be 0)");
    print_count(out, verdict->cut_off, "accepted, then not answered by a worker that Pando stopped (must be 0)");
    if (verdict->own_failures > 0)
        print_count(out, verdict->own_failures, "accepted and not answered by the program itself: its own failure");
    if (verdict->not_asked > 0) print_count(out, verdict->not_asked, "not asked: no descriptor or client port was left here");
}

static void print_kills(const struct torture *torture) {
    fprintf(torture->out, "\nkilled with -9: %u workers, %u primaries, %u keepers", torture->killed_workers, torture->killed_primaries,
            torture->killed_keepers);
    if (torture->crashes > 0) fprintf(torture->out, "; %u workers ended by themselves", torture->crashes);
    fprintf(torture->out, "; seed %u\n", torture->options.seed);
}

static void print_verdict(const struct torture *torture, const struct verdict *verdict, enum outcome outcome) {
    FILE *out = torture->out;
    for (int i = 0; i < torture->broken; i++) fprintf(out, "BROKEN: %s\n", torture->promise[i]);
    switch (outcome) {
        case OUTCOME_KEPT:
            fputs("All promises were kept.\n", out);
            if (verdict->own_failures > 0)
                fputs("But the program fails by itself: processes that nobody had killed or stopped did not answer.\n", out);
            break;
        case OUTCOME_BROKEN:
            if (!verdict_kept(verdict)) fputs("BROKEN: requests failed that were inside no killed process.\n", out);
            break;
        case OUTCOME_NOT_JUDGED: fputs("Not judged: no request was answered.\n", out); break;
        case OUTCOME_INTERRUPTED: fputs("Interrupted: no verdict.\n", out); break;
    }
}

void report_print(const struct torture *torture, const struct load_result *load, const struct verdict *verdict, enum outcome outcome) {
    print_table(torture, load);
    print_kills(torture);
    print_missing(torture);
    print_counts(torture, verdict);
    if (load->samples > 0) fputs("\nThe first failures:\n", torture->out);
    print_sample(torture, load);
    fputc('\n', torture->out);
    print_verdict(torture, verdict, outcome);
}

// ---- JSON

static json_t *phase_json(const struct act_row *row, unsigned times, const struct load_tally *tally) {
    json_t *failed = json_object();
    for (int i = 0; i < LOAD_FAILURE_COUNT; i++)
        if (tally->failed[i] > 0) json_object_set_new(failed, load_failure_text[i], json_integer((json_int_t)tally->failed[i]));
    return json_pack("{s:s, s:i, s:I, s:I, s:o, s:f, s:f, s:f}", "while", row->name, "times", (int)times, "answered",
                     (json_int_t)tally->answered, "inside", (json_int_t)tally->inside, "failed", failed, "p50_ms",
                     ms(histogram_percentile_ns(&tally->took, 0.5)), "p99_ms", ms(histogram_percentile_ns(&tally->took, 0.99)), "max_ms",
                     ms(tally->took.max_ns));
}

static json_t *phases_json(const struct torture *torture, const struct load_result *load) {
    json_t *list = json_array();
    for (int i = 0; i < ACT_COUNT; i++)
        if (torture->times[i] > 0) json_array_append_new(list, phase_json(&act_table[i], torture->times[i], &load->phase[i]));
    return list;
}

static json_t *counts_json(const struct verdict *verdict) {
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "requests", (json_int_t)verdict->requests, "answered",
                     (json_int_t)verdict->answered, "server_errors", (json_int_t)verdict->server_errors, "repeated",
                     (json_int_t)verdict->repeated, "inside_killed", (json_int_t)verdict->inside, "lost_in_queue",
                     (json_int_t)verdict->lost_in_queue, "refused", (json_int_t)verdict->refused, "stranded", (json_int_t)verdict->stranded,
                     "cut_off", (json_int_t)verdict->cut_off, "own_failures", (json_int_t)verdict->own_failures, "not_asked",
                     (json_int_t)verdict->not_asked);
}

static json_t *command_json(const struct torture *torture) {
    json_t *list = json_array();
    for (char **word = torture->options.command; *word; word++) {
        json_t *text = json_string(*word);
        json_array_append_new(list, text ? text : json_string("(not UTF-8)"));
    }
    return list;
}

static json_t *broken_json(const struct torture *torture, const struct verdict *verdict) {
    json_t *list = json_array();
    for (int i = 0; i < torture->broken; i++) json_array_append_new(list, json_string(torture->promise[i]));
    if (verdict && !verdict_kept(verdict)) json_array_append_new(list, json_string("requests failed that were inside no killed process"));
    return list;
}

static void dump(json_t *json) {
    json_dumpf(json, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
    putchar('\n');
    json_decref(json);
}

void report_print_json(const struct torture *torture, const struct load_result *load, const struct verdict *verdict, enum outcome outcome) {
    json_t *json = counts_json(verdict);
    json_object_update_new(json, json_pack("{s:o, s:s, s:I, s:f, s:s, s:s, s:s, s:b, s:b, s:i, s:f}", "command", command_json(torture),
                                           "verdict", outcome_name[outcome], "seed", (json_int_t)torture->options.seed, "seconds",
                                           (double)torture->loaded_ns / 1e9, "network", network_name[torture->network], "mode",
                                           torture->mode, "address", torture->address, "http", torture->target.http, "keep_alive",
                                           torture->options.keep_alive, "workers", torture->workers, "rate", torture->per_second));
    json_object_set_new(json, "kills",
                        json_pack("{s:i, s:i, s:i}", "workers", (int)torture->killed_workers, "primaries", (int)torture->killed_primaries,
                                  "keepers", (int)torture->killed_keepers));
    json_object_set_new(json, "crashes", json_integer(torture->crashes));
    json_object_set_new(json, "broken", broken_json(torture, verdict));
    json_object_set_new(json, "phases", phases_json(torture, load));
    dump(json);
}

void report_print_not_judged(const struct torture *torture, const char *why) {
    dump(json_pack("{s:o, s:s, s:s, s:o}", "command", command_json(torture), "verdict", outcome_name[OUTCOME_NOT_JUDGED], "why", why,
                   "broken", broken_json(torture, NULL)));
}
