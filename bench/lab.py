# SPDX-License-Identifier: MIT
"""The laboratory: starts servers (Pando, Node's cluster, bare processes, PM2), loads them, and reads from the kernel what they cost.

CPU is the process CPU clock (clock_gettime on the clock of a pid): the utime + stime of /proc/PID/stat of all threads, but in
nanoseconds; ticks of 10 ms are too coarse for a supervisor that should use 0.1 us a request.
"""

import contextlib
import json
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

BENCH = Path(__file__).resolve().parent
START_TIMEOUT_S = 30
WARM_UP_MAX_S = 20


class LabError(Exception):
    """Something could not be started or measured; the text says what."""


# --- what the kernel knows of a process ---


def cpu_ns(pid):
    try:
        return time.clock_gettime_ns((~pid << 3) | 2)  # MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED)
    except OSError:
        raise LabError(f"process {pid} ended during the measurement") from None


def memory_bytes(pid):
    """(RSS, PSS) of a process."""
    fields = dict(line.split()[:2] for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    return int(fields["Rss:"]) * 1024, int(fields["Pss:"]) * 1024


def sleeps(pid):
    """How often the process has gone to sleep (all threads): each sleep ended by a wake-up, needed or vain."""
    count = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        for line in status.read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                count += int(line.split()[1])
    return count


def stat_fields(pid):
    """/proc/PID/stat from the third field (the state) on; None if there is no such process."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def start_time(pid):
    fields = stat_fields(pid)
    return fields and fields[19]


def descendants(root):
    children = {}
    for entry in Path("/proc").glob("[0-9]*"):
        fields = stat_fields(entry.name)
        if fields and fields[0] != "Z":
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    family = [root]
    for pid in family:  # grows on the way
        family += children.get(pid, [])
    return family[1:]


def machine_busy_s():
    user, nice, system, _idle, _wait, irq, softirq, steal = Path("/proc/stat").read_text().split()[1:9]
    return sum(map(int, (user, nice, system, irq, softirq, steal))) / os.sysconf("SC_CLK_TCK")


def free_port():
    """Below the ephemeral range, which belongs to the load generator."""
    while True:
        port = random.randint(20000, 29999)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("0.0.0.0", port))
            return port


def ask(port, timeout=10):
    """One request on a connection of its own; returns the answer's body."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = b""
        while chunk := connection.recv(4096):
            answer += chunk
    return answer.partition(b"\r\n\r\n")[2].decode()


@contextlib.contextmanager
def one_scheduling_group():
    """Puts us, and so all that we start, into one cpu cgroup; yields whether that went well.

    Else the kernel's autogroups divide the cores by session: Node's cluster is one session, Pando's workers have one each, and
    in the same contest with the load generator they would get different shares. A service of systemd has no autogroups either.
    """
    for root, weight in (("/sys/fs/cgroup/cpu", "cpu.shares"), ("/sys/fs/cgroup", "cpu.weight")):
        group = Path(root) / f"pando-bench-{os.getpid()}"
        with contextlib.suppress(OSError):
            group.mkdir()
            if (group / weight).exists():
                (group / "cgroup.procs").write_text(str(os.getpid()))
                break
            group.rmdir()
    else:
        yield False
        return
    try:
        yield True
    finally:
        (group.parent / "cgroup.procs").write_text(str(os.getpid()))
        for _ in range(20):  # until the last zombie is reaped
            with contextlib.suppress(OSError):
                group.rmdir()
                break
            time.sleep(0.1)


# --- servers ---


@dataclass
class Server:
    port: int
    supervisor: list = field(default_factory=list)  # pids: keeper and primary, or Node's primary, or PM2's daemon
    workers: list = field(default_factory=list)  # pids of all the others
    name: str = ""  # of Pando's instance

    @property
    def pids(self):
        return self.supervisor + self.workers


class Lab:
    """Knows where the programs are; each method that starts a server is a context manager that leaves nothing behind."""

    def __init__(self, build):
        self.pando = build / "src/pando/pando"
        self.load_generator = build / "bench/load"
        self.paced = build / "bench/paced"
        self.epoll_server = build / "bench/epoll_server"
        self.scratch = tempfile.TemporaryDirectory(prefix="pando-bench-")
        self.log = Path(self.scratch.name) / "servers.log"
        for program in (self.load_generator, self.epoll_server):
            if not program.exists():
                raise LabError(f"{program} is not there: build first (meson compile -C {build})")
        self.modes = self.find_modes()

    def find_modes(self):
        """The balance modes that can be measured here: pull always, slot if the kernel and our rights give it."""
        if not self.pando.exists():
            return []
        port = free_port()
        try:
            with self.run_pando("slot", 1, [self.epoll_server, port], port):
                return ["pull", "slot"]
        except LabError:
            return ["pull"]

    def environment(self, **more):
        return {**os.environ, "PANDO_DIR": self.scratch.name, **{name: str(value) for name, value in more.items()}}

    @contextlib.contextmanager
    def spawned(self, command, stdout=None, **environment):
        """A process in a session of its own; it and all its descendants are gone afterwards."""
        with open(self.log, "ab") as log:
            process = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=stdout or log, stderr=log,
                                       start_new_session=True, env=self.environment(**environment))
        try:
            yield process
        finally:
            family = {pid: start_time(pid) for pid in descendants(process.pid)}
            process.terminate()
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                print(f"bench: {command[0]} did not stop on SIGTERM within 15 s: killed", file=sys.stderr)
                process.kill()
                process.wait()
            for pid, started in family.items():
                if started and start_time(pid) == started:
                    os.kill(pid, signal.SIGKILL)
            if process.stdout:
                process.stdout.close()

    def log_tail(self):
        return "".join(f"\n  | {line}" for line in self.log.read_text(errors="replace").splitlines()[-15:])

    def wait_for(self, what, is_ready, process):
        deadline = time.monotonic() + START_TIMEOUT_S
        while not is_ready():
            if process.poll() is not None:
                raise LabError(f"{what} ended with {process.returncode} instead of serving{self.log_tail()}")
            if time.monotonic() > deadline:
                raise LabError(f"{what} was not ready within {START_TIMEOUT_S} s{self.log_tail()}")
            time.sleep(0.005)

    def wait_for_line(self, what, process):
        if process.stdout.readline().strip() != b"ready":
            raise LabError(f"{what} did not become ready{self.log_tail()}")

    def status(self, name):
        command = [self.pando, "status", "-n", name, "--json"]
        answer = subprocess.run(command, capture_output=True, env=self.environment(), timeout=10, check=False)
        try:
            return json.loads(answer.stdout) if answer.returncode == 0 else None
        except ValueError:
            raise LabError(f"`pando status --json` printed no JSON: {answer.stdout[:200]!r}") from None

    def ask(self, name):
        """The status, asked for on the control socket itself; None while nobody answers. Waits with the connection in the queue."""
        try:
            with socket.socket(socket.AF_UNIX) as sock, sock.makefile("rb") as lines:
                sock.connect(f"{self.scratch.name}/{name}.sock")
                sock.sendall(b'{"verb": "status"}\n')
                return json.loads(lines.readline())["result"]
        except (OSError, ValueError):
            return None

    def command(self, verb, name):
        """`pando VERB -n NAME`; its exit code."""
        return subprocess.run([self.pando, verb, "-n", name], capture_output=True, env=self.environment(), timeout=30, check=False).returncode

    @contextlib.contextmanager
    def run_pando(self, mode, workers, command, port, more_options=()):
        name = f"bench-{port}"
        options = ["-n", name, "-w", workers, "--balance-mode", mode, *more_options]
        with self.spawned([self.pando, "run", *options, "--", *command], PORT=port) as process:
            status = None

            def is_ready():
                nonlocal status
                status = self.status(name)
                return status and status["ready"] == workers

            self.wait_for("pando run", is_ready, process)
            if status["mode"] != mode:
                raise LabError(f"pando run --balance-mode {mode} runs in mode {status['mode']}{self.log_tail()}")
            supervisor = [status["keeper_pid"], status["primary_pid"]]
            everybody = [status["keeper_pid"], *descendants(status["keeper_pid"])]
            yield Server(port, supervisor, [pid for pid in everybody if pid not in supervisor], name)

    @contextlib.contextmanager
    def run_node_cluster(self, workers, policy, port):
        command = ["node", BENCH / "apps/node_cluster.js"]
        settings = {"PORT": port, "WORKERS": workers, "NODE_CLUSTER_SCHED_POLICY": policy}
        with self.spawned(command, stdout=subprocess.PIPE, **settings) as process:
            self.wait_for_line("Node's cluster", process)
            yield Server(port, [process.pid], descendants(process.pid))

    @contextlib.contextmanager
    def run_bare(self, workers, command, port):
        """The program itself, `workers` times, without any supervisor."""
        with contextlib.ExitStack() as stack:
            processes = [stack.enter_context(self.spawned(command, stdout=subprocess.PIPE, PORT=port)) for _ in range(workers)]
            for process in processes:
                self.wait_for_line(str(command[0]), process)
            yield Server(port, [], [process.pid for process in processes])

    @contextlib.contextmanager
    def run_pm2(self, pm2, workers, app, port):
        home = Path(self.scratch.name) / "pm2"
        environment = self.environment(PM2_HOME=home, PORT=port)

        def run(*arguments):
            subprocess.run([pm2, *map(str, arguments)], env=environment, check=True, capture_output=True, timeout=60)

        try:
            run("start", app, "-i", workers)
            daemon = int((home / "pm2.pid").read_text())
            yield Server(port, [daemon], descendants(daemon))
        except (OSError, subprocess.SubprocessError) as error:
            raise LabError(f"PM2: {error}") from None
        finally:
            subprocess.run([pm2, "kill"], env=environment, check=False, capture_output=True, timeout=60)
            shutil.rmtree(home, ignore_errors=True)

    # --- measuring ---

    def load(self, server, mode, connections, seconds, requests=0):
        """Until the time is over, or the number of requests is reached if one is given."""
        command = [self.load_generator, "-p", server.port, "-m", mode, "-c", connections, "-d", seconds, "-n", requests]
        run = subprocess.run(list(map(str, command)), capture_output=True, check=True, text=True, timeout=seconds + 60)
        return json.loads(run.stdout)

    def measure(self, server, mode, connections, seconds, warm_up):
        """Loads the server: what was answered, at what cost. The warm-up is a number of requests: a compiler just in time counts those."""
        self.load(server, mode, connections, WARM_UP_MAX_S, warm_up)
        cpu_before = {pid: cpu_ns(pid) for pid in server.pids}
        sleeps_before = sum(map(sleeps, server.workers))
        busy_before, load_before, clock_before = machine_busy_s(), children_cpu_s(), time.monotonic()
        result = self.load(server, mode, connections, seconds)
        elapsed, busy = time.monotonic() - clock_before, machine_busy_s() - busy_before
        load_cpu = children_cpu_s() - load_before
        cpu = {pid: cpu_ns(pid) - before for pid, before in cpu_before.items()}
        if not result["completed"]:
            raise LabError(f"no request completed on port {server.port}: {result['failures']}{self.log_tail()}")

        workers_ns = [cpu[pid] for pid in server.workers]
        foreign = (busy - load_cpu - sum(cpu.values()) / 1e9) / elapsed
        return Sample(
            per_second=result["per_second"], completed=result["completed"], failed=result["failed"], latency_us=result["latency_us"],
            supervisor_us=sum(cpu[pid] for pid in server.supervisor) / 1e3 / result["completed"],
            workers_us=sum(workers_ns) / 1e3 / result["completed"], busiest=max(workers_ns) / max(sum(workers_ns), 1),
            wakeups=(sum(map(sleeps, server.workers)) - sleeps_before) / result["completed"], foreign_cores=max(foreign, 0))


def children_cpu_s():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@dataclass
class Sample:
    per_second: float
    completed: int
    failed: int
    latency_us: dict
    supervisor_us: float  # CPU of keeper + primary (or Node's primary) a request
    workers_us: float  # CPU of all workers together a request
    busiest: float  # the busiest worker's part of the workers' CPU
    wakeups: float  # the workers' sleeps a request
    foreign_cores: float  # CPU that neither server nor load generator used: what else ran on the machine

    @property
    def cpu_us(self):
        return self.supervisor_us + self.workers_us
