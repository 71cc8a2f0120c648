// SPDX-License-Identifier: MIT
#pragma once

#include "ctx.h"
#include "pattern.h"

// What matched, of this request: in its arena.
struct route_match {
    const char *pattern;
    int count;
    struct pair params[PATTERN_PARAMS * 2];  // the later ones win
};

void router_middleware(pando_ctx *ctx);  // arg: the router
void router_free_owned(void *router);
