"""The one thing that is allowed to leave something behind: SIGKILL of the keeper. What is left serves, and is found again."""
import os
import signal

from pando import Load, alive, app, free_port, http_get, pids_answering, wait_until


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
