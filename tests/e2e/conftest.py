"""Fixtures and the frame of every test: a time limit, Pando's output where it failed, nothing left behind."""
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import pando as harness  # noqa: E402
import programs  # noqa: E402

TEST_LIMIT_S = 300 * (5 if harness.NIGHTLY else 1)


def pytest_configure(config):
    # A shell that puts us into the background has us ignore these, and a shell below Pando could not trap them then.
    for signo in (signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(signo) == signal.SIG_IGN:
            signal.signal(signo, signal.SIG_DFL)
    config.addinivalue_line("markers", "limit(seconds): a time limit of the test's own")
    if not harness.PANDO.exists() and not os.environ.get("PYTEST_XDIST_WORKER"):
        pytest.exit(f"{harness.PANDO} is not built: run `make test`, or build and set PANDO_BUILD", returncode=3)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    """SIGALRM ends a test that hangs; a second one, later, ends a clean-up that hangs."""
    marker = item.get_closest_marker("limit")
    seconds = marker.args[0] if marker else TEST_LIMIT_S

    def on_alarm(_signo, _frame):
        raise TimeoutError(f"the test took longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, seconds, 60)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def pando(request):
    """Starts instances: pando(app("epoll_server"), port, workers=2). See pando.Pando for the options."""
    started = []
    request.node.pandos = started

    def start(*command, **options):
        instance = harness.Pando(*command, **options)
        started.append(instance)
        return instance

    yield start
    problems = []
    for instance in reversed(started):
        try:
            instance.close()
        except AssertionError as error:
            problems.append(str(error))
    reports = "\n".join(instance.report() for instance in started) if problems else ""
    for instance in started:
        instance.remove_folder()
    assert not problems, "\n".join(problems) + "\n" + reports


@pytest.fixture
def slot(pando):
    """The same in slot mode, ready."""
    def start(*command, options=(), **more):
        instance = pando(*command, options=["--balance-mode", "slot", *options], **more)
        assert instance.wait_ready()["mode"] == "slot"
        return instance

    return start


@pytest.fixture
def folder():
    """A temporary folder that any user may enter, for instances that share one run-time folder and for files."""
    path = harness.new_folder()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(autouse=True)
def ports_are_returned():
    yield
    harness.release_ports()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.when == "call" and report.failed:
        for instance in getattr(item, "pandos", []):
            report.sections.append(("Pando", instance.report()))


# The compatibility table is written by who sees all reports: the controlling process.
_tested = {}


def pytest_runtest_logreport(report):
    if report.when == "call" and report.passed:
        for name, value in report.user_properties:
            if name == "compatibility":
                _tested[value["program"]] = value


def pytest_sessionfinish(session):
    if os.environ.get("PANDO_WRITE_DOCS") != "1" or os.environ.get("PYTEST_XDIST_WORKER"):
        return
    missing = [program.name for program in programs.PROGRAMS if program.name not in _tested]
    if missing:
        print(f"\ndocs/compatibility.md is not written: not tested: {', '.join(missing)}")
        return
    programs.write_table(_tested)
    print("\ndocs/compatibility.md is written")
