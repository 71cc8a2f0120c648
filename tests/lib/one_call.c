// SPDX-License-Identifier: MIT
// An app on every core by one call: one_call ADDRESS WORKERS
#include <pando/pando.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void hello(pando_ctx *ctx) { pando_body_text(ctx, pando_printf(ctx, "pid %d\n", (int)getpid())); }

static int serve(int argc, char **argv, void *arg) {
    (void)argc, (void)arg;
    pando_app *app = pando_app_new(NULL);
    pando_use(app, hello, NULL);
    return pando_app_main(app, argv[1]);
}

int main(int argc, char **argv) {
    return pando_cluster_serve(
        &(pando_cluster_options){.argc = argc, .argv = argv, .worker = serve, .workers = argc > 2 ? atoi(argv[2]) : 0});
}
