// SPDX-License-Identifier: MIT
#include "verdict.h"

// Failures by where they happened.
struct sums {
    uint64_t resets_draining, resets_elsewhere;
    uint64_t closed_draining, closed_elsewhere;  // certainly accepted: closed, cut off, nonsense
    uint64_t silent_calm, silent_elsewhere;
};

static void add_phase(const struct load_tally *tally, bool calm, bool drains, struct sums *sums, struct verdict *verdict) {
    const uint64_t *failed = tally->failed;
    uint64_t closed = failed[LOAD_CLOSED] + failed[LOAD_CUT] + failed[LOAD_BAD];
    *(drains ? &sums->closed_draining : &sums->closed_elsewhere) += closed;
    *(drains ? &sums->resets_draining : &sums->resets_elsewhere) += failed[LOAD_RESET];
    *(calm ? &sums->silent_calm : &sums->silent_elsewhere) += failed[LOAD_SILENT];
    verdict->answered += tally->answered;
    verdict->server_errors += tally->server_errors;
    verdict->repeated += tally->repeated;
    verdict->inside += tally->inside;
    verdict->refused += failed[LOAD_REFUSED];
    verdict->stranded += failed[LOAD_QUEUED];
    verdict->not_asked += failed[LOAD_LOCAL];
    verdict->requests += tally->answered + tally->inside;
    for (int i = 0; i < LOAD_FAILURE_COUNT; i++) verdict->requests += failed[i];
}

// How many of the resets in doubt were caused by processes that closed what they had accepted.
static uint64_t explained_resets(const struct verdict_case *facts, uint64_t resets) {
    uint64_t known = facts->load->client_aborts + facts->load->inside_resets + facts->load->other_resets;
    if (facts->aborts < 0 || (uint64_t)facts->aborts <= known) return 0;
    uint64_t explained = (uint64_t)facts->aborts - known;
    return explained < resets ? explained : resets;
}

struct verdict verdict_of(const struct verdict_case *facts) {
    struct verdict verdict = {0};
    struct sums sums = {0};
    for (int i = 0; i < LOAD_PHASE_MAX; i++)
        if (facts->used[i]) add_phase(&facts->load->phase[i], facts->calm[i], facts->drains[i], &sums, &verdict);
    uint64_t resets = sums.resets_draining + sums.resets_elsewhere;
    uint64_t explained = explained_resets(facts, resets);
    verdict.lost_in_queue = resets - explained;
    // A program that fails where nobody stops it will do so where somebody does: then the two cannot be told apart.
    bool fails_alone =
        facts->crashes > 0 || sums.closed_elsewhere > 0 || sums.silent_calm > 0 || (explained > 0 && sums.resets_elsewhere > 0);
    uint64_t doubtful = sums.closed_draining + sums.silent_elsewhere + (sums.resets_elsewhere > 0 ? 0 : explained);
    uint64_t certain = sums.closed_elsewhere + sums.silent_calm + (sums.resets_elsewhere > 0 ? explained : 0);
    verdict.cut_off = fails_alone ? 0 : doubtful;
    verdict.own_failures = certain + (fails_alone ? doubtful : 0);
    return verdict;
}

bool verdict_kept(const struct verdict *verdict) {
    return verdict->lost_in_queue == 0 && verdict->refused == 0 && verdict->stranded == 0 && verdict->cut_off == 0;
}
