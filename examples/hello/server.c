// SPDX-License-Identifier: MIT
// One process. `pando run ./hello` puts it on every core.
#include "app.h"

int main(int argc, char **argv) { return pando_app_main(app_new(), argc > 1 ? argv[1] : NULL); }
