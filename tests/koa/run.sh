#!/bin/sh
# SPDX-License-Identifier: MIT
# Installs Koa (once) and compares: tests/koa/run.sh PATH-OF-THE-BUILT-koa_cases
set -e
cd "$(dirname "$0")"
[ -d node_modules/koa ] || npm ci --no-audit --no-fund --silent
PANDO_KOA_CASES="$1" exec /usr/bin/python3 -m pytest -q -p no:cacheprovider test_koa.py
