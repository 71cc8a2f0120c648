#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""`pando run --node-cluster` beside Node's own cluster: the same self-clustering program, a new connection for each request.

`make bench` runs it; it judges the figures against their targets but never fails on one. How it measures: see bench.py, whose
rounds these are. The primary's CPU is keeper and primary together; its memory is the primary's RSS after the load.
"""

import argparse
import signal
import sys
from pathlib import Path
from statistics import median

from bench import CONNECTIONS, build_warnings, disturbance, in_rounds, machine, measure_all, median_ratio, values
from lab import BENCH, Lab, LabError, free_port, memory_bytes
from report import Table, number, target, with_range

PROGRAM = BENCH / "apps/node_cluster.js"
FULL = {"rounds": 5, "seconds": 3, "warm_up": 30000}
QUICK = {"rounds": 2, "seconds": 2, "warm_up": 5000}
RR, NONE, PASSING = "cluster, SCHED_RR", "cluster, SCHED_NONE", "Pando, passing"


def peers(lab, workers):
    def pando(mode, *options):
        port = free_port()
        return lab.run_pando(mode, workers, ["node", PROGRAM], port, ["--node-cluster", *options])

    found = {f"Pando, {mode}": lambda mode=mode: pando(mode) for mode in lab.modes}
    found[PASSING] = lambda: pando("pull", "--balance", "rr")
    found[RR] = lambda: lab.run_node_cluster(workers, "rr", free_port())
    found[NONE] = lambda: lab.run_node_cluster(workers, "none", free_port())
    return found


def table(lab, size, workers):
    memory = {}

    def measure(start):
        with start() as server:
            sample = lab.measure(server, "close", CONNECTIONS, size["seconds"], size["warm_up"])
            sample.primary_bytes = memory_bytes(server.supervisor[-1])[0]
            return sample

    print(f"... {workers} workers", file=sys.stderr, flush=True)
    samples = in_rounds(size["rounds"], peers(lab, workers), measure)
    rr = samples[RR]
    out = Table(f"Node's cluster, {workers} workers, {CONNECTIONS} connections, a new connection for each request",
                ["primary", "conn/s", "x RR", "CPU us/conn", "of it primary", "x RR's", "p50 ms", "p99 ms", "busiest worker",
                 "primary's RSS MiB", "failed"])
    for peer, runs in samples.items():
        memory[peer] = median(run.primary_bytes for run in runs) / 2**20
        out.rows.append([
            peer, with_range(values(runs, "per_second")), number(median_ratio(runs, rr, "per_second"), 2),
            with_range(values(runs, "cpu_us"), 1), number(median(values(runs, "supervisor_us")), 1),
            number(median_ratio(runs, rr, "supervisor_us"), 3),
            *(number(median(run.latency_us[which] for run in runs) / 1000, 1) for which in ("p50", "p99")),
            f"{100 * median(values(runs, 'busiest')):.0f} %", number(memory[peer], 1), number(sum(values(runs, "failed")))])
    for peer in (f"Pando, {mode}" for mode in lab.modes):
        out.notes.append(target(f"{peer}: conn/s >= 1.8 x SCHED_RR's", median_ratio(samples[peer], rr, "per_second"), lambda x: x >= 1.8))
    out.notes.append(target(f"{PASSING}: conn/s >= 1.5 x SCHED_RR's", median_ratio(samples[PASSING], rr, "per_second"), lambda x: x >= 1.5))
    out.notes.append(target(f"{PASSING}: primary's CPU per connection <= 0.2 x SCHED_RR's",
                            median_ratio(samples[PASSING], rr, "supervisor_us"), lambda x: x <= 0.2))
    out.notes += disturbance(samples.values())
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=Path, default=BENCH.parent / "build", help="Meson's build folder (default: build)")
    parser.add_argument("--quick", action="store_true", help="two short rounds: does it work? The figures mean little")
    parser.add_argument("--workers", default="2,8", help="numbers of workers (default: 2,8)")
    arguments = parser.parse_args()
    lab, size = Lab(arguments.build.resolve()), QUICK if arguments.quick else FULL
    head = [*machine(lab), f"{size['rounds']} interleaved rounds of {size['seconds']} s, each after {size['warm_up']:,} requests to warm up",
            *build_warnings(arguments.build.resolve())]
    measure_all(lab, [lambda workers=workers: table(lab, size, int(workers)) for workers in arguments.workers.split(",")], head)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # unwinds: nothing is left running
    try:
        main()
    except (LabError, KeyError) as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
