"""Killing workers for ever, under load: whatever fails was inside a process that was killed, and nothing that waited in the queue
is lost. Each connection has an address and port of its own; before each kill the worker is frozen and asked what it has inside: no
rescue may thaw it in between."""
import os
import random
import signal
import time

import pytest

from pando import Load, app, count, free_port, freeze, peers_inside


@pytest.mark.limit(900)
@pytest.mark.parametrize("server, mode", [("blocking_server", "pull"), ("epoll_server", "pull"), ("blocking_server", "auto")])
def test_workers_killed_at_random_under_load_lose_only_what_they_had_accepted(pando, server, mode):
    kills = count(200)
    workers = 16 if kills > 50 else 4
    port = free_port()
    instance = pando(app(server), port, 3000, workers=workers, options=["--balance-mode", mode, "--no-rescue"])
    mode = instance.wait_ready()["mode"]
    chance = random.Random(7)
    inside, killed = set(), set()
    with Load(port, clients=24) as load:
        load.wait_answered(20)
        while len(killed) < kills:
            status = instance.wait_status(lambda status: status["ready"] >= 2, 120, "two workers serve")
            serving = [worker for worker in status["workers"] if worker["state"] == "serving" and worker["pid"] not in killed]
            if not serving:  # status was faster than the news of the last deaths
                continue
            victim = chance.choice(serving)
            killed.add(victim["pid"])
            freeze(victim["pid"])
            inside |= peers_inside(victim["pid"])
            os.kill(victim["pid"], signal.SIGKILL)
            time.sleep(chance.uniform(0, 0.03))
        load.wait_answered(50)
    lost = [failure for failure in load.failures if failure.client not in inside]
    print(f"{server}, {mode}: {kills} kills, {load.answered} answered, {len(load.failures)} failed, "
          f"of which inside a killed worker {len(load.failures) - len(lost)}, queued {len(lost)}; slowest {load.slowest_s:.2f} s")
    assert not lost, f"{len(lost)} connections were lost that no killed worker had accepted: {lost[:5]}"
    assert load.answered > 10 * kills


@pytest.mark.parametrize("mode", ["pull", "auto"])
def test_all_workers_killed_at_once_again_and_again_lose_only_what_they_had_accepted(pando, mode):
    port = free_port()
    instance = pando(app("blocking_server"), port, 3000, workers=4, options=["--balance-mode", mode, "--no-rescue"])
    inside = set()
    instance.wait_ready()
    with Load(port, clients=24) as load:
        for _ in range(count(50)):
            load.wait_answered(30)
            workers = instance.wait_ready(deadline=60)["workers"]
            for worker in workers:
                freeze(worker["pid"])
                inside |= peers_inside(worker["pid"])
            for worker in workers:
                os.kill(worker["pid"], signal.SIGKILL)
        load.wait_answered(30)
    lost = [failure for failure in load.failures if failure.client not in inside]
    assert not lost, f"lost from the queue: {lost[:5]}"
