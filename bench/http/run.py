#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""CPU microseconds per request, from the server's own accounting, in interleaved rounds: one pinned server, one pinned wrk.

  run.py [-r ROUNDS] [-t SECONDS] [--path /] [--pipeline N] NAME=COMMAND ...
COMMAND has {port}. The medians, and the ratios of each server to each other within the same round, are printed."""
import argparse, os, re, shlex, socket, statistics, subprocess, sys, time, tempfile

PIPELINE = """init = function() local r = {} for i = 1, %d do r[i] = wrk.format('GET', '%s') end req = table.concat(r) end
request = function() return req end"""

def cpu_seconds(pid):
    """schedstat is in nanoseconds and covers user and system time of all threads."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        total += int(open(f"/proc/{pid}/task/{task}/schedstat").read().split()[0])
    return total / 1e9

def wait_port(port, process):
    for _ in range(200):
        if process.poll() is not None: sys.exit(f"server ended with {process.returncode}")
        try: socket.create_connection(("127.0.0.1", port), 0.2).close(); return
        except OSError: time.sleep(0.05)
    sys.exit("server did not listen")

def measure(command, args):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0)); port = probe.getsockname()[1]
    argv = ["taskset", "-c", "0"] + shlex.split(command.replace("{port}", str(port)))
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
    try:
        wait_port(port, process)
        script = []
        if args.pipeline > 1:
            f = tempfile.NamedTemporaryFile("w", suffix=".lua", delete=False); f.write(PIPELINE % (args.pipeline, args.path)); f.close()
            script = ["-s", f.name]
        wrk = ["taskset", "-c", "1", "wrk", "-t1", f"-c{args.connections}"] + script
        url = f"http://127.0.0.1:{port}{args.path}"
        subprocess.run(wrk + ["-d1", url], capture_output=True, check=True)
        before = cpu_seconds(process.pid)
        text = subprocess.run(wrk + [f"-d{args.seconds}", url], capture_output=True, text=True, check=True).stdout
        used = cpu_seconds(process.pid) - before
        if "Non-2xx" in text: sys.exit(text)
        requests = int(re.search(r"(\d+) requests in", text).group(1))
        return used * 1e6 / requests, float(re.search(r"Requests/sec:\s+([\d.]+)", text).group(1))
    finally:
        process.terminate(); process.wait()

p = argparse.ArgumentParser()
p.add_argument("-r", "--rounds", type=int, default=5); p.add_argument("-t", "--seconds", type=int, default=3)
p.add_argument("-c", "--connections", type=int, default=64)
p.add_argument("--path", default="/"); p.add_argument("--pipeline", type=int, default=1); p.add_argument("servers", nargs="+")
args = p.parse_args()
servers = [s.split("=", 1) for s in args.servers]
rounds = []
for i in range(args.rounds):
    rounds.append({name: measure(command, args) for name, command in servers})
    print(f"round {i + 1}: " + "  ".join(f"{n} {us:.2f} us {rps:.0f}/s" for n, (us, rps) in rounds[-1].items()), flush=True)
print(f"\n{'server':14} {'us/request':>10} {'requests/s':>11}   ratio of us to: " + " ".join(f"{n:>9}" for n, _ in servers))
for name, _ in servers:
    us = statistics.median(r[name][0] for r in rounds); rps = statistics.median(r[name][1] for r in rounds)
    ratios = [statistics.median(r[name][0] / r[other][0] for r in rounds) for other, _ in servers]
    print(f"{name:14} {us:10.2f} {rps:11.0f}   {'':16}" + " ".join(f"{x:9.2f}" for x in ratios))
