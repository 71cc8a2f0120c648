"""The primary is disposable: kill it, stop it, and no request, no worker and no line of output notices."""
import os
import re
import signal
import time

from pando import (PYTHON, Load, alive, app, count, free_port, http_get, http_values, kill_if_alive, pids_answering, script,
                   wait_until)


def test_killing_the_primary_under_load_fails_no_request_and_changes_no_worker(pando):
    port = free_port()
    instance = pando(app("epoll_server"), port, 500, workers=3)
    instance.wait_ready()
    pids = instance.pids()
    with Load(port, clients=16) as load:
        for _ in range(count(50)):
            old = instance.primary_pid
            os.kill(old, signal.SIGKILL)
            load.wait_answered(20)
            status = instance.wait_status(lambda status: status["primary_pid"] != old, what="a new primary answers")
            assert status["ready"] == 3
            load.wait_answered(20)
    assert not load.failures, load.failures[:5]
    assert instance.pids() == pids
    assert instance.keeper_pid == instance.process.pid


def test_a_new_primary_knows_what_the_old_one_knew(pando):
    port = free_port()
    instance = pando(app("epoll_server"), port, workers=3)
    instance.wait_ready()
    instance.wait_replaced(1, instance.kill(1))
    instance.wait_ready()
    instance.ctl("scale", 2, check=0)
    before = instance.status()
    os.kill(before["primary_pid"], signal.SIGKILL)
    after = instance.wait_status(lambda status: status["primary_pid"] != before["primary_pid"])
    for key in ("name", "generation", "mode", "wanted", "ready", "listen", "keeper_pid"):
        assert after[key] == before[key], key
    for old, new in zip(before["workers"], after["workers"]):
        for key in ("slot", "pid", "state", "generation", "restarts", "last_exit"):
            assert new[key] == old[key], key
    assert abs(after["uptime_s"] - before["uptime_s"]) < 5


def test_a_new_primary_replaces_a_worker_that_died_together_with_the_old_one(pando):
    port = free_port()
    instance = pando(app("epoll_server"), port, workers=2)
    instance.wait_ready()
    for _ in range(3):
        before = instance.status()
        victim = before["workers"][0]["pid"]
        os.kill(before["primary_pid"], signal.SIGKILL)
        os.kill(victim, signal.SIGKILL)
        instance.wait_replaced(0, victim)
        instance.wait_ready()
    assert instance.pids()[1] == before["workers"][1]["pid"]
    pids_answering(port, 2)
    assert len(instance.family()) == 4, f"keeper, primary and two workers, not {instance.family()}"


def test_a_worker_killed_while_the_primary_is_stopped_is_replaced_when_it_goes_on(pando):
    port = free_port()
    instance = pando(app("epoll_server"), port, workers=2)
    status = instance.wait_ready()
    os.kill(status["primary_pid"], signal.SIGSTOP)
    victim = status["workers"][0]["pid"]
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: not alive(victim))
    with Load(port, clients=8) as load:  # some may have to wait for the primary, none is lost
        time.sleep(0.5)
        os.kill(status["primary_pid"], signal.SIGCONT)
        load.wait_answered(20)
    assert not load.failures, load.failures[:5]
    instance.wait_replaced(0, victim)


def test_name_look_ups_in_a_worker_go_on_while_the_primary_is_stopped(pando):
    port = free_port()
    instance = pando(app("dns_loop"), port, workers=1)
    status = instance.wait_ready()
    wait_until(lambda: int(http_values(port)["lookups"]) > 5, what="look-ups at all")
    os.kill(status["primary_pid"], signal.SIGSTOP)
    try:
        before = int(http_values(port)["lookups"])
        wait_until(lambda: int(http_values(port)["lookups"]) > before + 20, 5, "look-ups go on without the primary")
        assert http_values(port)["failed"] == "0"
    finally:
        os.kill(status["primary_pid"], signal.SIGCONT)
    assert instance.workers()[0]["restarts"] == 0


def test_workers_print_on_and_serve_on_while_primaries_are_killed_one_after_the_other(pando):
    port = free_port()
    instance = pando(PYTHON, script("noisy.py"), port, 4000, 2000, workers=1)
    instance.wait_ready()
    pid = instance.pids()[0]
    end = time.monotonic() + 2
    killed = set()
    while time.monotonic() < end:
        status = instance.try_status()
        if status is not None:
            killed.add(status["primary_pid"])
            kill_if_alive(status["primary_pid"], signal.SIGKILL)
        assert http_get(port).pid == pid
    assert len(killed) >= 2
    wait_until(lambda: http_values(port)["talking"] == "0", what="all is printed")

    def missing():
        """Raw lines are those that the keeper wrote while no primary lived."""
        found = re.findall(r"^(?:\[0\] )?out (\d+) ", instance.output() + instance.log(), re.M)
        return 4000 - len(set(found))

    # A line has 1 KB on average. What a primary had read and not yet written dies with it, and no more.
    wait_until(lambda: missing() <= 130 * len(killed), what=f"at most 130 lines are missing for each of {len(killed)} deaths")
    assert instance.pids()[0] == pid and alive(pid)


def test_stop_works_right_after_the_primary_was_killed(pando):
    port = free_port()
    instance = pando(app("epoll_server"), port, workers=2)
    os.kill(instance.wait_ready()["primary_pid"], signal.SIGKILL)
    assert instance.stop() == 0
