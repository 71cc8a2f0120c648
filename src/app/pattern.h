// SPDX-License-Identifier: MIT
// Route patterns, in path-to-regexp's version 8 grammar: text, ":name", "*name", "{optional}", "\" before a literal. Pure.
#pragma once

#include <pando/types.h>

enum { PATTERN_PARAMS = 16, PATTERN_TOKENS = 40, PATTERN_ALTERNATIVES = 16 };

enum pattern_kind { PATTERN_TEXT, PATTERN_PARAM, PATTERN_WILD };
struct pattern_token {
    enum pattern_kind kind;
    const char *text;  // the literal, or the parameter's name
    size_t len;
};
struct pattern_flat {
    unsigned count;
    struct pattern_token tokens[PATTERN_TOKENS];
};
struct pattern {
    char *source;                // owned
    char *texts;                 // owned: what the tokens point to
    struct pattern_flat *flats;  // owned: one for each choice of optional pieces, the longest first
    unsigned flat_count;
    bool sensitive, strict, prefix;  // prefix: also matches what goes on with '/'
};
struct pattern_capture {
    struct pando_str name, value;  // value: not decoded
};

int pattern_init(struct pattern *pattern, const char *source);  // -EINVAL: not the grammar; -E2BIG; -ENOMEM
void pattern_deinit(struct pattern *pattern);
// The number of captures, or -1: no match. out: PATTERN_PARAMS.
int pattern_match(const struct pattern *pattern, struct pando_str path, struct pattern_capture *out);
