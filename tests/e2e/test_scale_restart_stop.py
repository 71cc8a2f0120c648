"""More workers, fewer, new ones, none: without one failed request until there is nobody left."""
import signal
import subprocess
import threading
import time

import pytest

from pando import Load, alive, app, ask_again, connect, free_port, http_get, pids_answering, read_answer, wait_accepted, wait_until, REQUEST_CLOSE, kill_if_alive

SERVERS = ["epoll_server", "blocking_server"]
QUICK = ["--kill-timeout", "20s"]  # a worker is told to stop in a moment without a connection: on a busy machine that may take a while


@pytest.mark.parametrize("server", SERVERS)
def test_scaling_up_and_down_under_load_fails_no_request(pando, server):
    port = free_port()
    instance = pando(app(server), port, 300, workers=2, options=QUICK)
    instance.wait_ready()
    with Load(port, clients=8) as load:
        for wanted in (4, 1, 3, 2):
            load.wait_answered(30)
            done = instance.ctl("scale", wanted)
            assert done.returncode == 0, done.stderr
            status = instance.status()
            assert (status["wanted"], status["ready"], len(status["workers"])) == (wanted, wanted, wanted), "scale returned too early"
        load.wait_answered(30)
    assert not load.failures, load.failures[:5]
    assert len(instance.family()) == 4


def test_scale_understands_plus_and_minus(pando):
    instance = pando(app("epoll_server"), free_port(), workers=2, options=QUICK)
    instance.wait_ready()
    instance.ctl("scale", "+2", check=0)
    assert instance.status()["wanted"] == 4
    instance.ctl("scale", "-3", check=0)
    assert instance.status()["wanted"] == 1
    refused = instance.ctl("scale", "-1")
    assert refused.returncode == 2 and "0" in refused.stderr
    assert instance.status()["ready"] == 1


def test_scaled_down_workers_finish_the_requests_that_they_have(pando):
    port = free_port()
    instance = pando(app("ends_gracefully"), port, 1500, workers=4)
    instance.wait_ready()
    socks = [connect(port) for _ in range(4)]
    for sock in socks:
        sock.sendall(REQUEST_CLOSE)
    wait_accepted(instance, socks[0])
    instance.ctl("scale", 1, check=0)
    assert all(read_answer(sock).status == 200 for sock in socks)


@pytest.mark.parametrize("server", SERVERS)
def test_restart_replaces_every_worker_under_load_and_fails_no_request(pando, server):
    port = free_port()
    instance = pando(app(server), port, 300, workers=3, options=QUICK)
    instance.wait_ready()
    before = instance.pids()
    with Load(port, clients=8) as load:
        load.wait_answered(30)
        done = instance.ctl("restart")
        assert done.returncode == 0, done.stderr
        assert instance.status()["ready"] == 3, "restart returned too early"
        load.wait_answered(30)
    assert not load.failures, load.failures[:5]
    assert set(instance.pids().values()).isdisjoint(before.values())
    wait_until(lambda: not any(map(alive, before.values())))


def test_restart_of_one_slot_leaves_the_others_alone(pando):
    instance = pando(app("epoll_server"), free_port(), workers=3, options=QUICK)
    instance.wait_ready()
    before = instance.pids()
    instance.ctl("restart", 1, check=0)
    after = instance.pids()
    assert after[1] != before[1] and (after[0], after[2]) == (before[0], before[2])
    refused = instance.ctl("restart", 7)
    assert refused.returncode == 2 and "7" in refused.stderr


def test_restart_of_the_only_worker_leaves_nobody_unanswered(pando):
    port = free_port()
    instance = pando(app("blocking_server"), port, 500, workers=1, options=QUICK)
    instance.wait_ready()
    with Load(port, clients=1, pause=0.02) as load:  # it must be seen without a connection now and then
        for _ in range(3):
            load.wait_answered(10)
            instance.ctl("restart", check=0)
        load.wait_answered(10)
    assert not load.failures, load.failures[:5]


def test_a_keep_alive_client_keeps_its_worker_while_it_uses_it(pando):
    """A connection that has been idle for a second is closed, as any server would."""
    port = free_port()
    instance = pando(app("epoll_server"), port, workers=2, options=["--kill-timeout", "10m"])
    instance.wait_ready()
    pids = instance.pids()
    sock = connect(port)
    sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    pid = read_answer(sock).pid
    slot = next(slot for slot, found in pids.items() if found == pid)
    restart = threading.Thread(target=instance.ctl, args=("restart", slot))
    used = time.monotonic()
    restart.start()
    for _ in range(15):
        last = time.monotonic()
        try:
            assert ask_again(sock).pid == pid
        except (OSError, EOFError):
            assert time.monotonic() - used > 1, "ended although its connection was in use"
            break  # on a machine so busy that it was not
        used = last
        time.sleep(0.1)
    wait_until(lambda: not alive(pid), what="it ends when it is not used any more")
    restart.join(120)
    assert not restart.is_alive()
    sock.close()


def test_stop_lets_running_requests_finish(pando):
    port = free_port()
    instance = pando(app("ends_gracefully"), port, 1000, workers=2)
    instance.wait_ready()
    sock = connect(port)
    sock.sendall(REQUEST_CLOSE)
    wait_accepted(instance, sock)
    instance.signal(signal.SIGTERM)
    assert read_answer(sock).status == 200
    assert instance.exit_code() == 0
    assert instance.log().count("finished") == 2
    instance.assert_nothing_left()


def test_stop_from_the_command_line_returns_when_the_last_process_has_ended(pando):
    port = free_port()
    instance = pando(app("ends_gracefully"), port, 800, workers=2)
    instance.wait_ready()
    sock = connect(port)
    sock.sendall(REQUEST_CLOSE)
    wait_accepted(instance, sock)
    assert instance.ctl("stop").returncode == 0
    left = {pid: command for pid, command in instance.family().items() if pid != instance.process.pid}
    assert not left, f"stop returned before everything had ended: {left}"  # the keeper says so with its last breath
    assert read_answer(sock).status == 200
    assert instance.exit_code() == 0
    assert instance.ctl("stop").returncode == 3


def test_stop_now_does_not_wait(pando):
    port = free_port()
    instance = pando(app("ignores_term"), port, workers=2)  # --kill-timeout is 30 s
    instance.wait_ready()
    started = time.monotonic()
    assert instance.ctl("stop", "--now").returncode == 0
    assert time.monotonic() - started < 25
    assert instance.exit_code() == 0


def test_a_second_interrupt_stops_at_once(pando):
    instance = pando(app("ignores_term"), free_port(), workers=2)
    instance.wait_ready()
    instance.signal(signal.SIGINT)
    instance.wait_log("told to end")
    assert instance.process.poll() is None
    started = time.monotonic()
    instance.signal(signal.SIGINT)
    assert instance.exit_code() == 0
    assert time.monotonic() - started < 25
    instance.assert_nothing_left()


def test_another_stop_signal_is_used_when_asked_for(pando):
    instance = pando("sh", "-c", "trap 'echo got quit; exit 0' QUIT; trap '' TERM; echo set; while :; do sleep 0.1; done", workers=1,
                     options=["--stop-signal", "QUIT", "--ready", "delay=0ms"])
    wait_until(lambda: "[0] set" in instance.output(), what="the traps are set")
    assert instance.stop() == 0
    assert "[0] got quit" in instance.output()


def test_ttin_and_ttou_add_and_take_one(pando):
    instance = pando(app("epoll_server"), free_port(), workers=2, options=QUICK)
    instance.wait_ready()
    instance.signal(signal.SIGTTIN)
    instance.wait_status(lambda status: status["wanted"] == status["ready"] == len(status["workers"]) == 3)
    for left in (2, 1):
        instance.signal(signal.SIGTTOU)
        instance.wait_status(lambda status: status["wanted"] == status["ready"] == len(status["workers"]) == left)
    instance.signal(signal.SIGTTOU)
    time.sleep(0.5)
    assert instance.status()["wanted"] == 1, "the last worker is not for TTOU to take"


def test_hup_from_a_person_does_not_stop_anything(pando):
    port = free_port()
    instance = pando(app("epoll_server"), port, workers=2)
    instance.wait_ready()
    with Load(port, clients=4) as load:
        load.wait_answered(20)
        instance.signal(signal.SIGHUP)
        load.wait_answered(100)
    assert not load.failures
    assert instance.wait_ready()["ready"] == 2
    assert pids_answering(port, 2)


def test_scaling_up_a_program_that_now_fails_says_so_and_keeps_the_rest(pando, folder):
    port = free_port()
    broken = folder / "broken"
    instance = pando("sh", "-c", f"[ -e {broken} ] && exit 3; exec {app('epoll_server')} {port}", workers=2)
    instance.wait_ready()
    before = instance.pids()
    broken.touch()
    scale = threading.Thread(target=instance.ctl, args=("scale", 3))
    scale.start()
    instance.wait_status(lambda status: len(status["workers"]) == 3 and status["workers"][2]["restarts"] >= 1)
    assert http_get(port).pid in before.values()
    broken.unlink()
    scale.join(120)
    assert not scale.is_alive()
    assert instance.wait_ready(3)


def test_a_verb_that_is_interrupted_leaves_the_instance_as_it_was_told(pando):
    """The client goes away in the middle of scale; the instance does what it was told all the same."""
    instance = pando(app("epoll_server"), free_port(), workers=1)
    instance.wait_ready()
    client = subprocess.Popen([instance.arguments[0], "scale", "-n", "app", "4"], env=instance.env, stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    instance.wait_status(lambda status: status["wanted"] == 4)
    kill_if_alive(client.pid, signal.SIGKILL)
    client.wait()
    instance.wait_ready(4)
