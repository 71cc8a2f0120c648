// SPDX-License-Identifier: MIT
// One executable, two processes: the command line, and the primary that the keeper starts.
#include <string.h>

#include "cli.h"
#include "inherit.h"
#include "entry.h"

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], INHERIT_PRIMARY_VERB) == 0) return primary_main(argc, argv);
    if (argc > 1 && strcmp(argv[1], INHERIT_EXAMINE_VERB) == 0) return primary_examine();
    return cli_main(argc, argv);
}
