"""A reload replaces every worker without losing a connection, or changes nothing at all."""
import os
import signal
import socket
import subprocess
import threading
import time

import pytest

import programs
from programs import NODE
from pando import (APPS, NIGHTLY, NOBODY, PYTHON, REQUEST_CLOSE, Load, app, ask_again, connect, count, free_port, http_get, http_values,
                   kill_if_alive, pids_answering, reachable_by_nobody, read_answer, script, wait_accepted, wait_listening, wait_until)

ROOT = os.geteuid() == 0
# Who and how: root in slot mode, root in pull mode, an ordinary user (who can only have pull mode).
WAYS = {
    "slot": {"options": ["--balance-mode", "slot"]},
    "pull": {"options": ["--balance-mode", "pull"]},
    "nobody": {"options": [], "uid": NOBODY},
}
# An ordinary user's pull mode is root's: where there is one to become, the latter is left to the night.
BY_DAY = [way for way in WAYS if NIGHTLY or way != "pull" or not (ROOT and reachable_by_nobody())]


def skip_unless_possible(way):
    if way != "pull" and not ROOT:
        pytest.skip("only root may use slot mode, or become another user")
    if way == "nobody" and not reachable_by_nobody():
        pytest.skip("an ordinary user cannot reach the build folder")


@pytest.fixture(params=BY_DAY)
def start(pando, request):
    """Starts an instance in each of the ways, quick to believe that a new worker is stable."""
    skip_unless_possible(request.param)

    def run(*command, options=(), **more):
        way = WAYS[request.param]
        return pando(*command, options=[*way["options"], "--stable", "50ms", *options], uid=way.get("uid"), **more)

    return run


def generations(instance):
    return {worker["generation"] for worker in instance.status()["workers"]}


def settle(instance, generation):
    """Until only that generation is left."""
    return instance.wait_status(lambda status: status["generation"] == generation and status["rollout"] is None and
                                all(worker["generation"] == generation for worker in status["workers"]) and
                                status["ready"] == status["wanted"], what=f"generation {generation} alone")


# ---- the good case

SERVERS = {
    "c-epoll": lambda port: [app("epoll_server"), port],
    "c-blocking": lambda port: [app("blocking_server"), port],
    "python": lambda port: [PYTHON, script("asyncio_server.py"), port],
    "python-select": lambda port: [PYTHON, script("http_server.py"), port],
    "node": lambda port: ["node", NODE / "node_http.js", port],
    "go": lambda port: next(program for program in programs.PROGRAMS if "Go" in program.name).command(port),
}


@pytest.mark.limit(1200)
@pytest.mark.parametrize("server", list(SERVERS))
def test_reloads_under_load_fail_no_request(start, server):
    """One connection a request; none of these programs knows of reloads."""
    if server == "go" and programs.missing(next(program for program in programs.PROGRAMS if "Go" in program.name)):
        pytest.skip("Go is not installed")
    port = free_port()
    instance = start(*SERVERS[server](port))
    instance.wait_ready()
    reloads = count(100) // 3 if server == "c-epoll" else count(30) // 3
    with Load(port, clients=8) as load:
        for k in range(max(reloads, 1)):
            load.wait_answered(20)
            instance.ctl("reload", "-e", f"ROUND={k}", check=0, timeout=120)
        load.wait_answered(20)
    assert not load.failures, f"{len(load.failures)} of {load.answered} failed: {load.failures[:5]}"
    settle(instance, max(reloads, 1) + 1)
    assert set(pids_answering(port, 2)) == set(instance.pids().values())


class KeepAlive:
    """Clients that send request after request on one connection. As every HTTP client does, they send a request anew when a
    connection that was used before turns out to be closed without a byte of an answer (RFC 9112 9.3.1); all else is a failure."""

    def __init__(self, port, clients=4, pause=0.005):
        self.port, self.pause = port, pause
        self.stopping = threading.Event()
        self.failures, self.answered, self.connections, self.again = [], 0, 0, 0
        self.threads = [threading.Thread(target=self._run, daemon=True) for _ in range(clients)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join(30)
            assert not thread.is_alive()

    def _run(self):
        sock, used, data = None, 0, b""
        while not self.stopping.is_set():
            try:
                if sock is None:
                    sock = connect(self.port)
                    self.connections += 1
                    used = 0
                data = b""
                sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                while b"\n" not in data.partition(b"\r\n\r\n")[2]:
                    part = sock.recv(65536)
                    if not part:
                        raise ConnectionResetError(f"closed after {len(data)} bytes")
                    data += part
                self.answered += 1
                used += 1
                if b"connection: close" in data.lower():
                    sock.close()
                    sock = None
            except OSError as error:
                if used == 0 or data:
                    self.failures.append(repr(error))
                else:
                    self.again += 1
                sock = None
            time.sleep(self.pause)


@pytest.mark.limit(600)
def test_keep_alive_clients_of_a_cooperative_program_lose_nothing(start):
    """It is told as soon as nothing new can come to it, and ends each connection with an answer that says so."""
    port = free_port()
    instance = start("node", NODE / "cooperative.js", port, options=["--cooperative", "--kill-timeout", "20s"])
    instance.wait_ready()
    with KeepAlive(port) as clients:
        for k in range(count(20)):
            wait_until(lambda before=clients.answered: clients.answered > before + 20)
            instance.ctl("reload", check=0, timeout=120)
    assert not clients.failures, clients.failures[:5]
    assert clients.connections > 4


def test_an_idle_keep_alive_connection_does_not_hold_a_reload_up(start):
    port = free_port()
    instance = start(app("epoll_server"), port, options=["--drain-timeout", "1h"])
    instance.wait_ready()
    with connect(port) as sock:
        ask_again(sock)
        instance.ctl("reload", check=0)
        settle(instance, 2)


@pytest.mark.parametrize("outgoing", [3, 40])
def test_connections_of_its_own_to_others_do_not_hold_a_reload_up(start, outgoing):
    """To a database, say: more of them than Pando remembers, or fewer."""
    port = free_port()
    with socket.create_server(("127.0.0.1", 0), backlog=500) as database:
        code = (f"import asyncio, os, socket, sys\nothers = [socket.create_connection(('127.0.0.1', {database.getsockname()[1]})) for _ in range({outgoing})]\n"
                "async def serve(reader, writer):\n await reader.readuntil(b'\\r\\n\\r\\n')\n"
                " writer.write(b'HTTP/1.1 200 OK\\r\\nConnection: close\\r\\n\\r\\npid %d\\n' % os.getpid())\n await writer.drain()\n writer.close()\n"
                "async def main():\n await (await asyncio.start_server(serve, '127.0.0.1', int(sys.argv[1]))).serve_forever()\n"
                "asyncio.run(main())\n")
        instance = start(PYTHON, "-c", code, port, options=["--drain-timeout", "1h"])
        instance.wait_ready()
        with Load(port, clients=2, pause=0.005) as load:
            instance.ctl("reload", check=0)
            load.wait_answered(10)
        assert not load.failures, load.failures[:5]
        settle(instance, 2)


def test_a_request_that_takes_long_is_answered_by_the_old_generation(start):
    port = free_port()
    instance = start(app("epoll_server"), port, 3000000, workers=1)
    instance.wait_ready()
    old = instance.pids()[0]
    with connect(port) as client:
        client.sendall(REQUEST_CLOSE)
        wait_accepted(instance, client)
        instance.ctl("reload", check=0)
        assert read_answer(client).pid == old


def test_progress_and_summary_are_shown(start):
    port = free_port()
    instance = start(app("epoll_server"), port, workers=3)
    instance.wait_ready()
    shown = instance.ctl("reload", check=0).stdout
    assert shown.count("is ready") == 3 and "generation 2 serves with 3 workers" in shown and "connections served" in shown
    result = instance.ctl("reload", "--json", check=0).stdout
    assert '"generation":3' in result.replace(" ", "")


def test_slots_keep_their_numbers(start):
    port = free_port()
    instance = start(app("epoll_server"), port, workers=4, options=["--surge", "2"])
    instance.wait_ready()
    for generation in (2, 3):
        instance.ctl("reload", check=0)
        status = settle(instance, generation)
        assert [worker["slot"] for worker in status["workers"]] == [0, 1, 2, 3]


# ---- what is taken anew

def test_command_environment_and_options_are_taken_anew(start):
    port = free_port()
    instance = start(app("says_limits"), port, workers=1, options=["-e", "A=1", "-e", "B=1"])
    instance.wait_ready()
    first = http_values(port)
    assert first["env"]["A"] == "1" and first["env"]["PANDO_GENERATION"] == "1"
    instance.ctl("reload", "-e", "A=2", "--", app("says_limits"), port, check=0)
    second = http_values(port)["env"]
    assert second["A"] == "2" and second["B"] == "1" and second["PANDO_GENERATION"] == "2" and second["PANDO_WORKER"] == "0"
    refused = instance.ctl("reload", "--balance", "rr", check=2)
    assert "--balance" in refused.stderr and "run it anew" in refused.stderr
    assert "pando scale" in instance.ctl("reload", "-w", "3", check=2).stderr
    instance.ctl("reload", "--nonsense", check=2)
    assert generations(instance) == {2}


def test_update_env_takes_over_the_callers_environment(start):
    port = free_port()
    instance = start(app("says_limits"), port, workers=1)
    instance.wait_ready()
    instance.env["FROM_THE_CALLER"] = "yes"
    instance.ctl("reload", check=0)
    assert "FROM_THE_CALLER" not in http_values(port)["env"]
    instance.ctl("reload", "--update-env", check=0)
    assert http_values(port)["env"]["FROM_THE_CALLER"] == "yes"


def test_a_link_to_the_release_folder_is_followed_anew_and_the_old_generation_stays_in_its_own(start, folder):
    """What respawns during the roll-out comes from the folder and the executable of its own generation."""
    port = free_port()
    folder.chmod(0o755)
    for release in ("one", "two"):
        (folder / release).mkdir()
        (folder / release / "name").write_text(release)
    (folder / "two" / "broken").touch()
    current = folder / "current"
    current.symlink_to("one")
    code = "import os, sys; sys.argv[1:2] = []; os.path.exists('broken') and sys.exit(7); exec(open(sys.argv.pop(1)).read())"
    instance = start(PYTHON, "-c", code, "x", script("asyncio_server.py"), port, options=["-C", current])
    instance.wait_ready()
    fresh = folder / "fresh"
    fresh.symlink_to("two")
    fresh.rename(current)
    assert instance.ctl("reload").returncode == 4
    old = instance.kill(0)
    pid = instance.wait_replaced(0, old)
    assert os.path.realpath(f"/proc/{pid}/cwd") == str(folder / "one")
    (folder / "two" / "broken").unlink()
    instance.ctl("reload", check=0)
    status = settle(instance, 3)
    assert all(os.path.realpath(f"/proc/{worker['pid']}/cwd") == str(folder / "two") for worker in status["workers"])


def test_an_executable_that_was_replaced_still_respawns_for_its_own_generation(start, folder):
    port = free_port()
    folder.chmod(0o755)
    server = folder / "server"
    subprocess.run(["cp", app("epoll_server"), server], check=True)
    instance = start(server, port)
    instance.wait_ready()
    inode = server.stat().st_ino
    fresh = folder / "fresh"
    fresh.write_text("#!/bin/sh\nexit 9\n")
    fresh.chmod(0o755)
    fresh.rename(server)
    old = instance.kill(0)
    pid = instance.wait_replaced(0, old)
    assert os.stat(f"/proc/{pid}/exe").st_ino == inode
    refused = instance.ctl("reload")
    assert refused.returncode == 4 and "code 9" in refused.stderr


# ---- new versions that are no good

BROKEN = {
    "its file is missing": (["/no/such/server"], "No such file"),
    "its interpreter is missing": (["NO_INTERPRETER"], "No such file"),
    "it may not be executed": (["NOT_EXECUTABLE"], "Permission denied"),
    "it is a folder": (["/tmp"], "Permission denied"),
    "it exits with 1": (["false"], "code 1"),
    "it exits with 0": (["true"], "code 0"),
    "it is killed": (["sh", "-c", "kill -SEGV $$"], "SEGV"),
    "it throws": (["node", "-e", "throw new Error('no database')"], "no database"),
    "it never listens": (["sleep", "100"], "does not listen"),
    "it listens elsewhere": (["ELSEWHERE"], "--allow-new-address"),
    "it needs too long": (["sh", "-c", "sleep 50; exec epoll_server"], "does not listen"),
    "it crashes soon after it was ready": (["CRASHES_AFTER"], "signal"),
}


@pytest.mark.limit(300)
def test_a_broken_version_changes_nothing(start, folder):
    port, other = free_port(), free_port()
    folder.chmod(0o755)
    script_file = folder / "script"
    script_file.write_text("#!/no/such/interpreter\n")
    script_file.chmod(0o755)
    plain = folder / "plain"
    plain.write_text("#!/bin/sh\n")
    plain.chmod(0o644)
    commands = {
        "NO_INTERPRETER": [script_file],
        "NOT_EXECUTABLE": [plain],
        "ELSEWHERE": [app("epoll_server"), other],
        "CRASHES_AFTER": [app("crash_after_ready"), port, 1000],
    }
    instance = start(app("epoll_server"), port, options=["--ready-timeout", "60s", "--stable", "2s"])
    instance.wait_ready()
    before = instance.pids()
    with Load(port, clients=4, pause=0.005) as load:
        for what, (command, reason) in BROKEN.items():
            load.wait_answered(5)
            command = commands.get(command[0], command)
            patience = {"does not listen": ["--ready-timeout", "1s"], "--allow-new-address": ["--ready-timeout", "2s"]}.get(reason, [])
            refused = instance.ctl("reload", *patience, "--", *command, timeout=180)
            assert refused.returncode == 4, f"{what}: {refused}"
            assert reason.lower() in refused.stderr.lower(), f"{what}: {refused.stderr}"
        load.wait_answered(20)
    assert not load.failures, load.failures[:5]
    assert instance.pids() == before, "the old workers are the same"
    assert generations(instance) == {1}
    instance.ctl("reload", "--stable", "50ms", "--", app("epoll_server"), port, check=0)  # and a good one still works


def test_a_new_address_is_taken_when_allowed(start):
    port, other = free_port(), free_port()
    instance = start(app("epoll_server"), port)
    instance.wait_ready()
    instance.ctl("reload", "--allow-new-address", "--", app("epoll_server"), other, check=0)
    wait_listening(other)
    settle(instance, 2)
    assert pids_answering(other, 2) == set(instance.pids().values())


def test_the_last_output_of_the_new_version_is_shown(start):
    port = free_port()
    instance = start(app("epoll_server"), port)
    instance.wait_ready()
    refused = instance.ctl("reload", "--", "sh", "-c", "echo the database is down; exit 3")
    assert refused.returncode == 4 and "the database is down" in refused.stderr and "code 3" in refused.stderr


def test_reload_in_a_crash_loop_is_the_way_out(start, folder):
    port = free_port()
    broken = folder / "broken"
    folder.chmod(0o755)
    instance = start("sh", "-c", f"[ -e {broken} ] && exit 3; exec {app('epoll_server')} {port}")
    instance.wait_ready()
    broken.touch()
    broken.chmod(0o644)
    for slot in (0, 1):
        instance.kill(slot, signal.SIGTERM)
    instance.wait_status(lambda status: all(worker.get("crash_loop", 0) >= 3 for worker in status["workers"]), 60)
    instance.ctl("reload", "--", app("epoll_server"), port, check=0)
    settle(instance, 2)
    assert pids_answering(port, 2)


# ---- going back

@pytest.mark.limit(300)
def test_rollback_thaws_the_kept_generation(start):
    port = free_port()
    instance = start(app("epoll_server"), port)
    instance.wait_ready()
    old = instance.pids()
    with Load(port, clients=4, pause=0.002) as load:
        for _ in range(3):
            load.wait_answered(20)
            instance.ctl("reload", "--keep-old", "60s", check=0)
            instance.wait_status(lambda status: sum(worker.get("kept", False) for worker in status["workers"]) == 2)
            load.wait_answered(20)
            instance.ctl("rollback", check=0)
            settle(instance, 1)
            assert instance.pids() == old
        load.wait_answered(20)
    assert not load.failures, load.failures[:5]
    assert pids_answering(port, 2) == set(old.values())


def test_kept_workers_end_when_their_time_is_over(start):
    port = free_port()
    instance = start(app("epoll_server"), port)
    instance.wait_ready()
    old = set(instance.pids().values())
    instance.ctl("reload", "--keep-old", "1s", check=0)
    settle(instance, 2)
    assert old.isdisjoint(instance.pids().values())


def test_connections_do_not_wait_for_frozen_workers_when_all_others_are_dead(start):
    """There is nobody to take them for a while; those that come take them all, also from the queues of the kept ones."""
    port = free_port()
    slow = "import runpy, sys, time\ntime.sleep(0.7)\nsys.argv = sys.argv[1:]\nrunpy.run_path(sys.argv[0], run_name='__main__')"
    instance = start(PYTHON, "-c", slow, script("asyncio_server.py"), port)
    instance.wait_ready()
    instance.ctl("reload", "--keep-old", "10m", check=0)
    status = instance.wait_status(lambda status: sum(worker.get("kept", False) for worker in status["workers"]) == 2)
    new = [worker["pid"] for worker in status["workers"] if not worker.get("kept")]
    for pid in new:
        os.kill(pid, signal.SIGKILL)
    instance.wait_status(lambda status: status["ready"] == 0)
    socks = [connect(port, timeout=60) for _ in range(24)]
    for sock in socks:
        ask_again(sock)
        sock.close()


def test_rollback_without_kept_workers_starts_the_old_version_anew(start):
    port = free_port()
    instance = start(app("says_limits"), port, options=["-e", "V=old"])
    instance.wait_ready()
    assert "no generation came before" in instance.ctl("rollback", check=1).stderr
    instance.ctl("reload", "-e", "V=new", check=0)
    settle(instance, 2)
    assert http_values(port)["env"]["V"] == "new"
    instance.ctl("rollback", check=0)
    settle(instance, 3)
    assert http_values(port)["env"]["V"] == "old"


def test_a_stop_ends_kept_workers_too(start):
    port = free_port()
    instance = start(app("epoll_server"), port)
    instance.wait_ready()
    instance.ctl("reload", "--keep-old", "60s", check=0)
    assert instance.stop() == 0


# ---- canary

def counts(instance):
    """Does the kernel count what becomes of the connections of each worker?"""
    return instance.status()["mode"] == "slot" and "what is open" not in str(instance.ask({"verb": "info"}))


def share(port, instance, requests):
    """(answers by workers of the newest generation, answers), while the canary is on trial."""
    newest = max(worker["generation"] for worker in instance.status()["workers"])
    pids = {worker["pid"] for worker in instance.status()["workers"] if worker["generation"] == newest}
    of_new = of_all = 0
    while of_all < requests:
        batch = [http_get(port).pid for _ in range(20)]
        if instance.status()["generation"] == newest or "promoted" in instance.log():
            break  # it may have ended in between
        of_new += sum(pid in pids for pid in batch)
        of_all += len(batch)
    return of_new, of_all


def test_a_canary_gets_its_share_and_is_promoted(start):
    port = free_port()
    instance = start(app("epoll_server"), port, workers=4)
    instance.wait_ready()
    shown = []
    reload = threading.Thread(target=lambda: shown.append(instance.ctl("reload", "--canary", "20%", "--for", "4s", check=0, timeout=180)))
    reload.start()
    instance.wait_log("gets 20 %", "judged by crashes, hangs and" + (" connections cut off" if counts(instance) else ", comparing times with it and without"))
    of_new, of_all = share(port, instance, 200)
    exact = instance.status()["mode"] == "slot"
    assert of_all >= 20, "too slow a machine to tell"
    least, most = (0.2 * of_all - 5, 0.2 * of_all + 5) if exact else (0.2 * of_all - 25, 0.2 * of_all + 35)
    assert least <= of_new <= most, f"{of_new} of {of_all}"
    reload.join(200)
    assert shown and "did no worse" in shown[0].stdout and "promoted" in shown[0].stdout, shown
    settle(instance, 2)


def test_a_canary_that_crashes_is_rolled_back(start):
    port = free_port()
    instance = start(app("epoll_server"), port, workers=4)
    instance.wait_ready()
    before = instance.pids()
    refused = instance.ctl("reload", "--canary", "25%", "--for", "30s", "--", app("crash_after_ready"), port, 1000, timeout=180)
    assert refused.returncode == 4 and "signal" in refused.stderr
    settle(instance, 1)
    assert instance.pids() == before


def test_a_canary_that_hangs_is_rolled_back(start):
    """It listens, and never accepts: who comes to it waits, and is answered by nobody until it is gone."""
    port = free_port()
    instance = start(app("epoll_server"), port, workers=2)
    instance.wait_ready()
    before = instance.pids()
    code = ("import socket, sys, time\nlistener = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n"
            "listener.setblocking(False)\ntime.sleep(1000)\n")
    with Load(port, clients=8, pause=0.005, timeout=1):
        refused = instance.ctl("reload", "--canary", "30%", "--for", "4s", "--drain-timeout", "1s", "--", PYTHON, "-c", code, port, timeout=180)
    assert refused.returncode == 4 and "hangs" in refused.stderr, refused
    settle(instance, 1)
    assert instance.pids() == before


def test_a_canary_that_resets_connections_is_rolled_back(start):
    """It accepts and aborts: the client gets a reset. Slot mode counts for each worker; pull mode compares times with it and without. Neither waits
    until the trial is over."""
    port = free_port()
    instance = start(app("epoll_server"), port, workers=2, options=["--stable", "50ms"])
    instance.wait_ready()
    code = ("import socket, struct, sys\nlistener = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n"
            "while True:\n sock, _ = listener.accept()\n sock.recv(10)\n"
            " sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))\n sock.close()\n")
    with Load(port, clients=4, pause=0.002):
        refused = instance.ctl("reload", "--canary", "30%", "--for", "60s", "--", PYTHON, "-c", code, port, timeout=180)
    assert refused.returncode == 4 and "was cut off from" in refused.stderr, refused
    settle(instance, 1)


# ---- other things meanwhile

def test_a_second_reload_waits_for_the_first(start):
    port = free_port()
    instance = start(app("epoll_server"), port, options=["--stable", "500ms"])
    instance.wait_ready()
    done = []
    threads = [threading.Thread(target=lambda: done.append(instance.ctl("reload", timeout=180).returncode)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(200)
    assert done == [0, 0, 0]
    settle(instance, 4)


def test_abort_cancels_the_first(start):
    port = free_port()
    instance = start(app("epoll_server"), port)
    instance.wait_ready()
    first = []
    thread = threading.Thread(target=lambda: first.append(instance.ctl("reload", "--stable", "60s", timeout=180)))
    thread.start()
    instance.wait_log("generation 2 starts")
    instance.ctl("reload", "--abort", check=0)
    thread.join(200)
    assert first and first[0].returncode in (1, 4)
    settle(instance, 3)


def test_scaling_during_a_reload(start):
    port = free_port()
    instance = start(app("epoll_server"), port, options=["--stable", "400ms"])
    instance.wait_ready()
    with Load(port, clients=4, pause=0.002) as load:
        thread = threading.Thread(target=lambda: instance.ctl("reload", check=0, timeout=180))
        thread.start()
        instance.wait_log("generation 2 starts")
        instance.ctl("scale", 4, check=0)
        thread.join(200)
        assert len(settle(instance, 2)["workers"]) == 4
        thread = threading.Thread(target=lambda: instance.ctl("reload", check=0, timeout=180))
        thread.start()
        instance.wait_log("generation 3 starts")
        instance.ctl("scale", 1, check=0)
        thread.join(200)
        assert len(settle(instance, 3)["workers"]) == 1
    assert not load.failures, load.failures[:5]


def test_stopping_during_a_reload(start):
    port = free_port()
    instance = start(app("epoll_server"), port)
    instance.wait_ready()
    done = []
    thread = threading.Thread(target=lambda: done.append(instance.ctl("reload", "--stable", "60s", timeout=180).returncode))
    thread.start()
    instance.wait_log("generation 2 starts")
    assert instance.stop() == 0
    thread.join(200)
    assert done == [1]


def test_hup_reloads(start):
    port = free_port()
    instance = start(app("epoll_server"), port)
    instance.wait_ready()
    before = set(instance.pids().values())
    with Load(port, clients=4) as load:
        load.wait_answered(20)
        instance.signal(signal.SIGHUP)
        settle(instance, 2)
        load.wait_answered(20)
    assert not load.failures
    assert before.isdisjoint(instance.pids().values())


def test_workers_killed_during_a_reload_are_replaced_and_do_not_stop_it(start):
    port = free_port()
    instance = start(app("epoll_server"), port, workers=3, options=["--stable", "300ms"])
    instance.wait_ready()
    thread = threading.Thread(target=lambda: instance.ctl("reload", check=0, timeout=180))
    thread.start()
    instance.wait_log("generation 2 is ready")
    for worker in instance.status()["workers"]:
        if worker["state"] == "serving":
            kill_if_alive(worker["pid"], signal.SIGKILL)
    thread.join(200)
    settle(instance, 2)
    assert pids_answering(port, 2)


@pytest.mark.limit(600)
def test_a_reload_goes_on_when_the_primary_is_killed(start):
    """At whatever moment: it is finished by the next one, and whoever waits hears how it ended."""
    port = free_port()
    instance = start(app("epoll_server"), port, options=["--stable", "100ms"])
    instance.wait_ready()
    with Load(port, clients=4, pause=0.002) as load:
        for k in range(count(60)):
            done = []
            thread = threading.Thread(target=lambda: done.append(instance.ctl("reload", timeout=180)))
            thread.start()
            instance.wait_log(f"generation {k + 2} starts")
            time.sleep(0.02 * (k % 30))
            old = instance.status()["primary_pid"]
            os.kill(old, signal.SIGKILL)
            instance.wait_status(lambda status: status["primary_pid"] != old)
            thread.join(200)
            assert done and done[0].returncode == 0, done
            settle(instance, k + 2)
    assert not load.failures, load.failures[:5]


# ---- ready by HTTP

HEALTH = """
import http.server, os, sys, time
begun, unwell_s = time.monotonic(), float(os.environ.get(f"UNWELL_{os.environ['PANDO_WORKER']}", os.environ.get("UNWELL", 0)))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        well = self.path != "/health" or time.monotonic() - begun >= unwell_s
        body = b"pid %d\\n" % os.getpid()
        self.send_response(200 if well else 503)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def test_ready_by_http_asks_that_very_worker(start):
    """Each has a socket of its own here, in pull mode too, as it polls and then accepts on a blocking listener."""
    port = free_port()
    instance = start(PYTHON, "-c", HEALTH, port, options=["--ready", "http=/health", "-e", "UNWELL_1=1000"])
    instance.wait_ready(1)
    time.sleep(1)
    workers = instance.workers()
    assert (workers[0]["state"], workers[1]["state"]) == ("serving", "starting")
    for _ in range(10):
        assert http_get(port).pid == workers[0]["pid"]


def test_ready_by_http_in_a_reload(start):
    port = free_port()
    instance = start(PYTHON, "-c", HEALTH, port, options=["--ready", "http=/health", "-e", "UNWELL=0.5"])
    instance.wait_ready()
    before = instance.pids()
    with Load(port, clients=4, pause=0.005) as load:
        refused = instance.ctl("reload", "-e", "UNWELL=1000", "--ready-timeout", "3s")
        assert refused.returncode == 4 and "not ready after 3s" in refused.stderr
        assert instance.pids() == before
        instance.ctl("reload", "-e", "UNWELL=0.2", check=0)
        load.wait_answered(10)
    assert not load.failures, load.failures[:5]
    settle(instance, 3)


def test_ready_by_http_where_a_generation_shares_its_socket(start):
    """Asked is the new generation, though the old one has the port's connections."""
    port = free_port()
    code = ("import asyncio, os, sys\nasync def serve(reader, writer):\n head = await reader.readuntil(b'\\r\\n\\r\\n')\n"
            " bad = head.startswith(b'GET /health') and 'BAD' in os.environ\n"
            " writer.write(b'HTTP/1.1 %d X\\r\\nContent-Length: 0\\r\\n\\r\\n' % (500 if bad else 200))\n"
            " await writer.drain()\n writer.close()\n"
            "async def main():\n await (await asyncio.start_server(serve, '127.0.0.1', int(sys.argv[1]))).serve_forever()\n"
            "asyncio.run(main())\n")
    instance = start(PYTHON, "-c", code, port, options=["--ready", "http=/health"])
    instance.wait_ready()
    assert instance.ctl("reload", "-e", "BAD=1", "--ready-timeout", "3s").returncode == 4
    instance.ctl("reload", check=0)
    settle(instance, 3)


def test_warm_up_asks_so_often_before_a_worker_counts(start):
    """Each worker has a socket of its own here; it tells how often it was asked by the time that the first client came."""
    port = free_port()
    instance = start(PYTHON, "-c", HEALTH.replace('b"pid %d\\n" % os.getpid()', 'b"pid %d asked %d\\n" % (os.getpid(), asked)')
                     .replace("well = ", "global asked\n        asked += self.path == '/health'\n        well = ").replace("begun, unwell_s", "asked = 0\nbegun, unwell_s", 1),
                     port, options=["--ready", "http=/health", "--warm-up", "7"])
    instance.wait_ready()
    for generation in (1, 2):
        asked = {}
        for _ in range(100):
            words = http_get(port).body.split()
            asked[int(words[1])] = int(words[3])
            if set(asked) == set(instance.pids().values()):
                break
        assert set(asked) == set(instance.pids().values()) and set(asked.values()) == {7}, asked
        if generation == 1:
            instance.ctl("reload", check=0)
            settle(instance, 2)
    refused = instance.ctl("reload", "--ready", "listen")
    assert refused.returncode == 2 and "--ready http=PATH too" in refused.stderr, refused
