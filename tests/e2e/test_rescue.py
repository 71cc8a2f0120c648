"""Slot mode: nobody waits behind a worker that is stuck, and one that hangs is replaced."""
import contextlib
import os
import platform
import select
import shutil
import signal
import subprocess
import time
import uuid
from pathlib import Path

import pytest

from pando import (PATIENCE, PYTHON, Load, app, connect, count, free_port, freeze, http_get, pids_of_children, read_answer, script, wait_listening,
                   wait_until)
from programs import go

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="slot mode needs CAP_BPF and CAP_NET_ADMIN")

# /spin/MS spins so long; /spin until the file `enough` is in the folder, and says so by the file `spins`.
SPINNING = """
const fs = require('fs'), http = require('http'), folder = process.argv[2];
http.createServer((request, response) => {
    const end = Date.now() + (request.url.startsWith('/spin/') ? Number(request.url.slice(6)) : 0);
    while (Date.now() < end) {}
    if (request.url === '/spin') {
        fs.writeFileSync(`${folder}/spins`, '');
        while (!fs.existsSync(`${folder}/enough`)) {}
    }
    response.setHeader('Connection', 'close');
    response.end(`pid ${process.pid}\\n`);
}).listen(Number(process.argv[1]), '127.0.0.1');
"""


def spin(port, folder):
    """A connection whose worker spins by now."""
    client = ask(port, "/spin")
    wait_until((folder / "spins").exists, what="it spins")
    return client


def is_answered(client):
    return bool(select.select([client], [], [], 0)[0])


def ask(port, path, timeout=PATIENCE):
    sock = connect(port, timeout)
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    return sock


def test_nobody_waits_behind_a_worker_that_spins(slot, folder):
    """Half of the connections are given to a worker that spins: they are answered by another, while it still does."""
    port = free_port()
    instance = slot("node", "-e", SPINNING, port, folder, workers=2, options=["--balance", "rr"])
    spinning = spin(port, folder)
    waiting = [ask(port, "/") for _ in range(6)]
    for client in waiting:
        assert read_answer(client).pid
        client.close()
    assert not is_answered(spinning)
    (folder / "enough").touch()
    assert read_answer(spinning).pid
    spinning.close()
    workers = instance.status()["workers"]
    assert sum(worker["rescued"] for worker in workers) >= 3, workers
    assert all(worker["restarts"] == 0 for worker in workers)
    wait_until(lambda: len({http_get(port).pid for _ in range(8)}) == 2, what="the one that spun is back")


def test_without_rescue_a_connection_stays_where_it_was_given(slot, folder):
    port = free_port()
    instance = slot("node", "-e", SPINNING, port, folder, workers=2, options=["--balance", "rr", "--no-rescue"])
    spinning = spin(port, folder)
    waiting = [ask(port, "/") for _ in range(4)]
    wait_until(lambda: sum(map(is_answered, waiting)) == 2, what="the other worker answers its half")
    time.sleep(0.3)  # more than enough for a rescue
    assert sum(map(is_answered, [spinning, *waiting])) == 2
    (folder / "enough").touch()
    for client in [spinning, *waiting]:
        assert read_answer(client).pid
        client.close()
    assert sum(worker["rescued"] for worker in instance.status()["workers"]) == 0


def test_a_worker_stopped_by_somebody_else_loses_its_queue_and_stays_stopped(slot):
    port = free_port()
    instance = slot(app("epoll_server"), port, workers=2, options=["--balance", "rr"])
    victim = instance.pids()[0]
    freeze(victim)
    clients = [ask(port, "/") for _ in range(6)]
    for client in clients:
        assert read_answer(client).pid
        client.close()
    assert open(f"/proc/{victim}/stat").read().rsplit(")", 1)[1].split()[0] == "T"
    os.kill(victim, signal.SIGCONT)
    wait_until(lambda: len({http_get(port).pid for _ in range(8)}) == 2, what="it is back")
    assert instance.pids()[0] == victim


HUNG = {"spins": ["state R"], "sleeps": ["state S", "wchan futex", f"syscall {202 if platform.machine() == 'x86_64' else 98} "]}


@pytest.mark.parametrize("how", HUNG)
def test_a_hung_worker_is_replaced_and_the_log_says_how_it_hung(slot, how, folder):
    port = free_port()
    loop = "while (!fs.existsSync(`${folder}/enough`)) {}"
    assert loop in SPINNING
    server = SPINNING if how == "spins" else SPINNING.replace(loop, "Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);")
    instance = slot("node", "-e", server, port, folder, workers=2, options=["--balance", "rr", "--hang-timeout", "1s"])
    before = instance.pids()
    hung = spin(port, folder)
    for client in [ask(port, "/") for _ in range(4)]:
        assert read_answer(client).pid
        client.close()
    with Load(port, clients=2, pause=0.05):  # it is given one now and then, to see what becomes of it
        evidence = instance.wait_log("hangs: state")
    assert all(text in evidence for text in HUNG[how]), evidence
    assert "of processor time in" in evidence and "stack" in evidence
    instance.wait_ready()
    assert len(set(before.values()) - set(instance.pids().values())) == 1
    hung.close()


@contextlib.contextmanager
def starved(*pids):
    """They get a hundredth of a processor meanwhile, by the quota of a cgroup; a skipped test where none can be made."""
    name, own = f"pando-e2e-{os.getpid()}-{uuid.uuid4().hex}", None
    mounts = [line.split() for line in open("/proc/mounts")]
    v1 = next((mount[1] for mount in mounts if mount[2] == "cgroup" and "cpu" in mount[3].split(",")), None)
    v2 = next((mount[1] for mount in mounts if mount[2] == "cgroup2"), None)
    groups = dict(line.strip().split(":", 2)[1:] for line in open("/proc/self/cgroup"))
    try:
        if v1:
            path = next(path for names, path in groups.items() if "cpu" in names.split(","))
            own = Path(v1 + path) if os.path.isdir(v1 + path) else Path(v1)
            (own / name).mkdir()
            (own / name / "cpu.cfs_period_us").write_text("100000")
            (own / name / "cpu.cfs_quota_us").write_text("1000")
        else:
            own = Path(v2 + groups[""])
            (own / "cgroup.subtree_control").write_text("+cpu")
            (own / name).mkdir()
            (own / name / "cpu.max").write_text("1000 100000")
    except (OSError, StopIteration, TypeError, KeyError) as error:
        with contextlib.suppress(OSError, TypeError):
            (own / name).rmdir()
        pytest.skip(f"no cgroup with a quota of processor time can be made here: {error!r}")
    try:
        for pid in pids:
            (own / name / "cgroup.procs").write_text(str(pid))
        yield own / name
    finally:
        for pid in pids:
            with contextlib.suppress(OSError):
                (own / "cgroup.procs").write_text(str(pid))
        wait_until(lambda: not (own / name / "cgroup.procs").read_text(), what="the cgroup is empty")
        (own / name).rmdir()


def throttled(group):
    return next(int(line.split()[1]) for line in open(group / "cpu.stat") if line.startswith("nr_throttled"))


@pytest.mark.parametrize("below_a_shell", [False, True])
def test_a_starved_worker_is_not_taken_for_hung(slot, folder, below_a_shell):
    """It wants to run, and is hardly let: something waits in its queue for many times --hang-timeout, and it stays."""
    port = free_port()
    command = ["node", "-e", SPINNING, port, folder]
    if below_a_shell:
        command = ["sh", "-c", 'node "$@"; exit $?', "sh", *command[1:]]
    instance = slot(*command, workers=1, options=["--hang-timeout", "500ms"])
    worker = instance.pids()[0]
    at_work = spin(port, folder)
    with starved(worker, *pids_of_children(worker)) as group:
        waiting = ask(port, "/")
        before = throttled(group)
        wait_until(lambda: throttled(group) >= before + 30, what="it was kept from running for 3 s")
        assert not is_answered(at_work) and not is_answered(waiting)
        assert instance.pids()[0] == worker and "hangs" not in instance.log()
    (folder / "enough").touch()
    for client in (at_work, waiting):
        assert read_answer(client).pid
        client.close()
    assert instance.pids()[0] == worker and "hangs" not in instance.log()


def test_a_hung_worker_below_a_shell_is_replaced(slot, folder):
    """The shell waits, as it should; what is looked at is all that it has started."""
    port = free_port()
    instance = slot("sh", "-c", 'node "$@"; exit $?', "sh", "-e", SPINNING, port, folder, workers=1, options=["--hang-timeout", "500ms"])
    worker = instance.pids()[0]
    with spin(port, folder), ask(port, "/") as waiting:
        (folder / "spins").unlink()
        instance.wait_replaced(0, worker)
        assert read_answer(waiting).pid != worker


def test_what_is_not_ready_yet_or_was_not_asked_about_is_never_hung(pando):
    """Two that never accept: one that never says that it is ready, with a --hang-timeout, and one that does, without."""
    deaf = "import os, socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1])), reuse_port=False); time.sleep(1000)"
    ports = free_port(), free_port()
    unready = pando(PYTHON, "-c", deaf, ports[0], workers=1, options=["--balance-mode", "slot", "--ready", "notify", "--hang-timeout", "200ms"],
                    name="unready")
    default = pando(PYTHON, "-c", deaf, ports[1], workers=1, options=["--balance-mode", "slot"], name="default")
    default.wait_ready()
    pids = {}
    for instance, port in ((unready, ports[0]), (default, ports[1])):
        wait_listening(port)  # that connection waits already
        pids[instance] = instance.pids()
    with connect(ports[0]), connect(ports[1]):
        wait_until(lambda: all(instance.status()["workers"][0]["queue"] > 1 for instance in pids), what="connections wait")
        time.sleep(1.2)  # six times the one's timeout
        for instance, before in pids.items():
            assert instance.pids() == before and "hangs" not in instance.log()


def state_of(pid):
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rsplit(")", 1)[1].split()[0]


def rescued(instance):
    return sum(worker["rescued"] for worker in instance.status()["workers"])


def make_stuck_until_rescued(instance, port, path):
    """One request that has its worker stand still, and again, until connections were taken from it."""
    before = rescued(instance)
    asked = []

    def is_rescued():
        asked.append(ask(port, path, timeout=30))
        end = time.monotonic() + 0.2
        while time.monotonic() < end:
            if rescued(instance) > before:
                return True
            time.sleep(0.005)
        return False

    wait_until(is_rescued, 60, f"connections are taken from the worker that was asked for {path}")
    for sock in asked:
        assert read_answer(sock).pid
        sock.close()


RESCUED = {
    "node": lambda port: ["node", "-e", SPINNING, port, "/nowhere"],
    "python": lambda port: [PYTHON, script("http_server.py"), port],
    "ruby": lambda port: ["ruby", script("tcp_server.rb"), port],
    "go": go,
    "epoll": lambda port: [app("epoll_server"), port],
}


@pytest.mark.limit(900)
@pytest.mark.parametrize("server", RESCUED)
def test_thousands_of_rescues_of_a_live_server_fail_no_request(slot, server):
    """3,000 with all servers. Each time one of three workers stands still: it is frozen, emptied and thawed while it lives, under load."""
    if shutil.which(server if server != "epoll" else "true") is None and server != "python":
        pytest.skip(f"{server} is not installed: tools/deps.sh test")
    port = free_port()
    path = {"node": "/spin/60", "go": "/block/150", "python": "/block/150"}.get(server, "/block/40")
    instance = slot(*RESCUED[server](port), workers=3, options=["--balance", "rr", "--rescue-after", "2ms"])
    pids = instance.pids()
    with Load(port, clients=12, timeout=30) as load:
        for _ in range(count(600)):
            make_stuck_until_rescued(instance, port, path)
        load.wait_answered(30)
    assert not load.failures, load.failures[:5]
    assert instance.pids() == pids
    assert all(state_of(pid) not in "Tt" for pid in pids.values())


def test_a_worker_that_cannot_be_stopped_is_left_alone_and_not_left_stopped(slot):
    """Its thread is in uninterruptible sleep: what waits there waits on, the others serve, and nobody stays frozen."""
    port = free_port()
    instance = slot(app("epoll_server"), port, workers=2, options=["--balance", "rr"])
    pids = instance.pids()
    asleep = ask(port, "/uninterruptible/1500", timeout=30)
    wait_until(lambda: any(state_of(pid) == "D" for pid in pids.values()), what="a worker is in state D")
    waiting = [ask(port, "/", timeout=30) for _ in range(6)]
    for client in [*waiting, asleep]:
        assert read_answer(client).pid
        client.close()
    wait_until(lambda: len({http_get(port).pid for _ in range(8)}) == 2, what="it is back")
    assert instance.pids() == pids
    wait_until(lambda: all(state_of(pid) == "S" for pid in pids.values()), what="all wait for connections")


def test_a_primary_that_takes_over_rescues_too(slot):
    port = free_port()
    instance = slot(app("epoll_server"), port, workers=2, options=["--balance", "rr"])
    old = instance.primary_pid
    os.kill(old, signal.SIGKILL)
    instance.wait_status(lambda status: status["primary_pid"] != old and status["ready"] == 2)
    with Load(port, clients=4) as load:
        make_stuck_until_rescued(instance, port, "/block/100")
    assert not load.failures, load.failures[:5]


def test_a_primary_killed_in_the_middle_of_rescues_leaves_nobody_stopped(slot):
    port = free_port()
    instance = slot(app("epoll_server"), port, workers=3, options=["--balance", "rr", "--rescue-after", "1ms"])
    pids = instance.pids()
    with Load(port, clients=12, timeout=30) as load:
        for turn in range(count(100)):
            old = instance.primary_pid
            blocked = ask(port, "/block/30", timeout=30)
            time.sleep(0.001 * (turn % 25))
            os.kill(old, signal.SIGKILL)
            instance.wait_status(lambda status: status["primary_pid"] != old and status["ready"] == 3)
            assert read_answer(blocked).pid
            blocked.close()
        load.wait_answered(50)
    assert not load.failures, load.failures[:5]
    assert instance.pids() == pids
    assert all(state_of(pid) not in "Tt" for pid in pids.values())


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed: tools/deps.sh test")
def test_a_worker_whose_socket_is_lost_in_a_rescue_is_replaced(slot):
    """The system call that takes the queue fails, as it never should."""
    port = free_port()
    instance = slot(app("epoll_server"), port, workers=2, options=["--balance", "rr"])
    victim = instance.pids()[0]
    with open(os.devnull, "w") as null:
        saboteur = subprocess.Popen(["strace", "-qq", "-f", "-p", str(instance.primary_pid), "-e", "trace=shutdown", "-e",
                                     "inject=shutdown:error=ENOTCONN:when=1"], stderr=subprocess.PIPE, stdout=null)
    try:
        wait_until(lambda: "TracerPid:\t0" not in open(f"/proc/{instance.primary_pid}/status").read(), what="strace has attached")
        freeze(victim)
        clients = [ask(port, "/", timeout=30) for _ in range(6)]
        instance.wait_replaced(0, victim)
        for client in clients:
            assert read_answer(client).pid
            client.close()
    finally:
        saboteur.terminate()
        saboteur.wait(60)
        saboteur.stderr.close()
    instance.wait_log("worker 0", "its socket was lost")
    assert len({http_get(port).pid for _ in range(8)}) == 2
