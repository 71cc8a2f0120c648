// SPDX-License-Identifier: MIT
// A Cookie header, query string and the negotiation headers through a whole app, in memory.
#include <pando/app.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static const char *const keys[] = {"a", "b", NULL};

static void look(pando_ctx *ctx) {
    const char *name, *value;
    pando_cookie(ctx, "a");
    pando_cookie_unsigned(ctx, "b");
    for (size_t i = 0; pando_query_each(ctx, i, &name, &value); i++) {
    }
    pando_accepts(ctx, "html, json, image/png");
    pando_accepts_encodings(ctx, "gzip, identity");
    pando_accepts_languages(ctx, "en, de-CH");
    pando_is(ctx, "json, multipart, +json");
    pando_set_etag(ctx, "x");
    pando_set_last_modified(ctx, 1);
    pando_set_status(ctx, 200);
    pando_fresh(ctx);
    pando_back(ctx, NULL);
    pando_set_cookie(ctx, "c", pando_header(ctx, "x"), NULL);
    pando_attachment(ctx, pando_querystring(ctx), NULL);
    pando_vary(ctx, pando_header(ctx, "x"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    static pando_app *app;
    if (!app) {
        app = pando_app_new(&(struct pando_app_options){.keys = keys, .silent = true, .proxy = true});
        pando_use(app, look, NULL);
    }
    static const char *const names[] = {
        "Cookie",  "Accept", "Accept-Encoding",  "Accept-Language", "Content-Type", "If-None-Match", "If-Modified-Since",
        "Referer", "X",      "X-Forwarded-Host", "X-Forwarded-For", "Range"};
    char *text = malloc(len * 4 + 2000), *at = text;
    at += sprintf(at, "GET /?");
    for (size_t i = 0; i < len && i < 4000; i++)
        if (data[i] > 0x20 && data[i] < 0x7f && !strchr("\"#<>\\", data[i])) *at++ = (char)data[i];
    at += sprintf(at, " HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n");
    size_t from = 0;
    for (size_t n = 0; n < sizeof names / sizeof *names && from < len; n++) {
        at += sprintf(at, "%s: ", names[n]);
        for (; from < len && data[from] != '\n'; from++)
            if (data[from] == '\t' || (data[from] >= 0x20 && data[from] != 0x7f)) *at++ = (char)data[from];
        from++;
        at += sprintf(at, "\r\n");
    }
    at += sprintf(at, "\r\n");
    char *answer;
    size_t answer_len;
    if (!pando_inject_raw(app, (struct pando_str){text, (size_t)(at - text)}, &answer, &answer_len)) {
        if (memmem(answer, answer_len, "\nEvil:", 6)) abort();
        free(answer);
    }
    free(text);
    return 0;
}
