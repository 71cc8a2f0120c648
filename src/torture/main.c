// SPDX-License-Identifier: MIT
#include "torture.h"

int main(int argc, char **argv) { return torture_main(argc, argv); }
