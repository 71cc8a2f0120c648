"""Pando as the first process of a container: a pid namespace of its own, where orphans become its children."""
import os
import subprocess

import pytest

from pando import (REQUEST_CLOSE, alive, app, connect, free_port, kill_if_alive, pids_answering, pids_of_children, read_answer, wait_until)

UNSHARE = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]


@pytest.fixture
def container():
    probe = subprocess.run([*UNSHARE, "true"], capture_output=True, text=True)
    if probe.returncode != 0:
        pytest.skip(f"no pid namespace here: {probe.stderr.strip()}")
    return UNSHARE


@pytest.fixture
def instance(pando, container):
    port = free_port()
    instance = pando(app("orphans"), port, workers=2, prefix=container)
    instance.port = port
    # status speaks of pids in there; the harness finds the processes by their token
    wait_until(lambda: ready(instance) == 2)
    yield instance
    keeper = keeper_outside(instance)
    if keeper is not None:
        os.kill(keeper, 15)  # unshare itself passes no signals on
        instance.exit_code()


def ready(instance):
    try:
        return instance.ask({"verb": "status"})["ready"]
    except Exception:
        return None


def keeper_outside(instance):
    children = pids_of_children(instance.process.pid)
    return children[0] if children else None


def zombies_below(pid):
    return [child for child in pids_of_children(pid) if os.path.exists(f"/proc/{child}") and not alive(child)]


def test_as_pid_1_pando_serves_and_reaps_strangers(instance):
    keeper = keeper_outside(instance)
    assert instance.ask({"verb": "status"})["keeper_pid"] == 1
    assert len(pids_answering(instance.port, 2)) == 2
    end_seen = 0
    for _ in range(20):
        # Orphans come and go twice a second; none of them may stay a zombie.
        wait_until(lambda: not zombies_below(keeper), what="the orphans are reaped")
        end_seen += 1
        subprocess.run(["sleep", "0.1"])
    assert end_seen == 20


def test_as_pid_1_pando_stops_on_term_and_leaves_nothing(instance):
    os.kill(keeper_outside(instance), 15)
    assert instance.exit_code() == 0
    instance.assert_nothing_left()


def test_as_pid_1_pando_survives_the_death_of_worker_and_primary(instance):
    keeper = keeper_outside(instance)
    for victim in list(pids_of_children(keeper)):
        kill_if_alive(victim, 9)
    wait_until(lambda: ready(instance) == 2)
    assert len(pids_answering(instance.port, 2)) == 2


def test_as_pid_1_pando_answers_what_is_in_flight_when_term_comes(pando, container):
    port = free_port()
    instance = pando(app("epoll_server"), port, 700_000, workers=2, prefix=container)
    wait_until(lambda: ready(instance) == 2)
    with connect(port) as sock:
        sock.sendall(REQUEST_CLOSE)
        os.kill(keeper_outside(instance), 15)
        assert read_answer(sock).status == 200
    assert instance.exit_code() == 0
    instance.assert_nothing_left()


def test_as_pid_1_pando_ends_in_time_though_a_worker_does_not(pando, container):
    instance = pando(app("ignores_term"), free_port(), workers=2, prefix=container, options=["--kill-timeout", "1s"])
    wait_until(lambda: ready(instance) == 2)
    os.kill(keeper_outside(instance), 15)
    assert instance.exit_code(15) == 0
    instance.assert_nothing_left()


def test_as_pid_1_the_exit_code_tells_that_nothing_ever_ran(pando, container):
    instance = pando(app("exits_at_once"), free_port(), workers=1, prefix=container, options=["--fail-fast"])
    assert instance.exit_code() == 1
    instance.assert_nothing_left()
