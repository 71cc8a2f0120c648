// SPDX-License-Identifier: MIT
// Whatever a plan contains, the keeper reads nothing outside of it:
//   clang -std=gnu17 -D_GNU_SOURCE -g -O1 -fsanitize=fuzzer,address,undefined -Isrc/base -Isrc/wire
//         tests/fuzz/fuzz_plan.c src/wire/plan.c src/base/fd.c -o /tmp/fuzz_plan && /tmp/fuzz_plan -max_total_time=60
#include <assert.h>
#include <string.h>

#include "fd.h"
#include "plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// Random bytes would hardly ever have the right magic and size: the fuzzer need not guess those.
static int fuzz_seal(const uint8_t *data, size_t size) {
    static uint8_t image[65536];
    if (size < sizeof(struct plan) || size > sizeof image) return -1;
    memcpy(image, data, size);
    struct plan *plan = (struct plan *)image;
    plan->magic = PLAN_MAGIC;
    plan->size = (uint32_t)size;
    return fd_memfd_sealed("fuzz", image, size);
}

static void fuzz_walk(char *const *list, const struct plan *plan) {
    for (; *list; list++) assert(*list > (const char *)plan && *list + strlen(*list) < (const char *)plan + plan->size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct plan *plan;
    char **argv, **envp;
    scoped_fd memfd = fuzz_seal(data, size);
    if (memfd < 0 || plan_map(memfd, &plan, &argv, &envp)) return 0;
    fuzz_walk(argv, plan);
    fuzz_walk(envp, plan);
    assert(plan->path + strlen((const char *)plan + plan->path) < plan->size);
    plan_unmap(plan);
    return 0;
}
