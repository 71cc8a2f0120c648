#!/bin/sh
# SPDX-License-Identifier: MIT
# Builds the targets with clang, ASan and UBSan, and runs each: tests/fuzz/run.sh SECONDS [TARGET...]. Corpora grow in /tmp/pando-fuzz.
# llhttp's C is Debian's (node-llhttp).
set -e
cd "$(dirname "$0")/../.."
seconds=${1:-10}; [ $# -gt 0 ] && shift
out=/tmp/pando-fuzz; mkdir -p $out
flags="-std=gnu17 -O1 -g -D_GNU_SOURCE -fno-strict-aliasing -Isrc/base -Isrc/http -Isrc/app -Iinclude -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all"
llhttp=/usr/share/llhttp; llhttp_include=/usr/share/include/llhttp; [ -f $llhttp/llhttp.h ] && llhttp_include=$llhttp
for target in ${@:-h1_parse cookies router multipart paths}; do
    case $target in
    h1_parse) more="src/http/h1_parse.c $llhttp/llhttp.c $llhttp/api.c $llhttp/http.c -I$llhttp_include -Wno-everything" ;;
    cookies) more="src/app/*.c src/http/*.c src/base/*.c -luv -ljansson -lcrypto" ;;
    router) more="src/app/pattern.c" ;;
    multipart) more="src/app/multipart_parse.c" ;;
    paths) more="src/app/static_path.c src/app/url.c src/app/range.c" ;;
    esac
    clang $flags tests/fuzz/fuzz_$target.c $more -o $out/$target
    mkdir -p $out/corpus-$target
    echo "== $target, $seconds s"
    $out/$target -max_total_time=$seconds -max_len=4096 -timeout=5 -print_final_stats=1 -artifact_prefix=$out/$target- -dict=tests/fuzz/http.dict $out/corpus-$target tests/fuzz/seeds/$target 2>&1 | grep -E "ERROR|SUMMARY|not so|llhttp:|number_of_executed|runtime error|DONE" || true
    if ls $out/$target-crash-* $out/$target-timeout-* $out/$target-leak-* $out/$target-oom-* >/dev/null 2>&1; then echo "$target: a finding in $out"; exit 1; fi
done
