// SPDX-License-Identifier: MIT
// Requests at an even pace, told by phase: the load of `pando torture` (src/torture/load.h) by itself, for survival.py.
//
//   paced -p PORT -r REQUESTS_PER_SECOND [-k]     -k: keep-alive connections; else one a request
//
// A line with a number on standard input begins that phase (0 at first); its end ends the load. Then comes one JSON object: by phase how many
// were answered, sent again and failed, how many of these were refused, and how long they took from when they were due.
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "load.h"

#define PATIENCE_NS (30 * UINT64_C(1000000000))
#define DRAIN_US 10000

static uint64_t count_failed(const struct load_tally *tally) {
    uint64_t failed = tally->inside;
    for (int i = 0; i < LOAD_FAILURE_COUNT; i++) failed += tally->failed[i];
    return failed;
}

static double percentile_ms(const struct load_tally *tally, double fraction) {
    return (double)histogram_percentile_ns(&tally->took, fraction) / 1e6;
}

static void print_tally(unsigned phase, const struct load_tally *tally) {
    printf("%s\"%u\":{\"answered\":%" PRIu64 ",\"again\":%" PRIu64 ",\"failed\":%" PRIu64 ",\"refused\":%" PRIu64
           ",\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"p999_ms\":%.3f,\"max_ms\":%.3f}",
           phase == 0 ? "{" : ",", phase, tally->answered, tally->repeated, count_failed(tally), tally->failed[LOAD_REFUSED],
           percentile_ms(tally, 0.5), percentile_ms(tally, 0.99), percentile_ms(tally, 0.999), (double)tally->took.max_ns / 1e6);
}

static int usage(void) {
    fputs("usage: paced -p PORT -r REQUESTS_PER_SECOND [-k]\n", stderr);
    return 2;
}

int main(int argc, char **argv) {
    struct load_options options = {.path = "/", .http = true, .patience_ns = PATIENCE_NS};
    struct sockaddr_in target = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct pando_error error = {0};
    static struct load_result result;
    double rate = 0;
    char line[32];
    for (int option; (option = getopt(argc, argv, "p:r:k")) != -1;) {
        if (option == 'p')
            target.sin_port = htons((uint16_t)atoi(optarg));
        else if (option == 'r')
            rate = atof(optarg);
        else if (option == 'k')
            options.keep_alive = true;
        else
            return usage();
    }
    if (target.sin_port == 0 || rate <= 0 || optind != argc) return usage();
    memcpy(&options.target, &target, sizeof target);
    options.target_len = sizeof target;
    struct load *load = load_start(&options, &error);
    if (load == NULL) {
        fprintf(stderr, "paced: %s\n", error.text);
        return 1;
    }
    load_set_pace(load, rate, 0);
    while (fgets(line, sizeof line, stdin) != NULL)
        if (atoi(line) >= 0 && atoi(line) < LOAD_PHASE_MAX) load_set_phase(load, (unsigned)atoi(line));
    load_drain(load);
    while (load_under_way(load) > 0) usleep(DRAIN_US);
    load_read(load, &result);
    for (unsigned phase = 0; phase < LOAD_PHASE_MAX; phase++) print_tally(phase, &result.phase[phase]);
    puts("}");
    load_stop(load);
    return 0;
}
