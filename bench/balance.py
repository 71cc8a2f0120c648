#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""How well connections are balanced: nobody behind a busy worker, keep-alive connections spread, a primary that costs the same
however many workers there are. Three tables; `make bench` prints them after bench.py's.

As there: a round measures each peer once, started afresh, the next round in the opposite order; figures are medians over rounds.
"""
import argparse
import contextlib
import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean, median

from lab import BENCH, Lab, Server, cpu_ns, descendants, free_port, one_scheduling_group
from report import Table, machine, number, target

SPIN = BENCH / "apps/node_spin.js"


class Peers:
    def __init__(self, lab, workers):
        self.lab, self.workers = lab, workers

    @contextlib.contextmanager
    def pando(self, mode, balance, command, port):
        name = f"balance-{port}"
        options = ["-n", name, "-w", self.workers, "--balance-mode", mode, "--balance", balance]
        with self.lab.spawned([self.lab.pando, "run", *options, "--", *command], PORT=port) as process:
            status = None

            def is_ready():
                nonlocal status
                status = self.lab.status(name)
                return status and status["ready"] == self.workers

            self.lab.wait_for("pando run", is_ready, process)
            yield Server(port, [status["keeper_pid"], status["primary_pid"]], [worker["pid"] for worker in status["workers"]])

    @contextlib.contextmanager
    def node_cluster(self, policy, port):
        settings = {"PORT": port, "WORKERS": self.workers, "CLUSTER": 1, "NODE_CLUSTER_SCHED_POLICY": policy}
        with self.lab.spawned(["node", SPIN], stdout=subprocess.PIPE, **settings) as process:
            self.lab.wait_for_line("Node's cluster", process)
            yield Server(port, [process.pid], descendants(process.pid))

    def spinning(self):
        peers = {"Pando pull": lambda port: self.pando("pull", "auto", ["node", SPIN], port)}
        if "slot" in self.lab.modes:
            for balance in ("auto", "rr"):
                peers[f"Pando slot {balance}"] = lambda port, balance=balance: self.pando("slot", balance, ["node", SPIN], port)
        # One socket a worker and a random choice: what plain SO_REUSEPORT does.
        peers["reuseport, random"] = lambda port: self.pando("pull", "random", ["node", SPIN], port)
        peers["Node RR"] = lambda port: self.node_cluster("rr", port)
        peers["Node NONE"] = lambda port: self.node_cluster("none", port)
        return peers


def rounds(peers, count, measure):
    samples = {name: [] for name in peers}
    for turn in range(count):
        for name in list(peers) if turn % 2 == 0 else reversed(list(peers)):
            print(f"... round {turn + 1}: {name}", file=sys.stderr, flush=True)
            with peers[name](free_port()) as server:
                samples[name].append(measure(server))
    return samples


def table_tail(lab, workers, rate, size):
    def measure(server):
        command = [lab.load_generator.parent / "openloop", server.port, rate, size["requests"], 150, "/spin"]
        time.sleep(0.5)
        return json.loads(subprocess.run(list(map(str, command)), capture_output=True, check=True, text=True).stdout)

    samples = rounds(Peers(lab, workers).spinning(), size["rounds"], measure)
    table = Table(f"A. {workers} Node workers, {rate} new connections/s, 1 in 150 spins 300 ms: the others' time from due to answered, ms",
                  ["server", "p50", "p99", "p99.9", "failed", "samples"])
    figures = {name: [median(run["ms"][at] for run in runs) for at in range(3)] for name, runs in samples.items()}
    for name, runs in samples.items():
        table.rows.append([name, *(number(figure, 1) for figure in figures[name]), number(sum(run["failed"] for run in runs)),
                           number(min(run["samples"] for run in runs))])
    if "Pando slot auto" in figures:
        mine, none = figures["Pando slot auto"], figures["Node NONE"]
        table.notes.append(target("slot auto: p99 / SCHED_NONE's <= 1", mine[1] / none[1], lambda ratio: ratio <= 1))
        table.notes.append(target("slot auto: p99.9 <= 15 ms", mine[2], lambda value: value <= 15, 1, " ms"))
        table.notes.append(target("slot auto: p99.9 / pull's <= 1", mine[2] / figures["Pando pull"][2], lambda ratio: ratio <= 1))
    return table


def table_fairness(lab, size):
    """Who has how many of 256 connections that were opened one by one and are idle: counted in the workers themselves."""
    def measure(server):
        clients = []
        try:
            for _ in range(256):
                client = socket.create_connection(("127.0.0.1", server.port))
                client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                client.recv(4096)
                clients.append(client)
                time.sleep(size["pause"])
            held = []
            for pid in server.workers:
                links = [entry.readlink() for entry in Path(f"/proc/{pid}/fd").iterdir()]
                held.append(sum(str(link).startswith("socket:") for link in links))
            least = min(held)  # sockets that every worker has (the listener, channels) are not connections
            spread = [count - least for count in held]
            share = (256 - sum(spread)) / len(held)
            return max(count + share for count in spread) / mean(count + share for count in spread)
        finally:
            for client in clients:
                client.close()

    samples = rounds(Peers(lab, 8).spinning(), size["rounds"], measure)
    table = Table("B. 256 idle keep-alive connections, 8 Node workers: connections of the busiest worker / mean", ["server", "max/mean"])
    for name, runs in samples.items():
        table.rows.append([name, number(median(runs), 2)])
    if "Pando slot auto" in samples:
        table.notes.append(target("slot auto <= 1.05", median(samples["Pando slot auto"]), lambda ratio: ratio <= 1.05))
    return table


def table_growth(lab, size):
    table = Table("D. CPU of keeper + primary per 10,000 connections, C workers, ms", ["workers", *lab.modes])
    figures = {mode: [] for mode in lab.modes}
    for workers in size["workers"]:
        for mode in lab.modes:
            print(f"... growth: {workers} workers, {mode}", file=sys.stderr, flush=True)
            port = free_port()
            with Peers(lab, workers).pando(mode, "auto", [lab.epoll_server, port], port) as server:
                time.sleep(1)
                before = sum(map(cpu_ns, server.supervisor))
                done = lab.load(server, "close", 64, 3)["completed"]
                figures[mode].append((sum(map(cpu_ns, server.supervisor)) - before) / 1e6 / done * 10000)
        table.rows.append([number(workers), *(number(figures[mode][-1], 2) for mode in lab.modes)])
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=BENCH.parent / "build-release")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    size = ({"rounds": 1, "requests": 1500, "pause": 0.002, "workers": [2, 16]} if options.quick else
            {"rounds": 3, "requests": 10100, "pause": 0.005, "workers": [2, 16, 64, 256]})
    lab = Lab(options.build.resolve())
    with one_scheduling_group():
        print("\n".join(machine(lab)))
        for make in (lambda: table_tail(lab, 4, 300, size), lambda: table_fairness(lab, size), lambda: table_growth(lab, size)):
            print("\n" + make().text(), flush=True)


if __name__ == "__main__":
    main()
