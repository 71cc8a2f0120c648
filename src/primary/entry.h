// SPDX-License-Identifier: MIT
// The primary as the command sees it.
#pragma once

// The process's main: `pando --primary NAME`, started by the keeper.
int primary_main(int argc, char **argv);

// `pando --examine`: could this program take over? See inherit.h.
int primary_examine(void);
