"""Programs that are linked with libpando: as workers of `pando run`, and as primaries of their own."""
import os
import signal
import subprocess

import pytest

from pando import BUILD, Load, app, alive, connect, free_port, http_get, pids_answering, pids_of_children, read_answer, wait_listening, wait_until

UNFILTERED = str(BUILD / "tests/lib/unfiltered")
ONE_CALL = str(BUILD / "tests/lib/one_call")
WAYS = [(), ("--debug-intercept", "hand"), ("--balance-mode", "pull")]


def pids_of(instance):
    return set(instance.pids().values())


def seccomp_of(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("Seccomp:"))


@pytest.mark.parametrize("options", WAYS, ids=["default", "hand", "pull"])
def test_an_unfiltered_program_shares_its_port(pando, options):
    port = free_port()
    instance = pando(UNFILTERED, f"127.0.0.1:{port}", workers=2, options=options)
    instance.wait_ready()
    assert pids_answering(port, 2) == pids_of(instance)
    own = seccomp_of(os.getpid())
    for pid in pids_of(instance):
        assert seccomp_of(pid) == own, "it is started without a filter of Pando's"
    instance.kill(0)
    instance.wait_ready()
    assert pids_answering(port, 2) == pids_of(instance)


def test_without_the_note_a_program_is_filtered(pando):
    port = free_port()
    instance = pando(app("hello/hello"), f"127.0.0.1:{port}", workers=1)
    instance.wait_ready()
    assert seccomp_of(instance.pids()[0]) == 2


def test_an_unfiltered_program_on_two_addresses_and_a_unix_socket(pando, tmp_path):
    ports = free_port(), free_port()
    path = tmp_path / "app.sock"
    instance = pando(UNFILTERED, *(f"127.0.0.1:{port}" for port in ports), f"unix:{path}", workers=2)
    instance.wait_ready()
    for port in ports:
        assert pids_answering(port, 2) == pids_of(instance)
    assert http_get(str(path)).pid in pids_of(instance)


def test_an_unfiltered_program_survives_a_killed_primary(pando):
    port = free_port()
    instance = pando(UNFILTERED, f"127.0.0.1:{port}", workers=2)
    instance.wait_ready()
    before = pids_of(instance)
    with Load(port, clients=4) as load:
        load.wait_answered(50)
        old = instance.primary_pid
        os.kill(old, signal.SIGKILL)
        wait_until(lambda: (instance.try_status() or {}).get("primary_pid") not in (None, old), what="another primary")
        load.wait_answered(50)
    assert not load.failures
    assert pids_of(instance) == before
    instance.kill(1)  # a successor gets its socket from the new primary
    instance.wait_ready()
    assert pids_answering(port, 2) == pids_of(instance)


def test_a_reload_of_an_unfiltered_program_fails_no_request(pando):
    port = free_port()
    instance = pando(UNFILTERED, f"127.0.0.1:{port}", workers=2)
    instance.wait_ready()
    before = pids_of(instance)
    with connect(port) as kept, Load(port, clients=4) as load:
        kept.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r")  # half a request: it is finished by the worker that has it
        load.wait_answered(50)
        reload = subprocess.Popen([str(BUILD / "src/pando/pando"), "reload", "-n", "app", "--stable", "100ms"], env={**os.environ, "PANDO_DIR": str(instance.home)})
        wait_until(lambda: not before & set(load.by_pid) or len(set(load.by_pid) - before) >= 1, what="a new worker answers")
        kept.sendall(b"\n")
        assert read_answer(kept).pid in before
        assert reload.wait(60) == 0
        load.wait_answered(50)
    assert not load.failures
    assert not before & pids_of(instance)


def test_a_program_with_a_cluster_of_its_own_is_simply_a_worker(pando):
    port = free_port()
    instance = pando(app("cluster"), f"127.0.0.1:{port}", workers=2)
    instance.wait_ready()
    wait_listening(port)
    with connect(port) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b"hello world" in b"".join(iter(lambda: sock.recv(4096), b""))
    for pid in pids_of(instance):
        assert not pids_of_children(pid), "no keeper, no workers of its own"


def test_one_call_serves_replaces_and_restarts_without_a_failed_request():
    port = free_port()
    program = subprocess.Popen([ONE_CALL, f"127.0.0.1:{port}", "2"], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        before = pids_answering(port, 2)
        with Load(port, clients=4) as load:
            load.wait_answered(50)
            program.send_signal(signal.SIGHUP)
            wait_until(lambda: not any(alive(pid) for pid in before), what="all workers are new ones")
            load.wait_answered(50)
        assert not load.failures
        os.kill(min(pids_answering(port, 2)), signal.SIGKILL)
        pids_answering(port, 2)
    finally:
        program.send_signal(signal.SIGTERM)
        output = program.communicate(timeout=60)[1]
    assert program.returncode == 0, output
    with pytest.raises(ConnectionRefusedError):
        connect(port)
