// SPDX-License-Identifier: MIT
// The load: requests at an even pace from a thread of its own, whatever else happens. It is an open loop: a request is due at its time, is
// made when it is due, and what it took is counted from then, so that waiting behind a dead worker shows in the figures.
//
// Every connection under way has a client port of its own, by which a failed request can be attributed: `load_mark_inside`
// says which connections a process had accepted that is about to be killed.
//
// All functions may be called from any thread but the load's own; none blocks for long.
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "error.h"
#include "histogram.h"

enum { LOAD_PHASE_MAX = 16, LOAD_CONNECTIONS_MAX = 512, LOAD_SAMPLE_MAX = 12 };

// How a request failed, as far as its client can know.
enum load_failure {
    LOAD_REFUSED,  // the port: connection refused
    LOAD_RESET,    // before a byte of an answer: lost in a queue, or closed by a process that had not read the request
    LOAD_CLOSED,   // in order, before a byte of an answer: a process had accepted it, and said nothing
    LOAD_CUT,      // in the middle of the answer
    LOAD_BAD,      // an answer that is no HTTP
    LOAD_QUEUED,   // waited longer than the patience, and no process had accepted it
    LOAD_SILENT,   // a process had accepted it, and did not answer within the patience
    LOAD_LOCAL,    // never asked: no descriptor or port left on this side
    LOAD_FAILURE_COUNT,
};

extern const char *const load_failure_text[LOAD_FAILURE_COUNT];  // "reset"

struct load_options {
    struct sockaddr_storage target;
    socklen_t target_len;
    const char *path;  // borrowed; starts with '/'
    bool keep_alive;
    bool http;  // false: the first byte that comes is the answer
    uint64_t patience_ns;
};

// What happened while one kind of thing was done.
struct load_tally {
    uint64_t answered, server_errors;     // of the answered: status 500 and above
    uint64_t inside;                      // failed inside a process that was killed
    uint64_t failed[LOAD_FAILURE_COUNT];  // the others
    uint64_t repeated;                    // asked again, since a kept connection had been closed before the request came
    struct histogram took;                // of the answered
};

struct load_sample {
    uint64_t at_ns, after_ns;  // since the load began; since the request was due
    enum load_failure failure;
    unsigned phase;
    uint16_t port;  // the client's
};

struct load_result {
    struct load_tally phase[LOAD_PHASE_MAX];
    uint64_t late;  // due when all connections were in use
    // What the kernel counted as aborted (network_aborts) is made of these and of the LOAD_RESETs that a process caused:
    uint64_t client_aborts;                      // connections that the client closed with something unread
    uint64_t inside_resets;                      // resets of connections inside a process that was killed
    uint64_t other_resets;                       // resets of connections that some process had accepted for certain
    struct load_sample sample[LOAD_SAMPLE_MAX];  // the first failures that were not inside
    unsigned samples;
};

struct load;

uint16_t load_target_port(const struct load_options *options);

// One request as the load makes them, from the calling thread: what speaks this server? True: `out_http` says whether it was HTTP. False
// with a sentence in `error` when there was no answer of any kind.
bool load_probe(const struct load_options *options, bool *out_http, struct pando_error *error);

// Starts the thread. The caller's, or NULL with a sentence in `error`.
struct load *load_start(const struct load_options *options, struct pando_error *error);
// Requests a second; 0: as many as `clients` get answered that ask again at once.
void load_set_pace(struct load *load, double per_second, unsigned clients);
void load_set_phase(struct load *load, unsigned phase);
// These client ports belong to connections that processes have accepted which are about to be killed. How many requests are under way
// there.
unsigned load_mark_inside(struct load *load, const uint16_t *ports, size_t count);
uint64_t load_answered(struct load *load);   // so far
uint64_t load_lost(struct load *load);       // failed so far, not inside
unsigned load_under_way(struct load *load);  // requests
// No new requests; those under way come to their end.
void load_drain(struct load *load);
void load_read(struct load *load, struct load_result *out);
void load_stop(struct load *load);  // ends the thread and frees; NULL is fine
