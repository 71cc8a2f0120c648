"""When a worker counts as ready: it listens, or whatever other sign the user names."""
import time

import pytest

from pando import PYTHON, app, connect, free_port, free_ports, http_get, script, wait_until


def opened(port):
    try:
        connect(port).close()
        return True
    except ConnectionRefusedError:
        return False


@pytest.fixture
def gate(folder):
    """A file that is not there yet."""
    return folder / "gate"


def test_ready_is_to_listen(pando, gate):
    port = free_port()
    instance = pando("sh", "-c", f"while ! [ -e {gate} ]; do sleep 0.05; done; exec {app('epoll_server')} {port}", workers=2)
    early = instance.wait_status(lambda status: len(status["workers"]) == 2)
    assert early["ready"] == 0 and {worker["state"] for worker in early["workers"]} == {"starting"}
    gate.touch()
    instance.wait_ready()
    assert http_get(port).status == 200


def test_ready_is_to_listen_on_every_address_of_the_first_ready_worker(pando, folder):
    """The second worker opens its second port late; it does not count before it has."""
    first, second = free_ports(2)
    code = """
import os, socket, sys, time
def wait_for(path):
    while os.environ["PANDO_WORKER"] == "1" and not os.path.exists(path):
        time.sleep(0.02)
wait_for(sys.argv[3] + "/first")
socks = [socket.create_server(("127.0.0.1", int(sys.argv[1])))]
print("first", flush=True)
wait_for(sys.argv[3] + "/second")
socks.append(socket.create_server(("127.0.0.1", int(sys.argv[2]))))
time.sleep(1000)
"""
    instance = pando(PYTHON, "-c", code, first, second, folder, workers=2)
    instance.wait_status(lambda status: status["ready"] == 1 and len(status["listen"]) == 2)
    (folder / "first").touch()
    wait_until(lambda: "[1] first" in instance.output())
    time.sleep(0.8)  # it does not become ready in this time either
    assert opened(first) and opened(second)
    assert instance.status()["ready"] == 1
    (folder / "second").touch()
    instance.wait_ready(2)


def test_ready_by_notify_waits_for_READY_1_however_early_it_listens(pando, gate):
    port = free_port()
    instance = pando(PYTHON, script("notify_ready.py"), port, gate, workers=2, options=["--ready", "notify"])
    wait_until(lambda: opened(port))
    assert instance.status()["ready"] == 0
    gate.touch()
    instance.wait_ready()
    assert http_get(port).status == 200


def test_ready_by_notify_from_a_child_of_the_worker(pando):
    port = free_port()
    instance = pando("sh", "-c", f"/usr/bin/python3 {script('notify_ready.py')} {port} 0.3 & wait", workers=1,
                     options=["--ready", "notify"])
    instance.wait_ready()


def test_ready_by_a_newline_on_a_descriptor(pando, gate):
    port = free_port()
    instance = pando(PYTHON, script("notify_ready.py"), port, gate, "5", workers=2, options=["--ready", "fd=5"])
    wait_until(lambda: opened(port))
    assert instance.status()["ready"] == 0
    gate.touch()
    instance.wait_ready()


def test_ready_after_a_delay_for_a_program_that_never_listens(pando):
    started = time.monotonic()
    instance = pando(app("never_listens"), workers=2, options=["--ready", "delay=700ms"])
    instance.wait_ready()
    assert time.monotonic() - started >= 0.7


def test_a_program_that_never_listens_may_also_say_READY_1(pando):
    code = """
import os, socket, time
time.sleep(0.3)
sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
sock.connect(os.environ["NOTIFY_SOCKET"])
sock.send(b"READY=1")
time.sleep(1000)
"""
    instance = pando(PYTHON, "-c", code, workers=2)
    instance.wait_ready()


def test_a_ready_time_out_is_said_once_and_the_worker_is_kept(pando, gate):
    port = free_port()
    instance = pando(PYTHON, script("notify_ready.py"), port, gate, workers=1,
                     options=["--ready", "notify", "--ready-timeout", "300ms"])
    instance.wait_log("300ms")
    pid = instance.pids()[0]
    gate.touch()
    instance.wait_status(lambda status: status["workers"][0]["state"] == "serving")
    wait_until(lambda: http_get(port).pid == pid)
    assert sum("300ms" in line for line in instance.log().splitlines()) == 1


@pytest.mark.parametrize("sign", ["notify", "fd=4"])
def test_every_replacement_has_to_give_the_sign_again(pando, sign, gate):
    port = free_port()
    instance = pando(PYTHON, script("notify_ready.py"), port, gate, *(["4"] if sign == "fd=4" else []), workers=2,
                     options=["--ready", sign])
    gate.touch()
    instance.wait_ready()
    gate.unlink()
    pid = instance.kill(0)
    instance.wait_status(lambda status: status["ready"] == 1 and status["workers"][0]["pid"] not in (None, pid))
    gate.touch()
    instance.wait_replaced(0, pid)
    instance.wait_ready()
