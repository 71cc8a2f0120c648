#!/bin/sh
# SPDX-License-Identifier: MIT
# nginx in the foreground: nginx.sh PORT [STATIC-ROOT]
here=$(dirname "$(readlink -f "$0")")
conf=/tmp/pando-bench-nginx-$1.conf
sed "s/PORT/$1/;s#ROOT#${2:-/tmp/pando-bench-root}#;s#/tmp/pando-bench-nginx.pid#/tmp/pando-bench-nginx-$1.pid#" "$here/nginx.conf" > "$conf"
exec nginx -c "$conf"
