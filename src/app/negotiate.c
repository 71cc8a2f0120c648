// SPDX-License-Identifier: MIT
// For each offer the most specific item of the header gives its quality; the offers are then ordered by quality, specificity,
// the header's order and their own.
#include "negotiate.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "ctx.h"
#include "mime.h"

struct rank {
    double quality;
    int specific, order;
};

struct item {
    char text[128];  // without parameters, trimmed; longer ones match nothing
    const char *parameters;
    size_t parameters_len;
    double quality;
};

static bool same(const char *a, const char *b) { return !strcasecmp(a, b); }

// The next item of the header. A quality that is no number is 0 as in negotiator.
static const char *next_item(const char *at, struct item *out) {
    bool quoted = false;
    at += strspn(at, " \t,");
    if (!*at) return NULL;
    const char *end = at;
    while (*end && (quoted || *end != ',')) quoted ^= *end++ == '"';
    size_t len = (size_t)(end - at), bare = strcspn(at, ";,");
    if (bare > len) bare = len;
    out->parameters = at + bare;
    out->parameters_len = len - bare;
    while (bare && (at[bare - 1] == ' ' || at[bare - 1] == '\t')) bare--;
    size_t fits = bare < sizeof out->text ? bare : 0;
    memcpy(out->text, at, fits);
    out->text[fits] = '\0';
    out->quality = 1;
    for (const char *p = out->parameters; p && p < end;) {
        p += strspn(p, "; \t");
        if (p >= end) break;
        if ((*p == 'q' || *p == 'Q') && p[1] == '=') out->quality = strtod(p + 2, NULL);
        p += strcspn(p, ";");
    }
    return end;
}

// "type/subtype;params": parameters of the item must all be in the offer. -1: no match.
static int specify_type(const struct item *item, const char *offer) {
    size_t offer_len = strcspn(offer, ";");
    const char *slash = memchr(offer, '/', offer_len), *item_slash = strchr(item->text, '/');
    if (!slash || !item_slash) return -1;
    size_t type_len = (size_t)(slash - offer), item_type_len = (size_t)(item_slash - item->text);
    int specific = 0;
    if (item_type_len == type_len && !strncasecmp(offer, item->text, type_len))
        specific |= 4;
    else if (item_type_len != 1 || *item->text != '*')
        return -1;
    size_t subtype_len = offer_len - type_len - 1;
    while (subtype_len && slash[subtype_len] == ' ') subtype_len--;
    if (strlen(item_slash + 1) == subtype_len && !strncasecmp(slash + 1, item_slash + 1, subtype_len))
        specific |= 2;
    else if (!same(item_slash + 1, "*"))
        return -1;
    bool any = false;
    for (const char *p = item->parameters, *end = p + item->parameters_len; p < end;) {
        p += strspn(p, "; \t");
        size_t len = strcspn(p, ";,");
        if (p >= end || !len) break;
        if ((*p | 0x20) == 'q' && p[1] == '=') break;  // what follows q are extensions
        char parameter[128];
        if (len >= sizeof parameter) return -1;
        memcpy(parameter, p, len);
        parameter[len] = '\0';
        if (!strcasestr(offer + offer_len, parameter)) return -1;
        any = true;
        p += len;
    }
    return any ? specific | 1 : specific;
}

static int specify(enum negotiate_kind kind, const struct item *item, const char *offer) {
    if (kind == NEGOTIATE_TYPE) return specify_type(item, offer);
    bool star = !strcmp(item->text, "*");
    if (kind != NEGOTIATE_LANGUAGE) return same(item->text, offer) ? 1 : star ? 0 : -1;
    size_t offer_prefix = strcspn(offer, "-"), item_prefix = strcspn(item->text, "-");
    if (same(item->text, offer)) return 4;
    if (strlen(offer) == item_prefix && !strncasecmp(offer, item->text, item_prefix)) return 2;
    if (strlen(item->text) == offer_prefix && !strncasecmp(offer, item->text, offer_prefix)) return 1;
    return star ? 0 : -1;
}

static bool better(struct rank a, struct rank b) {  // as the rank of one offer
    if (a.specific != b.specific) return a.specific > b.specific;
    return a.quality != b.quality ? a.quality > b.quality : a.order > b.order;
}

static bool preferred(struct rank a, struct rank b) {  // of two offers
    if (a.quality != b.quality) return a.quality > b.quality;
    return a.specific != b.specific ? a.specific > b.specific : a.order < b.order;
}

static struct rank rank_of(enum negotiate_kind kind, const char *header, const char *offer) {
    struct rank best = {0, -1, -1};
    double least = 1;
    bool identity_named = false;
    int order = 0;
    struct item item;
    while ((header = next_item(header, &item))) {
        int specific = specify(kind, &item, offer);
        struct rank rank = {item.quality, specific, order++};
        identity_named |= same(item.text, "identity") || !strcmp(item.text, "*");
        if (item.quality && item.quality < least) least = item.quality;
        if (specific >= 0 && better(rank, best)) best = rank;
    }
    if (kind == NEGOTIATE_ENCODING && !identity_named && same(offer, "identity"))
        best = (struct rank){least, 1, order};  // always acceptable
    return best;
}

int negotiate(enum negotiate_kind kind, const char *header, const char *const *offers, size_t count) {
    if (!header) {
        if (kind == NEGOTIATE_TYPE) return count ? 0 : -1;
        header = kind == NEGOTIATE_ENCODING ? "" : "*";
    }
    int best = -1;
    struct rank best_rank = {0};
    for (size_t i = 0; i < count; i++) {
        struct rank rank = rank_of(kind, header, offers[i]);
        if (rank.specific < 0 || rank.quality <= 0 || (best >= 0 && !preferred(rank, best_rank))) continue;
        best = (int)i;
        best_rank = rank;
    }
    return best;
}

// ---- ctx.accepts and so on

enum { OFFERS_MAX = 32 };

static size_t split(pando_ctx *ctx, const char *list, const char **out) {
    size_t count = 0;
    while (count < OFFERS_MAX) {
        list += strspn(list, " ,");
        size_t len = strcspn(list, ",");
        if (!len) return count;
        size_t bare = len;
        while (list[bare - 1] == ' ') bare--;
        out[count++] = ctx_copy(ctx, list, bare);
        list += len;
    }
    return count;
}

static const char *header_or_null(pando_ctx *ctx, const char *name) {
    return pando_exchange_header(ctx->exchange, name).data ? pando_header(ctx, name) : NULL;
}

const char *pando_accepts(pando_ctx *ctx, const char *list) {
    const char *offers[OFFERS_MAX], *types[OFFERS_MAX], *header = header_or_null(ctx, "accept");
    size_t count = split(ctx, list, offers);
    if (header && !*header) header = NULL;
    for (size_t i = 0; i < count; i++) {
        struct pando_str type = strchr(offers[i], '/') ? pando_str_of(offers[i]) : mime_of_extension(offers[i], strlen(offers[i]));
        types[i] = type.data ? ctx_copy(ctx, type.data, strchr(offers[i], '/') ? type.len : strcspn(type.data, ";")) : "";
    }
    int best = negotiate(NEGOTIATE_TYPE, header, types, count);
    return best < 0 ? NULL : offers[best];
}

static const char *best_of(pando_ctx *ctx, enum negotiate_kind kind, const char *name, const char *list) {
    const char *offers[OFFERS_MAX];
    size_t count = split(ctx, list, offers);
    int best = negotiate(kind, header_or_null(ctx, name), offers, count);
    return best < 0 ? NULL : offers[best];
}

const char *pando_accepts_encodings(pando_ctx *ctx, const char *offers) {
    return best_of(ctx, NEGOTIATE_ENCODING, "accept-encoding", offers);
}
const char *pando_accepts_charsets(pando_ctx *ctx, const char *offers) { return best_of(ctx, NEGOTIATE_CHARSET, "accept-charset", offers); }
const char *pando_accepts_languages(pando_ctx *ctx, const char *offers) {
    return best_of(ctx, NEGOTIATE_LANGUAGE, "accept-language", offers);
}

// ---- ctx.is

// "*/*", "text/*", "*/*+json" or a whole type.
static bool type_matches(const char *pattern, const char *type) {
    const char *p = strchr(pattern, '/'), *t = strchr(type, '/');
    if (!p || !t) return false;
    if (!(p - pattern == 1 && *pattern == '*') && (p - pattern != t - type || strncasecmp(pattern, type, (size_t)(p - pattern))))
        return false;
    if (!strcmp(++p, "*")) return true;
    t++;
    if (p[0] == '*' && p[1] == '+') {
        size_t suffix = strlen(p + 1), len = strlen(t);
        return len > suffix && same(t + len - suffix, p + 1);
    }
    return same(p, t);
}

const char *pando_is(pando_ctx *ctx, const char *list) {
    const struct h1_head *head = &ctx->exchange->head;
    if (!head->seen_length && head->framing == H1_NO_BODY) return NULL;
    const char *type = ctx_lower(ctx, pando_request_type(ctx)), *offers[OFFERS_MAX];
    size_t len = strlen(type);
    while (len && type[len - 1] == ' ') len--;
    type = ctx_copy(ctx, type, len);
    if (!strchr(type, '/')) return "";
    size_t count = split(ctx, list, offers);
    if (!count) return type;
    for (size_t i = 0; i < count; i++) {
        const char *pattern = offers[i];
        if (!strcmp(pattern, "urlencoded"))
            pattern = "application/x-www-form-urlencoded";
        else if (!strcmp(pattern, "multipart"))
            pattern = "multipart/*";
        else if (*pattern == '+')
            pattern = pando_printf(ctx, "*/*%s", pattern);
        else if (!strchr(pattern, '/')) {
            struct pando_str found = mime_of_extension(pattern, strlen(pattern));
            if (!found.data) continue;
            pattern = ctx_copy(ctx, found.data, strcspn(found.data, ";"));
        }
        if (type_matches(pattern, type)) return *offers[i] == '+' || strchr(offers[i], '*') ? type : offers[i];
    }
    return "";
}
