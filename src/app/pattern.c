// SPDX-License-Identifier: MIT
// A pattern is flattened into one list of tokens for each choice of its optional pieces. Matching tries the tokens left to
// right: a parameter takes as little as it can but at least one byte, never '/'; a wildcard also takes '/'.
#include "pattern.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <strings.h>

struct parser {
    struct pattern *pattern;
    const char *at;
    char *text;  // next free byte of pattern.texts
};

static bool is_name(char c) { return c == '_' || c == '$' || isalnum((unsigned char)c); }

static int push(struct pattern_flat *flat, struct pattern_token token) {
    if (flat->count == PATTERN_TOKENS) return -E2BIG;
    flat->tokens[flat->count++] = token;
    return 0;
}

// Adds a token to every alternative from `first` on.
static int push_all(struct pattern *pattern, unsigned first, struct pattern_token token) {
    for (unsigned i = first; i < pattern->flat_count; i++) {
        int result = push(&pattern->flats[i], token);
        if (result) return result;
    }
    return 0;
}

static int parse_token(struct parser *parser, struct pattern_token *out) {
    char *start = parser->text;
    char c = *parser->at;
    if (c == ':' || c == '*') {
        parser->at++;
        if (*parser->at == '"') {
            for (parser->at++; *parser->at && *parser->at != '"'; parser->at++) *parser->text++ = *parser->at;
            if (*parser->at++ != '"') return -EINVAL;
        } else {
            while (is_name(*parser->at)) *parser->text++ = *parser->at++;
        }
        *out = (struct pattern_token){c == ':' ? PATTERN_PARAM : PATTERN_WILD, start, (size_t)(parser->text - start)};
        return out->len ? 0 : -EINVAL;
    }
    while (*parser->at && !strchr(":*{}", *parser->at)) {
        if (strchr("()[]+?!", *parser->at)) return -EINVAL;  // reserved in this grammar
        if (*parser->at == '\\' && !*++parser->at) return -EINVAL;
        *parser->text++ = *parser->at++;
    }
    *out = (struct pattern_token){PATTERN_TEXT, start, (size_t)(parser->text - start)};
    return 0;
}

// Optional pieces double the alternatives: those with it first, then those without.
static int parse_sequence(struct parser *parser, unsigned first, int depth) {
    struct pattern *pattern = parser->pattern;
    while (*parser->at && *parser->at != '}') {
        if (*parser->at != '{') {
            struct pattern_token token;
            int result = parse_token(parser, &token);
            if (result || (result = push_all(pattern, first, token))) return result;
            continue;
        }
        unsigned with = pattern->flat_count, count = with - first;
        if (with + count > PATTERN_ALTERNATIVES || depth > 4) return -E2BIG;
        memcpy(&pattern->flats[with], &pattern->flats[first], count * sizeof *pattern->flats);
        pattern->flat_count += count;
        parser->at++;
        int result = parse_sequence(parser, with, depth + 1);
        if (result) return result;
        if (*parser->at++ != '}') return -EINVAL;
        // The new ones go before the old: what is longer is tried first.
        unsigned grown = pattern->flat_count - with;
        struct pattern_flat *both = malloc((count + grown) * sizeof *both);
        if (!both) return -ENOMEM;
        memcpy(both, &pattern->flats[with], grown * sizeof *both);
        memcpy(both + grown, &pattern->flats[first], count * sizeof *both);
        memcpy(&pattern->flats[first], both, (count + grown) * sizeof *both);
        free(both);
    }
    return 0;
}

int pattern_init(struct pattern *pattern, const char *source) {
    *pattern = (struct pattern){.source = strdup(source), .texts = malloc(strlen(source) + 1)};
    pattern->flats = calloc(PATTERN_ALTERNATIVES, sizeof *pattern->flats);
    if (!pattern->source || !pattern->texts || !pattern->flats) return pattern_deinit(pattern), -ENOMEM;
    pattern->flat_count = 1;
    struct parser parser = {pattern, pattern->source, pattern->texts};
    int result = parse_sequence(&parser, 0, 0);
    if (!result && *parser.at) result = -EINVAL;
    for (unsigned i = 0; !result && i < pattern->flat_count; i++) {
        unsigned params = 0;
        for (unsigned k = 0; k < pattern->flats[i].count; k++) params += pattern->flats[i].tokens[k].kind != PATTERN_TEXT;
        if (params > PATTERN_PARAMS) result = -E2BIG;
    }
    if (result) return pattern_deinit(pattern), result;
    struct pattern_flat *tight = realloc(pattern->flats, pattern->flat_count * sizeof *tight);
    if (tight) pattern->flats = tight;
    return 0;
}

void pattern_deinit(struct pattern *pattern) {
    free(pattern->source);
    free(pattern->texts);
    free(pattern->flats);
    *pattern = (struct pattern){0};
}

static bool same_text(const struct pattern *pattern, const char *a, const char *b, size_t len) {
    return pattern->sensitive ? !memcmp(a, b, len) : !strncasecmp(a, b, len);
}

static bool ends(const struct pattern *pattern, struct pando_str rest) {
    if (!rest.len) return true;
    if (!pattern->strict && rest.len == 1 && *rest.data == '/') return true;
    return pattern->prefix && *rest.data == '/';
}

// `budget` bounds the tries of hostile paths.
static bool match(const struct pattern *pattern, const struct pattern_flat *flat, unsigned index, struct pando_str rest,
                  struct pattern_capture *out, int *count, int *budget) {
    if (index == flat->count) {
        if (ends(pattern, rest)) return true;
        return pattern->prefix && flat->count && flat->tokens[index - 1].kind == PATTERN_TEXT &&
               flat->tokens[index - 1].text[flat->tokens[index - 1].len - 1] == '/';
    }
    if (--*budget < 0) return false;
    const struct pattern_token *token = &flat->tokens[index];
    if (token->kind == PATTERN_TEXT) {
        // "/a/" against "/a": a trailing slash of the pattern is optional too
        if (rest.len + 1 == token->len && index + 1 == flat->count && token->text[token->len - 1] == '/' && !pattern->strict &&
            token->len > 1 && same_text(pattern, rest.data, token->text, rest.len))
            return true;
        if (rest.len < token->len || !same_text(pattern, rest.data, token->text, token->len)) return false;
        return match(pattern, flat, index + 1, (struct pando_str){rest.data + token->len, rest.len - token->len}, out, count, budget);
    }
    size_t most = rest.len;
    if (token->kind == PATTERN_PARAM) {
        const char *slash = memchr(rest.data, '/', rest.len);
        if (slash) most = (size_t)(slash - rest.data);
    }
    int mine = (*count)++;
    bool last = index + 1 == flat->count;
    for (size_t i = 0; i < most; i++) {
        size_t take = last || token->kind == PATTERN_WILD ? most - i : i + 1;
        out[mine] = (struct pattern_capture){{token->text, token->len}, {rest.data, take}};
        if (match(pattern, flat, index + 1, (struct pando_str){rest.data + take, rest.len - take}, out, count, budget)) return true;
        *count = mine + 1;
    }
    *count = mine;
    return false;
}

int pattern_match(const struct pattern *pattern, struct pando_str path, struct pattern_capture *out) {
    for (unsigned i = 0; i < pattern->flat_count; i++) {
        int count = 0, budget = 20000;
        if (match(pattern, &pattern->flats[i], 0, path, out, &count, &budget)) return count;
    }
    return -1;
}
