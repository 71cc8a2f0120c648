#!/bin/sh
# SPDX-License-Identifier: MIT
# Installs Koa (once) and compares: tests/koa/run.sh PATH-OF-THE-BUILT-koa_cases [PYTEST-ARGUMENT...]
set -e
cd "$(dirname "$0")"
[ -d node_modules/koa ] || npm ci --no-audit --no-fund --silent
cases=$1
shift
PANDO_KOA_CASES="$cases" exec /usr/bin/python3 -B -m pytest -q -rfEs -p no:cacheprovider "$@" test_koa.py
