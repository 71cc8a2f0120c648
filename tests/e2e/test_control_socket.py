"""The control socket against everything that can come in: docs/control.md is the contract."""
import json
import os
import shutil
import socket
import stat
import subprocess
import time

import pytest

from pando import NOBODY, PYTHON, app, free_port, http_get, wait_until


@pytest.fixture
def instance(pando):
    port = free_port()
    instance = pando(app("epoll_server"), port, workers=2)
    instance.port = port
    instance.wait_ready()
    yield instance
    assert http_get(port).status == 200
    assert instance.status()["ready"] == 2


def exchange(instance, data, timeout=60):
    """Sends bytes and half-closes; everything that comes back."""
    with instance.connect(timeout) as sock:
        try:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it may hang up on us in the middle
        answer = b""
        try:
            while part := sock.recv(65536):
                answer += part
        except ConnectionResetError:
            pass
        return answer


def test_status_has_the_shape_that_the_design_fixes(instance):
    status = instance.ask({"verb": "status"})
    assert set(status) >= {"name", "generation", "mode", "wanted", "ready", "uptime_s", "listen", "keeper_pid", "primary_pid", "workers"}
    assert "pid" not in status
    assert (status["name"], status["generation"], status["wanted"], status["ready"]) == ("app", 1, 2, 2)
    assert status["listen"] == [f"127.0.0.1:{instance.port}"]
    for slot, worker in enumerate(status["workers"]):
        assert set(worker) >= {"slot", "pid", "state", "generation", "uptime_s", "restarts", "cpu_percent", "rss_bytes", "last_exit"}
        assert (worker["slot"], worker["state"], worker["generation"], worker["restarts"]) == (slot, "serving", 1, 0)
        assert worker["rss_bytes"] > 100000
    printed = json.loads(instance.ctl("status", "--json", check=0).stdout)
    assert set(printed) == set(status) and [worker["pid"] for worker in printed["workers"]] == list(instance.pids().values())


def test_several_requests_on_one_connection_are_answered_in_order(instance):
    answers = exchange(instance, b'{"verb":"ping"}\n{"verb":"status"}\n{"verb":"nonsense"}\n{"verb":"ping"}\n').splitlines()
    parsed = [json.loads(line) for line in answers]
    assert [answer["ok"] for answer in parsed] == [True, True, False, True]
    assert parsed[0]["result"]["pid"] == instance.process.pid
    assert parsed[2]["code"] == 2 and "nonsense" in parsed[2]["error"]


@pytest.mark.parametrize("line", [
    b"hello", b"{", b"[]", b"42", b'"status"', b"null", b"{}", b'{"verb": 7}', b'{"verb": null}', b'{"verb": "status"} trailing',
    b'{"verb": ""}', b"\x00\x01\x02", b"\xff\xfe{}", b'{"verb": "sta\\u0000tus"}', b"GET / HTTP/1.1", b"[" * 30000,
    b'{"a":' * 10000, b'{"verb": "scale"}', b'{"verb": "scale", "workers": 0}', b'{"verb": "scale", "workers": -3}',
    b'{"verb": "scale", "workers": 1e400}', b'{"verb": "scale", "workers": 99999999999999999999}', b'{"verb": "scale", "workers": "x"}',
    b'{"verb": "scale", "workers": [1]}', b'{"verb": "scale", "workers": 2.5}', b'{"verb": "scale", "workers": "+9999"}',
    b'{"verb": "restart", "slot": 77}', b'{"verb": "restart", "slot": -1}', b'{"verb": "restart", "slot": "one"}',
    b'{"verb": "logs", "lines": -5}', b'{"verb": "stop", "now": "perhaps"}', b'{"verb": "logs", "follow": 3}',
], ids=lambda line: line[:34].decode(errors="replace"))
def test_a_line_that_is_no_request_is_refused_with_a_reason(instance, line):
    answers = exchange(instance, line + b"\n" + b'{"verb":"ping"}\n').splitlines()
    first = json.loads(answers[0])
    assert first["ok"] is False and first["code"] == 2 and first["error"]
    if len(answers) > 1:
        assert json.loads(answers[1])["ok"] is True


def test_ten_megabytes_without_a_newline_are_cut_off(instance):
    primary = instance.primary_pid
    exchange(instance, b"x" * 10_000_000)
    exchange(instance, b'{"verb": "' + b"y" * 10_000_000 + b'"}\n{"verb":"ping"}\n')
    assert instance.primary_pid == primary


def test_half_a_line_is_waited_for_and_then_forgotten(instance):
    with instance.connect() as half, instance.connect() as closed:
        half.sendall(b'{"verb": "sta')
        closed.sendall(b'{"verb": "sta')
        closed.close()
        assert instance.status()["ready"] == 2
        time.sleep(0.5)
        half.sendall(b'tus"}\n')
        assert json.loads(half.makefile().readline())["ok"] is True
        half.sendall(b'{"verb": "st')
        started = time.monotonic()
        half.settimeout(60)
        while half.recv(4096):
            pass
        assert time.monotonic() - started > 5, "half a line is waited for about 10 seconds"


def test_a_thousand_connections_do_no_harm(instance):
    primary = instance.primary_pid
    socks = []
    try:
        for _ in range(1000):
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.setblocking(False)
            socks.append(sock)
            try:
                sock.connect(str(instance.home / "app.sock"))
            except BlockingIOError:
                pass  # the backlog is full: that is an answer too
        for _ in range(20):
            assert http_get(instance.port).status == 200
    finally:
        for sock in socks:
            sock.close()
    status = instance.wait_status(lambda status: True)
    assert status["primary_pid"] == primary, "the primary died of it"
    assert status["ready"] == 2


def test_a_thousand_connections_one_after_the_other_leave_no_descriptor(instance):
    primary = instance.primary_pid
    time.sleep(0.2)
    before = len(os.listdir(f"/proc/{primary}/fd"))
    for number in range(1000):
        with instance.connect() as sock:
            if number % 3 == 0:
                sock.sendall(b'{"verb":"pi')
            elif number % 3 == 1:
                sock.sendall(b'{"verb":"status"}\n')
    wait_until(lambda: len(os.listdir(f"/proc/{primary}/fd")) <= before, what="all clients are let go")


def test_a_client_that_does_not_read_its_answers_is_its_own_problem(instance):
    with instance.connect() as sock:
        sock.setblocking(False)
        try:
            for _ in range(20000):
                sock.send(b'{"verb":"status"}\n')
        except (BlockingIOError, ConnectionError):
            pass
        assert instance.status()["ready"] == 2


def test_folder_and_socket_have_the_modes_that_keep_others_out(instance):
    assert stat.S_IMODE(os.stat(instance.home).st_mode) == 0o711
    assert stat.S_IMODE(os.stat(instance.home / "app.sock").st_mode) == 0o600


CLIENT = """
import socket, sys
sock = socket.socket(socket.AF_UNIX)
sock.settimeout(30)
sock.connect(sys.argv[1])
sock.sendall(b'{"verb":"status"}\\n')
print(sock.makefile().readline())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_is_refused_even_where_the_file_modes_let_him_in(instance):
    os.chmod(instance.home / "app.sock", 0o666)
    done = subprocess.run(["setpriv", f"--reuid={NOBODY}", "--clear-groups", PYTHON, "-c", CLIENT, str(instance.home / "app.sock")],
                          capture_output=True, text=True, timeout=60)
    assert '"ok": true' not in done.stdout and '"ok":true' not in done.stdout and "keeper_pid" not in done.stdout
    assert instance.status()["ready"] == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_root_may_ask_the_instance_of_another_user(pando):
    instance = pando(app("epoll_server"), free_port(), workers=1, uid=NOBODY)
    assert instance.wait_ready()["ready"] == 1
    assert instance.ctl("status").returncode == 0


def test_a_second_run_of_a_live_name_fails_and_says_which_process_holds_it(instance, pando):
    second = pando(app("epoll_server"), free_port(), workers=1, folder=instance.folder)
    assert second.exit_code() == 1
    assert str(instance.process.pid) in second.log() and "app" in second.log()


def test_a_stale_socket_file_is_taken_over(pando, folder):
    (folder / "run").mkdir(mode=0o711)
    (folder / "run").chmod(0o711)
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(folder / "run/app.sock"))
    stale.close()
    instance = pando(app("epoll_server"), free_port(), workers=1, folder=folder)
    instance.wait_ready()
    assert instance.stop() == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_run_time_folder_in_tmp_that_somebody_else_has_made_is_refused(pando):
    uid = 54322  # nobody has this one
    home = f"/tmp/pando-{uid}"
    os.mkdir(home)
    try:
        os.chmod(home, 0o777)
        instance = pando(app("epoll_server"), free_port(), workers=1, uid=uid, env={"PANDO_DIR": None, "XDG_RUNTIME_DIR": None})
        assert instance.exit_code() == 1
        assert home in instance.log()
        assert not os.listdir(home)
    finally:
        shutil.rmtree(home)
