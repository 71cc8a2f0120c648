"""Surroundings that are against us: said clearly, survived where it can be."""
import concurrent.futures
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import time

import pytest

from pando import PANDO, Load, app, count, free_port, http_get, pids_answering, wait_listening, wait_until


def test_pando_below_pando_says_that_the_outer_one_listens_already_and_what_to_do(pando):
    """One notify listener a process: the inner one cannot have its own (EBUSY), as in LXD."""
    port = free_port()
    outer = pando(PANDO, "run", "-n", "inner", "-w", "1", "--", app("epoll_server"), port, workers=1, name="outer",
                  options=["--ready", "delay=0ms"])
    outer.wait_log("[0]", "--no-intercept")


def test_pando_below_pando_works_without_interception(pando):
    port = free_port()
    outer = pando("sh", "-c", f'exec {PANDO} run -n inner -w 1 --no-intercept -- {app("epoll_server")} {port}', workers=1,
                  name="outer")
    outer.wait_ready()
    wait_listening(port)  # without interception the inner Pando does not know when that is
    assert http_get(port).status == 200


def test_a_run_time_folder_with_a_path_longer_than_a_socket_name_can_be_works(pando, folder):
    deep = folder / ("d" * 90) / ("e" * 90)
    deep.mkdir(parents=True)
    port = free_port()
    instance = pando(app("epoll_server"), port, workers=1, env={"PANDO_DIR": str(deep / "run")})
    wait_until(lambda: instance.ctl("status").returncode == 0, what="status answers")
    status = json.loads(instance.ctl("status", "--json", check=0).stdout)
    wait_until(lambda: json.loads(instance.ctl("status", "--json", check=0).stdout)["ready"] == 1)
    assert http_get(port).status == 200
    assert status["keeper_pid"] == instance.process.pid
    instance.ctl("stop", check=0)
    assert instance.exit_code() == 0


def test_a_run_time_folder_that_cannot_be_made_is_an_error_that_names_it(pando):
    instance = pando(app("epoll_server"), free_port(), workers=1, env={"PANDO_DIR": "/proc/no/such/folder"})
    assert instance.exit_code() == 1
    assert "/proc/no/such/folder" in instance.log()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_without_a_run_time_folder_in_the_environment_an_ordinary_user_gets_one_in_tmp(pando):
    uid = 54321  # nobody has this one
    instance = pando(app("epoll_server"), free_port(), workers=1, uid=uid, env={"PANDO_DIR": None, "XDG_RUNTIME_DIR": None})
    home = f"/tmp/pando-{uid}"
    try:
        wait_until(lambda: os.path.exists(f"{home}/app.sock"))
        assert os.stat(home).st_uid == uid
        instance.signal(signal.SIGTERM)
        assert instance.exit_code() == 0
    finally:
        shutil.rmtree(home, ignore_errors=True)


def test_a_frozen_worker_strands_nobody_who_waits_in_the_queue(pando):
    port = free_port()
    instance = pando(app("blocking_server"), port, 200, workers=3)
    instance.wait_ready()
    victim = instance.kill(0, signal.SIGSTOP)
    try:
        with Load(port, clients=8, timeout=10) as load:
            load.wait_answered(200)
        assert len(load.failures) <= 1, load.failures[:5]  # at most the one that it was about to accept
    finally:
        os.kill(victim, signal.SIGCONT)


def test_a_worker_that_closes_its_listener_and_opens_it_again_is_back(pando):
    code = """
import os, socket, sys
def serve(listener):
    while True:
        try:
            sock, _ = listener.accept()
        except OSError:
            if for_good:
                continue
            return
        sock.recv(4096)
        body = b"pid %d\\n" % os.getpid()
        sock.sendall(b"HTTP/1.1 200 OK\\r\\nConnection: close\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body)
        sock.close()
for_good = False
for _ in range(4):
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.settimeout(0.5)
    listener.bind(("127.0.0.1", int(sys.argv[1])))
    listener.listen()
    serve(listener)
    listener.close()
for_good = True
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
listener.settimeout(0.5)
print("for good", flush=True)
serve(listener)
"""
    port = free_port()
    instance = pando("/usr/bin/python3", "-c", code, port, workers=2)
    wait_until(lambda: instance.output().count("for good") == 2, what="the program bound its port again and again")
    assert pids_answering(port, 2) == set(instance.pids().values())
    assert sum(worker["restarts"] for worker in instance.status()["workers"]) == 0


def test_a_program_that_forks_its_own_workers_below_one_listener(pando):
    """Pre-forking servers (gunicorn, puma) bind once and accept in several children."""
    code = """
import os, socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
for _ in range(2):
    if os.fork() == 0:
        while True:
            sock, _ = listener.accept()
            sock.recv(4096)
            body = b"pid %d\\n" % os.getpid()
            sock.sendall(b"HTTP/1.1 200 OK\\r\\nConnection: close\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body)
            sock.close()
os.wait()
"""
    port = free_port()
    instance = pando("/usr/bin/python3", "-c", code, port, workers=2)
    instance.wait_ready()
    assert len(pids_answering(port, 4)) == 4
    slot, pid = next(iter(instance.pids().items()))
    instance.kill(slot)
    instance.wait_replaced(slot, pid)
    assert len(pids_answering(port, 4)) == 4


def test_signals_in_a_burst_are_survived(pando):
    port = free_port()
    instance = pando(app("epoll_server"), port, workers=2)
    instance.wait_ready()
    for _ in range(300):
        for signo in (signal.SIGCHLD, signal.SIGWINCH, signal.SIGUSR1, signal.SIGCONT):
            instance.signal(signo)
    time.sleep(0.3)
    assert instance.status()["ready"] == 2
    assert http_get(port).status == 200


def test_a_killed_command_line_client_is_nobodys_problem(pando):
    instance = pando(app("epoll_server"), free_port(), workers=1)
    instance.wait_ready()
    for verb in (["logs", "-f"], ["status"], ["restart"]):
        client = subprocess.Popen([str(PANDO), verb[0], "-n", "app", *verb[1:]], env=instance.env, stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        time.sleep(0.05)
        client.kill()
        client.communicate()
    assert instance.wait_ready()["ready"] == 1


def test_two_instances_with_run_time_folders_of_their_own_do_not_see_each_other(pando):
    one = pando(app("epoll_server"), free_port(), workers=1)
    two = pando(app("epoll_server"), free_port(), workers=1)
    one.wait_ready(), two.wait_ready()
    assert one.stop() == 0
    assert two.status()["ready"] == 1


def test_term_in_the_first_moments_of_run_leaves_nothing(pando, folder):
    for number in range(count(100)):
        instance = pando(app("epoll_server"), free_port(), workers=2, folder=folder, name=f"early{number}")
        time.sleep(random.random() * 0.15)
        instance.signal(signal.SIGTERM)
        assert instance.exit_code() in (0, -signal.SIGTERM)  # before there was anything to clean up, the signal does what it always does
        instance.assert_nothing_left()
    left = [path.name for path in (folder / "run").glob("*") if path.suffix != ".lock"] if (folder / "run").exists() else []
    assert not left, left


@pytest.fixture
def limits():
    """Lowers a process's limit; everything is as before at the end."""
    lowered = []

    def lower(pid, what, soft):
        before = resource.prlimit(pid, what)
        lowered.append((pid, what, before))
        resource.prlimit(pid, what, (soft, before[1]))

    def restore():
        while lowered:
            pid, what, before = lowered.pop()
            try:
                resource.prlimit(pid, what, before)
            except ProcessLookupError:
                pass

    lower.restore = restore
    yield lower
    restore()


@pytest.mark.parametrize("whose", ["keeper_pid", "primary_pid"])
def test_no_descriptor_left_in_keeper_or_primary_a_dead_worker_comes_back_when_there_is_one_again(pando, limits, whose):
    port = free_port()
    instance = pando(app("epoll_server"), port, workers=3)
    status = instance.wait_ready()
    limits(status[whose], resource.RLIMIT_NOFILE, 3)
    victim = status["workers"][0]["pid"]
    with Load(port, clients=4, pause=0.002) as load:
        os.kill(victim, signal.SIGKILL)
        instance.wait_log("worker 0", "Too many open files")
        load.wait_answered(50)
        limits.restore()
        wait_until(lambda: (now := instance.try_status()) and now["ready"] == 3, 60, "all are back")
    assert len(load.failures) <= 4, load.failures[:5]  # what was inside the worker
    assert len(pids_answering(port, 3)) == 3


def limit_processes(uid, pid, soft):
    """As that user: only its own processes count, and only for an ordinary user."""
    subprocess.run(["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "prlimit", f"--pid={pid}", f"--nproc={soft}:"], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only for an ordinary user is there a limit of processes, and only root can become one")
def test_no_process_left_for_the_user_a_dead_worker_comes_back_when_there_is_one_again(pando):
    uid = 54322  # nobody else's
    port = free_port()
    instance = pando(app("epoll_server"), port, workers=2, uid=uid)
    status = instance.wait_ready()
    limit_processes(uid, status["keeper_pid"], 1)
    os.kill(status["workers"][0]["pid"], signal.SIGKILL)
    instance.wait_log("worker 0", "Resource temporarily unavailable")
    assert http_get(port).status == 200
    limit_processes(uid, status["keeper_pid"], 4096)
    instance.wait_ready(2, deadline=60)


def reload_is_refused_and_changes_nothing(instance, port, code, reason):
    before = instance.pids()
    with Load(port, clients=4, pause=0.002) as load:
        refused = instance.ctl("reload", "--stable", "50ms", timeout=180)
        load.wait_answered(20)
    assert refused.returncode == code and reason in refused.stderr, refused
    assert not load.failures, load.failures[:5]
    assert instance.pids() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only for an ordinary user is there a limit of processes, and only root can become one")
def test_no_process_left_for_the_user_a_reload_is_refused(pando):
    uid = 54323  # nobody else's
    port = free_port()
    instance = pando(app("epoll_server"), port, workers=2, uid=uid)
    status = instance.wait_ready()
    limit_processes(uid, status["keeper_pid"], 1)
    reload_is_refused_and_changes_nothing(instance, port, 4, "Resource temporarily unavailable")
    limit_processes(uid, status["keeper_pid"], 4096)
    instance.ctl("reload", "--stable", "50ms", check=0, timeout=180)


def test_no_descriptor_left_in_the_keeper_a_reload_is_refused(pando, limits):
    port = free_port()
    instance = pando(app("epoll_server"), port, workers=2)
    status = instance.wait_ready()
    limits(status["keeper_pid"], resource.RLIMIT_NOFILE, 3)
    reload_is_refused_and_changes_nothing(instance, port, 1, "Too many open files")  # it has not begun
    limits.restore()
    instance.ctl("reload", "--stable", "50ms", check=0, timeout=180)


def test_no_memfd_to_be_had_a_dead_worker_comes_back_when_there_is_one_again(pando, limits):
    """A plan of a worker is a memfd: a file of no bytes at most stands for a system without memory."""
    port = free_port()
    instance = pando(app("epoll_server"), port, workers=2)
    status = instance.wait_ready()
    limits(status["primary_pid"], resource.RLIMIT_FSIZE, 0)
    os.kill(status["workers"][0]["pid"], signal.SIGKILL)
    assert http_get(port).status == 200
    wait_until(lambda: "File too large" in instance.log() or (instance.try_status() or {"primary_pid": None})["primary_pid"] != status["primary_pid"],
               what="it is said, or another primary tries")
    limits.restore()
    instance.wait_ready(2, deadline=60)
    assert instance.pids()[1] == status["workers"][1]["pid"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a small file system of its own (mount)")
def test_a_full_disk_costs_lines_of_the_log_and_nothing_else(pando, folder):
    disk = folder / "disk"
    disk.mkdir()
    probe = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk)], capture_output=True, text=True)
    if probe.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {probe.stderr.strip()}")
    try:
        port = free_port()
        instance = pando("/usr/bin/python3", "-c", CHATTY, port, workers=2, env={"PANDO_DIR": str(disk / "run")},
                         options=["--log-file", disk / "log"])
        instance.home = disk / "run"
        instance.wait_ready()
        (disk / "rest").write_bytes(b"")
        wait_until(lambda: os.statvfs(disk).f_bavail == 0 or http_get(port).status != 200, what="the disk is full")
        for _ in range(3):
            victim = instance.kill(0)
            instance.wait_replaced(0, victim)
            old = instance.primary_pid
            os.kill(old, signal.SIGKILL)
            instance.wait_status(lambda status: status["primary_pid"] != old and status["ready"] == 2)
            assert http_get(port).status == 200
        instance.ctl("reload", "--stable", "50ms", check=0, timeout=180)
        assert http_get(port).status == 200
        assert instance.stop() == 0
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


CHATTY = """
import os, socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    sock, _ = listener.accept()
    sock.recv(4096)
    print("x" * 8000, flush=True)
    body = b"pid %d\\n" % os.getpid()
    sock.sendall(b"HTTP/1.1 200 OK\\r\\nConnection: close\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body)
    sock.close()
"""


def test_two_controllers_at_once_come_to_an_end_and_to_one_result(pando):
    port = free_port()
    instance = pando(app("epoll_server"), port, workers=2)
    instance.wait_ready()
    verbs = [("scale", 3), ("restart",), ("scale", 1), ("restart",), ("scale", 4), ("status",), ("scale", 2), ("restart", 0)]
    with Load(port, clients=4, pause=0.002) as load, concurrent.futures.ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda verb: instance.ctl(*verb), verbs * 2))
        load.wait_answered(10)
    assert not load.failures, load.failures[:5]
    assert {one.returncode for one in done} <= {0, 1, 2}, [one.stderr for one in done]
    for one in done:  # who was overtaken hears it
        assert one.returncode == 0 or "another scale" in one.stderr or "slot" in one.stderr or "did not come back" in one.stderr, one.stderr
    status = instance.wait_status(lambda status: status["ready"] == status["wanted"] == len(status["workers"]))
    assert status["wanted"] in (1, 2, 3, 4)
    assert len(pids_answering(port, status["wanted"])) == status["wanted"]
    wait_until(lambda: len(instance.family()) == status["wanted"] + 2)
