#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Reloads, upgrades, kills and rollbacks under load: what fails, how long it takes, whether anything grows. `make bench` prints it; one table alone:

    bench/survival.py --only S1          also S2 to S6, or several: S1,S5; with --quick small counts

The load is moderate (`RATE` requests a second, made by bench/paced.c in S1, where what they take is judged, else by this very process): judged is what a
reload does to it, not how much the machine can do. What a request took is counted from when it was due. A worker that is killed takes with it what it had
accepted: it is frozen and asked for that first.
"""
import argparse
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from statistics import median, quantiles

from lab import BENCH, Lab, LabError, free_port
from report import Table, machine, number, target

E2E = BENCH.parent / "tests/e2e"
COOPERATIVE = BENCH.parent / "tests/apps/node/cooperative.js"
RATE, CLIENTS, WORKERS = 200, 8, 2
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

FULL = {"reloads": 100, "primaries": 200, "workers": 500, "upgrades": 50, "rollbacks": 20, "respawns": 30_000, "steady_s": 10}
QUICK = {"reloads": 5, "primaries": 10, "workers": 20, "upgrades": 3, "rollbacks": 3, "respawns": 300, "steady_s": 2}


def progress(text):
    print(f"... {text}", file=sys.stderr, flush=True)


class Load:
    """So many clients, each with a request on a connection of its own every CLIENTS / RATE seconds."""

    def __init__(self, port):
        self.port = port
        self.done = []  # (due, took in ms, body)
        self.failed = []
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(CLIENTS)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join(60)

    def _ask(self):
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as sock:
            sock.sendall(REQUEST)
            data = b""
            while b"\n" not in data.partition(b"\r\n\r\n")[2]:
                part = sock.recv(4096)
                if not part:
                    raise ConnectionResetError(f"closed after {len(data)} bytes")
                data += part
        return data.partition(b"\r\n\r\n")[2]

    def _run(self, number):
        due = time.monotonic() + number / RATE
        while not self.stopping.wait(max(due - time.monotonic(), 0)):
            try:
                body = self._ask()
                self.done.append((due, (time.monotonic() - due) * 1e3, body))
            except OSError as error:
                self.failed.append(repr(error))
            due = max(due + CLIENTS / RATE, time.monotonic() - 1)


class Paced:
    """The same load by bench/paced.c: a client that is no Python program sees what takes less than milliseconds."""

    def __init__(self, lab, port, keep):
        self.command = [str(lab.paced), "-p", str(port), "-r", str(RATE), *(["-k"] if keep else [])]

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def phase(self, number):
        self.process.stdin.write(f"{number}\n")
        self.process.stdin.flush()

    def end(self):
        """By phase what came of the requests, see bench/paced.c."""
        return {int(phase): tally for phase, tally in json.loads(self.process.communicate()[0]).items()}


# --- Pando as it is asked here ---


def request(lab, server, what, timeout=60):
    """On the control socket; the last line of the answer."""
    with socket.socket(socket.AF_UNIX) as sock, sock.makefile("rb") as lines:
        sock.settimeout(timeout)
        sock.connect(f"{lab.scratch.name}/{server.name}.sock")
        sock.sendall(json.dumps(what).encode() + b"\n")
        for line in lines:
            answer = json.loads(line)
            if "ok" in answer:
                return answer
    raise LabError(f"{what}: the control socket was closed without an answer")


def insist(lab, server, what):
    answer = request(lab, server, what)
    if not answer["ok"]:
        raise LabError(f"{what}: {answer}")


def wait_status(lab, server, is_reached, what, timeout=60):
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        status = lab.ask(server.name)
        if status is not None and is_reached(status):
            return status
        time.sleep(0.001)
    raise LabError(f"not within {timeout} s: {what}")


def worker_pids(status):
    return [worker["pid"] for worker in status["workers"]]


def serving(status):
    return [worker["pid"] for worker in status["workers"] if worker["state"] == "serving" and not worker.get("kept")]


def held(pid):
    """(descriptors, RSS in KB)"""
    rss = next(line.split()[1] for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return len(os.listdir(f"/proc/{pid}/fd")), int(rss)


@contextlib.contextmanager
def instance(lab, mode, workers, command, port, *options):
    """After an upgrade or the death of the keeper the process that was started knows of nothing any more: stopped by name."""
    with lab.run_pando(mode, workers, command, port, ["--stable", "0s", *options]) as server:
        try:
            yield server
        finally:
            lab.command("stop", server.name)


def spread(values, digits=1):
    return [number(median(values), digits), number(quantiles(values, n=10)[-1], digits), number(max(values), digits)]


# --- the tables ---


def start_and_end(command, port, seconds):
    """The program as it is, over and over, one at a time: until it listens. So much a new version costs those beside it, whoever starts it."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        process = subprocess.Popen([str(word) for word in command], start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        listens = False
        while not listens and process.poll() is None:
            with socket.socket() as probe:
                listens = probe.connect_ex(("127.0.0.1", port)) == 0
            time.sleep(0.002)
        process.kill()
        process.wait()


def table_reloads(lab, size):
    steady_s = size["steady_s"]
    table = Table(f"S1. {size['reloads']} reloads under {RATE} requests/s, {WORKERS} workers, after {steady_s} s of steady state and {steady_s} s in which the same "
                  "program starts and ends beside it",
                  ["what", "requests", "failed", "refused", "sent again", "p99 steady ms", "p99 beside starts", "p99 in reloads", "x steady", "x beside starts",
                   "s a reload"])
    asyncio_server, warm = E2E.parent / "apps/asyncio_server.py", ["--ready", "http=/", "--warm-up", "30"]
    programs = {
        "C": (lambda port: [lab.epoll_server, port], False, []),
        "Python": (lambda port: ["/usr/bin/python3", asyncio_server, port], False, []),
        "Python, http=/, --warm-up 30": (lambda port: ["/usr/bin/python3", asyncio_server, port], False, warm),
        "Node, --cooperative, keep-alive": (lambda port: ["node", COOPERATIVE, port], True, ["--cooperative"]),
        "Node, the same, http=/, --warm-up 30": (lambda port: ["node", COOPERATIVE, port], True, ["--cooperative", *warm]),
    }
    for mode in lab.modes:
        for name, (command, keep, options) in programs.items():
            progress(f"{size['reloads']} reloads: {mode}, {name}")
            port = free_port()
            with instance(lab, mode, WORKERS, command(port), port, *options) as server, Paced(lab, port, keep) as load:
                time.sleep(2)  # the first answers of a program are slow
                load.phase(1)
                time.sleep(steady_s)
                load.phase(2)
                beside = free_port()
                start_and_end(command(beside), beside, steady_s)
                load.phase(3)
                begin = time.monotonic()
                for _ in range(size["reloads"]):
                    insist(lab, server, {"verb": "reload"})
                took_s = time.monotonic() - begin
                tallies = load.end()
            steady, starts, reloads = (tallies[phase]["p99_ms"] for phase in (1, 2, 3))
            total = {what: sum(tally[what] for tally in tallies.values()) for what in ("answered", "failed", "refused", "again")}
            table.rows.append([f"{mode}: {name}", *map(number, total.values()), number(steady, 2), number(starts, 2), number(reloads, 2), number(reloads / steady, 2),
                               number(reloads / starts, 2), number(took_s / size["reloads"], 2)])
            table.notes.append(target(f"{mode}, {name}: failed = 0", total["failed"], lambda count: count == 0, 0))
            table.notes.append(target(f"{mode}, {name}: p99 <= 2 x steady state", reloads / steady, lambda ratio: ratio <= 2))
    table.notes.append("new workers start on the same cores that answer the load: \"beside starts\" is what that costs when somebody else starts them, one at a time")
    return table


def children(pid):
    return set(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


def table_primary(lab, size):
    table = Table(f"S2. kill -9 of the primary, {size['primaries']} times at random under load: ms from the kill",
                  ["what", "median", "p90", "max", "failed", "workers restarted", "descriptors keeper, primary", "RSS KB keeper, primary"])
    chance = random.Random(11)
    for mode in lab.modes:
        progress(f"{size['primaries']} kills of the primary: {mode}")
        port = free_port()
        started_ms, adopted_ms, sizes = [], [], []
        with instance(lab, mode, WORKERS, [lab.epoll_server, port], port) as server, Load(port) as load:
            workers = worker_pids(lab.ask(server.name))
            for _ in range(size["primaries"]):
                status = wait_status(lab, server, lambda status: True, "a primary answers")
                time.sleep(chance.choice((0, 0.01, 0.1)) * chance.random())
                keeper, old = status["keeper_pid"], status["primary_pid"]
                before, begin = children(keeper), time.monotonic()
                os.kill(old, signal.SIGKILL)
                while not children(keeper) - before:
                    pass
                started_ms.append((time.monotonic() - begin) * 1e3)
                status = wait_status(lab, server, lambda status: status["primary_pid"] != old, "another primary")
                adopted_ms.append((time.monotonic() - begin) * 1e3)
                time.sleep(0.05)
                sizes.append((held(keeper), held(status["primary_pid"])))
            restarted = len(set(worker_pids(lab.ask(server.name))) - set(workers))
        (keeper_fds, keeper_kb), (primary_fds, primary_kb) = sizes[0]
        (keeper_fds_then, keeper_kb_then), (primary_fds_then, primary_kb_then) = sizes[-1]
        table.rows.append([f"{mode}: another process is there", *spread(started_ms), "", "", "", ""])
        table.rows.append([f"{mode}: it has adopted all, and answers", *spread(adopted_ms), number(len(load.failed)), number(restarted),
                           f"{keeper_fds} to {keeper_fds_then}, {primary_fds} to {primary_fds_then}",
                           f"{keeper_kb} to {keeper_kb_then}, {primary_kb} to {primary_kb_then}"])
        table.notes.append(target(f"{mode}: failed = 0", len(load.failed), lambda count: count == 0, 0))
        table.notes.append(target(f"{mode}: the keeper starts another within 50 ms, median", median(started_ms), lambda ms: ms <= 50, 1, " ms"))
        table.notes.append(target(f"{mode}: adoption, median <= 50 ms", median(adopted_ms), lambda ms: ms <= 50, 1, " ms"))
        table.notes.append(target(f"{mode}: adoption, 90 of 100 <= 100 ms", quantiles(adopted_ms, n=10)[-1], lambda ms: ms <= 100, 1, " ms"))
    return table


def table_workers(lab, size):
    from pando import Load as NamedLoad  # each of its connections has a name of its own
    from pando import app, freeze, peers_inside
    table = Table(f"S3. kill -9 of workers, {size['workers']} in each mode, 16 workers, 16 clients that are never idle",
                  ["mode", "answered", "failed", "of these inside a killed worker", "lost in a queue"])
    for mode in lab.modes:
        progress(f"{size['workers']} kills of workers: {mode}")
        port, chance, killed, inside = free_port(), random.Random(7), set(), set()
        with instance(lab, mode, 16, [app("epoll_server"), port], port, "--no-rescue") as server, NamedLoad(port, clients=16) as load:
            while len(killed) < size["workers"]:
                status = wait_status(lab, server, lambda status: set(serving(status)) - killed, "a worker serves")
                pid = chance.choice(sorted(set(serving(status)) - killed))
                killed.add(pid)
                freeze(pid)
                inside |= peers_inside(pid)
                os.kill(pid, signal.SIGKILL)
                time.sleep(chance.uniform(0, 0.03))
            wait_status(lab, server, lambda status: status["ready"] == 16, "all serve again")
        lost = [failure for failure in load.failures if failure.client not in inside]
        table.rows.append([mode, number(load.answered), number(len(load.failures)), number(len(load.failures) - len(lost)), number(len(lost))])
        table.notes.append(target(f"{mode}: lost in a queue = 0", len(lost), lambda count: count == 0, 0))
    return table


def table_upgrades(lab, size):
    table = Table(f"S4. {size['upgrades']} upgrades (keeper and primary are replaced) under load: ms until `pando upgrade` has its answer",
                  ["mode", "median", "p90", "max", "requests", "failed", "workers restarted"])
    for mode in lab.modes:
        progress(f"{size['upgrades']} upgrades: {mode}")
        port, took = free_port(), []
        with instance(lab, mode, WORKERS, [lab.epoll_server, port], port) as server, Load(port) as load:
            workers = worker_pids(lab.ask(server.name))
            for _ in range(size["upgrades"]):
                begin = time.monotonic()
                insist(lab, server, {"verb": "upgrade"})
                took.append((time.monotonic() - begin) * 1e3)
            restarted = len(set(worker_pids(lab.ask(server.name))) - set(workers))
        table.rows.append([mode, *spread(took), number(len(load.done)), number(len(load.failed)), number(restarted)])
        table.notes.append(target(f"{mode}: failed = 0", len(load.failed), lambda count: count == 0, 0))
    return table


def table_rollback(lab, size):
    table = Table(f"S5. {size['rollbacks']} rollbacks to a kept generation under load: ms from the request",
                  ["what", "median", "p90", "max", "failed"])
    for mode in lab.modes:
        progress(f"{size['rollbacks']} rollbacks: {mode}")
        port, full, answered = free_port(), [], []
        with instance(lab, mode, WORKERS, [lab.epoll_server, port], port) as server, Load(port) as load:
            for _ in range(size["rollbacks"]):
                insist(lab, server, {"verb": "reload", "options": ["--keep-old", "60s"]})
                status = wait_status(lab, server, lambda status: sum(worker.get("kept", False) for worker in status["workers"]) == WORKERS, "kept")
                new = [str(pid).encode() for pid in serving(status)]
                begin = time.monotonic()
                insist(lab, server, {"verb": "rollback"})
                answered.append((time.monotonic() - begin) * 1e3)
                time.sleep(0.3)
                of_new = [due for due, _, body in list(load.done) if due >= begin and body.split()[-1] in new]
                full.append((max(of_new) - begin) * 1e3 if of_new else 0.0)
        table.rows.append([f"{mode}: the last request that the new generation still got", *spread(full), number(len(load.failed))])
        table.rows.append([f"{mode}: `pando rollback` is answered", *spread(answered), ""])
        table.notes.append(target(f"{mode}: full traffic on the old generation within 100 ms, worst", max(full), lambda ms: ms <= 100, 1, " ms"))
    table.notes.append(f"one request every {1000 / RATE:.0f} ms: it cannot be told more exactly")
    return table


def table_respawns(lab, size):
    workers = 32
    progress(f"{size['respawns']} respawns")
    table = Table(f"S6. {size['respawns']:,} respawns of {workers} C workers, pull", ["process", "descriptors after the first, a third, two thirds, all", "RSS KB"])
    port, chance, done = free_port(), random.Random(3), 0

    def all_ready(status):
        return status["ready"] == workers and len(worker_pids(status)) == workers

    sizes, most_kb = [], 400
    with instance(lab, "pull", workers, [lab.epoll_server, port], port) as server:
        for limit in (workers, *(size["respawns"] * part // 3 for part in (1, 2, 3))):
            while done < limit:
                status = wait_status(lab, server, lambda status: status["ready"] >= workers // 2, "half of them serve")
                for pid in chance.sample(serving(status), workers // 4):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                        done += 1
            status = wait_status(lab, server, all_ready, "all serve")
            time.sleep(1)
            sizes.append([held(status[name]) for name in ("keeper_pid", "primary_pid")])
    for name, held_by in zip(("keeper", "primary"), zip(*sizes)):
        fds, kbs = zip(*held_by)
        table.rows.append([name, ", ".join(map(str, fds)), ", ".join(f"{kb:,}" for kb in kbs)])
        table.notes.append(target(f"{name}: descriptors flat", fds[-1] - fds[0], lambda more: more <= 0, 0, " more"))
        table.notes.append(target(f"{name}: RSS grows by no more than {most_kb} KB in the last third", kbs[-1] - kbs[-2], lambda more: more <= most_kb, 0, " KB"))
    table.notes.append("the primary's rings of output (the last lines, and those to be written: 3 MB) fill up once")
    return table


TABLES = {"S1": table_reloads, "S2": table_primary, "S3": table_workers, "S4": table_upgrades, "S5": table_rollback, "S6": table_respawns}


def main():
    parser = argparse.ArgumentParser(description="What survives what, in figures; see bench/survival.py for how they are measured.")
    parser.add_argument("--build", type=Path, default=BENCH.parent / "build", help="Meson's build folder (default: build)")
    parser.add_argument("--quick", action="store_true", help="small counts: does it work?")
    parser.add_argument("--only", metavar="S1,S2..", help="only these tables")
    parser.add_argument("--reloads", type=int, metavar="N", help="so many instead of 100")
    arguments = parser.parse_args()
    os.environ["PANDO_BUILD"] = str(arguments.build.resolve())
    sys.path.insert(0, str(E2E))
    lab, size, begin = Lab(arguments.build.resolve()), dict(QUICK if arguments.quick else FULL), time.monotonic()
    size["reloads"] = arguments.reloads or size["reloads"]
    print("\n".join(machine(lab)) + "\n", flush=True)
    for name in arguments.only.split(",") if arguments.only else TABLES:
        print(TABLES[name](lab, size).text(), flush=True)
    print(f"took {time.monotonic() - begin:.0f} s")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        main()
    except (LabError, KeyError) as error:
        sys.exit(f"survival: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
