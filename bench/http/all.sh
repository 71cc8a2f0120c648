#!/bin/sh
# SPDX-License-Identifier: MIT
# All tables of the HTTP benchmark: bench/http/all.sh [BUILD] [ROUNDS] [SECONDS]. Five interleaved rounds by default; needs two quiet cores.
cd "$(dirname "$0")/../.."
build=${1:-build} rounds=${2:-5} seconds=${3:-3}
ninja -C "$build" -j2 bench/http/epoll_bare examples/hello/hello src/serve/pando-serve >/dev/null
[ -d tests/koa/node_modules/koa ] || (cd tests/koa && npm ci --no-audit --no-fund --silent)
root=/tmp/pando-bench-root; mkdir -p $root/static; head -c 1024 /dev/zero > $root/static/1k.bin; head -c 1048576 /dev/zero > $root/static/1m.bin
echo "nginx: $(nginx -v 2>&1 | cut -d/ -f2)  node: $(node -v)  koa: $(node -p "require('./tests/koa/node_modules/koa/package.json').version")  kernel: $(uname -r)  cores: $(nproc)"
run() { /usr/bin/python3 bench/http/run.py -r "$rounds" -t "$seconds" "$@"; }
epoll="epoll=$build/bench/http/epoll_bare {port}" hello="hello=$build/examples/hello/hello 127.0.0.1:{port}" nginx="nginx=sh bench/http/nginx.sh {port} $root/static" koa="koa=node bench/http/koa_hello.js {port}"
serve="serve=$build/src/serve/pando-serve $root 127.0.0.1:{port}"
echo; echo "## hello, keep-alive, 64 connections"; run "$epoll" "$hello" "$nginx" "$koa"
echo; echo "## hello, pipelined x16"; run --pipeline 16 "$hello" "$nginx"
echo; echo "## static 1 KB"; run --path /static/1k.bin "$serve" "$nginx"
echo; echo "## static 1 MB"; run --path /static/1m.bin -c 16 "$serve" "$nginx"
