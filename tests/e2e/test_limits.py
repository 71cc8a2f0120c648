"""Descriptors: constant in keeper and primary however often workers die, and the caller's own limit for the workers."""
import os
import random
import signal
import time

import pytest

from pando import BUILD, NOBODY, PYTHON, alive, app, count, fd_count, free_port, http_get, http_values, wait_until


def steady_count(pid):
    """The number of open descriptors when two looks agree."""
    last = -1

    def look():
        nonlocal last
        now = fd_count(pid)
        same, last = now == last, now
        return same

    wait_until(look, pause=0.2)
    return last


def rss_kb(pid):
    return int(next(line.split()[1] for line in open(f"/proc/{pid}/status") if line.startswith("VmRSS")))


@pytest.mark.limit(1500)
def test_keeper_and_primary_hold_the_same_descriptors_after_many_respawns(pando):
    respawns = count(10_000) // (4 if "asan" in BUILD.name else 1)
    workers = 64 if respawns >= 1000 else 16
    port = free_port()
    instance = pando(app("epoll_server"), port, workers=workers)
    instance.wait_ready()
    status = instance.status()
    keeper, primary = status["keeper_pid"], status["primary_pid"]
    for worker in status["workers"][:4]:  # a first round, for what is allocated once
        instance.wait_replaced(worker["slot"], instance.kill(worker["slot"]))
    instance.wait_ready()
    before = steady_count(keeper), steady_count(primary)
    size, size_of_primary = rss_kb(keeper), rss_kb(primary)
    chance = random.Random(3)
    done = 0
    while done < respawns:
        serving = [worker["pid"] for worker in instance.status()["workers"] if worker["state"] == "serving"]
        for pid in chance.sample(serving, min(len(serving), workers // 4, respawns - done)):
            if alive(pid):  # status may not have heard of the last deaths yet
                os.kill(pid, signal.SIGKILL)
                done += 1
        http_get(port)
        instance.wait_status(lambda status: status["ready"] >= workers // 2, 120)
    instance.wait_ready(deadline=120)
    assert (steady_count(keeper), steady_count(primary)) == before
    assert instance.status()["primary_pid"] == primary, "the primary died on the way"
    assert rss_kb(keeper) <= size + 400
    if "asan" not in BUILD.name:  # a sanitizer keeps what was freed
        rings_kb = 1024 + 2048  # the last lines and those to be written: they fill up, once
        assert rss_kb(primary) <= size_of_primary + rings_kb + 400
    print(f"{done} respawns: {before[0]} descriptors in the keeper and {before[1]} in the primary, before and after; "
          f"keeper {size} to {rss_kb(keeper)} KB, primary {size_of_primary} to {rss_kb(primary)} KB")


def test_a_program_that_opens_its_socket_and_fails_leaves_no_descriptor(pando):
    """Bound, listened, dead: again and again."""
    instance = pando(PYTHON, "-c", "import socket,sys; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); sys.exit(1)",
                     free_port(), workers=4)
    instance.wait_status(lambda status: sum(worker["restarts"] for worker in status["workers"]) >= 8)
    status = instance.status()
    before = fd_count(status["keeper_pid"]), fd_count(status["primary_pid"])
    instance.wait_status(lambda status: sum(worker["restarts"] for worker in status["workers"]) >= 20)
    # What one live worker more or less holds may differ, not what the dead ones held.
    after = fd_count(status["keeper_pid"]), fd_count(status["primary_pid"])
    assert after[0] <= before[0] + 24 and after[1] <= before[1] + 24, (before, after)


def test_descriptors_are_constant_over_deaths_of_the_primary(pando):
    instance = pando(app("epoll_server"), free_port(), workers=4)
    instance.wait_ready()
    counts = []
    for _ in range(5):
        old = instance.primary_pid
        os.kill(old, signal.SIGKILL)
        status = instance.wait_status(lambda status: status["primary_pid"] != old)
        counts.append((steady_count(status["keeper_pid"]), steady_count(status["primary_pid"])))
    assert len(set(counts)) == 1, counts


def test_workers_get_the_callers_descriptor_limit_back(pando):
    port = free_port()
    instance = pando(app("says_limits"), port, workers=1, prefix=["prlimit", "--nofile=200:1000"])
    instance.wait_ready()
    values = http_values(port)
    assert (values["nofile_soft"], values["nofile_hard"]) == ("200", "1000")


def test_workers_inherit_only_the_standard_descriptors(pando):
    port = free_port()
    read_end, write_end = os.pipe()
    try:
        os.set_inheritable(write_end, True)
        pando(app("says_limits"), port, workers=1).wait_ready()
        assert http_values(port)["fds_at_start"] == "3"
    finally:
        os.close(read_end)
        os.close(write_end)


def test_a_low_soft_limit_is_raised_by_pando_for_itself(pando):
    port = free_port()
    instance = pando(app("epoll_server"), port, workers=40, prefix=["prlimit", "--nofile=64:4096"])
    instance.wait_ready(40)
    assert http_get(port).status == 200


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user, who may not raise the limit")
def test_a_hard_limit_that_is_too_low_is_said(pando):
    instance = pando(app("epoll_server"), free_port(), workers=64, uid=NOBODY, prefix=["prlimit", "--nofile=40:40"])
    wait_until(lambda: any(word in instance.log().lower() for word in ("nofile", "ulimit", "descriptors", "open files")),
               what="the log speaks of the limit")


def test_arguments_and_environment_larger_than_a_packet_arrive(pando):
    """TRAPS 20: more than 212 KB does not fit a SOCK_SEQPACKET message."""
    port = free_port()
    big = {f"BIG_{number}": "v" * 100_000 for number in range(8)}
    instance = pando(app("says_limits"), port, "a" * 100_000, "b" * 100_000, workers=1, env=big)
    instance.wait_ready()
    environment = http_values(port)["env"]
    assert all(environment[name].startswith("vvv") for name in big if name in environment)
    command = open(f"/proc/{instance.pids()[0]}/cmdline").read().split("\0")
    assert [len(word) for word in command[2:4]] == [100_000, 100_000]


def test_a_worker_that_eats_all_descriptors_hurts_only_itself(pando):
    port = free_port()
    code = ("import os, socket, sys, time\n"
            "listener = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n"
            "hoard = []\n"
            "try:\n"
            "    while True: hoard.append(os.dup(0))\n"
            "except OSError: pass\n"
            "print('full', flush=True)\n"
            "time.sleep(1000)\n")
    hungry = pando(PYTHON, "-c", code, port, workers=1, prefix=["prlimit", "--nofile=256:256"], name="hungry")
    wait_until(lambda: "full" in hungry.output())
    assert hungry.wait_ready()["ready"] == 1
    hungry.wait_replaced(0, hungry.kill(0))


@pytest.mark.parametrize("server", ["epoll_server", "blocking_server", "select_server", "never_listens"])
def test_an_idle_instance_sleeps(pando, server):
    instance = pando(app(server), free_port(), workers=4, options=["--ready", "delay=100ms"] if server == "never_listens" else [])
    status = instance.wait_ready()

    def switches(pid):
        return sum(int(line.split()[1]) for line in open(f"/proc/{pid}/status") if "ctxt_switches" in line)

    woken = None

    def sleeps():  # after the looks at how workers wait have come to an end
        nonlocal woken
        before = [switches(status[key]) for key in ("keeper_pid", "primary_pid")]
        time.sleep(2)
        after = [switches(status[key]) for key in ("keeper_pid", "primary_pid")]
        woken = [late - early for early, late in zip(before, after)]
        return woken[0] <= 10 and woken[1] <= 60

    try:
        wait_until(sleeps)
    except AssertionError:
        raise AssertionError(f"keeper and primary were woken {woken} times in two seconds") from None
