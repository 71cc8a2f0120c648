"""`pando torture`: its promises hold for real servers; a promise that is broken is found; what is no fault of Pando's is told apart."""
import json
import os
import re
import shutil
import signal
import subprocess
import uuid
from pathlib import Path

import pytest

from pando import (APPS, NIGHTLY, NOBODY, PANDO, PYTHON, app, free_port, new_folder, reachable_by_nobody, sanitizer_options, script,
                   wait_until)
from programs import NODE

LIMIT_S = 300  # for runs of some ten seconds: machines may be slow, and acts are waited for


class Torture:
    """One `pando torture --json`. All its files go to `folder`; processes are found by a token in the environment."""

    def __init__(self, *arguments, prefix=(), uid=None):
        self.folder = new_folder(uid)
        self.token = uuid.uuid4().hex
        if uid is not None:
            prefix = ("setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", *prefix)
        env = dict(os.environ, TMPDIR=str(self.folder), PANDO_E2E=self.token, PYTHONDONTWRITEBYTECODE="1", **sanitizer_options(self.folder))
        self.command = [*prefix, str(PANDO), "torture", "--json", *map(str, arguments)]
        self.process = subprocess.Popen(self.command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        text=True, start_new_session=True)
        self.result = None

    def family(self):
        marker = f"PANDO_E2E={self.token}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and marker in (entry / "environ").read_bytes():
                    found.append((int(entry.name), (entry / "cmdline").read_bytes()))
            except OSError:
                continue
        return found

    def end(self):
        """Waits for its end. What a run left behind is an error of its own, whatever the verdict."""
        self.out, self.lines = self.process.communicate(timeout=LIMIT_S)
        self.code = self.process.returncode
        self.result = json.loads(self.out) if self.out.strip() else None
        print(self.lines)
        for report in self.folder.glob("sanitizer*"):
            raise AssertionError(report.read_text(errors="replace")[:6000])
        assert not self.family(), "processes are left"
        assert not list(self.folder.iterdir()), "files are left"
        return self

    def close(self):
        for pid, _ in self.family():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            stream.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def acts(self):
        """What was done, in order."""
        kinds = []
        for line in self.lines.splitlines():
            done = re.match(r" *[\d.]+ s  (kill -9 (all|worker|the primary .* and worker|the primary|the keeper)|pando (restart|scale [+-]\d|reload|rollback))", line)
            if done:
                kinds.append(re.sub(r"\(pid \d+\)", "", done.group(1)))
        return kinds


@pytest.fixture
def torture():
    started = []

    def start(*arguments, **options):
        started.append(Torture(*arguments, **options))
        return started[-1]

    yield start
    for run in started:
        run.close()


def assert_kept(run):
    assert run.code == 0, f"exit code {run.code}\n{run.lines}"
    result = run.result
    assert result["verdict"] == "kept" and result["broken"] == []
    for promise in ("lost_in_queue", "refused", "stranded", "cut_off", "not_asked"):
        assert result[promise] == 0, promise
    assert result["answered"] > 100
    assert result["requests"] == result["answered"] + result["inside_killed"] + result["own_failures"]


def phases(result):
    return {phase["while"]: phase for phase in result["phases"]}


# Each kind takes a second or more: by day some of them, all at night; the sceptic's run below has all.
SOME = [] if NIGHTLY else ["--only", "kill-worker,kill-both,restart,reload-kill,kill-keeper"]

SERVERS = {
    "C, epoll": lambda port: [app("epoll_server"), port],
    "C, blocking": lambda port: [app("blocking_server"), port, 1000],
    "Node": lambda port: ["node", NODE / "node_http.js", port],
    "Python": lambda port: [PYTHON, script("http_server.py"), port],
}


BY_DAY = [("Node", "auto"), ("Node", "pull"), ("Python", "pull"), ("C, blocking", "auto")]


@pytest.mark.limit(LIMIT_S)
@pytest.mark.parametrize("server, mode", [(server, mode) for server in SERVERS for mode in ("auto", "pull")] if NIGHTLY else BY_DAY)
def test_all_promises_are_kept(torture, server, mode):
    if server == "Node" and shutil.which("node") is None:
        pytest.skip("node is not installed: tools/deps.sh test")
    port = free_port()
    run = torture("--for", "1m" if NIGHTLY else "6s", *SOME, "--balance-mode", mode, "-w", 2, "--", *SERVERS[server](port)).end()
    assert_kept(run)
    assert run.result["address"] == f"127.0.0.1:{port}" and run.result["http"] is True
    assert run.result["kills"]["keepers"] == 1
    if mode == "pull":
        assert run.result["mode"] == "pull"


@pytest.mark.limit(LIMIT_S)
def test_all_promises_are_kept_with_many_requests_on_a_connection(torture):
    run = torture("--for", "1m" if NIGHTLY else "6s", "--keep-alive", *SOME, "-w", 2, "--", app("epoll_server"), free_port()).end()
    assert_kept(run)
    assert run.result["keep_alive"] is True


@pytest.mark.limit(LIMIT_S)
@pytest.mark.skipif(os.geteuid() != 0, reason="it becomes an ordinary user: it needs to begin as root")
def test_all_promises_are_kept_for_an_ordinary_user(torture):
    if not reachable_by_nobody():
        pytest.skip("the build folder cannot be reached by uid 65534: check the modes of the folders above it")
    run = torture("--for", "1m" if NIGHTLY else "6s", *SOME, "-w", 2, "--", app("epoll_server"), free_port(), uid=NOBODY).end()
    assert_kept(run)
    assert run.result["mode"] == "pull"


@pytest.mark.limit(420 if NIGHTLY else LIMIT_S)
def test_torture_as_a_sceptic_runs_it_first(torture):
    """Everything as it comes, with the time that a CI gives it: every kind of act was done."""
    run = torture("--for", "2m" if NIGHTLY else "40s", "--", app("epoll_server"), free_port()).end()
    assert_kept(run)
    done = phases(run.result)
    wanted = {"warm-up", "steady", "kill-worker", "kill-all", "kill-primary", "kill-both", "restart", "scale-up", "scale-down", "reload", "rollback",
              "reload-broken", "reload-kill", "upgrade", "kill-keeper"}
    assert wanted <= set(done), f"not done: {wanted - set(done)}\n{run.lines}"
    assert all(phase["answered"] > 0 and phase["p50_ms"] <= phase["p99_ms"] <= phase["max_ms"] for phase in done.values())
    assert run.result["kills"]["workers"] >= 4 and run.result["kills"]["primaries"] >= 2


def test_requests_inside_killed_workers_are_counted_as_that_and_nothing_else(torture):
    run = torture("--for", "6s", "--only", "kill-worker,kill-all", "--rate", 150, "-w", 2, "--", app("blocking_server"), free_port(), 10000).end()
    assert_kept(run)
    assert run.result["kills"] == {"workers": run.result["kills"]["workers"], "primaries": 0, "keepers": 0}
    assert run.result["inside_killed"] > 0
    assert sum(phase["inside"] for phase in run.result["phases"]) == run.result["inside_killed"]


@pytest.mark.parametrize("mode", ["pull", "auto"])
def test_a_lost_queue_is_found(torture, mode):
    """The server shuts its listening socket down: nobody had accepted what waited there."""
    workers = 1 if mode == "auto" else 2  # where each has a socket of its own, the kernel saves the queue for a sibling
    run = torture("--for", "4s", "--only", "kill-primary", "--balance-mode", mode, "-w", workers, "--", app("loses_queue"), free_port()).end()
    assert run.code == 1
    assert run.result["verdict"] == "broken" and run.result["broken"]
    assert run.result["lost_in_queue"] + run.result["refused"] > 0 and run.result["own_failures"] == 0
    assert "BROKEN" in run.lines and ("reset before an answer" in run.lines or "connection refused" in run.lines)


def test_a_program_that_closes_without_an_answer_is_blamed_itself(torture):
    run = torture("--for", "4s", "--only", "kill-worker,restart", "-w", 2, "--", app("closes_unanswered"), free_port()).end()
    if run.result["network"] == "shared":
        pytest.skip("no private network here: a reset cannot be told from a lost queue")
    assert run.code == 0, run.lines
    assert run.result["own_failures"] > 10 and run.result["lost_in_queue"] == 0 and run.result["cut_off"] == 0
    failed = set().union(*(phase["failed"] for phase in run.result["phases"]))
    assert {"reset before an answer", "closed without an answer"} <= failed
    assert "fails by itself" in run.lines


def test_a_worker_that_crashes_by_itself_is_told(torture):
    run = torture("--for", "4s", "--only", "scale-up", "--rate", 50, "-w", 2, "--", app("crash_after_ready"), free_port(), 1500).end()
    assert run.result["crashes"] > 0
    assert "ended by itself: signal SEGV" in run.lines


def test_what_speaks_no_http_is_answered_by_its_first_byte(torture):
    run = torture("--for", "4s", "--only", "kill-worker,kill-primary", "--keep-alive", "-w", 2, "--", PYTHON, script("greeter.py"),
                  free_port()).end()
    assert_kept(run)
    assert run.result["http"] is False
    assert "something else than HTTP" in run.lines


@pytest.mark.parametrize("command, code, says", [
    (["/bin/false"], 1, "ended with exit code 1 before its workers were ready"),
    (["no-such-program-here"], 127, "not found"),
    ([str(APPS / "meson.build")], 126, "permission denied"),
    ([app("never_listens")], 1, "listens on no address"),
    ([PYTHON, "-c", "import socket, time\ns = socket.create_server(('127.0.0.1', 0))\ntime.sleep(60)"], 1, "port 0"),
    ([PYTHON, script("unix_server.py"), "SOCKET"], 1, "no TCP address"),
])
def test_what_cannot_be_judged_is_said(torture, folder, command, code, says):
    command = [str(folder / "socket") if word == "SOCKET" else word for word in command]
    run = torture("--ready-timeout", "2s", "-w", 2, "--", *command).end()
    assert run.code == code, run.lines
    assert says in run.lines and "cannot be judged" in run.lines
    assert run.result["verdict"] == "not judged"


def test_a_server_that_never_answers_cannot_be_judged(torture):
    silent = "import socket, sys, time\ns = socket.create_server(('127.0.0.1', int(sys.argv[1])))\nwhile True: s.accept()[0].close()"
    run = torture("-w", 2, "--", PYTHON, "-c", silent, free_port()).end()
    assert run.code == 1 and run.result["verdict"] == "not judged"
    assert "no byte of an answer" in run.lines


@pytest.mark.limit(LIMIT_S)
def test_broken_versions_are_refused_and_cost_nothing(torture):
    run = torture("--for", "10s", "--only", "reload-broken", "--rate", 200, "-w", 2, "--", app("epoll_server"), free_port()).end()
    assert_kept(run)
    refused = [line for line in run.lines.splitlines() if "pando reload to" in line]
    assert len(refused) == phases(run.result)["reload-broken"]["times"] > 0
    assert all("exit code 4" in line for line in refused), refused


def test_ctrl_c_ends_it_and_leaves_nothing(torture):
    run = torture("--for", "10m", "-w", 2, "--", app("epoll_server"), free_port())
    lines = []
    for line in run.process.stderr:
        lines.append(line)
        if "clients can" in line:
            break
    os.kill(run.process.pid, signal.SIGINT)
    run.end()
    assert run.code == 130, "".join(lines) + run.lines
    assert run.result["verdict"] == "interrupted" and run.result["answered"] > 0


def test_when_it_is_killed_its_instance_stops(torture):
    run = torture("--for", "10m", "-w", 2, "--", app("epoll_server"), free_port())
    for line in run.process.stderr:
        if "speaks HTTP" in line:
            break
    os.kill(run.process.pid, signal.SIGKILL)
    run.process.wait(10)
    wait_until(lambda: not run.family(), 60, "the instance ends")


def test_the_same_seed_gives_the_same_order(torture):
    runs = [torture("--for", "8s", "--seed", 11, "--only", "kill-worker,kill-primary,kill-both,kill-all", "-w", 3, "--", app("epoll_server"),
                    free_port()) for _ in range(2)]
    first, second = (run.end().acts() for run in runs)
    shared = min(len(first), len(second))
    assert shared >= 3
    assert first[:shared] == second[:shared]


def test_without_the_right_to_a_network_of_its_own_it_says_so(torture):
    """Inside a user namespace that may have no network namespaces: the port is taken from the network that is there."""
    without = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c",
               "ip link set lo up && echo 0 > /proc/sys/user/max_net_namespaces && exec \"$@\"", "sh"]
    if subprocess.run([*without, "true"], capture_output=True).returncode != 0:
        pytest.skip("user namespaces are not allowed here")
    run = torture("--for", "5s", "--only", "kill-worker", "-w", 2, "--", app("epoll_server"), free_port(), prefix=without).end()
    assert_kept(run)
    assert run.result["network"] == "shared"
    assert "in the network of this process" in run.lines and "network namespace" in run.lines


def test_it_can_be_asked_to_stay_in_the_network(torture):
    port = free_port()
    run = torture("--for", "5s", "--shared-network", "--only", "kill-worker", "-w", 2, "--", app("epoll_server"), port).end()
    assert_kept(run)
    assert run.result["network"] == "shared" and run.result["address"] == f"127.0.0.1:{port}"


@pytest.mark.parametrize("arguments, named", [
    ([], "no command"),
    (["--nonsense", "--", "true"], "--nonsense"),
    (["--for", "soon", "--", "true"], "soon"),
    (["--only", "kill-everyone", "--", "true"], "kill-everyone"),
    (["--json=yes", "--", "true"], "--json"),
    (["-n", "mine", "--", "true"], "-n"),
    (["-d", "--", "true"], "-d"),
    (["--seed"], "--seed"),
])
def test_wrong_options_are_named(torture, arguments, named):
    run = torture(*arguments).end()
    assert run.code == 2 and named in run.lines


def test_options_of_run_are_checked_by_run(torture):
    run = torture("--balance", "unfair", "--", "true").end()
    assert run.code == 2 and "unfair" in run.lines
