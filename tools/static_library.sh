#!/bin/sh
# SPDX-License-Identifier: MIT
# static_library.sh OUTPUT SCRATCH ARCHIVE...: one archive of one object, in which every hidden name is local. A static library
# has no export list: without this an internal `buf_append` would meet the user's.
set -e
output=$1 scratch=$2
shift 2
mkdir -p "$scratch"
ld -r -o "$scratch/whole.o" --whole-archive "$@"
objcopy --localize-hidden "$scratch/whole.o" "$scratch/pando.o"
rm -f "$output" "$scratch/whole.o"
ar rcs "$output" "$scratch/pando.o"
rm -f "$scratch/pando.o"
