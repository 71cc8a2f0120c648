"""`--node-cluster`: unmodified Node programs are workers of Node's own cluster, and Pando is its primary."""
import collections
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time

import pytest

from node_lines import LINES, NEWEST, node_app
from pando import (APPS, NIGHTLY, NOBODY, PANDO, Load, alive, app, connect, count, fd_count, free_port, freeze, http_get, pids_answering,
                   reachable_by_nobody, wait_until)

PULL = ["--balance-mode", "pull"]
PASSED = [*PULL, "--balance", "rr"]  # no kernel can take exact turns there: the primary passes each connection
SLOT = ["--balance-mode", "slot"]
BALANCED = [pytest.param(SLOT, id="slot", marks=pytest.mark.skipif(os.geteuid() != 0, reason="slot mode needs CAP_BPF")),
            pytest.param(PULL, id="pull"), pytest.param(PASSED, id="passed")]

nodes = pytest.mark.parametrize("node", LINES)
newest = pytest.mark.parametrize("node", [NEWEST])


def _each_way():
    """At night every way of balancing on every line; else each way on one of them."""
    if NIGHTLY:
        return [pytest.param(*line.values, *way.values, id=f"{way.id}-{line.id}", marks=[*line.marks, *way.marks])
                for line in LINES for way in BALANCED]
    return [pytest.param(*line.values, *way.values, id=f"{way.id}-{line.id}", marks=[*line.marks, *way.marks])
            for line, way in zip((LINES[1], LINES[0], LINES[1]), BALANCED)]


balanced = pytest.mark.parametrize("node, balance", _each_way())


@pytest.fixture
def cluster(pando):
    def start(node, script, *arguments, options=(), **more):
        return pando(node, node_app(script), *arguments, options=["--node-cluster", *options], **more)

    return start


def facts(where, path="/", timeout=5.0):
    with connect(where, timeout) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        data = b""
        while part := sock.recv(65536):
            data += part
    return dict(line.split(" ", 1) for line in data.decode().partition("\r\n\r\n")[2].splitlines() if " " in line)


def messages(instance):
    return instance.ask({"verb": "messages"})["messages"]


# ---- who they are

@balanced
def test_workers_are_nodes_own_and_share_the_port(cluster, node, balance):
    port = free_port()
    instance = cluster(node, "who.js", port, options=balance)
    instance.wait_ready()
    assert pids_answering(port, 2) == set(instance.pids().values())
    seen = facts(port)
    assert (seen["isWorker"], seen["isPrimary"], seen["connected"]) == ("true", "false", "true")
    assert seen["id"] in ("1", "2") and seen["instance"] in ("0", "1")
    assert (seen["channel"], seen["unique"], seen["send"]) == ("undefined", "undefined", "function")
    assert json.loads(seen["address"]) == {"address": "::", "family": "IPv6", "port": port}
    assert instance.status()["listen"] == [f"[::]:{port}"]


@newest
def test_ids_are_never_used_twice(cluster, node):
    port = free_port()
    instance = cluster(node, "who.js", port)
    instance.wait_ready()
    ids = set()
    for _ in range(2):
        ids.add(int(facts(port)["id"]))
        for slot, pid in instance.pids().items():
            os.kill(pid, signal.SIGKILL)
            instance.wait_replaced(slot, pid)
        instance.wait_ready()
    ids.add(int(facts(port)["id"]))
    assert len(ids) == 3 and max(ids) > 4


@nodes
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "0.0.0.0"])
def test_a_host_is_what_the_worker_said(cluster, node, host):
    port = free_port()
    instance = cluster(node, "who.js", port, host, options=PASSED if host == "::1" else PULL)
    instance.wait_ready()
    target = ("::1" if host == "::1" else "127.0.0.1", port)
    assert json.loads(facts(target)["address"])["address"] == host


@balanced
def test_a_unix_socket_is_shared(cluster, node, balance, folder):
    path = str(folder / "app.sock")
    instance = cluster(node, "who.js", path, options=balance)
    instance.wait_ready()
    assert pids_answering(path, 2) == set(instance.pids().values())
    assert facts(path)["address"] == json.dumps(path)


@balanced
def test_ports_that_the_system_chooses_are_the_same_in_every_worker(cluster, node, balance):
    instance = cluster(node, "ports.js", workers=3, options=balance)
    instance.wait_ready()
    said = wait_until(lambda: (lambda said: said if len(said) == 3 else None)(messages(instance)), what="three workers tell their ports")
    ports = {(one["message"]["first"], one["message"]["second"]) for one in said}
    assert len(ports) == 1, ports
    first, second = ports.pop()
    assert first != second
    for port in (first, second):
        with connect(port) as sock:
            assert int(sock.recv(64)) in instance.pids().values()


@nodes
def test_udp_is_shared(cluster, node):
    port = free_port()
    instance = cluster(node, "udp.js", port)
    instance.wait_ready()
    pids = set(instance.pids().values())

    def ask():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(5)
            sock.sendto(b"who", ("127.0.0.1", port))
            return int(sock.recv(64).split()[1])

    assert ask() in pids
    # Whoever is left gets what is sent: a dead worker has no queue of its own.
    victim = next(iter(pids))
    os.kill(victim, signal.SIGSTOP)
    try:
        assert wait_until(lambda: ask() != victim)
    finally:
        os.kill(victim, signal.SIGCONT)


# ---- what Node's cluster does

def certificate(folder):
    key, cert = str(folder / "key.pem"), str(folder / "cert.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2", "-subj",
                    "/CN=localhost"], check=True, capture_output=True, timeout=60)
    return key, cert


@balanced
def test_a_tls_session_goes_on_with_another_worker_and_another_generation_of_them(cluster, node, balance, folder):
    port = free_port()
    key, cert = certificate(folder)
    instance = cluster(node, "tls.js", port, key, cert, options=balance)
    instance.wait_ready()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # the session is there after the handshake

    def ask(session):
        with socket.create_connection(("127.0.0.1", port), 5) as plain, context.wrap_socket(plain, session=session) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            data = b""
            while part := sock.recv(4096):
                data += part
            return int(re.search(rb"pid (\d+)", data).group(1)), sock.session, sock.session_reused

    def resumes_elsewhere(first, session):
        pid, _, reused = ask(session)
        assert reused, "the session was not resumed"
        return pid != first

    first, session, _ = ask(None)
    if balance == PULL:  # idle workers pull from one queue: a lone client may always meet the same one
        freeze(first)
    try:
        wait_until(lambda: resumes_elsewhere(first, session), what="another worker resumes the session")
    finally:
        os.kill(first, signal.SIGCONT)
    os.kill(instance.primary_pid, signal.SIGKILL)
    instance.wait_status(lambda status: status["ready"] == 2)
    instance.ctl("restart", check=0)
    assert ask(session)[2], "the keys outlive workers and primary"


@balanced
def test_a_worker_that_is_retired_disconnects_and_finishes_what_it_has(cluster, node, balance):
    port = free_port()
    instance = cluster(node, "who.js", port, workers=1, options=balance)
    instance.wait_ready()
    old = instance.pids()[0]
    with connect(port) as slow:
        slow.sendall(b"GET /?wait=1500 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        wait_until(lambda: "taken" in instance.output())
        restart = subprocess.Popen([str(PANDO), "restart", "-n", instance.name], env=instance.env)
        answer = b""
        while part := slow.recv(4096):
            answer += part
    assert f"pid {old}".encode() in answer
    assert restart.wait(30) == 0
    assert "disconnect event, voluntary true" in instance.output()
    assert instance.pids()[0] != old


@balanced
def test_a_worker_may_disconnect_by_itself_and_is_replaced(cluster, node, balance):
    port = free_port()
    instance = cluster(node, "who.js", port, options=balance)
    instance.wait_ready()
    pid = int(facts(port, "/disconnect")["pid"])
    slot = next(slot for slot, worker in instance.pids().items() if worker == pid)
    instance.wait_replaced(slot, pid)
    assert "disconnect event, voluntary true" in instance.output()
    instance.wait_ready()
    pids_answering(port, 2)


@balanced
def test_a_server_may_be_closed_and_opened_again(cluster, node, balance):
    port = free_port()
    instance = cluster(node, "again.js", port, options=balance)
    instance.wait_ready()
    first, second = instance.pids()[0], instance.pids()[1]
    os.kill(first, signal.SIGUSR2)
    wait_until(lambda: "closed 1" in instance.output())
    for _ in range(10):
        assert http_get(port).pid == second
    os.kill(first, signal.SIGUSR2)
    wait_until(lambda: "open 2" in instance.output())
    assert pids_answering(port, 2) == {first, second}
    # When the last one closes, nobody listens, as with Node.
    for pid in (first, second):
        os.kill(pid, signal.SIGUSR2)
    wait_until(lambda: instance.output().count("closed") == 3)

    def refused():
        try:
            connect(port).close()
        except ConnectionRefusedError:
            return True

    wait_until(refused, what="the port is closed")
    for pid in (first, second):
        os.kill(pid, signal.SIGUSR2)
    assert pids_answering(port, 2) == {first, second}


@balanced
def test_the_same_port_twice_in_one_worker_is_an_error(cluster, node, balance):
    port = free_port()
    instance = cluster(node, "twice.js", port, options=balance)
    instance.wait_ready()
    wait_until(lambda: instance.output().count("second EADDRINUSE") == 2, what=instance.output())
    assert "second listens" not in instance.output()


@nodes
def test_errors_of_binding_are_the_workers(cluster, node):
    port = free_port()
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", port))
        stranger.listen()
        instance = cluster(node, "who.js", port, "127.0.0.1", workers=1)
        wait_until(lambda: "error EADDRINUSE bind" in instance.output(), what=instance.output())
        instance.wait_log("asks for 127.0.0.1", "in use")
    instance.wait_ready()  # it is tried again, and the port is free now
    instance = cluster(node, "who.js", port, "203.0.113.77", workers=1, name="elsewhere")
    wait_until(lambda: "error EADDRNOTAVAIL bind" in instance.output(), what=instance.output())


@newest
def test_two_clusters_on_one_port_are_a_mistake(cluster, node):
    port = free_port()
    cluster(node, "who.js", port, name="first").wait_ready()
    second = cluster(node, "who.js", port, name="second")
    wait_until(lambda: "error EADDRINUSE bind" in second.output(), what=second.output())


# ---- the seed

@pytest.fixture
def port_3000():
    """The seed's own port, for one test at a time."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as claim:
        def claimed():
            try:
                claim.bind("\0pando-e2e-port-3000")
            except OSError:
                return False
            return True

        wait_until(claimed, 70, "other tests let go of port 3000", pause=0.1)
        try:
            connect(3000).close()
        except ConnectionRefusedError:
            yield 3000
        else:
            pytest.skip("something else listens on port 3000, which is the seed's")


SEED_ENV = {"NODE_PATH": str(APPS / "node/node_modules")}


def seed(name):
    if name == "server.js" and not (APPS / "node/node_modules/koa").exists():
        pytest.skip("Koa is not installed: tools/deps.sh test")
    return node_app(f"../seed/{name}")


@pytest.mark.parametrize("program", ["cluster.js", "server.js"])
@nodes
def test_the_seeds_programs_take_their_workers_branch_in_every_worker(pando, node, program, port_3000):
    instance = pando(node, seed(program), options=["--node-cluster"], env=SEED_ENV)
    instance.wait_ready()
    wait_until(lambda: instance.output().count("Created Worker") == 2)
    assert len(instance.family()) == 4, f"keeper, primary and two workers, not {instance.family()}"
    assert "ello" in http_get(port_3000).body
    instance.wait_replaced(0, instance.kill(0))
    assert "ello" in http_get(port_3000).body
    assert instance.stop() == 0


@newest
def test_without_the_option_a_program_that_forks_a_cluster_is_noticed(pando, node, port_3000):
    instance = pando(node, seed("cluster.js"))
    instance.wait_log("forked a cluster of its own", "--node-cluster")
    instance.stop()


# ---- passing connections

@newest
@pytest.mark.parametrize("workers", [2, 3])
def test_turns_are_exact_where_connections_are_passed(cluster, node, workers):
    port = free_port()
    instance = cluster(node, "who.js", port, workers=workers, options=PASSED)
    instance.wait_ready()
    seen = [http_get(port).pid for _ in range(workers * 10)]
    assert len(set(seen)) == workers
    assert max(collections.Counter(seen).values()) - min(collections.Counter(seen).values()) <= 1, seen
    assert instance.workers()[0]["passed"] > 0


@newest
def test_a_worker_that_is_stuck_holds_a_few_connections_and_the_others_serve_on(cluster, node):
    port = free_port()
    instance = cluster(node, "who.js", port, options=PASSED)
    instance.wait_ready()
    stuck = instance.pids()[0]
    freeze(stuck)
    waiting = []
    try:
        answered = 0
        for _ in range(60):
            sock = connect(port, 5)
            sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            sock.settimeout(0.3)
            try:
                answered += sock.recv(4096).startswith(b"HTTP/1.1 200")
                sock.close()
            except TimeoutError:
                waiting.append(sock)
        assert 1 <= len(waiting) <= 8 and answered + len(waiting) == 60
    finally:
        os.kill(stuck, signal.SIGCONT)
    for sock in waiting:
        sock.settimeout(10)
        assert f"pid {stuck}".encode() in sock.recv(4096)
        sock.close()


@nodes
def test_connections_that_a_dead_worker_had_not_begun_go_to_the_others(cluster, node):
    port = free_port()
    instance = cluster(node, "who.js", port, options=PASSED)
    instance.wait_ready()
    victim = instance.pids()[0]
    freeze(victim)
    socks = []
    for _ in range(12):
        sock = connect(port, 10)
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        socks.append(sock)
    time.sleep(0.1)
    os.kill(victim, signal.SIGKILL)
    for sock in socks:
        assert sock.recv(4096).startswith(b"HTTP/1.1 200")
        sock.close()


@nodes
def test_connections_over_the_limit_of_one_worker_go_to_one_with_room(cluster, node):
    port = free_port()
    instance = cluster(node, "who.js", port, options=PASSED, env={"MAX_CONNECTIONS": "2"})
    instance.wait_ready()
    held = []
    try:
        for _ in range(4):
            sock = connect(port)
            sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            held.append((sock, int(re.search(rb"pid (\d+)", sock.recv(4096)).group(1))))
        assert sorted(collections.Counter(pid for _, pid in held).values()) == [2, 2]
        with connect(port) as surplus:
            surplus.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            held.pop()[0].close()
            assert surplus.recv(4096).startswith(b"HTTP/1.1 200")  # it has waited for its turn
    finally:
        for sock, _ in held:
            sock.close()


@newest
def test_no_descriptors_left_means_waiting_not_losing(cluster, node):
    port = free_port()
    instance = cluster(node, "who.js", port, options=PASSED)
    instance.wait_ready()
    primary = instance.primary_pid
    http_get(port)
    limit = fd_count(primary) + 4
    subprocess.run(["prlimit", f"--pid={primary}", f"--nofile={limit}:"], check=True, timeout=10)
    workers = list(instance.pids().values())
    for pid in workers:
        freeze(pid)
    socks = []
    try:
        for _ in range(14):
            sock = connect(port, 20)
            sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            socks.append(sock)
        instance.wait_log("cannot accept connections to pass on")
    finally:
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
    for sock in socks:
        assert sock.recv(4096).startswith(b"HTTP/1.1 200")
        sock.close()


# ---- primaries and workers die

@balanced
def test_killing_the_primary_fails_no_request_and_changes_no_worker(cluster, node, balance):
    port = free_port()
    instance = cluster(node, "who.js", port, options=balance)
    instance.wait_ready()
    pids = instance.pids()
    kills = count(50)
    with Load(port, clients=8, pause=0.001) as load:
        for _ in range(kills):
            old = instance.primary_pid
            os.kill(old, signal.SIGKILL)
            instance.wait_status(lambda status: status["primary_pid"] != old, what="a new primary answers")
            load.wait_answered(20)
    # Between accept and sendmsg a connection is in the primary alone: where it passes them, a kill may hit that one.
    assert len(load.failures) <= (kills if balance == PASSED else 0), load.failures[:5]
    assert instance.pids() == pids
    # The new one knows the protocol's state: it retires a worker by it, and gives a successor its socket.
    instance.ctl("restart", 0, check=0)
    assert "disconnect event, voluntary true" in instance.output()
    pids_answering(port, 2)


@balanced
def test_killed_workers_are_replaced_under_load(cluster, node, balance):
    port = free_port()
    instance = cluster(node, "who.js", port, workers=3, options=balance)
    instance.wait_ready()
    with Load(port, clients=8, pause=0.001) as load:
        for turn in range(count(30)):
            victim = instance.kill(turn % 3)
            instance.wait_replaced(turn % 3, victim)
            load.wait_answered(20)
    # Lost is only what a killed worker had begun: at most what the clients had open.
    assert len(load.failures) <= 8 * count(30), load.failures[:5]
    instance.wait_ready()
    pids_answering(port, 3)


@balanced
def test_a_reload_under_load_loses_nothing(cluster, node, balance):
    port = free_port()
    instance = cluster(node, "who.js", port, options=[*balance, "--stable", "100ms"])
    instance.wait_ready()
    old = instance.pids()
    with Load(port, clients=8, pause=0.001) as load:
        load.wait_answered(50)
        for turn in range(count(10)):
            instance.ctl("reload", "-e", f"TURN={turn}", check=0)
            load.wait_answered(50)
    assert not load.failures, load.failures[:5]
    wait_until(lambda: not any(alive(pid) for pid in old.values()))
    assert instance.output().count("disconnect event, voluntary true") >= 2
    assert set(load.by_pid) >= set(instance.pids().values())
    pids_answering(port, 2)


@balanced
def test_a_version_that_does_not_come_up_is_refused_and_the_old_one_serves_on(cluster, node, balance):
    port = free_port()
    instance = cluster(node, "who.js", port, options=[*balance, "--stable", "100ms"])
    instance.wait_ready()
    old = instance.pids()
    done = instance.ctl("reload", "--", node, node_app("who.js"), "1", "203.0.113.77", check=4)
    assert "EADDRNOTAVAIL" in done.stdout + done.stderr
    assert instance.pids() == old
    assert pids_answering(port, 2) == set(old.values())


@newest
def test_a_crash_loop_leaves_the_others_alone(cluster, node, folder):
    port = free_port()
    script = folder / "crash.js"
    script.write_text("if (process.env.NODE_APP_INSTANCE === '1') { console.log('boom'); process.exit(7); }\nrequire(process.argv[2]);\n"
                      .replace("process.argv[2]", json.dumps(node_app("who.js"))))
    instance = cluster(node, str(script), port)
    status = instance.wait_status(lambda status: any(worker.get("crash_loop", 0) >= 3 for worker in status["workers"]))
    healthy = status["workers"][0]["pid"]
    assert http_get(port).pid == healthy
    instance.wait_log("crash loop")
    assert instance.pids()[0] == healthy


# ---- what is no worker of a cluster

@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed: tools/deps.sh test")
def test_npm_is_explained_and_run_the_ordinary_way(pando, folder):
    port = free_port()
    (folder / "package.json").write_text(json.dumps({"name": "x", "version": "1.0.0", "scripts": {"start": f"node {node_app('who.js')} {port}"}}))
    instance = pando("npm", "start", options=["--node-cluster"], cwd=str(folder), workers=2)
    instance.wait_log("--node-cluster has no effect on `npm start`", "package.json")
    instance.wait_ready()
    seen = facts(port)
    assert (seen["isWorker"], seen["isPrimary"]) == ("false", "true")
    pids_answering(port, 2)


@newest
def test_code_on_the_command_line_is_explained_and_run_the_ordinary_way(pando, node):
    port = free_port()
    code = f"require('http').createServer((q, s) => s.end('pid ' + process.pid + '\\n')).listen({port})"
    instance = pando(node, "-e", code, options=["--node-cluster"])
    instance.wait_log("--node-cluster has no effect on", "without a script file")
    instance.wait_ready()
    pids_answering(port, 2)


@newest
def test_a_shell_in_between_does_no_harm(pando, node):
    port = free_port()
    instance = pando("sh", "-c", f"{node} {node_app('who.js')} {port}; true", options=["--node-cluster"])
    instance.wait_ready()
    assert facts(port)["isWorker"] == "true"


def test_what_is_not_node_is_explained_and_run_the_ordinary_way(pando):
    port = free_port()
    instance = pando(app("epoll_server"), port, options=["--node-cluster"])
    instance.wait_ready()
    instance.wait_log("listens and has not said that it is online")
    pids_answering(port, 2)


@newest
def test_without_interception_the_protocol_alone_shares_the_port(cluster, node):
    port = free_port()
    instance = cluster(node, "who.js", port, options=["--no-intercept"])
    instance.wait_ready()
    assert pids_answering(port, 2) == set(instance.pids().values())


@nodes
@pytest.mark.skipif(os.geteuid() != 0, reason="to change the user takes root")
def test_workers_of_another_user_whose_memory_is_hidden(cluster, node):
    port = free_port()
    instance = cluster(node, "who.js", port, options=["-u", "65534:65534", "--debug-intercept", "hand", *PULL])
    instance.wait_ready()
    assert pids_answering(port, 2) == set(instance.pids().values())
    assert "did not make" not in instance.log()


@newest
@pytest.mark.parametrize("balance", [pytest.param([], id="pull"), pytest.param(["--balance", "rr"], id="passed")])
@pytest.mark.skipif(os.geteuid() != 0, reason="to become another user takes root")
def test_an_ordinary_user_has_all_of_it(cluster, node, balance):
    if not reachable_by_nobody():
        pytest.skip("an ordinary user cannot reach the build folder")
    port = free_port()
    instance = cluster(node, "who.js", port, options=balance, uid=NOBODY)
    assert instance.wait_ready()["mode"] == "pull"
    assert pids_answering(port, 2) == set(instance.pids().values())
    instance.wait_replaced(0, instance.kill(0))
    instance.ctl("restart", check=0)
    pids_answering(port, 2)


# ---- bad input

@newest
@pytest.mark.parametrize("trick", ["/bogus", "/garbage", "/long", "/lies"])
def test_nonsense_on_the_channel_harms_nobody(cluster, node, trick):
    port = free_port()
    instance = cluster(node, "nonsense.js", port, options=PULL)
    instance.wait_ready()
    primary, pids = instance.primary_pid, instance.pids()
    for _ in range(5):
        facts(port, trick)
    assert instance.ask({"verb": "ping"})["primary"] == primary
    pids_answering(port, 2)
    assert instance.pids() == pids
    instance.ctl("restart", check=0)
    pids_answering(port, 2)


@newest
@pytest.mark.parametrize("trick", ["/handle", "/longhandle"])
def test_a_descriptor_that_is_not_there_is_answered(cluster, node, trick):
    """Node ends a worker that hears of a descriptor it never sent: that is its own affair, and nobody else's."""
    port = free_port()
    instance = cluster(node, "nonsense.js", port, options=PULL)
    instance.wait_ready()
    primary = instance.primary_pid
    pid = int(facts(port, trick)["pid"])
    slot = next(slot for slot, worker in instance.pids().items() if worker == pid)
    instance.wait_replaced(slot, pid)
    assert instance.ask({"verb": "ping"})["primary"] == primary
    pids_answering(port, 2)


@newest
def test_half_a_message_is_waited_for_and_outlives_the_primary(cluster, node):
    port = free_port()
    instance = cluster(node, "nonsense.js", port, workers=1)
    instance.wait_ready()
    facts(port, "/half")
    old = instance.primary_pid
    instance.ask({"verb": "ping"})
    os.kill(old, signal.SIGKILL)
    instance.wait_status(lambda status: status["primary_pid"] != old)
    facts(port, "/rest")
    said = wait_until(lambda: messages(instance), what="the message arrives")
    assert [one["message"] for one in said] == [{"half": "rest"}]


@newest
def test_a_flood_of_messages_has_a_ceiling_and_starves_nobody(cluster, node):
    port = free_port()
    instance = cluster(node, "nonsense.js", port)
    instance.wait_ready()

    def rss():
        with open(f"/proc/{instance.primary_pid}/statm") as file:
            return int(file.read().split()[1]) * 4096

    before = rss()
    flooding = int(facts(port, "/flood")["pid"])
    wait_until(lambda: len(messages(instance)) >= 200)
    peak = 0
    for _ in range(20):
        peak = max(peak, rss())
        assert instance.ask({"verb": "ping"})
    assert peak - before < 64 << 20, f"{before >> 20} MiB grew to {peak >> 20} MiB"
    assert len(messages(instance)) <= 256
    other = next(slot for slot, pid in instance.pids().items() if pid != flooding)
    instance.wait_replaced(other, instance.kill(other))
