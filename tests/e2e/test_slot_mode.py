"""Slot mode: one socket a slot, and an eBPF program that gives each connection to a worker before it exists."""
import collections
import ctypes
import mmap
import os
import random
import signal
import socket
import time

import pytest

from pando import PATIENCE, Load, app, connect, count, free_port, freeze, http_get, peers_inside, read_answer, wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="slot mode needs CAP_BPF and CAP_NET_ADMIN")


def wait_idle(instance):
    wait_until(lambda: all(worker["queue"] == worker["connections"] == 0 for worker in instance.status()["workers"]), what="all are idle")


def totals(instance):
    return {worker["slot"]: worker["total"] for worker in instance.status()["workers"]}


@pytest.mark.parametrize("workers", [2, 3, 8, 64])
def test_round_robin_is_exact(slot, workers):
    port = free_port()
    instance = slot(app("epoll_server"), port, workers=workers, options=["--balance", "rr", "--no-rescue"])
    seen = collections.Counter(http_get(port).pid for _ in range(workers * 10))
    assert set(seen) == set(instance.pids().values())
    assert max(seen.values()) - min(seen.values()) <= 1, seen


def test_auto_takes_turns_among_idle_workers(slot):
    port = free_port()
    instance = slot(app("epoll_server"), port, workers=4)
    seen = collections.Counter()
    for _ in range(40):
        wait_idle(instance)  # one that is still closing its last one would be passed over
        seen[http_get(port).pid] += 1
    assert len(seen) == 4 and max(seen.values()) - min(seen.values()) <= 1, seen


def test_idle_connections_spread_evenly(slot):
    port = free_port()
    instance = slot(app("epoll_server"), port, workers=8)
    clients = []
    for _ in range(64):
        clients.append(connect(port))
        # One that has not taken the last one yet would be passed over.
        wait_until(lambda: not any(worker["queue"] for worker in instance.status()["workers"]), what="it is accepted", pause=0.001)
    try:
        held = wait_until(lambda: (lambda held: held if sum(held) >= 64 else None)(
            [worker["connections"] for worker in instance.status()["workers"]]), what="all are counted")
        assert max(held) - min(held) <= 1, held
    finally:
        for client in clients:
            client.close()


def test_sticky_keeps_a_client_with_its_worker_and_moves_only_those_of_the_dead(slot):
    port = free_port()
    instance = slot(app("epoll_server"), port, workers=4, options=["--balance", "sticky"])

    def worker_of(number):
        with socket.socket() as sock:
            sock.settimeout(PATIENCE)
            sock.bind((f"127.0.1.{number}", 0))
            sock.connect(("127.0.0.1", port))
            sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            data = b""
            while part := sock.recv(4096):
                data += part
        return int(data.split(b"pid ")[1].split()[0])

    before = {number: worker_of(number) for number in range(1, 65)}
    assert before == {number: worker_of(number) for number in range(1, 65)}
    assert len(set(before.values())) == 4
    instance.ctl("scale", 3, check=0)
    gone = set(before.values()) - set(instance.pids().values())
    after = {number: worker_of(number) for number in range(1, 65)}
    assert all(after[number] == before[number] for number in before if before[number] not in gone)


@pytest.mark.parametrize("balance", ["random", "sticky"])
def test_without_ebpf_the_policies_that_need_no_memory_work_too(pando, balance):
    port = free_port()
    instance = pando(app("epoll_server"), port, workers=3, options=["--balance-mode", "pull", "--balance", balance])
    assert instance.wait_ready()["mode"] == "pull"
    seen = {http_get(port).pid for _ in range(60)}
    assert len(seen) == (1 if balance == "sticky" else 3)
    instance.wait_replaced(0, instance.kill(0))
    assert http_get(port).pid in instance.pids().values()


def test_what_only_slot_mode_can_do_is_refused_without_it(pando):
    instance = pando(app("epoll_server"), free_port(), options=["--balance-mode", "pull", "--balance", "rr"])
    assert instance.exit_code() == 1
    assert "--balance rr" in instance.log() and "slot mode" in instance.log()


def test_the_queue_of_a_dead_worker_goes_to_its_siblings(slot):
    port = free_port()
    instance = slot(app("blocking_server"), port, workers=2, options=["--no-rescue"])
    victim = instance.pids()[0]
    freeze(victim)
    clients = [connect(port) for _ in range(20)]
    for client in clients:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    wait_until(lambda: instance.status()["workers"][0]["queue"] > 0, what="some wait at the frozen one")
    os.kill(victim, signal.SIGKILL)
    for client in clients:
        assert read_answer(client).pid
        client.close()
    assert instance.status()["workers"][0]["rescued"] > 0


def test_scaling_from_one_to_many_and_back_under_load_fails_no_request(slot):
    port = free_port()
    instance = slot(app("epoll_server"), port, workers=1)
    with Load(port, clients=8) as load:
        for workers in (max(8, count(64)), 2):
            load.wait_answered(30)
            instance.ctl("scale", workers, check=0)
        load.wait_answered(30)
    assert not load.failures, load.failures[:5]


def test_a_killed_primary_leaves_the_steering_in_force_and_the_next_one_takes_it_over(slot):
    port = free_port()
    instance = slot(app("epoll_server"), port, workers=3, options=["--balance", "rr", "--no-rescue"])
    before = sum(totals(instance).values())
    with Load(port, clients=4) as load:
        load.wait_answered(20)
        os.kill(instance.primary_pid, signal.SIGKILL)
        load.wait_answered(20)
        instance.wait_ready()
        instance.wait_replaced(1, instance.kill(1))
        load.wait_answered(20)
    assert len([failure for failure in load.failures]) <= 4  # those inside the worker that was killed
    seen = collections.Counter(http_get(port).pid for _ in range(30))
    assert max(seen.values()) - min(seen.values()) <= 1, seen
    assert sum(totals(instance).values()) > before


_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
PIDFD_GETFD = 438


def steering_version(keeper):
    """The version in the steering memory that the keeper holds, to be read and written (steering_memory.h: behind 8 bytes of magic)."""
    held = []
    for fd in os.listdir(f"/proc/{keeper}/fdinfo"):
        with open(f"/proc/{keeper}/fdinfo/{fd}") as info:
            fields = dict(line.strip().split(":\t", 1) for line in info if ":\t" in line)
        if fields.get("map_type") == "2" and int(fields["value_size"]) > 65536:  # an array, of one such block
            held.append(int(fd))
    assert len(held) == 1, held
    pidfd = os.pidfd_open(keeper)
    fd = _libc.syscall(PIDFD_GETFD, pidfd, held[0], 0)
    assert fd >= 0, os.strerror(ctypes.get_errno())
    at = _libc.mmap(None, 4096, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, fd, 0)
    assert at != ctypes.c_void_p(-1).value, os.strerror(ctypes.get_errno())
    os.close(fd)
    os.close(pidfd)
    assert ctypes.string_at(at, 8) == b"PandoSte"[::-1]
    return ctypes.c_uint32.from_address(at + 8)


def test_the_steering_of_another_version_is_replaced_by_the_primary_that_meets_it(slot):
    """As after an upgrade: nobody's connection fails, and turns are exact by the new one."""
    port = free_port()
    instance = slot(app("epoll_server"), port, workers=3, options=["--balance", "rr", "--no-rescue"])
    pids, old = instance.pids(), instance.primary_pid
    version = steering_version(instance.keeper_pid)
    with Load(port, clients=4) as load:
        load.wait_answered(20)
        known = version.value
        version.value = known + 1
        os.kill(old, signal.SIGKILL)
        instance.wait_status(lambda status: status["primary_pid"] != old and status["ready"] == 3)
        load.wait_answered(50)
    assert not load.failures, load.failures[:5]
    assert version.value == known + 1  # nobody wrote into what is not his
    assert steering_version(instance.keeper_pid).value == known
    assert instance.status()["mode"] == "slot" and instance.pids() == pids
    seen = collections.Counter(http_get(port).pid for _ in range(30))
    assert set(seen) == set(pids.values()) and max(seen.values()) - min(seen.values()) <= 1, seen
    instance.wait_replaced(1, instance.kill(1))
    assert set(http_get(port).pid for _ in range(6)) == set(instance.pids().values())


@pytest.mark.limit(900)
def test_workers_killed_at_random_lose_nothing_that_waited(slot):
    kills = count(1000)
    port = free_port()
    instance = slot(app("epoll_server"), port, 3000, workers=4, options=["--no-rescue"])  # which would thaw what is frozen here
    chance = random.Random(11)
    inside, killed = set(), set()
    with Load(port, clients=16) as load:
        while len(killed) < kills:
            status = instance.wait_status(lambda status: status["ready"] >= 2, 120, "two workers serve")
            serving = [worker for worker in status["workers"] if worker["state"] == "serving" and worker["pid"] not in killed]
            if not serving:
                continue
            victim = chance.choice(serving)["pid"]
            killed.add(victim)
            freeze(victim)
            inside |= peers_inside(victim)
            os.kill(victim, signal.SIGKILL)
            time.sleep(chance.uniform(0, 0.03))
        load.wait_answered(50)
    lost = [failure for failure in load.failures if failure.client not in inside]
    assert not lost, f"{len(lost)} connections were lost that no killed worker had accepted: {lost[:5]}"
