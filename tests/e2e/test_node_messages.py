"""Messages between Node programs and Pando: PM2's conventions, `pando messages`, `--relay`."""
import json
import os
import signal
import subprocess
import urllib.parse

import pytest

from node_lines import LINES, NEWEST, node_app
from pando import PANDO, app, connect, free_port, http_get, http_values, pids_answering, read_answer, wait_until

nodes = pytest.mark.parametrize("node", LINES)
newest = pytest.mark.parametrize("node", [NEWEST])
either = pytest.mark.parametrize("cluster", [pytest.param(["--node-cluster"], id="cluster"), pytest.param([], id="plain")])


def ask(port, path, pid=None):
    """Asks until `pid` answers (anyone when None)."""
    def once():
        with connect(port) as sock:
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            answer = read_answer(sock)
            return answer if pid in (None, answer.pid) else None

    return wait_until(once, what=f"{pid} answers")


def send(port, value):
    return ask(port, "/send?json=" + urllib.parse.quote(json.dumps(value))).pid


def messages(instance):
    return instance.ask({"verb": "messages"})["messages"]


@nodes
@either
def test_pm2s_ready_and_shutdown_messages(pando, node, cluster, folder):
    port, sign = free_port(), folder / "may-be-ready"
    instance = pando(node, node_app("pm2.js"), port, sign, options=[*cluster, "--ready", "message", "--stop-signal", "message"])
    status = instance.wait_status(lambda status: status["listen"], what="it listens")
    assert status["ready"] == 0 and [worker["state"] for worker in status["workers"]] == ["starting", "starting"]
    sign.touch()
    instance.wait_ready()
    assert {http_get(port).body.splitlines()[1] for _ in range(20)} <= {"instance 0", "instance 1"}
    pids_answering(port, 2)
    assert instance.stop() == 0
    assert instance.output().count("shutdown message") == 2
    assert instance.output().count("cleaned up") == 2


@newest
def test_a_worker_that_uses_its_channel_is_given_time_to_clean_up_before_the_signal(pando, node, folder):
    port, sign = free_port(), folder / "ready"
    sign.touch()
    instance = pando(node, node_app("pm2.js"), port, sign, options=["--ready", "message"], workers=1)
    instance.wait_ready()
    instance.ctl("restart", check=0)
    assert "cleaned up" in instance.output()


@newest
def test_a_worker_that_does_not_end_at_its_message_gets_the_signal(pando, node):
    port = free_port()
    instance = pando(node, node_app("who.js"), port, options=["--stop-signal", "message", "--kill-timeout", "3s"], workers=1)
    instance.wait_ready()
    assert instance.stop() == 0
    instance.wait_log("still runs after its message")


@newest
def test_the_option_of_pm2s_name_is_the_same(pando, node, folder):
    port, sign = free_port(), folder / "ready"
    sign.touch()
    instance = pando(node, node_app("pm2.js"), port, sign, options=["--shutdown-with-message"], workers=1)
    instance.wait_ready()
    assert instance.stop() == 0
    assert "cleaned up" in instance.output()


@newest
@either
def test_messages_are_shown_with_who_sent_them(pando, node, cluster):
    port = free_port()
    instance = pando(node, node_app("gossip.js"), port, options=cluster)
    instance.wait_ready()
    values = ["text", 1, 1e21, True, None, [1, 2], {"a": {"b": "ü\u0000\n"}}, {"cmd": "mine"}, {"cmd": "NODE_"}]
    senders = [send(port, value) for value in values]
    said = wait_until(lambda: (lambda said: said if len(said) == len(values) else None)(messages(instance)))
    slots = {pid: slot for slot, pid in instance.pids().items()}
    for value, sender in zip(values, senders):  # those of different workers may come in another order
        assert any((one["message"], one["pid"]) == (value, sender) for one in said), (value, said)
    assert all(one["slot"] == slots[one["pid"]] for one in said)
    shown = instance.ctl("messages", check=0).stdout.splitlines()
    assert len(shown) == len(values) and any('{"cmd":"mine"}' in line for line in shown)
    assert json.loads(instance.ctl("messages", "--json", "-l", "1", check=0).stdout)["message"] == said[-1]["message"]


@newest
def test_messages_can_be_followed_over_primaries(pando, node):
    port = free_port()
    instance = pando(node, node_app("gossip.js"), port)
    instance.wait_ready()
    follow = subprocess.Popen([str(PANDO), "messages", "-f", "--json", "-n", instance.name], env=instance.env, stdout=subprocess.PIPE)
    try:
        def heard(value):
            """Sends until the follower shows it: a follower that is between two primaries hears nothing."""
            os.set_blocking(follow.stdout.fileno(), False)
            seen = b""

            def once():
                nonlocal seen
                send(port, value)
                seen += follow.stdout.read() or b""
                return json.dumps(value).encode() in seen

            return wait_until(once, what=f"{value} is shown", pause=0.1)

        assert heard("one")
        old = instance.primary_pid
        os.kill(old, signal.SIGKILL)
        instance.wait_status(lambda status: status["primary_pid"] != old)
        assert heard("two")
        assert instance.stop() == 0
        assert follow.wait(20) == 0
    finally:
        if follow.poll() is None:
            follow.kill()
        follow.stdout.close()
        follow.wait()


@nodes
@either
def test_relayed_messages_reach_all_the_others(pando, node, cluster):
    port = free_port()
    instance = pando(node, node_app("gossip.js"), port, workers=3, options=[*cluster, "--relay", "--balance-mode", "pull"])
    instance.wait_ready()
    sender = send(port, {"hello": [1, "ü"]})
    for pid in instance.pids().values():
        expected = [] if pid == sender else [{"hello": [1, "ü"]}]
        wait_until(lambda: json.loads(ask(port, "/", pid).body.splitlines()[1].split(" ", 1)[1]) == expected)


@newest
def test_without_the_option_nothing_is_relayed(pando, node):
    port = free_port()
    instance = pando(node, node_app("gossip.js"), port)
    instance.wait_ready()
    send(port, "private")
    wait_until(lambda: messages(instance))
    for pid in instance.pids().values():
        assert ask(port, "/", pid).body.splitlines()[1] == "heard []"


@newest
def test_a_worker_that_does_not_read_costs_the_others_nothing_but_a_second(pando, node):
    port = free_port()
    instance = pando(node, node_app("nonsense.js"), port, workers=3, options=["--relay"])
    instance.wait_ready()
    pids = instance.pids()
    os.kill(pids[0], signal.SIGSTOP)
    try:
        ask(port, "/flood", pids[1])
        instance.wait_log("worker 0 does not read its messages")
        assert instance.ask({"verb": "ping"})
    finally:
        os.kill(pids[0], signal.SIGCONT)


@newest
@either
def test_a_socket_that_is_sent_along_does_not_stall_the_channel(pando, node, cluster):
    port = free_port()
    instance = pando(node, node_app("gossip.js"), port, options=cluster)
    instance.wait_ready()
    ask(port, "/handle")
    said = wait_until(lambda: (lambda said: said if len(said) == 2 else None)(messages(instance)))
    assert [one["message"] for one in said] == [{"with": "socket"}, "after"]


def test_programs_that_are_not_node_have_no_channel(pando):
    port = free_port()
    instance = pando(app("epoll_server"), port)
    instance.wait_ready()
    assert "NODE_CHANNEL_FD" not in http_values(port)["env"]
    assert messages(instance) == []
