#!/bin/sh
# SPDX-License-Identifier: MIT
# Builds the targets with clang, ASan and UBSan, and runs each: tests/fuzz/run.sh SECONDS [TARGET...]. Corpora and findings are
# in build/fuzz, and a JUnit report is build/fuzz.xml. llhttp's C is Debian's (node-llhttp).
cd "$(dirname "$0")/../.." || exit 1
seconds=${1:-10}; [ $# -gt 0 ] && shift
out=build/fuzz; mkdir -p $out
flags="-std=gnu17 -O1 -g -D_GNU_SOURCE -fno-strict-aliasing -Isrc/base -Isrc/wire -Isrc/http -Isrc/app -Isrc/member -Iinclude
       -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all"
llhttp=/usr/share/llhttp; llhttp_include=/usr/share/include/llhttp; [ -f $llhttp/llhttp.h ] && llhttp_include=$llhttp
failed=0
cases=

# Sources and libraries of a target.
sources() {
    case $1 in
    h1_parse) echo "src/http/h1_parse.c $llhttp/llhttp.c $llhttp/api.c $llhttp/http.c -I$llhttp_include -Wno-everything" ;;
    cookies) echo "src/app/*.c src/http/*.c src/base/*.c src/member/*.c src/wire/message.c -luv -ljansson" ;;
    router) echo "src/app/pattern.c" ;;
    multipart) echo "src/app/multipart_parse.c" ;;
    paths) echo "src/app/static_path.c src/app/url.c src/app/range.c" ;;
    node_ipc) echo "src/wire/node_ipc.c src/primary/worker_channel.c src/base/buf.c src/base/fd.c -Isrc/primary -luv -ljansson" ;;
    message) echo "src/wire/message.c src/base/fd.c" ;;
    plan) echo "src/wire/plan.c src/base/fd.c" ;;
    esac
}

fuzz() {
    dictionary=; seeds=
    [ "$1" = plan ] || [ "$1" = node_ipc ] || [ "$1" = message ] || dictionary=-dict=tests/fuzz/http.dict
    [ -d "tests/fuzz/seeds/$1" ] && seeds=tests/fuzz/seeds/$1
    # shellcheck disable=SC2046,SC2086  # lists of words
    clang $flags tests/fuzz/fuzz_$1.c $(sources $1) -o $out/$1 || return 1
    mkdir -p $out/corpus-$1
    $out/$1 -max_total_time=$seconds -max_len=4096 -timeout=5 -print_final_stats=1 -artifact_prefix=$out/$1- $dictionary \
        $out/corpus-$1 $seeds >$out/$1.log 2>&1
    status=$?
    grep -E "ERROR|SUMMARY|not so|llhttp:|number_of_executed|runtime error" $out/$1.log
    return $status
}

# Two at a time: each says what it has to say when it is done.
one() {
    if said=$(fuzz "$1" 2>&1); then status=0; else status=1; fi
    printf '== %s, %s s\n%s\n' "$1" "$seconds" "$said"
    [ $status = 0 ] || touch "$out/$1.failed"
}

targets=${*:-h1_parse cookies router multipart paths plan node_ipc message}
for target in $targets; do rm -f "$out/$target.failed"; done
# shellcheck disable=SC2086  # a list of words
set -- $targets
while [ $# -gt 0 ]; do
    one "$1" &
    [ $# -gt 1 ] && { one "$2" & shift; }
    shift
    wait
done
for target in $targets; do
    if [ -e "$out/$target.failed" ]; then
        failed=1
        cases="$cases<testcase classname=\"fuzz\" name=\"$target\"><failure message=\"a finding: see $out/$target.log\"/></testcase>"
    else
        cases="$cases<testcase classname=\"fuzz\" name=\"$target\"/>"
    fi
done
echo "<testsuite name=\"fuzz\">$cases</testsuite>" >build/fuzz.xml
exit $failed
