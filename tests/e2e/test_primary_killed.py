"""The primary is disposable: kill it, stop it, and no request, no worker and no line of output notices."""
import os
import random
import re
import signal
import struct
import time

import pytest

from pando import (DEADLINE, PYTHON, Load, alive, app, count, fd_count, free_port, http_get, http_values, kill_if_alive, pids_answering, script,
                   wait_until)


@pytest.mark.limit(900)
def test_killing_the_primary_at_random_under_load_fails_no_request_and_changes_no_worker(pando):
    """Any time between its start and long after; descriptors and memory of the keeper stay what they were."""
    port = free_port()
    instance = pando(app("epoll_server"), port, 500, workers=3)
    instance.wait_ready()
    pids = instance.pids()
    chance = random.Random(11)
    keeper_fds, keeper_kb = set(), []
    with Load(port, clients=16) as load:
        for _ in range(count(200)):
            old = instance.primary_pid
            time.sleep(chance.choice((0, 0.01, 0.1)) * chance.random())
            os.kill(old, signal.SIGKILL)
            status = instance.wait_status(lambda status: status["primary_pid"] != old, what="a new primary answers")
            assert status["ready"] == 3
            load.wait_answered(10)
            keeper_fds.add(fd_count(status["keeper_pid"]))
            keeper_kb.append(rss_kb(status["keeper_pid"]))
    assert not load.failures, load.failures[:5]
    assert instance.pids() == pids
    assert instance.keeper_pid == instance.process.pid
    assert max(keeper_fds) - min(keeper_fds) <= 2, f"the keeper's descriptors: {sorted(keeper_fds)}"
    assert keeper_kb[-1] <= keeper_kb[0] + 200, f"the keeper grows: {keeper_kb[0]} to {keeper_kb[-1]} KB"
    print(f"{count(200)} kills, {load.answered} answers, none failed, slowest {load.slowest_s * 1000:.0f} ms")


def rss_kb(pid):
    return int(next(line.split()[1] for line in open(f"/proc/{pid}/status") if line.startswith("VmRSS")))


def held_memfd(pid, name):
    """The path of a memfd that a process has open."""
    folder = f"/proc/{pid}/fd"
    return next(f"{folder}/{fd}" for fd in os.listdir(folder) if os.readlink(f"{folder}/{fd}").startswith(f"/memfd:{name}"))


def test_a_primary_that_cannot_take_over_is_backed_off_while_the_workers_serve(pando):
    """Its record is of another version for a while, as after a botched upgrade."""
    port = free_port()
    instance = pando(app("epoll_server"), port, workers=2)
    instance.wait_ready()
    pids = instance.pids()
    with open(held_memfd(instance.keeper_pid, "pando record"), "r+b", buffering=0) as record, Load(port, clients=4, pause=0.002) as load:
        _magic, version = struct.unpack("QI", os.pread(record.fileno(), 12, 0))
        os.pwrite(record.fileno(), struct.pack("I", version + 1), 8)
        os.kill(instance.primary_pid, signal.SIGKILL)
        instance.wait_log("keeper", "4 in a row did not stay up")
        instance.wait_log("the record is of another version")
        load.wait_answered(50)
        os.pwrite(record.fileno(), struct.pack("I", version), 8)
        assert instance.wait_ready()["ready"] == 2
    assert not load.failures, load.failures[:5]
    assert instance.pids() == pids
    waits = [int(found) for found in re.findall(r"the next starts in (\d+) ms", instance.log())]
    assert waits == sorted(waits) and waits[0] >= 20, waits


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
    assert before["uptime_s"] <= after["uptime_s"] < before["uptime_s"] + DEADLINE + 5


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
        wait_until(lambda: int(http_values(port)["lookups"]) > before + 20, what="look-ups go on without the primary")
        assert http_values(port)["failed"] == "0"
    finally:
        os.kill(status["primary_pid"], signal.SIGCONT)
    assert instance.workers()[0]["restarts"] == 0


def test_workers_print_on_and_serve_on_while_primaries_are_killed_one_after_the_other(pando):
    port = free_port()
    instance = pando(PYTHON, script("noisy.py"), port, 4000, 2000, workers=1)
    instance.wait_ready()
    pid = instance.pids()[0]
    killed = set()
    while len(killed) < count(50):
        status = instance.try_status()
        if status is not None:
            killed.add(status["primary_pid"])
            kill_if_alive(status["primary_pid"], signal.SIGKILL)
        assert http_get(port).pid == pid
    wait_until(lambda: http_values(port)["talking"] == "0", what="all is printed")

    def missing():
        """Raw lines are those that the keeper wrote while no primary lived."""
        found = re.findall(r"^(?:\[0\] )?out (\d+) ", instance.output() + instance.log(), re.M)
        return 4000 - len(set(found))

    # A line has 1 KB on average. What a primary had read and not yet written dies with it, and no more.
    wait_until(lambda: missing() <= 130 * len(killed), what=f"at most 130 lines are missing for each of {len(killed)} deaths")
    assert instance.pids()[0] == pid and alive(pid)


def test_a_new_primary_goes_on_with_a_crash_loop_where_the_old_one_was(pando):
    instance = pando(PYTHON, "-c", "import sys; print('cannot go on', flush=True); sys.exit(3)", workers=1)
    before = instance.wait_status(lambda status: status["workers"][0].get("crash_loop", 0) >= 5 and status["workers"][0]["state"] == "backoff")
    os.kill(before["primary_pid"], signal.SIGKILL)
    after = instance.wait_status(lambda status: status["primary_pid"] != before["primary_pid"])
    assert before["workers"][0]["crash_loop"] <= after["workers"][0]["crash_loop"] <= before["workers"][0]["crash_loop"] + 2
    assert after["workers"][0]["restarts"] >= before["workers"][0]["restarts"]
    instance.wait_status(lambda status: "cannot go on" in status["workers"][0].get("last_line", ""), what="what it wrote last is known")


def test_the_lines_of_before_are_still_shown_by_a_new_primary(pando):
    instance = pando(PYTHON, "-c", "import time; print('said before', flush=True); time.sleep(1000)", workers=1, options=["--ready", "delay=0ms"])
    wait_until(lambda: "said before" in instance.ctl("logs").stdout)
    old = instance.primary_pid
    os.kill(old, signal.SIGKILL)
    instance.wait_status(lambda status: status["primary_pid"] != old)
    assert "said before" in instance.ctl("logs").stdout


def test_stop_works_right_after_the_primary_was_killed(pando):
    port = free_port()
    instance = pando(app("epoll_server"), port, workers=2)
    os.kill(instance.wait_ready()["primary_pid"], signal.SIGKILL)
    assert instance.stop() == 0
