"""Under systemd: what Pando tells it, what it gets from it, and the unit that `pando unit` writes."""
import fcntl
import os
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

import programs
from pando import (NOBODY, PANDO, PYTHON, REQUEST_CLOSE, Load, app, connect, count, free_port, freeze, http_get, kill_if_alive,
                   pids_answering, pids_of_children, reachable_by_nobody, read_answer, run_pando, script, wait_until)
from supervisor import Supervisor

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="slot mode needs CAP_BPF and CAP_NET_ADMIN")
MODES = [pytest.param("pull"), pytest.param("slot", marks=ROOT_ONLY)]


@pytest.fixture
def supervisor(folder):
    with Supervisor(folder) as supervisor:
        yield supervisor


def listen_at(port, host="127.0.0.1", reuseport=False, kind=socket.SOCK_STREAM, v6only=0):
    """A socket as a socket unit makes it."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if ":" in host:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
    if reuseport:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind((host, port))
    if kind == socket.SOCK_STREAM:
        sock.listen(128)
    return sock


def wait_queued(where, number, timeout=30):
    """So many clients that have asked, and wait in the queue."""
    clients = [connect(where, timeout) for _ in range(number)]
    for client in clients:
        client.sendall(REQUEST_CLOSE)
    return clients


def assert_answered(clients):
    for client in clients:
        with client:
            assert read_answer(client).status == 200


# ---- what it is told


def test_ready_is_told_once_when_all_workers_are(pando, supervisor):
    port, flag = free_port(), supervisor.folder / "flag"
    wait = f'while [ "$PANDO_WORKER" = 1 ] && ! [ -e {flag} ]; do sleep 0.05; done; exec {app("epoll_server")} {port}'
    instance = supervisor.start(pando, "/bin/sh", "-c", wait, workers=3)
    instance.wait_status(lambda status: status["ready"] == 2)
    supervisor.wait("STATUS=2 of 3 workers ready")
    assert not supervisor.said("READY=1")
    flag.touch()
    supervisor.wait("READY=1")
    supervisor.wait("STATUS=3 of 3 workers ready")
    instance.wait_replaced(1, instance.kill(1))
    instance.wait_ready()
    assert instance.stop() == 0
    supervisor.wait("STOPPING=1")
    assert supervisor.said("READY=1") == ["READY=1"] and supervisor.said("STOPPING=1") == ["STOPPING=1"]
    assert not supervisor.said("MAINPID")


def test_it_hears_only_from_the_process_that_it_started(pando, folder):
    """NotifyAccess=main: whatever comes from another pid would be thrown away."""
    address = str(folder / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        receiver.bind(address)
        receiver.settimeout(20)
        instance = pando(app("epoll_server"), free_port(), env={"NOTIFY_SOCKET": address})
        data = b""
        while b"READY=1" not in data:
            data, ancillary, _, _ = receiver.recvmsg(4096, 4096)
            pids = [int.from_bytes(payload[:4], "little") for _, kind, payload in ancillary if kind == socket.SCM_CREDENTIALS]
            assert pids == [instance.process.pid], data
        assert instance.stop() == 0


def test_an_abstract_notify_socket(pando, folder):
    with Supervisor(folder, abstract=True) as supervisor:
        supervisor.start(pando, app("epoll_server"), free_port())
        supervisor.wait("READY=1")


def test_a_supervisor_that_does_not_listen_for_a_while_misses_nothing(pando, folder):
    """Its queue holds a few datagrams: Pando goes on, and says the rest later."""
    with Supervisor(folder, silent=True) as supervisor:
        port = free_port()
        instance = supervisor.start(pando, app("epoll_server"), port, workers=4)
        instance.wait_ready()
        for slot in range(4):  # far more to say than the queue holds
            for _ in range(3):
                instance.wait_replaced(slot, instance.kill(slot))
        instance.wait_ready()
        assert http_get(port).status == 200
        supervisor.begin()
        supervisor.wait("READY=1")
        supervisor.stored(number=1 if instance.status()["mode"] == "pull" else 4)
        wait_until(lambda: supervisor.said("STATUS")[-1] == "STATUS=4 of 4 workers ready", what="the last status")


@pytest.mark.parametrize("value", ["/nowhere/notify", "vsock:2:1234", "/" + "x" * 200])
def test_a_notify_socket_that_cannot_be_used_does_not_matter(pando, value):
    port = free_port()
    instance = pando(app("epoll_server"), port, env={"NOTIFY_SOCKET": value})
    instance.wait_ready()
    instance.wait_log("NOTIFY_SOCKET")
    assert http_get(port).status == 200
    assert instance.stop() == 0


def test_a_script_in_between_is_not_taken_for_the_main_process(pando, supervisor):
    instance = pando(app("epoll_server"), free_port(), env={"NOTIFY_SOCKET": supervisor.address},
                     prefix=("sh", "-c", 'export SYSTEMD_EXEC_PID=$$; "$0" "$@"; exit $?'))
    supervisor.wait("READY=1")
    keeper = instance.keeper_pid
    assert keeper != instance.process.pid
    assert supervisor.said("MAINPID=") == [f"MAINPID={keeper}"]
    instance.ctl("stop", check=0)


def test_hup_is_a_reload_that_the_supervisor_can_follow(pando, supervisor):
    instance = supervisor.start(pando, app("epoll_server"), free_port(), workers=2)
    supervisor.wait("READY=1")
    for turn in range(1, 3):
        before, since_us = set(instance.pids().values()), time.monotonic_ns() // 1000
        instance.signal(signal.SIGHUP)
        supervisor.wait("READY=1", 1 + turn)
        status = instance.status()
        serving = {worker["pid"] for worker in status["workers"] if worker["state"] == "serving"}
        assert len(serving) == 2 and not before & serving and status["generation"] == 1 + turn, "told before it had ended"
        stamps = [int(line.partition("=")[2]) for line in supervisor.said("MONOTONIC_USEC=")]
        assert len(stamps) == turn and since_us <= stamps[-1] <= time.monotonic_ns() // 1000
    order = [line for line in supervisor.said() if line in ("READY=1", "RELOADING=1")]
    assert order == ["READY=1", "RELOADING=1", "READY=1", "RELOADING=1", "READY=1"]


def test_a_primary_killed_in_a_reload_still_ends_it(pando, supervisor):
    port, gate = free_port(), supervisor.folder / "gate"
    gate.touch()
    command = f"while ! [ -e {gate} ]; do sleep 0.05; done; exec {app('epoll_server')} {port}"
    instance = supervisor.start(pando, "/bin/sh", "-c", command, workers=2)
    supervisor.wait("READY=1")
    gate.unlink()
    primary = instance.primary_pid
    instance.signal(signal.SIGHUP)
    supervisor.wait("RELOADING=1")
    os.kill(primary, signal.SIGKILL)
    instance.wait_status(lambda status: status["primary_pid"] != primary)
    supervisor.wait("RELOADING=1", 2)
    ready = len(supervisor.said("READY=1"))
    gate.touch()
    supervisor.wait("READY=1", ready + 1)
    assert instance.status()["generation"] == 2


def test_a_reload_of_a_broken_version_ends_too(pando, supervisor):
    port, broken = free_port(), supervisor.folder / "broken"
    instance = supervisor.start(pando, "/bin/sh", "-c", f"[ -e {broken} ] && exit 3; exec {app('epoll_server')} {port}", workers=2)
    supervisor.wait("READY=1")
    broken.touch()
    instance.signal(signal.SIGHUP)
    supervisor.wait("RELOADING=1")
    supervisor.wait("READY=1", 2)
    assert instance.status()["generation"] == 1 and http_get(port).status == 200


def test_a_reload_from_the_command_line_is_told_as_well(pando, supervisor):
    instance = supervisor.start(pando, app("epoll_server"), free_port(), workers=1)
    supervisor.wait("READY=1")
    instance.ctl("reload", check=0)
    supervisor.wait("READY=1", 2)
    assert [line for line in supervisor.said() if line in ("READY=1", "RELOADING=1")] == ["READY=1", "RELOADING=1", "READY=1"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("reuseport", [False, True], ids=["plain", "ReusePort=yes"])
def test_a_reload_on_a_socket_that_was_passed_on_loses_nobody(pando, supervisor, mode, reuseport):
    port = free_port()
    with listen_at(port, reuseport=reuseport) as given:
        instance = supervisor.start(pando, app("epoll_server"), port, 200, workers=2, sockets=[("web.socket", given)],
                                    options=["--balance-mode", mode, "--stable", "100ms"])
        instance.wait_ready()
        with Load(port, clients=2, pause=0.02) as load:
            for generation in (2, 3):
                load.wait_answered(10)
                instance.ctl("reload", check=0)
                instance.wait_status(lambda status: status["generation"] == generation)
                load.wait_answered(10)
        assert not load.failures, load.failures[:5]
        instance.wait_status(lambda status: status["ready"] == len(status["workers"]) == 2)
        assert pids_answering(port, 2) == set(instance.pids().values())


def test_what_ended_it_is_told(pando, supervisor):
    instance = supervisor.start(pando, app("exits_at_once"), workers=1, options=["--fail-fast"])
    assert instance.exit_code() == 1
    supervisor.wait("STOPPING=1")
    supervisor.wait("STATUS=ended with code")


# ---- the watchdog

INTERVAL = {"WATCHDOG_USEC": "100000"}  # 50 ms between two signs of life


def test_the_watchdog_hears_the_primary_s_loop(pando, supervisor):
    """Not when that is stuck; again when it goes on, or when another has taken its place."""
    instance = supervisor.start(pando, app("epoll_server"), free_port(), env=INTERVAL)
    supervisor.wait("WATCHDOG=1", 5)
    primary = instance.wait_ready()["primary_pid"]
    freeze(primary)
    last = -1

    def is_silent():  # what the keeper had taken before is on its way still
        nonlocal last
        before, last = last, len(supervisor.said("WATCHDOG=1"))
        return before == last

    wait_until(is_silent, what="no more signs of life", pause=0.5)
    os.kill(primary, signal.SIGCONT)
    supervisor.wait("WATCHDOG=1", last + 5)
    os.kill(primary, signal.SIGKILL)
    instance.wait_status(lambda status: status["primary_pid"] != primary)
    supervisor.wait("WATCHDOG=1", len(supervisor.said("WATCHDOG=1")) + 5)


@pytest.mark.parametrize("env", [{}, {**INTERVAL, "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "x"}, {"WATCHDOG_USEC": "0"}])
def test_no_watchdog_that_was_not_asked_for(pando, supervisor, env):
    instance = supervisor.start(pando, app("epoll_server"), free_port(), env=env)
    supervisor.wait("READY=1")
    assert instance.stop() == 0
    assert not supervisor.said("WATCHDOG=1")


# ---- workers


def test_workers_are_not_told_who_the_supervisor_is(pando, supervisor):
    port = free_port()
    with listen_at(port) as given:
        instance = supervisor.start(pando, app("epoll_server"), port, workers=1, env=INTERVAL, sockets=[("web.socket", given)])
        pid = instance.wait_ready() and instance.pids()[0]
        env = dict(entry.partition("=")[::2] for entry in Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0"))
        assert supervisor.address not in env.values()
        assert not {"LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_USEC"} & set(env)
        sockets = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        assert sum(link.startswith("socket:") for link in sockets) == 1, sockets


@ROOT_ONLY
@pytest.mark.skipif(not reachable_by_nobody(), reason="the build folder cannot be reached by uid 65534")
def test_the_capabilities_for_steering_do_not_reach_the_workers(pando, folder):
    """As AmbientCapabilities= with User= in the unit gives them."""
    capabilities = "+bpf,+net_admin,+perfmon,+net_raw"
    os.chown(folder, NOBODY, NOBODY)
    instance = pando(app("epoll_server"), free_port(), folder=folder, options=["--balance-mode", "slot"], prefix=(
        "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", f"--inh-caps={capabilities}",
        f"--ambient-caps={capabilities}"))
    assert instance.wait_ready()["mode"] == "slot"
    for pid in instance.pids().values():
        text = Path(f"/proc/{pid}/status").read_text()
        for kind in ("CapEff", "CapPrm", "CapAmb"):
            held = int(re.search(rf"{kind}:\s*(\w+)", text).group(1), 16)
            assert held == 1 << 13, f"{kind} {held:x}: CAP_NET_RAW is the program's own, the others are Pando's"
    assert instance.stop() == 0


# ---- sockets that are passed on


@pytest.mark.parametrize("reuseport", [False, True], ids=["plain", "ReusePort=yes"])
@pytest.mark.parametrize("mode", MODES)
def test_workers_serve_the_socket_that_was_passed_on(pando, supervisor, mode, reuseport):
    port = free_port()
    with listen_at(port, reuseport=reuseport) as given:
        early = wait_queued(port, 4)
        instance = supervisor.start(pando, app("epoll_server"), port, 200, workers=3, sockets=[("web.socket", given)],
                                    options=["--balance-mode", mode])
        assert_answered(early)
        instance.wait_ready()
        assert pids_answering(port, 3) == set(instance.pids().values())
        with Load(port, clients=8) as load:
            for slot in range(3):
                load.wait_answered(50)
                instance.wait_replaced(slot, instance.kill(slot))
            primary = instance.primary_pid
            os.kill(primary, signal.SIGKILL)
            instance.wait_status(lambda status: status["primary_pid"] != primary and status["ready"] == 3)
            load.wait_answered(50)
        # A worker that was killed had taken some: those it had, and no others.
        assert len(load.failures) <= 3 * 8, load.failures[:5]
        assert instance.stop() == 0
        late = wait_queued(port, 1)  # the supervisor's own still takes connections
        late[0].close()


def test_it_is_not_given_back_to_the_store(pando, supervisor):
    port, other = free_port(), free_port()
    with listen_at(port) as given:
        instance = supervisor.start(pando, app("listeners"), f"4:127.0.0.1:{port}", f"4:127.0.0.1:{other}", workers=1,
                                    sockets=[("web.socket", given)])
        instance.wait_ready()
        [(_, fd)] = supervisor.stored(number=1)
        with socket.socket(fileno=os.dup(fd)) as stored:
            assert stored.getsockname()[1] == other


@pytest.mark.parametrize("program, host", [("Node.js http", "::"), ("Python http.server", "127.0.0.1"),
                                           ("C, select then blocking accept", "127.0.0.1"), ("C, blocking accept", "127.0.0.1")])
def test_programs_serve_a_socket_that_was_passed_on(pando, supervisor, program, host):
    found = next(each for each in programs.PROGRAMS if each.name == program)
    if reason := programs.missing(found):
        pytest.skip(reason)
    port = free_port()
    with listen_at(port, host) as given:
        early = wait_queued(port, 2)
        instance = supervisor.start(pando, *found.command(port), workers=2, sockets=[("web.socket", given)])
        instance.wait_ready()
        assert_answered(early)
        assert pids_answering(port, 2) == set(instance.pids().values())
        keep = [connect(port) for _ in range(8)]  # none of them waits behind a worker that sticks in accept
        for _ in range(3):
            for client in keep:
                client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            if program == "C, blocking accept":  # one at a time, by its nature
                break
            for client in keep:
                assert read_answer(client).status == 200
        for client in keep:
            client.close()


def test_a_shared_socket_of_programs_that_poll_stays_non_blocking(pando, supervisor):
    """Each copy listens on a blocking socket: none of them makes the shared one blocking again."""
    port = free_port()
    with listen_at(port, "127.0.0.1") as given:
        instance = supervisor.start(pando, app("select_server"), port, workers=2, sockets=[("web.socket", given)])
        instance.wait_ready()
        assert fcntl.fcntl(given, fcntl.F_GETFL) & os.O_NONBLOCK
        assert instance.ctl("restart").returncode == 0
        assert fcntl.fcntl(given, fcntl.F_GETFL) & os.O_NONBLOCK


def test_a_program_that_binds_both_families_gets_both_sockets(pando, supervisor):
    port = free_port()
    with listen_at(port, "0.0.0.0") as v4, listen_at(port, "::", v6only=1) as v6:
        instance = supervisor.start(pando, PYTHON, script("asyncio_server.py"), port, sockets=[("a.socket", v4), ("a.socket", v6)])
        instance.wait_ready()
        assert pids_answering(port, 2) == pids_answering(("::1", port), 2) == set(instance.pids().values())


@ROOT_ONLY
@pytest.mark.skipif(not reachable_by_nobody(), reason="the build folder cannot be reached by uid 65534")
@pytest.mark.parametrize("reuseport", [False, True], ids=["plain", "ReusePort=yes"])
def test_an_ordinary_user_serves_a_socket_of_root(pando, supervisor, reuseport):
    """User= in the unit: no socket of that user can join root's."""
    port = free_port()
    os.chown(supervisor.folder, NOBODY, NOBODY)
    with listen_at(port, reuseport=reuseport) as given:
        instance = supervisor.start(pando, app("epoll_server"), port, workers=2, uid=NOBODY, sockets=[("web.socket", given)])
        instance.wait_ready()
        assert pids_answering(port, 2) == set(instance.pids().values())
        assert instance.stop() == 0


def test_a_unix_socket_that_was_passed_on(pando, supervisor):
    path = str(supervisor.folder / "app.socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as given:
        given.bind(path)
        given.listen(64)
        early = wait_queued(path, 2)
        instance = supervisor.start(pando, PYTHON, script("unix_server.py"), path, workers=2, sockets=[("app.socket", given)])
        assert_answered(early)
        instance.wait_ready()
        assert pids_answering(path, 2) == set(instance.pids().values())
        instance.wait_replaced(0, instance.kill(0))
        assert pids_answering(path, 2) == set(instance.pids().values())


def test_a_udp_socket_that_was_passed_on(pando, supervisor):
    port = free_port()
    with listen_at(port, kind=socket.SOCK_DGRAM) as given, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(10)
        client.connect(("127.0.0.1", port))
        client.send(b"early")
        instance = supervisor.start(pando, app("udp_echo"), port, workers=2, sockets=[("dns.socket", given)])
        pids = instance.wait_ready() and instance.pids().values()
        assert int(client.recv(64).split()[1]) in pids
        client.send(b"late")
        assert int(client.recv(64).split()[1]) in pids


def test_several_sockets_each_go_where_they_belong(pando, supervisor):
    ports = [free_port() for _ in range(3)]
    with listen_at(ports[2]) as third, listen_at(ports[0]) as first:
        instance = supervisor.start(pando, app("listeners"), *(f"4:127.0.0.1:{port}" for port in ports), workers=2,
                                    sockets=[("c.socket", third), ("a.socket", first)])
        instance.wait_ready()
        for port in ports:
            pids_answering(port, 2)


def test_an_address_that_is_nearly_the_same_is_explained(pando, supervisor):
    port = free_port()
    with listen_at(port, "0.0.0.0") as given:
        instance = supervisor.start(pando, app("epoll_server"), port, workers=1, sockets=[("web.socket", given)])
        line = instance.wait_log("127.0.0.1:", f"0.0.0.0:{port}", "ListenStream")
        assert "same address" in line


def test_sockets_for_another_process_are_left_alone(pando, supervisor):
    port = free_port()
    with listen_at(port) as given:
        instance = supervisor.start(pando, app("epoll_server"), port, workers=1, sockets=[("web.socket", given)], not_for_us=True)
        instance.wait_log("is in use by")


def test_what_is_no_listening_socket_is_refused_with_the_reason(pando, supervisor):
    port = free_port()
    with listen_at(port) as listener, connect(port) as client, listener.accept()[0] as connection, open("/dev/null", "rb") as null:
        instance = supervisor.start(pando, app("epoll_server"), free_port(), workers=1,
                                    sockets=[("a@0.service", connection), ("b", null.fileno())])
        instance.wait_ready()
        instance.wait_log("not used", "Accept=no")
        instance.wait_log("not used", "no socket")
        assert client.fileno() >= 0


def test_the_primary_may_die_at_any_time_while_it_takes_them(pando, supervisor):
    port = free_port()
    with listen_at(port) as given:
        for _ in range(count(30)):
            instance = supervisor.start(pando, app("epoll_server"), port, workers=2, sockets=[("web.socket", given)])
            primary = wait_until(lambda: pids_of_children(instance.process.pid), what="a primary", pause=0)[0]
            time.sleep(random.uniform(0, 0.03))  # not a wait: the moment of the kill is drawn
            kill_if_alive(primary, signal.SIGKILL)
            instance.wait_ready()
            assert pids_answering(port, 2) == set(instance.pids().values())
            assert instance.stop() == 0


@pytest.mark.skipif(shutil.which("systemd-socket-activate") is None, reason="systemd-socket-activate is not installed: tools/deps.sh test")
def test_started_by_systemd_s_own_tool_at_the_first_connection(pando):
    port = free_port()
    keep = [part for name in ("PANDO_DIR", "PANDO_E2E", "ASAN_OPTIONS", "UBSAN_OPTIONS", "PATH", "PYTHONDONTWRITEBYTECODE")
            for part in ("-E", name)]
    instance = pando(app("epoll_server"), port, workers=2, prefix=("systemd-socket-activate", "-l", f"127.0.0.1:{port}", *keep))
    instance.wait_log("Listening on")
    assert instance.try_status() is None
    [client] = wait_queued(port, 1)
    assert_answered([client])
    instance.wait_ready()
    instance.wait_log("comes from the supervisor")
    assert pids_answering(port, 2) == set(instance.pids().values())
    assert instance.stop() == 0


# ---- the descriptor store


@pytest.mark.parametrize("mode", MODES)
def test_who_waits_when_all_of_pando_is_killed_is_answered_after_the_restart(pando, supervisor, mode):
    port, workers = free_port(), 3
    sockets = ()
    waiting = []
    for _ in range(3):
        instance = supervisor.start(pando, app("epoll_server"), port, workers=workers, sockets=sockets,
                                    options=["--balance-mode", mode, "--no-rescue"])
        instance.wait_ready()
        assert_answered(waiting)
        assert pids_answering(port, workers) == set(instance.pids().values())
        sockets = supervisor.stored(number=workers if mode == "slot" else 1)
        for pid in instance.pids().values():
            freeze(pid)
        waiting = wait_queued(port, 12)
        supervisor.kill(instance)
        waiting += wait_queued(port, 12)
    instance = supervisor.start(pando, app("epoll_server"), port, workers=workers, sockets=sockets, options=["--balance-mode", mode])
    assert_answered(waiting)
    assert instance.wait_ready()["mode"] == mode
    assert instance.stop() == 0


def test_servers_that_need_a_socket_a_worker_get_them_back(pando, supervisor):
    """Classic steering goes by places in the kernel's group: after a scale-down those have changed."""
    port = free_port()
    options = ["--balance-mode", "pull"]
    instance = supervisor.start(pando, app("select_server"), port, workers=4, options=options)
    instance.wait_ready()
    supervisor.stored(number=4)
    instance.ctl("scale", 3, check=0)
    sockets = supervisor.stored(number=3)
    freeze(instance.pids()[1])
    supervisor.kill(instance)
    waiting = wait_queued(port, 12)
    instance = supervisor.start(pando, app("select_server"), port, workers=3, options=options, sockets=sockets)
    instance.wait_ready()
    assert_answered(waiting)
    pids_answering(port, 3)
    for slot in range(3):  # the place of one that is away is not chosen
        pid = instance.pids()[slot]
        freeze(pid)
        instance.kill(slot)
        for _ in range(10):
            assert http_get(port, timeout=20).status == 200
        instance.wait_replaced(slot, pid)
    assert instance.stop() == 0


@pytest.mark.parametrize("mode", MODES)
def test_more_sockets_than_workers_come_back(pando, supervisor, mode):
    """Their queues are served by as many workers, then there are as few as was asked for."""
    port = free_port()
    options = ["--balance-mode", mode, "--balance", "random", "--no-rescue"]
    instance = supervisor.start(pando, app("epoll_server"), port, workers=4, options=options)
    instance.wait_ready()
    sockets = supervisor.stored(number=4)
    for pid in instance.pids().values():
        freeze(pid)
    waiting = wait_queued(port, 24)
    supervisor.kill(instance)
    instance = supervisor.start(pando, app("epoll_server"), port, workers=2, options=options, sockets=sockets)
    assert_answered(waiting)
    instance.wait_status(lambda status: status["wanted"] == 2 and status["ready"] == 2 and len(
        [worker for worker in status["workers"] if worker["pid"]]) == 2)
    supervisor.stored(number=2)
    assert pids_answering(port, 2) == set(instance.pids().values())


@pytest.mark.parametrize("before, after", [("slot", "pull"), ("pull", "slot")])
@ROOT_ONLY
def test_the_mode_may_change_over_a_restart(pando, supervisor, before, after):
    port = free_port()
    instance = supervisor.start(pando, app("epoll_server"), port, workers=3, options=["--balance-mode", before])
    instance.wait_ready()
    sockets = supervisor.stored(number=3 if before == "slot" else 1)
    supervisor.kill(instance)
    waiting = wait_queued(port, 12)
    instance = supervisor.start(pando, app("epoll_server"), port, workers=3, options=["--balance-mode", after], sockets=sockets)
    assert_answered(waiting)
    assert instance.wait_ready()["mode"] == after
    pids_answering(port, 3)
    supervisor.stored(number=3)


def test_a_unix_socket_comes_back(pando, supervisor):
    path = str(supervisor.folder / "app.socket")
    command = (PYTHON, script("unix_server.py"), path)
    instance = supervisor.start(pando, *command, workers=2)
    instance.wait_ready()
    sockets = supervisor.stored(number=1)
    supervisor.kill(instance)
    waiting = wait_queued(path, 4)
    instance = supervisor.start(pando, *command, workers=2, sockets=sockets)
    assert_answered(waiting)
    instance.wait_ready()
    pids_answering(path, 2)


@pytest.mark.parametrize("mode", MODES)
def test_a_restart_by_the_supervisor_refuses_nobody(pando, supervisor, mode):
    """`systemctl restart`: TERM, and a new start with what was stored."""
    port, workers = free_port(), 2
    options = ["--balance-mode", mode]
    instance = supervisor.start(pando, app("epoll_server"), port, 200, workers=workers, options=options)
    instance.wait_ready()
    sockets = supervisor.stored(number=workers if mode == "slot" else 1)
    with Load(port, clients=2, timeout=60, pause=0.05) as load:  # a worker is told to stop in a moment without a connection
        for _ in range(3):
            load.wait_answered(8)
            assert instance.stop(40) == 0
            instance = supervisor.start(pando, app("epoll_server"), port, 200, workers=workers, options=options, sockets=sockets)
            load.wait_answered(8)
            instance.wait_ready()
            assert len(supervisor.stored()) == len(sockets)
    assert not load.failures, load.failures[:5]


def test_what_nobody_listens_on_any_more_is_closed(pando, supervisor):
    """The new version has moved to another port: clients of the old one are refused, and do not wait for ever."""
    old, new, unit = free_port(), free_port(), free_port()
    instance = supervisor.start(pando, app("epoll_server"), old, options=["--balance-mode", "pull"])
    instance.wait_ready()
    sockets = list(supervisor.stored(number=1))
    supervisor.kill(instance)
    with listen_at(unit) as given:
        instance = supervisor.start(pando, app("epoll_server"), new, options=["--balance-mode", "pull", "--ready-timeout", "1s"],
                                    sockets=[*sockets, ("web.socket", given)])
        instance.wait_ready()
        instance.wait_log(f":{old}", "closed")
        instance.wait_log(f":{unit}", "stop its socket unit")
        with pytest.raises(ConnectionRefusedError):
            connect(old)
        connect(unit).close()
        [(_, fd)] = wait_until(lambda: (lambda stored: stored if len(stored) == 1 else None)(supervisor.stored()), what="one is stored")
        with socket.socket(fileno=os.dup(fd)) as stored:
            assert stored.getsockname()[1] == new


@pytest.mark.parametrize("mode", MODES)
def test_who_lives_on_without_a_keeper_is_ended_before_the_restart(pando, supervisor, mode):
    """KillMode=process: systemd leaves the workers alone, which serve until the new instance is about to."""
    port = free_port()
    options = ["--balance-mode", mode]
    first = supervisor.start(pando, app("epoll_server"), port, 200, workers=2, options=options)
    first.wait_ready()
    sockets = supervisor.stored(number=2 if mode == "slot" else 1)
    with Load(port, clients=2, timeout=60, pause=0.05) as load:
        load.wait_answered(8)
        os.kill(first.process.pid, signal.SIGKILL)
        first.process.wait(10)
        load.wait_answered(8)
        second = supervisor.start(pando, app("epoll_server"), port, 200, workers=2, options=options, sockets=sockets)
        second.wait_status(lambda status: status["keeper_pid"] == second.process.pid and status["ready"] == 2)
        load.wait_answered(8)
    # An orphaned primary cannot freeze its workers: what they were answering when they were told to stop is lost.
    assert len(load.failures) <= 4, load.failures[:5]  # of two workers, one after the other, two at most each
    assert pids_answering(port, 2) == set(second.pids().values())
    assert second.stop() == 0
    first.assert_nothing_left()


def test_the_store_holds_what_there_is_and_nothing_else(pando, supervisor):
    port = free_port()
    instance = supervisor.start(pando, app("select_server"), port, workers=2, options=["--balance-mode", "pull"])
    instance.wait_ready()
    supervisor.stored(number=2)
    for workers in (5, 1, 3):
        instance.ctl("scale", workers, check=0)
        stored = supervisor.stored(number=workers)
        assert len({os.fstat(fd).st_ino for _, fd in stored}) == workers
        for _, fd in stored:
            with socket.socket(fileno=os.dup(fd)) as sock:
                assert sock.getsockname() == ("127.0.0.1", port)
                assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
        pids_answering(port, workers)
    primary = instance.primary_pid
    os.kill(primary, signal.SIGKILL)
    instance.wait_status(lambda status: status["primary_pid"] != primary)
    instance.ctl("scale", 2, check=0)
    supervisor.stored(number=2)


# ---- the unit


def unit_lines(text):
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def values(text, key):
    return [line.partition("=")[2] for line in unit_lines(text) if line.startswith(key + "=")]


def test_the_unit_says_what_run_would_do_here(folder):
    done = run_pando("unit", "web", "-w", "3", "--kill-timeout=10s", "-e", 'GREETING=50% "$HOME"', "--ready-timeout", "20s", "--",
                     "sh", "-c", "echo $0; exec sleep 1000", cwd=folder)
    assert done.returncode == 0, done.stderr
    text = done.stdout
    assert values(text, "Type") == ["notify", "notify-reload"]
    assert values(text, "NotifyAccess") == ["main"] and values(text, "KillMode") == ["mixed"]
    assert values(text, "WorkingDirectory") == [str(folder)]
    assert values(text, "TimeoutStopSec") == ["15s"] and values(text, "TimeoutStartSec") == ["30s"]
    assert int(values(text, "FileDescriptorStoreMax")[0]) >= 4096 and values(text, "WatchdogSec") and values(text, "Restart") == ["on-failure"]
    [line] = values(text, "ExecStart")
    assert "50%% " in line and "$$HOME" in line and "$$0" in line
    words = shlex.split(line.replace("%%", "%").replace("$$", "$"))
    assert words[:4] == [str(PANDO), "run", "--name", "web"]
    assert words[4:] == ["--workers", "3", "--kill-timeout", "10s", "--env", 'GREETING=50% "$HOME"', "--ready-timeout", "20s", "--",
                         shutil.which("sh"), "-c", "echo $0; exec sleep 1000"]


@ROOT_ONLY
def test_the_unit_of_an_ordinary_user_has_the_capabilities_for_slot_mode():
    text = run_pando("unit", "web", "-u", "nobody:nogroup", "--", "sleep", "1").stdout
    assert values(text, "User") == ["nobody"] and values(text, "Group") == ["nogroup"]
    assert values(text, "AmbientCapabilities") == ["CAP_BPF CAP_NET_ADMIN CAP_PERFMON"]
    assert values(text, "RuntimeDirectory") == ["pando/web"] and values(text, "Environment") == ["PANDO_DIR=%t/pando/web"]
    assert "--user" not in values(text, "ExecStart")[0]
    assert not values(run_pando("unit", "web", "-u", "nobody", "--balance-mode", "pull", "sleep", "1").stdout, "AmbientCapabilities")
    assert not values(run_pando("unit", "web", "--", "sleep", "1").stdout, "User")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed: tools/deps.sh test")
@pytest.mark.parametrize("arguments", [
    ["-w", "2", "--", "sleep", "1000"],
    ["-u", "daemon", "-e", "A=b c$d%e\"'\\", "--balance-mode", "auto", "--", "sleep", "%h", "$HOME", ";", "a\tb", "", "'", "ü"],
    ["--log-file", "some where.log", "--stop-signal", "INT", "sleep", "1"],
])
def test_systemd_finds_nothing_to_complain_of(folder, arguments):
    text = run_pando("unit", "web", *arguments, cwd=folder).stdout
    unit = folder / "web.service"
    unit.write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, timeout=60)
    complaints = [line for line in done.stderr.splitlines() if str(unit) in line or "web.service" in line]
    # systemd before 253 does not know the second Type=, and keeps the first.
    complaints = [line for line in complaints if "Failed to parse service type, ignoring: notify-reload" not in line]
    assert done.returncode == 0 and not complaints, done.stderr


@pytest.mark.parametrize("arguments, code, says", [
    ([], 2, "which name"), (["--", "sleep"], 2, "which name"), (["a/b", "--", "sleep"], 2, "not a name"), (["web"], 2, "no command"),
    (["web", "-d", "sleep"], 2, "--detach"), (["web", "-n", "other", "sleep"], 2, "--name"), (["web", "--frob", "sleep"], 2, "--frob"),
    (["web", "no-such-program"], 127, "not found")])
def test_a_unit_that_cannot_be_written_is_refused(arguments, code, says):
    done = run_pando("unit", *arguments)
    assert done.returncode == code and says in done.stderr and not done.stdout
