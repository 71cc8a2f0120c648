#!/bin/sh
# Installs what Pando needs from Debian's packages (and npm's, for the test servers), asking nothing.
#
#   tools/deps.sh run      to build and run Pando
#   tools/deps.sh test     the same, and what `make test` starts
#   tools/deps.sh bench    the same as run, and what `make bench` measures with
#
# When everything is there it does nothing, at once. It needs root or sudo only when a package is missing.
set -eu

RUN="gcc libc6-dev meson ninja-build pkg-config libuv1-dev libseccomp-dev libjansson-dev libssl-dev libcmocka-dev clang libbpf-dev bpftool"
TEST="g++ groff-base python3 python3-pytest python3-pytest-xdist python3-uvicorn golang-go ruby ruby-webrick php-cli perl
      libhiredis-dev redis-server libpq-dev postgresql strace wrk slowhttptest libclang-rt-14-dev node-llhttp
      curl libcap2-bin util-linux iproute2 valgrind systemd"
BENCH="python3 wrk nginx-light"

# A program that other packages may bring as well: its Debian package only where it is not there at all.
unless_found() { command -v "$1" >/dev/null 2>&1 || echo "$2"; }

group=${1:-run}
case $group in
    run) wanted=$RUN ;;
    test) wanted="$RUN $TEST $(unless_found node nodejs) $(unless_found npm npm) $(unless_found java default-jdk-headless)" ;;
    bench) wanted="$RUN $BENCH $(unless_found node nodejs)" ;;
    *) echo "deps: unknown group '$group': give run, test or bench" >&2; exit 2 ;;
esac

installed=$(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' 2>/dev/null | sed -n 's/^.i  *//p') || installed=
missing=
for package in $wanted; do
    printf '%s\n' "$installed" | grep -qxF "$package" || missing="$missing $package"
done

if [ -n "$missing" ]; then
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "deps: not a Debian system (no apt-get): install what these Debian packages hold, then call make again:$missing" >&2
        exit 1
    fi
    if [ "$(id -u)" = 0 ]; then
        as_root=
    elif command -v sudo >/dev/null 2>&1; then
        as_root="sudo --preserve-env=DEBIAN_FRONTEND"
    else
        echo "deps: packages are missing, and this is neither root nor is there sudo. As root:" >&2
        echo "    apt-get install -y --no-install-recommends$missing" >&2
        exit 1
    fi
    echo "deps: installing$missing"
    export DEBIAN_FRONTEND=noninteractive
    $as_root apt-get update -q -o Acquire::Retries=3 </dev/null
    # shellcheck disable=SC2086  # the words of $missing are packages
    $as_root apt-get install -q -y --no-install-recommends $missing </dev/null
fi

# What npm has, exactly as a folder's lock file says. Without a registry the tests that need it are skipped, and say so.
npm_folder() { # folder, what it is, which tests are skipped without
    folder=$(dirname "$0")/../$1
    if [ ! -e "$folder/node_modules/.package-lock.json" ] || [ "$folder/package-lock.json" -nt "$folder/node_modules/.package-lock.json" ]; then
        echo "deps: installing $2"
        if (cd "$folder" && npm ci --no-audit --no-fund --loglevel=error </dev/null); then
            touch "$folder/node_modules/.package-lock.json"
        else
            echo "deps: npm could not fetch them: the tests of $3 will be skipped" >&2
        fi
    fi
}
if [ "$group" = test ]; then
    npm_folder tests/apps/node "the Node test servers' modules" "Koa and Express"
    npm_folder tests/node/lines "the oldest and the newest line of Node" "Node's cluster on them"
    [ -z "${PANDO_NIGHTLY:-}" ] || npm_folder tests/node/more "the lines of Node between them" "Node's cluster on them"
fi
