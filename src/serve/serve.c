// SPDX-License-Identifier: MIT
// pando-serve DIR [ADDRESS]: static files. `pando serve DIR -w auto` runs this under the cluster.
#include <pando/app.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv) {
    if (argc < 2 || argv[1][0] == '-') {
        fprintf(stderr,
                "usage: pando-serve DIR [ADDRESS]\nServes the files below DIR. ADDRESS: PORT, HOST:PORT or unix:PATH; $PORT, else 8080.\n");
        return 2;
    }
    pando_app *app = pando_app_new(NULL);
    int result = pando_use_static(app, argv[1], &(struct pando_static_options){.precompressed = true, .extensions = "html"});
    if (result) return fprintf(stderr, "pando-serve: %s: %s\n", argv[1], strerror(-result)), 1;
    return pando_app_main(app, argc > 2 ? argv[2] : NULL);
}
