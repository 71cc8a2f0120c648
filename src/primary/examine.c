// SPDX-License-Identifier: MIT
// `pando --examine`: another version of Pando asks whether this one could take over from it, with copies of what it would
// get. What is of another version is refused here, while the old one still serves.
#include <stdio.h>

#include "channel.h"
#include "entry.h"
#include "inherit.h"
#include "launch.h"
#include "record.h"

static int refuse(const char *why) {
    printf("%s\n", why);
    return 1;
}

int primary_examine(void) {
    char text[160];
    struct pando_error error;
    struct launch launch;
    int r = record_examine(INHERIT_EXAMINE_RECORD);
    snprintf(text, sizeof text, "the running Pando's record is not of the version that this program knows (%d)", RECORD_VERSION);
    if (r != 0) return refuse(text);
    launch_init(&launch);
    if (launch_load(&launch, INHERIT_EXAMINE_LAUNCH, &error) != 0) return refuse(error.text);
    launch_deinit(&launch);
    return printf("channel %d\nversion %s\n", CHANNEL_VERSION, PANDO_VERSION) > 0 && fflush(stdout) == 0 ? 0 : 1;
}
