# The front door. `make run` and `make test` each work as the first command in a fresh clone on Debian 12, as root or with sudo.
#
#   make run                    the bundled example on port 3000, one process a core
#   make run CMD="node app.js"  anything of yours
#   make test                   everything that must pass; `make nightly`: the same with ten times the counts
#   make bench                  the figures
#   make install                DESTDIR= and PREFIX= (/usr/local)

PREFIX ?= /usr/local
PORT ?= 3000
CMD ?=
# Debian's own Python: pytest and meson are installed for it, whatever comes first in PATH.
PYTHON := /usr/bin/python3
MESON := $(PYTHON) /usr/bin/meson
NINJA := /usr/bin/ninja
PANDO := build/src/pando/pando

REPORTS := build-asan/meson-logs/testlog.junit.xml build-asan/e2e.xml build/e2e.xml build-asan/http.xml build/http.xml build/koa.xml build/fuzz.xml build/install.xml

.PHONY: all run test nightly unit e2e http installed fuzz bench deps install clean format

all: build/build.ninja
	@$(NINJA) -C build

run:
	@tools/deps.sh run
	@$(MAKE) --no-print-directory all
ifeq ($(CMD),)
	@echo
	@echo "Open http://localhost:$(PORT)/ or ask it:   curl http://localhost:$(PORT)/"
	@echo "Who is there, in another terminal:          $(PANDO) status"
	@echo "Kill one; another takes its place at once:  kill -9 PID"
	@echo "Stop with Ctrl-C."
	@echo
	@exec $(PANDO) run -n hello -- build/examples/hello/hello 0.0.0.0:$(PORT)
else
	@exec $(PANDO) run -- $(CMD)
endif

# The engine is tested under AddressSanitizer, LeakSanitizer and UndefinedBehaviorSanitizer; the test servers are not sanitized.
# All runners run to their end; tools/summary decides.
test:
	@tools/deps.sh test
	@rm -f $(REPORTS) $(REPORTS:.xml=.again.xml)
	@$(MAKE) --no-print-directory build/build.ninja build-asan/build.ninja
	@$(NINJA) -C build && $(NINJA) -C build-asan
	-@$(MAKE) --no-print-directory unit
	-@$(MAKE) --no-print-directory e2e
	-@$(MAKE) --no-print-directory http
	-@$(MAKE) --no-print-directory installed
	-@$(MAKE) --no-print-directory fuzz
	@tools/summary $(REPORTS)

nightly:
	@PANDO_NIGHTLY=1 $(MAKE) --no-print-directory test

unit: build-asan/build.ninja
	@$(MESON) test -C build-asan --print-errorlogs --timeout-multiplier 5

# One test:  make e2e TESTS="tests/e2e/test_ready.py -k notify"
# Against the build that people run there are only the kill loops and the torture of a sceptic, where timing matters most; the rest runs sanitized.
TESTS ?= tests/e2e
PYTEST := $(PYTHON) -B -m pytest -p no:cacheprovider -q -rfEs --tb=short
PLAIN := tests/e2e/test_kill_loop.py tests/e2e/test_limits.py tests/e2e/test_torture.py::test_torture_as_a_sceptic_runs_it_first \
    tests/e2e/test_primary_killed.py
e2e: build/build.ninja build-asan/build.ninja
	@$(NINJA) -C build && $(NINJA) -C build-asan
	@status=0; \
	PANDO_BUILD=build-asan $(PYTEST) -n 4 --junitxml=build-asan/e2e.xml $(TESTS) || \
	    PANDO_BUILD=build-asan tools/again build-asan/e2e.xml $(PYTEST) || status=1; \
	if [ "$(TESTS)" = tests/e2e ]; then \
	    PANDO_BUILD=build $(PYTEST) -n 4 --junitxml=build/e2e.xml $(PLAIN) || \
	        PANDO_BUILD=build tools/again build/e2e.xml $(PYTEST) || status=1; \
	fi; \
	exit $$status

# The HTTP server and the Koa layer: over real sockets, with real clients and databases, and side by side with real Koa.
http: build/build.ninja build-asan/build.ninja
	@$(NINJA) -C build all http-test-programs && $(NINJA) -C build-asan all http-test-programs
	@status=0; \
	PANDO_BUILD=$(CURDIR)/build-asan $(PYTEST) -n 2 --junitxml=build-asan/http.xml tests/e2e_http --ignore=tests/e2e_http/test_costs.py --ignore=tests/e2e_http/test_plain.py || status=1; \
	PANDO_BUILD=$(CURDIR)/build $(PYTEST) --junitxml=build/http.xml tests/e2e_http/test_costs.py tests/e2e_http/test_plain.py || status=1; \
	tests/koa/run.sh $(CURDIR)/build/tests/e2e_http/koa_cases --junitxml=$(CURDIR)/build/koa.xml || status=1; \
	exit $$status

# What `make install` puts in place, and programs that are built against that alone.
installed: build/build.ninja
	@$(NINJA) -C build
	@PANDO_BUILD=$(CURDIR)/build $(PYTEST) -n 4 --junitxml=build/install.xml tests/install

fuzz:
	@tests/fuzz/run.sh $(if $(PANDO_NIGHTLY),300,5)

bench:
	@tools/deps.sh bench
	@$(MAKE) --no-print-directory build-release/build.ninja
	@$(NINJA) -C build-release
	@$(PYTHON) bench/bench.py --build build-release
	@$(PYTHON) bench/balance.py --build build-release
	@$(PYTHON) bench/survival.py --build build-release
	@build-release/bench/steering_cost || true
	@$(PYTHON) bench/node_cluster.py --build build-release
	@build-release/bench/library
	@bench/http/all.sh build-release

deps:
	@tools/deps.sh test
	@tools/deps.sh bench

install: all
	@$(MESON) configure build --prefix=$(abspath $(PREFIX))
	@$(if $(DESTDIR),DESTDIR=$(abspath $(DESTDIR))) $(MESON) install -C build
	@[ -n "$(DESTDIR)" ] || PATH="$$PATH:/sbin:/usr/sbin" ldconfig 2>/dev/null || true

build/build.ninja:
	@tools/deps.sh run
	@$(MESON) setup build $(if $(CI),-Dwerror=true)

build-asan/build.ninja:
	@$(MESON) setup build-asan $(if $(CI),-Dwerror=true) -Db_sanitize=address,undefined -Db_lundef=false

build-release/build.ninja:
	@$(MESON) setup build-release --buildtype=release

clean:
	rm -rf build build-asan build-release

format:
	git ls-files '*.c' '*.h' | xargs clang-format -i
