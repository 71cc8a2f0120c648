#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""How well connections are balanced: nobody behind a busy worker (A, and with 16 workers A16), keep-alive connections spread (B),
what choosing costs (C), a primary that costs the same however many workers there are (D), how soon a dead worker's queue is with its
siblings (E). `make bench` prints the tables after bench.py's; one alone:

    bench/balance.py --only A            also A16, B, C, D, E, or several: A,D; with --quick one short round, which says little

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

from lab import BENCH, Lab, LabError, Server, cpu_ns, descendants, free_port, one_scheduling_group, sleeps
from report import Table, machine, number, target, with_range

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


def table_tail(lab, name, workers, rate, size):
    def measure(server):
        command = [lab.load_generator.parent / "openloop", server.port, rate, size["requests"], 150, "/spin"]
        time.sleep(0.5)
        return json.loads(subprocess.run(list(map(str, command)), capture_output=True, check=True, text=True).stdout)

    samples = rounds(Peers(lab, workers).spinning(), size["rounds"], measure)
    table = Table(f"{name}. {workers} Node workers, {rate} new connections/s, 1 in 150 spins 300 ms: the others' time from due to answered, ms",
                  ["server", "p50", "p99", "p99.9", "failed", "samples"])
    figures = {peer: [median(run["ms"][at] for run in runs) for at in range(3)] for peer, runs in samples.items()}
    for peer, runs in samples.items():
        table.rows.append([peer, *(number(figure, 1) for figure in figures[peer]), number(sum(run["failed"] for run in runs)),
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


def table_cost(lab, size):
    """Pairs of runs, one right after the other: a ratio within a pair hardly feels what else the machine does."""
    node = ["node", BENCH / "apps/node_http.js"]
    workers, pairs = 2, size["pairs"]
    peers = {}
    for mode in reversed(lab.modes):
        peers[f"Pando {mode} auto"] = lambda port, mode=mode: Peers(lab, workers).pando(mode, "auto", node, port)
    peers["Node NONE"] = lambda port: lab.run_node_cluster(workers, "none", port)

    def measure(server):
        return lab.measure(server, "close", 64, size["seconds"], 5000 if pairs == 1 else 30000)

    samples = rounds(peers, pairs, measure)
    table = Table(f"C. Node http, {workers} workers, 64 connections, a new one for each request",
                  ["server", "conn/s", "CPU us/conn", "of it supervisor", "x NONE"])
    none = samples["Node NONE"]
    for name, runs in samples.items():
        ratio = median(mine.cpu_us / theirs.cpu_us for mine, theirs in zip(runs, none))
        table.rows.append([name, with_range([run.per_second for run in runs]), with_range([run.cpu_us for run in runs], 1),
                           number(median(run.supervisor_us for run in runs), 3), number(ratio, 3)])
        if name == "Pando slot auto":
            table.notes.append(target("slot auto: CPU per connection / SCHED_NONE's <= 1", ratio, lambda value: value <= 1, 3))
    table.notes += cost_of_the_program(lab)
    return table


def cost_of_the_program(lab):
    print("... cost of the program per SYN", file=sys.stderr, flush=True)
    done = subprocess.run([lab.load_generator.parent / "steering_cost"], capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    if done.returncode != 0 or len(lines) < 6:
        return [f"cost per SYN not measured: {done.stderr.strip() or 'steering_cost is not built'}"]
    sizes = lines[0].split()[4:]
    notes = []
    for line in (line for line in lines[1:] if line.strip().startswith("auto")):
        what, costs = line[:28].strip(), dict(zip(sizes, line[28:].split()))
        for slots in ("4", "64", "256"):
            notes.append(target(f"{what}: {slots} slots <= 1.5 us", float(costs[slots]) / 1000, lambda us: us <= 1.5, 2, " us"))
    return notes


def table_growth(lab, size):
    table = Table("D. CPU of keeper + primary per 10,000 connections, C workers, ms (2,000 new connections/s)",
                  ["workers", *(f"{mode}{what}" for mode in lab.modes for what in ("", ": wakes"))])
    figures = {mode: [] for mode in lab.modes}
    for workers in size["workers"]:
        row = [number(workers)]
        for mode in lab.modes:
            print(f"... growth: {workers} workers, {mode}", file=sys.stderr, flush=True)
            runs = [growth_once(lab, mode, workers, size["connections"]) for _ in range(size["rounds"])]
            figures[mode].append(median(ms for ms, _ in runs))
            row += [number(figures[mode][-1], 2), number(median(wakes for _, wakes in runs))]
        table.rows.append(row)
    for mode in lab.modes:
        most, least = max(figures[mode]), min(figures[mode])
        # Next to nothing is flat, whatever the ratio of two such figures is.
        flat = most < 1 or most - least <= 0.4 * mean(figures[mode])
        table.notes.append(target(f"{mode}: the same for all sizes (+-20 %, or below 1 ms)", most - least, lambda _, flat=flat: flat, 2, " ms apart"))
    return table


def growth_once(lab, mode, workers, connections):
    """A rate at which the workers are not short of processors: one that is starved with a full queue is worth a look to the primary, however
    many workers there are, and under a load that takes all it can get the figure would be that. Also how often keeper and primary were woken."""
    port = free_port()
    with Peers(lab, workers).pando(mode, "auto", [lab.epoll_server, port], port) as server:
        time.sleep(1)  # what follows a start is over
        cpu_before, sleeps_before = sum(map(cpu_ns, server.supervisor)), sum(map(sleeps, server.supervisor))
        command = [lab.load_generator.parent / "openloop", port, 2000, connections, connections + 1, "/"]
        done = json.loads(subprocess.run(list(map(str, command)), capture_output=True, check=True, text=True).stdout)
        if done["failed"]:
            raise LabError(f"{done['failed']} connections failed{lab.log_tail()}")
        spent, wakes = sum(map(cpu_ns, server.supervisor)) - cpu_before, sum(map(sleeps, server.supervisor)) - sleeps_before
        return spent / 1e6 / connections * 10000, wakes


def wait_idle(lab, name):
    """The status when all workers are ready and nothing waits."""
    deadline = time.monotonic() + 30
    while True:
        status = lab.ask(name)
        if status and status["ready"] == status["wanted"] and not any(worker["queue"] for worker in status["workers"]):
            return status
        if time.monotonic() > deadline:
            raise LabError(f"{name} is not ready and idle within 30 s: {status}{lab.log_tail()}")
        time.sleep(0.005)


def table_death(lab, size):
    """One of four workers, stopped with two connections in its queue, is killed; the keeper's steering memory is watched, and the clients."""
    if "slot" not in lab.modes:
        return Table("E. not measured: no slot mode here", [])
    port, kills, samples = free_port(), size["kills"], []
    print(f"... {kills} kills", file=sys.stderr, flush=True)
    options = ["--balance", "rr", "--no-rescue"]  # rr: each of the four gets two of eight; a rescue would thaw what is stopped here
    # The successor takes its time: on a busy machine it could be there before anybody has seen that the slot was out.
    command = ["sh", "-c", 'sleep 0.1; exec "$@"', "sh", lab.epoll_server, port]
    with lab.run_pando("slot", 4, command, port, options) as server:
        for turn in range(kills):
            status = wait_idle(lab, server.name)
            victim = status["workers"][turn % 4]
            command = [lab.load_generator.parent / "death", status["keeper_pid"], victim["pid"], victim["slot"], port, 8, 2]
            done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=60)
            if done.returncode != 0:
                raise LabError(f"{done.stderr.strip()}{lab.log_tail()}")
            samples.append(json.loads(done.stdout))
    table = Table(f"E. A worker with connections in its queue is killed (4 C workers, {kills} kills): ms from SIGKILL on",
                  ["until", "median", "p90", "p99", "max"])
    for what, key in (("its slot is out of the map", "out_us"), ("siblings have answered what waited in its queue", "answered_us")):
        took = sorted(sample[key] / 1000 for sample in samples)
        at = [took[min(len(took) * percent // 100, len(took) - 1)] for percent in (50, 90, 99, 100)]
        table.rows.append([what, *(number(figure, 2) for figure in at)])
        table.notes.append(target(f"{what}: median <= 5 ms", at[0], lambda value: value <= 5, 2, " ms"))
        table.notes.append(target(f"{what}: max <= 5 ms", at[3], lambda value: value <= 5, 2, " ms"))
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=BENCH.parent / "build-release")
    parser.add_argument("--quick", action="store_true", help="one short round: does it work? The figures mean little")
    parser.add_argument("--only", metavar="A,A16,B,C,D,E", help="only these tables")
    options = parser.parse_args()
    size = ({"rounds": 1, "requests": 1500, "pause": 0.002, "workers": [2, 16], "pairs": 1, "seconds": 2, "kills": 20,
             "connections": 4000} if options.quick else
            {"rounds": 3, "requests": 10100, "pause": 0.005, "workers": [2, 16, 64, 256], "pairs": 5, "seconds": 3, "kills": 200,
             "connections": 10000})
    lab = Lab(options.build.resolve())
    tables = {
        "A": lambda: table_tail(lab, "A", 4, 300, size),
        "A16": lambda: table_tail(lab, "A16", 16, 800, size),
        "B": lambda: table_fairness(lab, size),
        "C": lambda: table_cost(lab, size),
        "D": lambda: table_growth(lab, size),
        "E": lambda: table_death(lab, size),
    }
    wanted = options.only.split(",") if options.only else list(tables)
    unknown = [name for name in wanted if name not in tables]
    if unknown:
        parser.error(f"no such table: {', '.join(unknown)}: there are {', '.join(tables)}")
    with one_scheduling_group():
        print("\n".join(machine(lab)))
        for name in wanted:
            print("\n" + tables[name]().text(), flush=True)


if __name__ == "__main__":
    try:
        main()
    except LabError as error:
        sys.exit(f"balance: {error}")
