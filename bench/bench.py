#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Pando's benchmarks: what it costs beside Node's own cluster, in five tables.

`make bench` runs it; it judges the figures against their targets but never fails on one.

How it is measured. Load generator and servers share the machine's cores and nothing is pinned: where the kernel puts them is
part of what is compared, and the same for all (all are in one cpu cgroup if that can be: lab.py says why). A round measures
each peer once, one after the other, each started afresh and warmed up; the next round goes in the opposite order. Figures are
medians over the rounds, ratios are medians of the ratios within a round, so that what drifts on a shared machine (and it
drifts by 10 % and more) hits both sides. CPU is the process CPU clock of every process of the server.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import median, quantiles

from lab import BENCH, WARM_UP_MAX_S, Lab, LabError, ask, cpu_ns, free_port, memory_bytes, one_scheduling_group
from report import Table, machine, number, target, with_range

NODE_APP = BENCH / "apps/node_http.js"
CONNECTIONS = 64
WORKERS = 2
FOREIGN_LIMIT = 0.1  # cores

FULL = {"rounds": 5, "seconds": 3, "warm_up": 30000, "short_seconds": 1, "kills": 50, "idle_seconds": 10, "takeovers": 200}
QUICK = {"rounds": 2, "seconds": 2, "warm_up": 5000, "short_seconds": 0.5, "kills": 10, "idle_seconds": 3, "takeovers": 20}


def progress(text):
    print(f"... {text}", file=sys.stderr, flush=True)


def in_rounds(rounds, peers, measure):
    """{peer: [its sample of each round]}; every second round in the opposite order. A measurement that something else disturbed
    is repeated (the least disturbed counts), but not often: a busy machine must not make it endless."""
    samples, repeats_left = {peer: [] for peer in peers}, rounds // 2
    for turn in range(rounds):
        for peer in list(peers) if turn % 2 == 0 else reversed(list(peers)):
            sample = measure(peers[peer])
            while sample.foreign_cores > FOREIGN_LIMIT and repeats_left > 0:
                repeats_left -= 1
                sample = min(sample, measure(peers[peer]), key=lambda candidate: candidate.foreign_cores)
            samples[peer].append(sample)
    return samples


def values(samples, name):
    return [getattr(sample, name) for sample in samples]


def median_ratio(samples, other, name):
    return median(mine / theirs for mine, theirs in zip(values(samples, name), values(other, name)))


def disturbance(samples_of_peers):
    """A note if something else ran: then CPU figures still hold (caches aside), rates do not."""
    foreign = [sample.foreign_cores for samples in samples_of_peers for sample in samples]
    busy = sum(share > FOREIGN_LIMIT for share in foreign)
    if busy:
        return [f"DISTURBED: in {busy} of {len(foreign)} runs other processes used over {FOREIGN_LIMIT} cores (most: {max(foreign):.1f})"]
    return []


# --- 1: Node, Pando beside Node's own cluster ---


def node_peers(lab):
    peers = {}
    for mode in lab.modes:
        peers[f"Pando, {mode}"] = lambda mode=mode: lab.run_pando(mode, WORKERS, ["node", NODE_APP], free_port())
    peers["cluster, SCHED_RR"] = lambda: lab.run_node_cluster(WORKERS, "rr", free_port())
    peers["cluster, SCHED_NONE"] = lambda: lab.run_node_cluster(WORKERS, "none", free_port())
    return peers


def table_node(lab, size, mode):
    def measure(start):
        with start() as server:
            return lab.measure(server, mode, CONNECTIONS, size["seconds"], size["warm_up"])

    progress(f"Node http, {mode}")
    samples = in_rounds(size["rounds"], node_peers(lab), measure)
    rr, none = samples["cluster, SCHED_RR"], samples["cluster, SCHED_NONE"]
    unit = "conn" if mode == "close" else "req"
    table = Table(
        f"1{'a' if mode == 'close' else 'b'}. Node http, {WORKERS} workers, {CONNECTIONS} connections, "
        + ("a new connection for each request" if mode == "close" else "keep-alive"),
        ["server", f"{unit}/s", "x RR", f"CPU us/{unit}", "x NONE", "of it supervisor", "p50 ms", "p99 ms", "busiest worker",
         "failed"])
    for peer, runs in samples.items():
        table.rows.append([
            peer, with_range(values(runs, "per_second")), number(median_ratio(runs, rr, "per_second"), 2),
            with_range(values(runs, "cpu_us"), 1), number(median_ratio(runs, none, "cpu_us"), 3),
            number(median(values(runs, "supervisor_us")), 3),
            *(number(median(run.latency_us[which] for run in runs) / 1000, 1) for which in ("p50", "p99")),
            f"{100 * median(values(runs, 'busiest')):.0f} %", number(sum(values(runs, "failed")))])
    for peer in (peer for peer in samples if peer.startswith("Pando")):
        mine = samples[peer]
        if mode == "close":
            faster, cost = median_ratio(mine, rr, "per_second"), median_ratio(mine, none, "cpu_us")
            table.notes.append(target(f"{peer}: conn/s >= 1.8 x SCHED_RR's", faster, lambda ratio: ratio >= 1.8))
            table.notes.append(target(f"{peer}: CPU per connection <= 1.05 x SCHED_NONE's", cost, lambda ratio: ratio <= 1.05, 3))
        supervisor = median(values(mine, "supervisor_us"))
        table.notes.append(target(f"{peer}: keeper + primary < 0.1 us CPU per request", supervisor, lambda us: us < 0.1, 3, " us"))
    table.notes += disturbance(samples.values())
    return table


# --- 2: what it costs that all workers pull from one socket ---


def pull_peers(lab, workers):
    def bare():
        port = free_port()
        return lab.run_bare(workers, [lab.epoll_server, port, "reuseport"], port)

    def pando(mode, *arguments):
        port = free_port()
        return lab.run_pando(mode, workers, [lab.epoll_server, port, *arguments], port)

    peers = {"own sockets": bare}
    if "pull" in lab.modes:
        peers |= {"pull": lambda: pando("pull"), "pull, exclusive": lambda: pando("pull", "exclusive")}
    if "slot" in lab.modes:
        peers |= {"slot": lambda: pando("slot")}
    return peers


def table_pull(lab, size):
    names = list(pull_peers(lab, 1))
    columns = [["own sockets us"], *([f"{name} us", "x own"] for name in names[1:]), ["wake-ups: " + " / ".join(names)]]
    table = Table(
        "2. Workers' CPU per connection against their number: a C epoll server, a new connection for each request",
        ["workers, connections", *sum(columns, [])])
    everything = []
    for workers in (2, 16, 64):
        for connections in (4, CONNECTIONS):
            def measure(start, connections=connections):
                with start() as server:
                    return lab.measure(server, "close", connections, size["short_seconds"], 2000)

            progress(f"C server, {workers} workers, {connections} connections")
            samples = in_rounds(size["rounds"], pull_peers(lab, workers), measure)
            everything += samples.values()
            own, *others = (samples[name] for name in names)
            row = [f"{workers}, {connections}", number(median(values(own, "workers_us")), 1)]
            for runs in others:
                row += [number(median(values(runs, "workers_us")), 1), number(median_ratio(runs, own, "workers_us"), 2)]
            row.append(" / ".join(number(median(values(samples[name], "wakeups")), 1) for name in names))
            table.rows.append(row)
    table.notes = [
        "own sockets: the same program without Pando, each process with its own SO_REUSEPORT socket: no vain wake-up is possible",
        "exclusive: the program waits with EPOLLEXCLUSIVE; without it the kernel wakes every idle worker for every connection",
        "wake-ups: how often the workers went to sleep, per connection",
        *failures(everything), *disturbance(everything)]
    return table


def failures(samples_of_peers):
    failed = sum(sample.failed for samples in samples_of_peers for sample in samples)
    return [f"FAILED requests: {failed}"] if failed else []


# --- 3: memory ---


def table_memory(lab, size, pm2):
    progress("memory")
    peers = node_peers(lab)
    if pm2:
        peers["PM2's daemon"] = lambda: lab.run_pm2(pm2, WORKERS, NODE_APP, free_port())
    title = f"3. Memory of the supervisor, {WORKERS} Node workers, after {size['warm_up']:,} requests"
    table = Table(title, ["server", "processes", "RSS MB", "PSS MB"])
    for peer, start in peers.items():
        with start() as server:
            lab.load(server, "close", CONNECTIONS, WARM_UP_MAX_S, size["warm_up"])
            sizes = [memory_bytes(pid) for pid in server.supervisor]
        rss, pss = ([bytes_ / 1e6 for bytes_ in column] for column in zip(*sizes))
        parts = ""
        if peer.startswith("Pando"):
            parts = " = keeper " + " + primary ".join(number(part, 1) for part in rss)
            table.notes.append(target(f"{peer}: keeper + primary < 6 MB RSS", sum(rss), lambda mb: mb < 6, 1, " MB"))
        table.rows.append([peer, str(len(sizes)), number(sum(rss), 1) + parts, number(sum(pss), 1)])
    if not pm2:
        table.notes.append("PM2 not measured: not installed (--with-pm2 fetches it by npm)")
    return table


def install_pm2(build):
    pm2 = build / "bench-pm2/node_modules/.bin/pm2"
    if not pm2.exists():
        progress("npm install pm2")
        command = ["npm", "install", "--prefix", build / "bench-pm2", "--no-audit", "--no-fund", "pm2@5.4.3"]
        subprocess.run(command, check=True, stdout=sys.stderr)
    return pm2


# --- 4: from SIGKILL to the successor ---


def ms_to_first_answer(port, old_pid, act):
    """Runs `act`, then asks until another pid answers: one connection, which waits in the queue; a refused one is tried again."""
    start = time.monotonic_ns()
    act()
    while True:
        try:
            if ask(port).strip() not in ("", old_pid):
                return (time.monotonic_ns() - start) / 1e6
        except ConnectionError:
            pass
        if time.monotonic_ns() - start > 20e9:
            raise LabError("no successor answered within 20 s")


def ms_from_kill_to_answer(lab, mode):
    port = free_port()
    with lab.run_pando(mode, 1, [lab.epoll_server, port], port):
        old_pid = ask(port).strip()
        return ms_to_first_answer(port, old_pid, lambda: os.kill(int(old_pid), signal.SIGKILL))


def ms_from_start_to_answer(lab):
    """The floor: the bare program, from before fork to its first answer."""
    port, pids = free_port(), []

    def start():
        quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
        pids.append(os.posix_spawn(lab.epoll_server, [lab.epoll_server, str(port)], os.environ, file_actions=quiet))

    try:
        return ms_to_first_answer(port, "", start)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def table_respawn(lab, size):
    progress("SIGKILL to successor")
    table = Table(
        f"4. The only C worker is killed (SIGKILL): until its successor has answered a connection; {size['kills']} fresh instances",
        ["what", "median ms", "p90 ms", "max ms"])
    series = {"the bare program: fork, exec, listen, answer": [ms_from_start_to_answer(lab) for _ in range(size["kills"])]}
    for mode in lab.modes:
        what = f"Pando, {mode}: kill, reap, fork, exec, listen, answer"
        series[what] = [ms_from_kill_to_answer(lab, mode) for _ in range(size["kills"])]
        table.notes.append(target(f"Pando, {mode}: median < 5 ms", median(series[what]), lambda ms: ms < 5, 2, " ms"))
    for what, times in series.items():
        table.rows.append([what, number(median(times), 2), number(quantiles(times, n=10)[-1], 2), number(max(times), 2)])
    table.notes.append("The connection waits in the queue, which Pando holds open, until the successor accepts it.")
    return table


# --- 5: idle ---


def table_idle(lab, size):
    workers = 100
    progress(f"{workers} idle workers")
    table = Table(f"5. {workers} idle C workers, {size['idle_seconds']} s", ["process", "CPU ms", "% of a core", "RSS MB"])
    for mode in lab.modes:
        port = free_port()
        with lab.run_pando(mode, workers, [lab.epoll_server, port], port) as server:
            time.sleep(2)
            before = [cpu_ns(pid) for pid in server.supervisor]
            time.sleep(size["idle_seconds"])
            used_ms = [(cpu_ns(pid) - ns) / 1e6 for pid, ns in zip(server.supervisor, before)]
            memory = [memory_bytes(pid)[0] / 1e6 for pid in server.supervisor]
        for name, ms, mb in zip(("keeper", "primary"), used_ms, memory):
            table.rows.append([f"{mode}: {name}", number(ms, 2), number(ms / 10 / size["idle_seconds"], 4), number(mb, 1)])
        total = sum(used_ms) / 10 / size["idle_seconds"]
        table.notes.append(target(f"{mode}: keeper + primary < 0.1 % of a core", total, lambda percent: percent < 0.1, 4, " %"))
    return table


# --- 6: Pando itself is killed, or replaced ---


def ms_until_another(lab, server, key, act):
    """From the act until another process answers on the control socket; and what the new primary had used of a processor by then."""
    before = lab.status(server.name)[key]
    started = time.monotonic()
    act()
    while True:
        status = lab.ask(server.name)
        if status is not None and status[key] not in (None, before):
            break
    return (time.monotonic() - started) * 1e3, cpu_ns(status["primary_pid"]) / 1e6


def table_survival(lab, size):
    progress("Pando is killed, and replaced")
    table = Table(f"6. Until another answers on the control socket: {size['takeovers']} times each, 8 idle C workers, none of which is restarted",
                  ["what", "median ms", "p90 ms", "max ms", "CPU ms of the new primary"])
    for mode in lab.modes:
        port = free_port()
        with lab.run_pando(mode, 8, [lab.epoll_server, port], port) as server:
            workers = [worker["pid"] for worker in lab.status(server.name)["workers"]]
            acts = {
                "SIGKILL of the primary": ("primary_pid", lambda: os.kill(lab.ask(server.name)["primary_pid"], signal.SIGKILL)),
                "upgrade to the same program": ("primary_pid", lambda: lab.command("upgrade", server.name)),
                "SIGKILL of the keeper": ("keeper_pid", lambda: os.kill(lab.ask(server.name)["keeper_pid"], signal.SIGKILL)),
            }
            try:
                for what, (key, act) in acts.items():
                    times, cpu = zip(*(ms_until_another(lab, server, key, act) for _ in range(size["takeovers"])))
                    table.rows.append([f"{mode}: {what}", number(median(times), 1), number(quantiles(times, n=10)[-1], 1),
                                       number(max(times), 1), number(median(cpu), 1)])
                    if "of the primary" in what:
                        table.notes.append(target(f"{mode}: {what}: median <= 50 ms", median(times), lambda ms: ms <= 50, 1, " ms"))
                if [worker["pid"] for worker in lab.status(server.name)["workers"]] != workers:
                    raise LabError("a worker was restarted")
            finally:
                lab.command("stop", server.name)
    return table


# --- all of it ---


def build_warnings(build):
    options = build / "meson-info/intro-buildoptions.json"
    if not options.exists():
        return []
    chosen = {option["name"]: option["value"] for option in json.loads(options.read_text())}
    good = {"b_sanitize": ("none",), "optimization": ("2", "3")}
    found = [f"{name}={chosen.get(name)}" for name in good if chosen.get(name) not in good[name]]
    return [f"WARNING: built with {', '.join(found)}: the figures mean nothing"] if found else []


def parse_arguments():
    parser = argparse.ArgumentParser(description="Pando's benchmarks; see bench/bench.py for how they measure.")
    parser.add_argument("--build", type=Path, default=BENCH.parent / "build", help="Meson's build folder (default: build)")
    parser.add_argument("--quick", action="store_true", help="two short rounds: does it work? The figures mean little")
    parser.add_argument("--write", action="store_true", help="also write bench/results.md")
    parser.add_argument("--only", metavar="1a,1b,2..", help="only these tables")
    parser.add_argument("--with-pm2", action="store_true", help="also measure PM2's daemon, fetched by npm into the build folder")
    arguments = parser.parse_args()
    if arguments.write and arguments.only:
        parser.error("--write writes all tables: not with --only")
    return arguments


def measure_all(lab, tables, head):
    """Prints each table when it is done; returns them."""
    start, done = time.monotonic(), []
    with one_scheduling_group() as grouped:
        if not grouped and Path("/proc/sys/kernel/sched_autogroup_enabled").exists():
            head.append("no cpu cgroup of our own: the kernel's autogroups, if enabled, take part in the comparison")
        print("\n".join(head) + "\n", flush=True)
        for table in tables:
            done.append(table())
            print(done[-1].text(), flush=True)
    print(f"took {time.monotonic() - start:.0f} s")
    return done


def write_results(head, done):
    lines = ["# Benchmarks", "", *(f"* {line}" for line in head), "",
             "Written by `bench/bench.py --write`, which says how it measures.", ""]
    (BENCH / "results.md").write_text("\n".join(lines) + "\n" + "\n".join(table.markdown() for table in done))


def main():
    arguments = parse_arguments()
    build, size = arguments.build.resolve(), QUICK if arguments.quick else FULL
    lab = Lab(build)
    pm2 = install_pm2(build) if arguments.with_pm2 else shutil.which("pm2")
    tables = {
        "1a": lambda: table_node(lab, size, "close"),
        "1b": lambda: table_node(lab, size, "keepalive"),
        "2": lambda: table_pull(lab, size),
        "3": lambda: table_memory(lab, size, pm2),
        "4": lambda: table_respawn(lab, size),
        "5": lambda: table_idle(lab, size),
        "6": lambda: table_survival(lab, size),
    }
    wanted = arguments.only.split(",") if arguments.only else list(tables)
    head = [
        *machine(lab),
        f"{size['rounds']} interleaved rounds of {size['seconds']} s, each after {size['warm_up']:,} requests to warm up (table 2: "
        f"{size['short_seconds']} s); nothing pinned; medians (and ranges) over the rounds",
        *build_warnings(build)]
    done = measure_all(lab, [tables[name] for name in wanted], head)
    if arguments.write:
        write_results(head, done)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # unwinds: nothing is left running
    try:
        main()
    except (LabError, KeyError) as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
