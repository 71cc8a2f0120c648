"""A worker that dies is replaced; what waits in the queue waits for its successor."""
import os
import signal

from pando import alive, app, connect, free_port, http_get, pids_answering, read_answer, wait_until, REQUEST_CLOSE


def test_a_killed_worker_is_replaced_and_the_others_are_left_alone(pando):
    port = free_port()
    instance = pando(app("epoll_server"), port, workers=3)
    instance.wait_ready()
    before = instance.workers()
    instance.kill(1)
    instance.wait_replaced(1, before[1]["pid"])
    after = instance.workers()
    assert after[0]["pid"] == before[0]["pid"] and after[2]["pid"] == before[2]["pid"]
    assert [after[slot]["restarts"] - before[slot]["restarts"] for slot in range(3)] == [0, 1, 0]
    assert "KILL" in after[1]["last_exit"]
    pids_answering(port, 2)


def test_a_death_is_logged_with_its_signal_or_code(pando):
    port = free_port()
    instance = pando(app("epoll_server"), port, workers=2)
    instance.wait_ready()
    pid = instance.kill(0)
    instance.wait_log(str(pid), "KILL")
    pid = instance.kill(1, signal.SIGSEGV)
    instance.wait_log(str(pid), "SEGV")
    coded = pando("sh", "-c", "sleep 0.3; exit 7", workers=1)
    coded.wait_log("code 7")


def test_clients_wait_in_the_queue_while_every_worker_is_dead_and_are_answered_by_the_next(pando):
    port = free_port()
    instance = pando(app("blocking_server"), port, 2000, workers=2)
    instance.wait_ready()
    for _ in range(3):
        pids = instance.pids().values()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not any(map(alive, pids)))  # a dying process may still accept: that one would be lost
        waiting = [connect(port) for _ in range(40)]
        for sock in waiting:
            sock.sendall(REQUEST_CLOSE)
        for sock in waiting:
            assert read_answer(sock).status == 200
            sock.close()
        instance.wait_ready()


def test_everything_that_waits_while_the_only_worker_is_away_is_answered(pando, folder):
    """Away for as long as we please: the program waits for a file before it starts again."""
    port = free_port()
    gate = folder / "gate"
    instance = pando("sh", "-c", f'while [ ! -e {gate} ]; do sleep 0.05; done; exec {app("blocking_server")} {port}', workers=1)
    gate.touch()
    instance.wait_ready()
    gate.unlink()
    pid = instance.kill(0)
    wait_until(lambda: not alive(pid))
    waiting = [connect(port) for _ in range(100)]
    for sock in waiting:
        sock.sendall(REQUEST_CLOSE)
    gate.touch()
    assert len({read_answer(sock).pid for sock in waiting}) == 1
    for sock in waiting:
        sock.close()


def test_a_server_that_outlives_the_shell_that_started_it_is_ended_with_it(pando):
    """npm and yarn do the same: the direct child dies, the real server would stay behind."""
    port = free_port()
    instance = pando("sh", "-c", f"{app('epoll_server')} {port} & wait", workers=1)
    instance.wait_ready()
    shell = instance.pids()[0]
    server = http_get(port).pid
    assert server != shell
    instance.kill(0)
    wait_until(lambda: not alive(server), what="the server ended with its shell")
    instance.wait_replaced(0, shell)
    assert http_get(port).pid != server
