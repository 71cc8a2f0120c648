"""SIGKILL of the keeper: the workers serve on and the primary becomes the keeper. Keeper and primary both: what is left serves, and
is found again."""
import os
import resource
import signal

import pytest

from pando import PYTHON, Load, alive, app, count, fd_count, free_port, http_get, pids_answering, wait_until


def kill_keeper(instance, and_primary=False):
    status = instance.wait_ready()
    os.kill(status["keeper_pid"], signal.SIGKILL)
    if and_primary:
        os.kill(status["primary_pid"], signal.SIGKILL)
    instance.process.wait(30)
    return [worker["pid"] for worker in status["workers"]]


def test_workers_serve_on_when_the_keeper_is_killed(pando):
    port = free_port()
    instance = pando(app("epoll_server"), port, 500, workers=2)
    instance.wait_ready()
    with Load(port, clients=8) as load:
        load.wait_answered(20)
        workers = kill_keeper(instance)
        load.wait_answered(200)
    assert not load.failures, load.failures[:5]
    assert all(map(alive, workers))
    assert instance.ctl("stop").returncode == 0
    instance.assert_nothing_left()


def test_stop_finds_the_workers_when_keeper_and_primary_are_killed(pando):
    port = free_port()
    instance = pando(app("epoll_server"), port, workers=2)
    workers = kill_keeper(instance, and_primary=True)
    assert http_get(port).pid in workers
    done = instance.ctl("stop")
    assert done.returncode == 0, done.stderr
    instance.assert_nothing_left()


def test_stop_ends_only_what_belongs_to_the_instance(pando, folder):
    """The pids on record may belong to others by then."""
    port, other_port = free_port(), free_port()
    instance = pando(app("epoll_server"), port, workers=2, folder=folder)
    other = pando(app("epoll_server"), other_port, workers=1, name="other", folder=folder)
    other_pids = other.wait_ready() and other.pids()
    kill_keeper(instance, and_primary=True)
    assert instance.ctl("stop").returncode == 0
    wait_until(lambda: not instance.family())
    assert other.pids() == other_pids
    assert http_get(other_port).status == 200


def test_the_next_run_of_the_name_finds_what_a_killed_keeper_left(pando, folder):
    """It adopts, cleans up, or says what is there and what to do; but never are there two sets of workers side by side."""
    port = free_port()
    first = pando(app("epoll_server"), port, workers=2, folder=folder)
    workers = kill_keeper(first)
    second = pando(app("epoll_server"), port, workers=2, folder=folder)
    # Until it has given up, or is itself the keeper of two ready workers: the socket may still be that of the first.
    wait_until(lambda: second.process.poll() is not None or (status := second.try_status()) is not None
               and (status["keeper_pid"], status["ready"]) == (second.process.pid, 2))
    if second.process.poll() is not None:
        assert second.process.returncode == 1
        assert "pando stop" in second.log()
        assert pids_answering(port, 2) == set(workers), "the refused run disturbed those that serve"
        first.ctl("stop", check=0)
        first.assert_nothing_left()
        second = pando(app("epoll_server"), port, workers=2, folder=folder)
        second.wait_ready()
    now = set(second.pids().values())
    wait_until(lambda: all(pid in now or not alive(pid) for pid in workers), what="the old workers are adopted or gone")
    assert pids_answering(port, 2) == now
    assert second.stop() == 0
    first.assert_nothing_left()


def test_the_next_run_of_the_name_takes_over_when_keeper_and_primary_were_killed(pando, folder):
    port = free_port()
    first = pando(app("epoll_server"), port, workers=2, folder=folder)
    workers = kill_keeper(first, and_primary=True)
    second = pando(app("epoll_server"), port, workers=2, folder=folder)
    second.wait_ready()
    now = set(second.pids().values())
    wait_until(lambda: all(pid in now or not alive(pid) for pid in workers), what="the old workers are adopted or gone")
    assert pids_answering(port, 2) == now
    assert second.stop() == 0
    first.assert_nothing_left()


def wait_for(instance, condition, what):
    """As wait_status, for an instance whose first process has been killed."""
    return wait_until(lambda: (status := instance.try_status()) is not None and condition(status) and status, what=what)


def wait_new_keeper(instance, old):
    return wait_for(instance, lambda status: status["keeper_pid"] not in (None, old), "another keeper")


def test_the_primary_becomes_the_keeper_and_another_primary_takes_over(pando):
    port = free_port()
    instance = pando(app("epoll_server"), port, workers=3)
    before = instance.wait_ready()
    assert before["degraded"] is None
    workers = instance.pids()
    with Load(port, clients=8) as load:
        kill_keeper(instance)
        after = wait_new_keeper(instance, before["keeper_pid"])
        load.wait_answered(50)
    assert not load.failures, load.failures[:5]
    assert after["keeper_pid"] == before["primary_pid"] and after["primary_pid"] not in (before["primary_pid"], before["keeper_pid"])
    assert instance.pids() == workers and after["ready"] == 3
    assert "3 workers" in after["degraded"] and "restart" in after["degraded"]
    assert "degraded: " in instance.ctl("status", check=0).stdout
    instance.ctl("stop", check=0)
    instance.assert_nothing_left()


def test_workers_of_a_killed_keeper_are_replaced_and_how_they_ended_is_known(pando):
    port = free_port()
    instance = pando(app("epoll_server"), port, workers=2)
    before = instance.wait_ready()
    kill_keeper(instance)
    wait_new_keeper(instance, before["keeper_pid"])
    victim = instance.kill(0, signal.SIGTERM)
    status = wait_for(instance, lambda status: status["ready"] == 2 and status["workers"][0]["pid"] not in (None, victim), "replaced")
    # From the zombie, or from the pidfd where the kernel says it (Linux 6.15).
    assert status["workers"][0]["last_exit"] in ("signal TERM", "unknown")
    assert "1 worker" in status["degraded"]
    instance.ctl("restart", check=0)
    assert instance.status()["degraded"] is None
    victim = instance.kill(1)  # a child of the new keeper
    status = wait_for(instance, lambda status: status["ready"] == 2 and status["workers"][1]["pid"] not in (None, victim), "replaced")
    assert status["workers"][1]["last_exit"] == "signal KILL"
    assert len(pids_answering(port, 2)) == 2
    instance.ctl("scale", 4, check=0)
    instance.ctl("scale", 1, check=0)
    instance.ctl("stop", check=0)
    instance.assert_nothing_left()


def test_keepers_and_primaries_killed_one_after_the_other_under_load(pando):
    port = free_port()
    instance = pando(app("epoll_server"), port, workers=3)
    before = instance.wait_ready()
    workers = instance.pids()
    fds = set()
    with Load(port, clients=8, pause=0.001) as load:
        for number in range(count(60)):
            victim = before["primary_pid" if number % 3 == 2 else "keeper_pid"]
            os.kill(victim, signal.SIGKILL)
            before = wait_for(instance, lambda status: victim not in (status["keeper_pid"], status["primary_pid"]) and status["ready"] == 3,
                              "keeper and primary are there")
            load.wait_answered(10)
            wait_until(lambda: len(instance.family()) == 5, what=f"keeper, primary and three workers, not {instance.family()}")
            fds.add(fd_count(before["keeper_pid"]))
    assert not load.failures, load.failures[:5]
    assert instance.pids() == workers
    assert max(fds) - min(fds) <= 2, f"descriptors of the keepers: {sorted(fds)}"
    instance.ctl("stop", check=0)
    instance.assert_nothing_left()


@pytest.mark.parametrize("option", [[], ["--now"]])
def test_stop_in_the_moment_of_the_keepers_death(pando, option):
    port = free_port()
    instance = pando(app("epoll_server"), port, workers=2)
    kill_keeper(instance)
    instance.ctl("stop", *option, check=0)
    instance.assert_nothing_left()


def test_a_keeper_killed_while_a_worker_is_in_a_crash_loop_changes_nothing_for_it(pando):
    instance = pando(PYTHON, "-c", "import sys; print('cannot go on', flush=True); sys.exit(3)", workers=1)
    before = instance.wait_status(lambda status: status["workers"][0].get("crash_loop", 0) >= 4)
    os.kill(before["keeper_pid"], signal.SIGKILL)
    instance.process.wait(5)
    after = wait_new_keeper(instance, before["keeper_pid"])
    assert after["workers"][0]["crash_loop"] >= before["workers"][0]["crash_loop"]
    wait_for(instance, lambda status: "cannot go on" in status["workers"][0].get("last_line", ""), "what it wrote is known")
    wait_for(instance, lambda status: status["workers"][0]["crash_loop"] > after["workers"][0]["crash_loop"], "it is tried again")
    instance.ctl("stop", check=0)
    instance.assert_nothing_left()


def test_a_worker_that_the_new_keeper_may_not_look_into_starts_again(pando):
    """Under Yama only an ancestor may read a process's memory: a listener that is opened later cannot be shared any more."""
    code = """
import os, signal, socket, sys, time
first = socket.create_server(("127.0.0.1", int(sys.argv[1])))
def more(*_):
    globals()["second"] = socket.create_server(("127.0.0.1", int(sys.argv[2])))
signal.signal(signal.SIGUSR1, more)
while True:
    time.sleep(1)
"""
    port, other_port = free_port(), free_port()
    instance = pando(PYTHON, "-c", code, port, other_port, workers=2, env={"PANDO_DEBUG_REFUSE": "foreign"})
    before = instance.wait_ready()
    kill_keeper(instance)
    wait_new_keeper(instance, before["keeper_pid"])
    victim = instance.pids()[0]
    os.kill(victim, signal.SIGUSR1)
    wait_for(instance, lambda status: status["ready"] == 2 and status["workers"][0]["pid"] not in (None, victim), "it has started again")
    instance.wait_log("worker 0", "not its ancestor")
    assert instance.pids()[1] == before["workers"][1]["pid"]
    os.kill(instance.pids()[0], signal.SIGUSR1)  # a child of the new keeper may
    wait_until(lambda: f"127.0.0.1:{other_port}" in instance.status()["listen"])
    instance.ctl("stop", check=0)
    instance.assert_nothing_left()


def test_a_primary_that_cannot_become_the_keeper_says_so_and_can_be_stopped(pando, folder):
    port = free_port()
    instance = pando(app("epoll_server"), port, workers=2, folder=folder)
    before = instance.wait_ready()
    resource.prlimit(before["primary_pid"], resource.RLIMIT_NOFILE, (3, 4096))  # not one more descriptor
    os.kill(before["keeper_pid"], signal.SIGKILL)
    instance.process.wait(5)
    instance.wait_log("cannot become the keeper")
    resource.prlimit(before["primary_pid"], resource.RLIMIT_NOFILE, (4096, 4096))
    status = wait_for(instance, lambda status: status["keeper_pid"] is None, "nobody is the keeper")
    assert "could not be replaced" in status["degraded"]
    assert pids_answering(port, 2) == {worker["pid"] for worker in before["workers"]}
    assert instance.ctl("restart").returncode == 1
    second = pando(app("epoll_server"), port, workers=2, folder=folder)
    second.wait_status(lambda status: (status["keeper_pid"], status["ready"]) == (second.process.pid, 2), what="the second has taken over")
    assert second.stop() == 0
