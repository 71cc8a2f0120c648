"""Pull mode: one socket for all workers of a generation, though each program believes that it has one of its own."""
import shutil

import pytest

from pando import PYTHON, Load, app, ask_again, connect, count, free_port, http_get, pids_answering, script, wait_accepted, wait_until

PULL = ["--balance-mode", "pull", "--stable", "50ms"]
CLIENTS = 40


def settle(instance, generation):
    instance.wait_status(lambda status: status["rollout"] is None and status["ready"] == status["wanted"] and
                         all(worker["generation"] == generation for worker in status["workers"]), what=f"generation {generation} alone")


def sharing(instance, port):
    """As `pando info` says it of the port."""
    return next(feature["state"] for feature in instance.ask({"verb": "info"})["features"] if str(port) in feature["name"])


def assert_nobody_sticks(port):
    """Forty clients that keep their connections and ask again and again, with strangers in between: each of those wakes all workers
    and one gets it; where another then waits in accept(2), its clients wait behind it."""
    clients = [connect(port) for _ in range(CLIENTS)]
    try:
        for number in range(4):
            for sock in clients:
                assert ask_again(sock).status == 200, f"round {number}: it waits for ever"
            http_get(port)
    finally:
        for sock in clients:
            sock.close()


@pytest.mark.limit(300)
def test_how_its_programs_wait_is_judged_for_each_generation(pando):
    port = free_port()
    servers = ["epoll_server", "select_server", "epoll_server", "select_server"]
    instance = pando(app(servers[0]), port, options=PULL)
    instance.wait_ready()
    assert sharing(instance, port) == "shared"
    with Load(port, clients=2, pause=0.005) as load:
        for number, server in enumerate(servers[1:], 2):
            instance.ctl("reload", "--", app(server), port, check=0)
            settle(instance, number)
            wait_until(lambda server=server: sharing(instance, port) == ("shared" if server == "epoll_server" else "one socket a worker"),
                       what=f"{server} is judged")
            assert_nobody_sticks(port)
            old = instance.kill(0)  # its successor is of the same kind
            instance.wait_replaced(0, old)
            assert_nobody_sticks(port)
    assert len(load.failures) <= 2 * 3, load.failures[:5]  # who was inside a killed worker
    assert pids_answering(port, 2) == set(instance.pids().values())


@pytest.mark.limit(300)
@pytest.mark.skipif(shutil.which("ruby") is None, reason="ruby is not installed: tools/deps.sh test")
def test_a_program_that_shuts_its_listener_down_when_it_is_told_to_stop_does_not_stop_its_siblings(pando):
    """WEBrick calls shutdown(2) on the listening socket. At which descriptor is known from the first workers on, so that all
    that are started later do so for themselves alone. What it accepts while it is told to stop it drops, so it must not be able to: neither in
    a restart nor in a reload. Who scales down hears of that in docs/reload.md."""
    port = free_port()
    instance = pando("ruby", script("webrick_server.rb"), port, options=PULL)
    instance.wait_ready()
    instance.ctl("restart", check=0)
    with Load(port, clients=6) as load:
        for _ in range(count(10)):
            load.wait_answered(20)
            instance.ctl("restart", check=0)
        load.wait_answered(20)
        instance.ctl("reload", check=0)
        load.wait_answered(20)
    assert not load.failures, f"{len(load.failures)} of {load.answered} failed: {load.failures[:5]}"
    with Load(port, clients=1, pause=0.02) as load:
        for _ in range(count(10)):
            instance.ctl("scale", "1", check=0)
            instance.ctl("scale", "2", check=0)
            load.wait_answered(20)
    assert len(load.failures) <= count(10), load.failures[:5]
    assert pids_answering(port, 2) == set(instance.pids().values())


# Its other thread waits in accept(2) when the signal comes: shutdown(2) is how such programs wake it.
ACCEPTS_IN_A_THREAD = """
import os, signal, socket, sys, threading
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
def serve():
    while True:
        try:
            sock, _ = listener.accept()
        except OSError as error:
            print("accept:", error, flush=True)
            return
        with sock:
            while sock.recv(4096):
                sock.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\npid %d" % (4 + len(str(os.getpid())), os.getpid()))
thread = threading.Thread(target=serve)
thread.start()
signal.sigwait([signal.SIGTERM])
listener.shutdown(socket.SHUT_RDWR)
thread.join()
"""


def test_a_thread_that_waits_on_the_socket_is_woken_and_the_siblings_threads_wait_on(pando):
    port = free_port()
    instance = pando(PYTHON, "-c", ACCEPTS_IN_A_THREAD, port, options=[*PULL, "--kill-timeout", "1h"])
    instance.wait_ready()
    instance.ctl("reload", check=0)  # the first workers' descriptor is known now
    settle(instance, 2)
    kept = instance.pids()[1]
    instance.ctl("restart", "0", check=0)  # ends without a client's help
    assert instance.pids()[1] == kept and instance.workers()[1]["restarts"] == 0
    with connect(port) as one, connect(port) as other:  # either is served by one of the two
        assert {ask_again(one).pid, ask_again(other).pid} == set(instance.pids().values())
        wait_accepted(instance, one, other)
    assert instance.output().count("accept:") >= 1
