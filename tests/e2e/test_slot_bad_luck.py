"""Slot mode where something is in its way: rights that are missing, strangers, odd listeners, settings that change at run time."""
import collections
import contextlib
import ctypes
import os
import shutil
import socket
import subprocess
import sys

import pytest

from pando import PYTHON, Load, app, connect, count, free_port, freeze, http_get, pids_answering, read_answer, script, wait_until
from test_rescue import ask

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="slot mode needs CAP_BPF and CAP_NET_ADMIN")


TURNS = ["--balance", "rr", "--no-rescue"]  # a connection that is taken from a slow worker is answered out of turn


def assert_exact_turns(instance, port, rounds=10):
    pids = set(instance.pids().values())
    seen = collections.Counter(http_get(port).pid for _ in range(len(pids) * rounds))
    assert set(seen) == pids and max(seen.values()) - min(seen.values()) <= 1, seen


def balancing(instance):
    return next(feature for feature in instance.ask({"verb": "info"})["features"] if feature["name"] == "balancing")


# ---- rights

@pytest.mark.parametrize("lacking", ["bpf", "net_admin", "perfmon"])
def test_where_a_right_is_missing_workers_pull_and_the_reason_is_said(pando, lacking):
    port = free_port()
    drop = f"-{lacking},-sys_admin"  # the latter includes them all
    instance = pando(app("epoll_server"), port, prefix=["setpriv", "--bounding-set", drop, "--inh-caps", drop])
    assert instance.wait_ready()["mode"] == "pull"
    feature = balancing(instance)
    assert feature["state"] == "pull" and f"CAP_{lacking.upper()}" in feature["detail"], feature
    pids_answering(port, 2)


def test_without_perfmon_slot_mode_can_be_had_and_says_what_it_lacks(pando):
    port = free_port()
    drop = "-perfmon,-sys_admin"
    instance = pando(app("epoll_server"), port, workers=3, options=["--balance-mode", "slot", "--balance", "rr"],
                     prefix=["setpriv", "--bounding-set", drop, "--inh-caps", drop])
    assert instance.wait_ready()["mode"] == "slot"
    instance.wait_log("no connection will be taken back", "CAP_PERFMON")
    assert_exact_turns(instance, port)
    instance.wait_replaced(1, instance.kill(1))
    assert_exact_turns(instance, port)


def test_a_program_that_the_kernel_refuses_leaves_pull_mode_and_its_reason(pando):
    """In a user namespace root has every capability, and the kernel takes no program from it."""
    if subprocess.run(["unshare", "--map-root-user", "--net", "true"], capture_output=True).returncode != 0:
        pytest.skip("user namespaces are not allowed here")
    instance = pando(app("never_listens"), prefix=["unshare", "--map-root-user", "--net"], options=["--ready", "delay=100ms"])
    assert instance.wait_ready()["mode"] == "pull"
    assert "loading the steering program" in balancing(instance)["detail"]


def test_slot_mode_where_it_cannot_be_had_is_an_error_with_the_reason(pando):
    drop = "-bpf,-sys_admin"
    instance = pando(app("epoll_server"), free_port(), options=["--balance-mode", "slot"],
                     prefix=["setpriv", "--bounding-set", drop, "--inh-caps", drop])
    assert instance.exit_code() == 1
    assert "--balance-mode slot" in instance.log() and "CAP_BPF is missing" in instance.log()


# ---- who else is there

def test_a_stranger_of_the_same_user_that_joins_the_group_is_warned_of_and_gets_nothing(slot):
    port = free_port()
    instance = slot(app("epoll_server"), port, workers=2, options=TURNS)
    assert_exact_turns(instance, port)
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        stranger.bind(("127.0.0.1", port))
        stranger.listen()
        stranger.setblocking(False)
        assert_exact_turns(instance, port)
        instance.wait_log(f"127.0.0.1:{port}", "not Pando's joined it")
        with pytest.raises(BlockingIOError):
            stranger.accept()
    assert_exact_turns(instance, port)
    instance.wait_replaced(0, instance.kill(0))
    assert_exact_turns(instance, port)
    assert instance.log().count("joined it") == 1


# ---- listeners of all kinds

LISTENER = """
import os, socket, sys
what, port = sys.argv[1], int(sys.argv[2])
listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262 if what == "mptcp" else 0)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
if what == "deferred":
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 5)
if what == "fast open":
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 64)
listener.bind(("127.0.0.1", port))
listener.listen(128)

def answer(sock):
    body = b"pid %d\\n" % os.getpid()
    sock.sendall(b"HTTP/1.1 200 OK\\r\\nConnection: close\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body)
    sock.close()

while True:
    sock, _ = listener.accept()
    request = sock.recv(4096)
    answer(sock)
    if b"GET /again" in request:  # as programs do that are about to end; this one thinks better of it
        listener.shutdown(socket.SHUT_RDWR)
        listener.listen(128)
    if b"GET /anew" in request:
        listener.close()
        listener = socket.create_server(("127.0.0.1", port))
"""


@pytest.mark.parametrize("what", ["deferred", "fast open"])
def test_options_of_the_listener_do_not_disturb_the_turns(slot, what):
    port = free_port()
    instance = slot(PYTHON, "-c", LISTENER, what, port, workers=3, options=TURNS)
    assert_exact_turns(instance, port)
    instance.wait_replaced(1, instance.kill(1))
    assert_exact_turns(instance, port)


def test_workers_that_speak_mptcp_pull_from_one_socket(pando):
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262).close()
    except OSError as error:
        pytest.skip(f"no MPTCP here: {error}")
    port = free_port()
    instance = pando(PYTHON, "-c", LISTENER, "mptcp", port, workers=3, options=["--balance-mode", "slot"])
    instance.wait_ready()
    instance.wait_log("pull from one socket", "MPTCP")
    pids = set(instance.pids().values())
    assert pids_answering(port, 3) == pids
    instance.wait_replaced(0, instance.kill(0))
    assert pids_answering(port, 3) == set(instance.pids().values())


def test_a_worker_that_closes_its_listener_and_opens_a_new_one_is_back_and_loses_nobody(slot):
    port = free_port()
    instance = slot(PYTHON, "-c", LISTENER, "plain", port, workers=3, options=TURNS)
    pids = instance.pids()
    with Load(port, clients=8) as load:
        for _ in range(count(200)):
            sock = ask(port, "/anew")
            assert read_answer(sock).pid
            sock.close()
        load.wait_answered(50)
    assert not load.failures, load.failures[:5]
    assert instance.pids() == pids
    assert_exact_turns(instance, port)


def test_a_worker_that_shuts_its_listener_down_and_listens_again_is_back(slot):
    """The kernel refuses a connection that arrives in the very moment of the shutdown, with Pando as without."""
    port = free_port()
    instance = slot(PYTHON, "-c", LISTENER, "plain", port, workers=3, options=TURNS)
    pids = instance.pids()
    for _ in range(count(200)):
        with contextlib.suppress(ConnectionError), ask(port, "/again") as sock:
            sock.recv(4096)
    assert pids_answering(port, 3) == set(pids.values()) == set(instance.pids().values())
    assert_exact_turns(instance, port)


@pytest.mark.skipif(shutil.which("ruby") is None, reason="ruby is not installed: tools/deps.sh test")
def test_a_program_that_shuts_its_listener_down_when_it_is_told_to_stop_can_be_restarted_under_load(slot):
    """WEBrick does: shutdown(2) on the socket that its successor gets."""
    port = free_port()
    instance = slot("ruby", script("webrick_server.rb"), port, workers=3)
    pids = instance.pids()
    with Load(port, clients=6, timeout=30) as load:
        load.wait_answered(20)
        instance.ctl("restart", check=0)
        load.wait_answered(50)
    assert not load.failures, load.failures[:5]
    assert not set(pids.values()) & set(instance.pids().values())
    assert pids_answering(port, 3) == set(instance.pids().values())


def test_ipv4_and_ipv6_on_one_port_are_two_groups_and_both_turn_exactly(slot):
    port = free_port()
    instance = slot(app("listeners"), f"4:127.0.0.1:{port}", f"6only:::1:{port}", workers=3, options=TURNS)
    pids = set(instance.pids().values())
    for where in (port, ("::1", port)):
        seen = collections.Counter(http_get(where).pid for _ in range(30))
        assert set(seen) == pids and max(seen.values()) - min(seen.values()) <= 1, (where, seen)


def test_a_worker_that_listens_on_its_port_twice_gets_eaddrinuse_in_slot_mode_too(pando):
    port = free_port()
    instance = pando(app("listeners"), f"4:127.0.0.1:{port}", f"4:127.0.0.1:{port}", options=["--balance-mode", "slot"])
    instance.wait_log("[0]", "address already in use")


# ---- settings that change at run time

_setns = ctypes.CDLL(None, use_errno=True).setns


@contextlib.contextmanager
def network_of(pid):
    """This thread, and those it starts, in the network namespace of a process."""
    own, other = (os.open(f"/proc/{who}/ns/net", os.O_RDONLY | os.O_CLOEXEC) for who in ("thread-self", pid))
    try:
        assert _setns(other, 0) == 0, os.strerror(ctypes.get_errno())
        yield
    finally:
        assert _setns(own, 0) == 0
        os.close(own)
        os.close(other)


def setting(name, value):
    """Of the network namespace that this thread is in."""
    subprocess.run([sys.executable, "-c", f"open('/proc/sys/net/{name}', 'w').write('{value}')"], check=True)


def test_network_settings_may_change_at_run_time(slot):
    """SYN cookies forced and off, migration on and off, a short backlog: turns stay exact, nobody who waits is lost."""
    port = 80
    instance = slot(app("epoll_server"), port, workers=3, options=TURNS,
                    prefix=["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"])
    with network_of(instance.pids()[0]):
        for name, value in (("ipv4/tcp_syncookies", 2), ("ipv4/tcp_migrate_req", 1), ("core/somaxconn", 16),
                            ("ipv4/tcp_fastopen", 3), ("ipv4/tcp_syncookies", 0), ("ipv4/tcp_migrate_req", 0),
                            ("ipv4/tcp_syncookies", 2)):
            setting(name, value)
            assert_exact_turns(instance, port)
            victim = instance.pids()[1]
            freeze(victim)
            clients = [connect(port) for _ in range(6)]
            for client in clients:
                client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            instance.kill(1)
            for client in clients:
                assert read_answer(client).pid, (name, value)
                client.close()
            instance.wait_replaced(1, victim)
            wait_until(lambda: instance.status()["ready"] == 3, what="all are ready again")
