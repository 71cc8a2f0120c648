// SPDX-License-Identifier: MIT
// A page that shows a clock, fed by Server-Sent Events. Each open page is a handler that sleeps.
#include <pando/app.h>

#include <stdio.h>
#include <stdlib.h>

static const char page[] =
    "<!doctype html><title>Clock</title><h1 id=tick>waiting</h1>"
    "<script>new EventSource('/ticks').addEventListener('tick', e => { document.getElementById('tick').textContent = 'tick ' + e.data "
    "})</script>";

static void home(pando_ctx *ctx) { pando_body_static(ctx, (struct pando_str){page, sizeof page - 1}); }

static void ticks(pando_ctx *ctx) {
    long tick = strtol(pando_sse_last_id(ctx), NULL, 10);  // a browser that reconnects says how far it was
    if (pando_sse_start(ctx)) return;
    for (;;) {
        char number[24];  // pando_printf's memory stays as long as the request: here that may be days
        snprintf(number, sizeof number, "%ld", ++tick);
        if (pando_sse_send(ctx, "tick", number, number) || pando_sleep(ctx, 100)) return;  // the page was closed
    }
}

int main(int argc, char **argv) {
    pando_app *app = pando_app_new(NULL);
    pando_get(app, "/", home, NULL);
    pando_get(app, "/ticks", ticks, NULL);
    return pando_app_main(app, argc > 1 ? argv[1] : NULL);
}
