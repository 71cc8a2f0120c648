"""The primary is killed at every system call that it makes while it starts, takes over, replaces a worker, scales, drains, restarts,
reloads, refuses a broken version, rolls back, rescues, upgrades: no request fails, nothing stays stopped or stuck, and the next primary ends what the last one had begun.

A sample in `make test`, every single call with PANDO_NIGHTLY=1."""
import json
import os
import signal
import threading
import time

import pytest

from pando import (BUILD, NIGHTLY, Load, NotRunning, _stat, app, connect, free_port, pids_answering, wait_until)
from stepper import Stepper

# Kills of one kind in `make test`, which runs this against both builds: the slower one tries fewer calls, and others.
SAMPLE = 5 if "asan" in BUILD.name else 8
ADOPTED_S = 5.0  # generous: how long it takes is measured by bench/survival.py, not here

root = pytest.mark.skipif(os.geteuid() != 0, reason="slot mode needs CAP_BPF and CAP_NET_ADMIN")
MODES = [pytest.param("slot", marks=root), "pull"]


@pytest.fixture
def stepper(folder):
    stepper = Stepper(folder)
    yield stepper
    stepper.close()


@pytest.fixture
def stepped(pando, stepper, request):
    """An instance whose primary can be killed at will, and a port that is asked all the time."""
    def start(server, mode, workers=2, arguments=(), options=()):
        port = free_port()
        instance = pando(app(server), port, *arguments, workers=workers, prefix=stepper.prefix, options=["--balance-mode", mode, *options],
                         env={"ASAN_OPTIONS": "detect_leaks=0"})  # LeakSanitizer cannot work below a tracer
        stepper.let_it_start()
        instance.wait_ready()
        return instance, port

    return start


class Wish:
    """A request on the control socket in a thread of its own: it ends with an answer, or with its primary."""

    def __init__(self, instance, request):
        self.instance, self.request = instance, request
        self.answered = False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        try:
            with self.instance.connect(60) as sock, sock.makefile("rb") as lines:
                sock.sendall(json.dumps(self.request).encode() + b"\n")
                for line in lines:  # a reload also tells how it goes on
                    self.answered |= json.loads(line).get("ok", False)
                    if "ok" in json.loads(line):
                        break
        except (NotRunning, OSError, ValueError):
            pass

    def ended(self):
        return not self.thread.is_alive()

    def insist(self):
        """As a person would: asks again until it is answered."""
        self.thread.join(60)
        while not self.answered:
            self.__init__(self.instance, self.request)
            self.thread.join(60)


def which_calls(total):
    """All of them, or some all over the way."""
    if NIGHTLY or total <= SAMPLE:
        return range(1, total + 1)
    return sorted({1 + number * (total - 1) // (SAMPLE - 1) for number in range(SAMPLE)})


def family(instance):
    return {pid: command for pid, command in instance.family().items() if "tests/tools/stepper" not in command}


def stopped(pids):
    return [pid for pid in pids if (stat := _stat(pid)) is not None and stat[0] == "T"]


def assert_whole(instance, wanted):
    """A new primary answers; all that shall run does, nothing else, and nobody is stopped."""
    wait_until(instance.try_status, ADOPTED_S, "a primary answers")
    status = instance.wait_status(lambda status: status["ready"] == wanted and len(status["workers"]) == wanted, what=f"{wanted} workers serve")
    wait_until(lambda: not stopped(family(instance)), what="nobody is stopped")
    wait_until(lambda: len(family(instance)) == wanted + 2, what=f"keeper, primary and {wanted} workers, not {family(instance)}")
    return status


def every_call(instance, stepper, begin, ended, reset, wanted, prepare=lambda: None):
    """`begin` something; the primary is killed at the next call of it, again and again; `reset` brings it about and undoes it."""
    prepare()
    stepper.arm(10**9)
    state = begin()
    wait_until(lambda: ended(state), 60, "it ends at all")
    total = stepper.run()
    reset(state)
    killed = []
    for number in which_calls(total):
        assert_whole(instance, wanted)
        prepare()
        stepper.arm(number)
        state = begin()
        wait_until(lambda: stepper.poll() or ended(state), 60, "killed, or over")
        if stepper.poll():
            killed.append(stepper.poll()[1])
        else:
            stepper.run()
        reset(state)
    assert_whole(instance, wanted)
    assert len(killed) >= min(total, SAMPLE) // 4, f"of {total} calls only {killed} were hit"
    print(f"{len(killed)} kills at {total} calls, {len(set(killed))} kinds of them")


@pytest.mark.limit(6000)
@pytest.mark.parametrize("mode", MODES)
def test_killed_while_it_scales_up_and_down(stepped, stepper, mode):
    instance, port = stepped("epoll_server", mode, workers=2)

    def begin():
        return Wish(instance, {"verb": "scale", "workers": 4 if instance.status()["wanted"] == 2 else 2})

    def up():
        return Wish(instance, {"verb": "scale", "workers": 4})

    def down():
        return Wish(instance, {"verb": "scale", "workers": 2})

    def undo(wish):
        wish.insist()
        other = down() if wish.request["workers"] == 4 else up()
        other.insist()

    with Load(port, clients=4, pause=0.002) as load:
        every_call(instance, stepper, up, Wish.ended, undo, 2)
        up().insist()
        every_call(instance, stepper, down, Wish.ended, undo, 4)
    assert not load.failures, load.failures[:5]


@pytest.mark.limit(6000)
@pytest.mark.parametrize("mode", MODES)
def test_killed_while_it_restarts_workers_that_have_open_connections(stepped, stepper, mode):
    """Looked at, frozen, looked at again, told, thawed: one of the two always has a client that keeps its connection for a while."""
    instance, port = stepped("epoll_server", mode, workers=2, options=["--kill-timeout", "20s"])

    def begin():
        kept = [connect(port) for _ in range(2)]
        timer = threading.Timer(0.15, lambda: [sock.close() for sock in kept])
        timer.start()
        return Wish(instance, {"verb": "restart"})

    with Load(port, clients=4, pause=0.002) as load:
        every_call(instance, stepper, begin, Wish.ended, Wish.insist, 2)
    assert not load.failures, load.failures[:5]


def of_one_generation(status):
    running = [worker["generation"] for worker in status["workers"] if worker["pid"] and not worker.get("kept")]
    return status["rollout"] is None and running == [status["generation"]] * 2


@pytest.mark.limit(6000)
@pytest.mark.parametrize("mode", MODES)
def test_killed_while_it_reloads(stepped, stepper, mode):
    """The roll-out is finished or undone, never half: all workers are of one generation."""
    instance, port = stepped("epoll_server", mode, workers=2, options=["--stable", "0s"])

    def settle(wish):
        wish.thread.join(60)
        instance.wait_status(of_one_generation, 60, "finished or undone")

    with Load(port, clients=4, pause=0.002) as load:
        every_call(instance, stepper, lambda: Wish(instance, {"verb": "reload"}), Wish.ended, settle, 2)
    assert not load.failures, load.failures[:5]


@pytest.mark.limit(6000)
@pytest.mark.parametrize("mode", MODES)
def test_killed_while_it_refuses_a_broken_version(stepped, stepper, mode):
    """Whoever refuses it in the end, the first workers serve on."""
    instance, port = stepped("epoll_server", mode, workers=2)
    workers = instance.pids()

    def settle(wish):
        wish.thread.join(60)
        assert not wish.answered, "a broken version was taken"
        instance.wait_status(lambda status: of_one_generation(status) and status["generation"] == 1, 60, "undone")

    with Load(port, clients=4, pause=0.002) as load:
        every_call(instance, stepper, lambda: Wish(instance, {"verb": "reload", "command": ["false"]}), Wish.ended, settle, 2)
    assert not load.failures, load.failures[:5]
    assert instance.pids() == workers, "a worker was restarted"


@pytest.mark.limit(6000)
@pytest.mark.parametrize("mode", MODES)
def test_killed_while_it_rolls_back(stepped, stepper, mode):
    """To a generation that was kept frozen: it is thawed, or stays what it is; nobody stays half-way."""
    instance, port = stepped("epoll_server", mode, workers=2, options=["--stable", "0s"])

    def kept(status):
        return sum(worker.get("kept", False) for worker in status["workers"])

    def prepare():
        Wish(instance, {"verb": "reload", "options": ["--keep-old", "1h"]}).insist()
        instance.wait_status(lambda status: of_one_generation(status) and kept(status) == 2, 60, "the old generation is kept")

    def settle(wish):
        wish.thread.join(60)
        status = instance.wait_status(of_one_generation, 60, "finished or undone")
        if kept(status):  # it was killed before it had begun
            Wish(instance, wish.request).insist()
        instance.wait_status(lambda status: of_one_generation(status) and kept(status) == 0, 60, "rolled back")

    with Load(port, clients=4, pause=0.002) as load:
        every_call(instance, stepper, lambda: Wish(instance, {"verb": "rollback"}), Wish.ended, settle, 2, prepare)
    assert not load.failures, load.failures[:5]


@pytest.mark.limit(6000)
@pytest.mark.parametrize("mode", MODES)
def test_killed_while_it_replaces_a_worker_that_died(stepped, stepper, mode):
    """Nothing is lost from the queue: each of four clients may be inside the worker at the moment of its death, no more."""
    instance, port = stepped("epoll_server", mode, workers=2)
    deaths = []

    def choose():
        deaths.append(instance.pids()[0])

    def begin():
        os.kill(deaths[-1], signal.SIGKILL)
        return deaths[-1]

    def ended(victim):
        status = instance.try_status()
        return status is not None and status["ready"] == 2 and all(worker["pid"] != victim for worker in status["workers"])

    every_call(instance, stepper, begin, ended, lambda victim: instance.wait_replaced(0, victim), 2, choose)
    assert len(set(deaths)) == len(deaths)
    pids_answering(port, 2)


@root
@pytest.mark.limit(6000)
def test_killed_while_it_rescues_who_waits_behind_a_stuck_worker(stepped, stepper):
    """A client that says nothing keeps a blocking server; whoever was given to that one is moved to its sibling."""
    instance, port = stepped("blocking_server", "slot", workers=2, options=["--rescue-after", "5ms"])

    def begin():
        return connect(port), load.answered + 30

    def ended(state):
        return load.answered >= state[1]

    def reset(state):
        wait_until(lambda: ended(state), 60, f"others are answered; {load.failures[:3]}")
        state[0].close()

    with Load(port, clients=4, timeout=30, pause=0.005) as load:
        every_call(instance, stepper, begin, ended, reset, 2)
    assert not load.failures, load.failures[:5]


@pytest.mark.limit(6000)
@pytest.mark.parametrize("mode", MODES)
def test_killed_while_it_takes_over(stepped, stepper, mode):
    """Twice in a row, then: the second at each of its calls since it was started."""
    instance, port = stepped("epoll_server", mode, workers=2)
    workers = instance.pids()

    def take_over(number):
        old = instance.primary_pid
        stepper.next(number)
        os.kill(old, signal.SIGKILL)
        return old

    old = take_over(10**9)
    instance.wait_status(lambda status: status["primary_pid"] != old)
    total = stepper.run()
    with Load(port, clients=4, pause=0.002) as load:
        hits = 0
        for number in which_calls(total):
            old = take_over(number)
            wait_until(lambda: stepper.poll() or (instance.try_status() or {"primary_pid": old})["primary_pid"] != old, what="killed, or over")
            hits += stepper.poll() is not None
            stepper.run()
            assert_whole(instance, 2)
            load.wait_answered(5)
    assert not load.failures, load.failures[:5]
    assert instance.pids() == workers, "a worker was restarted"
    assert hits >= min(total, SAMPLE) // 2
    print(f"{hits} kills at {total} calls of a take-over")


@pytest.mark.limit(6000)
@pytest.mark.parametrize("mode", MODES)
def test_killed_while_it_starts_for_the_first_time(pando, folder, mode):
    def start(number):
        own = folder / str(number)
        own.mkdir()
        stepper = Stepper(own)
        port = free_port()
        instance = pando(app("epoll_server"), port, workers=2, prefix=stepper.prefix, options=["--balance-mode", mode],
                         env={"ASAN_OPTIONS": "detect_leaks=0"})
        stepper.let_it_start(number)
        instance.wait_ready(2)
        hit = stepper.poll()
        calls = stepper.run()
        assert_whole(instance, 2)
        assert len(pids_answering(port, 2)) == 2
        assert instance.stop() == 0
        stepper.close()
        return hit, calls

    _, total = start(10**9)
    hits = sum(start(number)[0] is not None for number in which_calls(total))
    assert hits >= min(total, SAMPLE) // 2
    print(f"{hits} kills at {total} calls of a first start")


@pytest.mark.limit(6000)
def test_killed_while_it_is_upgraded(stepped, stepper):
    """The old one while it asks the new programs, and the new one while it takes over: the upgrade is done or undone."""
    instance, port = stepped("epoll_server", "pull", workers=2)
    workers = instance.pids()
    with Load(port, clients=4, pause=0.002) as load:
        every_call(instance, stepper, lambda: Wish(instance, {"verb": "upgrade"}), Wish.ended, Wish.insist, 2)
        stepper.next(10**9)
        Wish(instance, {"verb": "upgrade"}).insist()
        total = stepper.run()
        undone = 0
        for number in which_calls(total):
            stepper.next(number)
            wish = Wish(instance, {"verb": "upgrade"})
            wait_until(wish.ended, 60, "the upgrade is done or undone")
            undone += not wish.answered
            stepper.run()
            assert_whole(instance, 2)
    assert not load.failures, load.failures[:5]
    assert instance.pids() == workers, "a worker was restarted"
    assert undone > 0, "a new primary that is killed before it has taken over is undone"
