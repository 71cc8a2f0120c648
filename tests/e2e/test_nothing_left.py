"""When Pando ends, everything that came from it has ended: process groups, background children, the stubborn."""
import os
import signal
import time

import pytest

from pando import app, alive, free_port, http_get, wait_until


@pytest.mark.parametrize("how", ["signal", "command"])
def test_nothing_is_left_after_a_stop(pando, how):
    port = free_port()
    instance = pando(app("epoll_server"), port, workers=3)
    instance.wait_ready()
    assert len(instance.family()) == 5
    if how == "command":
        instance.ctl("stop", check=0)
        instance.assert_nothing_left()
    assert instance.stop() == 0
    with pytest.raises(ConnectionRefusedError):
        http_get(port)
    assert instance.ctl("status").returncode == 3


def test_children_and_grandchildren_of_workers_are_ended_too(pando):
    port = free_port()
    instance = pando("sh", "-c", f"sleep 1000 & (sleep 1001 &) ; setsid sleep 1002 & exec {app('epoll_server')} {port}", workers=2)
    instance.wait_ready()
    wait_until(lambda: sum("sleep 100" in command for command in instance.family().values()) >= 6)
    assert instance.stop() == 0


def test_a_daemon_that_left_its_process_group_is_ended_at_stop(pando):
    port = free_port()
    instance = pando(app("daemonises"), port, "settled", workers=1)
    wait_until(lambda: any("daemonises" in command for command in instance.family().values()))
    instance.wait_status(lambda status: status["workers"][0]["restarts"] >= 2)
    assert any("daemonises" in command for command in instance.family().values()), "this daemon stays: nothing is tested"
    instance.stop()


def test_a_worker_that_ignores_the_stop_signal_is_killed_at_the_deadline(pando):
    port = free_port()
    instance = pando(app("ignores_term"), port, workers=2, options=["--kill-timeout", "700ms"])
    instance.wait_ready()
    started = time.monotonic()
    assert instance.stop() == 0
    assert time.monotonic() - started > 0.5, "killed before its time was over"
    assert "told to end" in instance.log()


def test_a_frozen_worker_does_not_keep_pando_from_ending(pando):
    port = free_port()
    instance = pando(app("epoll_server"), port, workers=2, options=["--kill-timeout", "700ms"])
    instance.wait_ready()
    instance.kill(0, signal.SIGSTOP)
    assert instance.stop() == 0


def test_nothing_is_left_when_pando_is_stopped_while_it_starts(pando):
    instance = pando("sh", "-c", "sleep 1000 & wait", workers=4)
    time.sleep(0.05)
    instance.signal(signal.SIGTERM)
    assert instance.exit_code() in (0, -signal.SIGTERM)
    wait_until(lambda: not instance.family())


def test_nothing_is_left_of_a_worker_that_was_killed(pando):
    port = free_port()
    instance = pando("sh", "-c", f"sleep 1003 & exec {app('epoll_server')} {port}", workers=1)
    instance.wait_ready()
    before = [pid for pid, command in instance.family().items() if "sleep 1003" in command]
    instance.wait_replaced(0, instance.kill(0))
    wait_until(lambda: not any(map(alive, before)))
    assert not any(os.path.exists(f"/proc/{pid}") and not alive(pid) for pid in before), "a zombie is left"
