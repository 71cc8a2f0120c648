"""Pando as a test sees it: started for real, asked through its control socket and its command line, watched until nothing is left.

    with Pando(app("epoll_server"), port, workers=2) as pando:      # in tests: the `pando` fixture, which cleans up
        pando.wait_ready()
        pids_answering(port, 2)
        pando.kill(0)                                                # the worker in slot 0
        pando.ctl("scale", "4")                                      # the command line
        pando.stop()

Each instance has a run-time folder of its own and a token in its environment, by which every process that ever came from it is
found again, however it has been re-parented. Everything waits with a deadline; nothing sleeps and hopes.
"""
import collections
import ctypes
import functools
import json
import os
import random
import selectors
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
import uuid
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
APPS = HERE.parent / "apps"
BUILD = Path(os.environ.get("PANDO_BUILD", ROOT / "build")).resolve()
PANDO = BUILD / "src/pando/pando"
NIGHTLY = os.environ.get("PANDO_NIGHTLY") == "1"
PYTHON = "/usr/bin/python3"
NOBODY = 65534
DEADLINE = 60.0  # seconds, for what only must happen: a sanitized build on two busy cores may be slow, a broken one never gets there
PATIENCE = 30.0  # of a client: longer than any hiccup, and than the kernel's first retransmissions


def count(nightly):
    """How often to repeat: the full count at night, a tenth of it in `make test`."""
    return nightly if NIGHTLY else max(1, nightly // 10)


def app(name):
    """Path of a test server written in C, or of an example."""
    for folder in ("tests/apps", "examples"):
        if (BUILD / folder / name).exists():
            return str(BUILD / folder / name)
    raise FileNotFoundError(f"{name} is not built in {BUILD}")


def script(name):
    """Path of a test server that is a script."""
    return str(APPS / name)


def wait_until(condition, deadline=DEADLINE, what="", pause=0.01):
    """Calls `condition` until it gives something true, which is returned; fails after `deadline` seconds."""
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline:g} s: {what or condition}")
        time.sleep(pause)


# ---- ports ----------------------------------------------------------------------------------------------------------------

_reservations = []  # abstract unix sockets: one a port, so that tests that run side by side never draw the same


def _reserve(port):
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        claim.bind(f"\0pando-e2e-port-{port}")
        for family, host in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                with socket.socket(family, kind) as trial:
                    if family == socket.AF_INET6:
                        trial.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                    trial.bind((host, port))
    except OSError:
        claim.close()
        return False
    _reservations.append(claim)
    return True


def free_ports(number, in_a_row=False):
    """Ports from below the ephemeral range that nobody has, reserved for this process until the test ends."""
    for _ in range(2000):
        first = random.randrange(20000, 30000 - number)
        wanted = range(first, first + number) if in_a_row else random.sample(range(20000, 30000), number)
        before = len(_reservations)
        if all(_reserve(port) for port in wanted):
            return list(wanted)
        while len(_reservations) > before:
            _reservations.pop().close()
    raise AssertionError("no free ports between 20000 and 29999")


def free_port():
    return free_ports(1)[0]


def release_ports():
    while _reservations:
        _reservations.pop().close()


# ---- HTTP as a client sees it -----------------------------------------------------------------------------------------------

Answer = collections.namedtuple("Answer", "status body pid")

REQUEST_CLOSE = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
REQUEST_KEEP = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def parse_answer(data, at_end):
    """The answer in `data`, or None when it is not complete (`at_end`: the server has closed)."""
    head, separator, body = data.partition(b"\r\n\r\n")
    if not separator:
        return None
    length = None
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            length = int(value)
    if len(body) < length if length is not None else not at_end:
        return None
    text = body.decode()
    pid = next((int(line.split()[1]) for line in text.splitlines() if line.startswith("pid ")), None)
    return Answer(int(head.split()[1]), text, pid)


def connect(where, timeout=PATIENCE):
    """A connected socket to a port on 127.0.0.1, to a (host, port), or to the path of a unix socket."""
    if isinstance(where, str):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # Blocking, with the kernel's own time-out: a non-blocking connect would fail at once where the backlog is full.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(timeout), 0))
        try:
            sock.connect(where)
        except OSError:
            sock.close()
            raise
        sock.settimeout(timeout)
        return sock
    return socket.create_connection(("127.0.0.1", where) if isinstance(where, int) else where, timeout)


def read_answer(sock):
    data = b""
    while True:
        part = sock.recv(65536)
        data += part
        answer = parse_answer(data, at_end=not part)
        if answer is not None:
            return answer
        if not part:
            raise ConnectionResetError(f"closed after {len(data)} bytes, before the answer was complete")


def ask_again(sock):
    """One more request on a kept-alive connection."""
    sock.sendall(REQUEST_KEEP)
    return read_answer(sock)


def http_get(where, timeout=PATIENCE):
    """One request on a fresh connection."""
    with connect(where, timeout) as sock:
        sock.sendall(REQUEST_CLOSE)
        return read_answer(sock)


def wait_listening(where, deadline=DEADLINE):
    """Until `where` takes connections: a worker that listens on several addresses is ready after the first of them."""
    def connects():
        try:
            connect(where).close()
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        return True

    wait_until(connects, deadline, f"something listens at {where}")


def http_values(where, timeout=PATIENCE):
    """The answer's lines "key value" as a dict; the lines "env K=V" come as a dict of their own under "env"."""
    values = {"env": {}}
    for line in http_get(where, timeout).body.splitlines():
        key, _, value = line.partition(" ")
        if key == "env":
            name, _, content = value.partition("=")
            values["env"][name] = content
        else:
            values[key] = value
    return values


def pids_answering(where, at_least=2, deadline=DEADLINE):
    """The pids that answered, as soon as there are `at_least` so many. Connections come eight at a time: where idle workers pull
    from one queue, a lone client may well be served by the same one for ever."""
    wait_listening(where, deadline)
    pids = set()
    end = time.monotonic() + deadline
    while len(pids) < at_least:
        assert time.monotonic() < end, f"only {sorted(pids)} answered at {where} within {deadline:g} s, wanted {at_least} processes"
        socks = [connect(where) for _ in range(8)]
        for sock in socks:
            sock.sendall(REQUEST_CLOSE)
        for sock in socks:
            answer = read_answer(sock)
            assert answer.status == 200
            pids.add(answer.pid)
            sock.close()
    return pids


Failure = collections.namedtuple("Failure", "client reason after_s")


class Load:
    """Requests without a pause, one connection each, `clients` at a time, every connection from an address and port of its own: a
    failure can be told from every other by who it was.

        with Load(port, clients=16) as load:
            ...
        assert not load.failures and load.answered > 100
    """

    def __init__(self, port, clients=16, timeout=PATIENCE, host="127.0.0.1", pause=0.0):
        self.target = (host, port)
        self.clients, self.timeout, self.pause = clients, timeout, pause
        self.answered = 0
        self.failures = []
        self.by_pid = collections.Counter()
        self.slowest_s = 0.0
        self._next_id = 0
        self._base = [127, random.randrange(64, 128), random.randrange(1, 255)]
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._error = None

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        """Lets the running requests come to their end."""
        self._stopping.set()
        self._thread.join(self.timeout + 30)
        assert not self._thread.is_alive(), "the load did not come to an end"
        if self._error is not None:
            raise self._error

    def wait_answered(self, more):
        """Until so many more answers have come."""
        wanted = self.answered + more
        wait_until(lambda: self.answered >= wanted, what=f"{more} more answers; failures: {self.failures[:5]}")

    def _start_one(self, selector):
        number = self._next_id
        self._next_id += 1
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        host = ".".join(map(str, self._base + [1 + number // 10000 % 254]))
        client = (host, 10000 + number % 10000)
        sock.bind(client)
        sock.connect_ex(self.target)
        selector.register(sock, selectors.EVENT_WRITE, {"client": client, "since": time.monotonic(), "data": b""})

    def _finish(self, selector, sock, state, answer, reason):
        selector.unregister(sock)
        sock.close()
        after = time.monotonic() - state["since"]
        self.slowest_s = max(self.slowest_s, after)
        if answer is not None and answer.status == 200 and answer.pid:
            self.by_pid[answer.pid] += 1
            self.answered += 1
        else:
            self.failures.append(Failure(state["client"], reason or f"answer {answer}", after))

    def _on_event(self, selector, sock, state):
        try:
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                raise OSError(error, os.strerror(error))
            if "sent" not in state:
                sock.send(REQUEST_CLOSE)
                state["sent"] = True
                selector.modify(sock, selectors.EVENT_READ, state)
                return
            part = sock.recv(65536)
            state["data"] += part
            answer = parse_answer(state["data"], at_end=not part)
            if answer is not None or not part:
                self._finish(selector, sock, state, answer, "closed before the answer")
        except BlockingIOError:
            pass
        except OSError as error:
            self._finish(selector, sock, state, None, type(error).__name__)

    def _run(self):
        try:
            with selectors.DefaultSelector() as selector:
                while True:
                    running = len(selector.get_map())
                    if self._stopping.is_set() and running == 0:
                        return
                    if not self._stopping.is_set():
                        for _ in range(self.clients - running):
                            self._start_one(selector)
                    for key, _ in selector.select(0.05):
                        self._on_event(selector, key.fileobj, key.data)
                    now = time.monotonic()
                    for key in list(selector.get_map().values()):
                        if now - key.data["since"] > self.timeout:
                            self._finish(selector, key.fileobj, key.data, None, "no answer in time")
                    if self.pause:
                        time.sleep(self.pause)
        except BaseException as error:  # told to whoever stops us
            self._error = error


# ---- processes --------------------------------------------------------------------------------------------------------------

_libc = ctypes.CDLL(None, use_errno=True)
_SYS_PIDFD_GETFD = 438


def _stat(pid):
    """(state, ppid, start time) of a process, or None when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None
    return fields[0], int(fields[1]), int(fields[19])


def alive(pid):
    stat = _stat(pid)
    return stat is not None and stat[0] not in "ZX"


def fd_count(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def pids_of_children(pid):
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            stat = _stat(int(entry))
            if stat is not None and stat[1] == pid:
                found.append(int(entry))
    return found


def kill_if_alive(pid, signo):
    try:
        os.kill(pid, signo)
    except ProcessLookupError:
        pass


def freeze(pid):
    """SIGSTOP, and back when every thread of the process has stopped."""
    os.kill(pid, signal.SIGSTOP)

    def stopped():
        try:
            tasks = os.listdir(f"/proc/{pid}/task")
        except FileNotFoundError:
            return True
        states = [_stat(f"{pid}/task/{task}") for task in tasks]
        return all(state is None or state[0] in "TtZX" for state in states)

    wait_until(stopped, what=f"process {pid} stops", pause=0.0005)


def peers_inside(pid):
    """The (host, port) of every client whose connection the (frozen) process has accepted."""
    peers = set()
    try:
        pidfd = os.pidfd_open(pid)
        fds = os.listdir(f"/proc/{pid}/fd")
    except (ProcessLookupError, FileNotFoundError):
        return peers
    try:
        for fd in map(int, fds):
            copy = _libc.syscall(_SYS_PIDFD_GETFD, pidfd, fd, 0)
            if copy < 0:
                continue
            try:
                sock = socket.socket(fileno=copy)
            except OSError:  # not a socket: the copy is still ours to close
                os.close(copy)
                continue
            with sock:
                try:
                    host, port = sock.getpeername()[:2]
                except (OSError, ValueError):  # a listener, or a socket of another kind
                    continue
                peers.add((host.removeprefix("::ffff:"), port))
    finally:
        os.close(pidfd)
    return peers


def wait_accepted(instance, *clients):
    """Until each of these connections is inside a worker: none waits in a queue any more."""
    names = {client.getsockname()[:2] for client in clients}
    wait_until(lambda: names <= set().union(*(peers_inside(pid) for pid in instance.pids().values())), what=f"{names} are accepted")


@functools.lru_cache(maxsize=None)
def reachable_by_nobody():
    """True when uid 65534 may run what is in the build folder and read the test servers."""
    return all(
        subprocess.run(["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "test", "-r", path]).returncode == 0
        for path in (str(PANDO), str(APPS / "meson.build")))


# ---- the instance -----------------------------------------------------------------------------------------------------------

class NotRunning(Exception):
    """Nobody answers on the control socket."""


class Refused(Exception):
    """The answer was {"ok": false}: args are (code, error)."""


def new_folder(uid=None):
    """A short-named temporary folder that other users may enter; the caller removes it."""
    folder = Path(tempfile.mkdtemp(prefix="pando-e2e-", dir="/tmp"))
    folder.chmod(0o755)
    if uid is not None:
        os.chown(folder, uid, uid)
    return folder


class Pando:
    """One `pando run`. Options:

    workers, options   `-w` and further options of `run`; workers=None leaves `-w` out
    name               the instance's name; None leaves `-n` out (`name` must then be what Pando chooses)
    env                variables to set (None as a value: to unset)
    uid                run as this user (setpriv)
    prefix             a command that execs or starts `pando`: ("setpriv", ...)
    folder             keep run-time folder and output in this folder; it is shared with other instances then
    stdout, stderr     as for Popen; by default files, readable through `output()` and `log()`
    cwd                working directory
    detach             `run -d`: the constructor returns when `run` has ended
    pass_fds           descriptors that the process inherits under their own numbers
    """

    def __init__(self, *command, workers=2, options=(), name="app", env=None, uid=None, prefix=(), folder=None,
                 stdout=None, stderr=None, stdin=subprocess.DEVNULL, cwd=None, detach=False, new_session=True, pass_fds=()):
        self.name = name or "app"
        self.token = uuid.uuid4().hex
        self.seen = {}  # pid -> start time: every process that status ever named
        self.own_folder = folder is None
        self.folder = Path(folder) if folder is not None else new_folder(uid)
        self.home = self.folder / "run"
        self.detached = detach
        self.closed = False
        self.uid = uid
        if uid is not None:
            prefix = ("setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", *prefix)
        self.env = dict(os.environ, PANDO_DIR=str(self.home), PANDO_E2E=self.token, PYTHONDONTWRITEBYTECODE="1",
                        **sanitizer_options(self.folder))
        for key in ("NOTIFY_SOCKET", "PANDO_WORKER", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_USEC", "WATCHDOG_PID",
                    "SYSTEMD_EXEC_PID"):
            self.env.pop(key, None)
        for key, value in (env or {}).items():
            if value is None:
                self.env.pop(key, None)
            else:
                self.env[key] = value
        self.arguments = [*map(str, prefix), str(PANDO), "run"]
        if name is not None:
            self.arguments += ["-n", name]
        if workers is not None:
            self.arguments += ["-w", str(workers)]
        if detach:
            self.arguments.append("-d")
        self.arguments += [*map(str, options), "--", *map(str, command)]
        serial = len(list(self.folder.glob("stdout*")))
        self.stdout_path = self.folder / f"stdout{serial}"
        self.stderr_path = self.folder / f"stderr{serial}"
        with open(self.stdout_path, "wb") as out, open(self.stderr_path, "wb") as err:
            self.process = subprocess.Popen(self.arguments, env=self.env, cwd=cwd, stdin=stdin, stdout=stdout or out,
                                            stderr=stderr or err, start_new_session=new_session, pass_fds=pass_fds)
        if detach:
            self.exit_code(2 * DEADLINE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # -- what it says

    def output(self):
        """What went to standard output so far."""
        return self.stdout_path.read_text(errors="replace")

    def log(self):
        """What went to standard error so far: Pando's own lines, and the workers' standard error."""
        return self.stderr_path.read_text(errors="replace")

    def wait_log(self, *texts, deadline=DEADLINE):
        """Until standard error has a line with all the texts (case does not matter), which is returned."""
        wanted = [text.lower() for text in texts]

        def find():
            for line in self.log().splitlines():
                if all(text in line.lower() for text in wanted):
                    return line
            return None

        return wait_until(find, deadline, f"a line on stderr with {texts}", pause=0.03)

    # -- the control socket

    def connect(self, timeout=DEADLINE):
        try:
            return connect(str(self.home / f"{self.name}.sock"), timeout)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise NotRunning(str(error)) from error

    def ask(self, request, timeout=DEADLINE):
        """One request on a control connection of its own; the result of its answer."""
        with self.connect(timeout) as sock:
            sock.sendall(json.dumps(request).encode() + b"\n")
            with sock.makefile("rb") as lines:
                line = lines.readline()
        if not line:
            raise NotRunning("the control connection closed without an answer")
        answer = json.loads(line)
        if not answer["ok"]:
            raise Refused(answer["code"], answer["error"])
        return answer["result"]

    def status(self, timeout=DEADLINE):
        status = self.ask({"verb": "status"}, timeout)
        for pid in [status["keeper_pid"], status["primary_pid"]] + [worker["pid"] for worker in status["workers"]]:
            stat = _stat(pid) if pid else None
            if stat is not None:
                self.seen.setdefault(pid, stat[2])
        return status

    def try_status(self):
        """As status, but None while nobody answers."""
        try:
            return self.status(timeout=5)
        except (NotRunning, Refused, OSError):
            return None

    def workers(self):
        """The workers by slot."""
        return {worker["slot"]: worker for worker in self.status()["workers"]}

    def pids(self):
        """The workers' pids by slot, of those that have one."""
        return {slot: worker["pid"] for slot, worker in self.workers().items() if worker["pid"]}

    @property
    def keeper_pid(self):
        return self.status()["keeper_pid"]

    @property
    def primary_pid(self):
        return self.status()["primary_pid"]

    def wait_status(self, condition, deadline=DEADLINE, what="status is as wanted"):
        """Until the condition holds for the status, which is returned."""
        last = None

        def check():
            nonlocal last
            if not self.detached and self.process.poll() is not None:
                raise AssertionError(f"pando has ended with code {self.process.returncode}")
            last = self.try_status()
            return last if last is not None and condition(last) else None

        try:
            return wait_until(check, deadline, what, pause=0.02)
        except AssertionError as error:
            raise AssertionError(f"{error}; last status: {last}") from None

    def wait_ready(self, number=None, deadline=DEADLINE):
        """Until `number` workers (all that are wanted) are ready."""
        return self.wait_status(lambda status: status["ready"] == (number or status["wanted"]) and status["ready"] > 0, deadline,
                                f"{number or 'all'} workers ready")

    def wait_replaced(self, slot, old_pid, deadline=DEADLINE):
        """Until the slot serves with another process; its pid."""
        def replaced(status):
            worker = next((worker for worker in status["workers"] if worker["slot"] == slot), None)
            return worker and worker["state"] == "serving" and worker["pid"] not in (None, old_pid)

        status = self.wait_status(replaced, deadline, f"slot {slot} serves with a process other than {old_pid}")
        return next(worker["pid"] for worker in status["workers"] if worker["slot"] == slot)

    # -- doing things to it

    def kill(self, slot, signo=signal.SIGKILL):
        """Signals the worker in a slot; its pid."""
        pid = self.pids()[slot]
        os.kill(pid, signo)
        return pid

    def ctl(self, *arguments, timeout=2 * DEADLINE, name=True, check=None):
        """Runs a verb of the command line against this instance: ctl("scale", 3). `check`: the exit code that it must have."""
        verb, *rest = map(str, arguments)
        command = [str(PANDO), verb, *(["-n", self.name] if name else []), *rest]
        done = subprocess.run(command, env=self.env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)
        if check is not None:
            assert done.returncode == check, f"{command}: exit code {done.returncode}, wanted {check}\n{done.stdout}{done.stderr}"
        return done

    def signal(self, signo):
        """Signals Pando itself, as a person would: the process that was started, or the keeper of a detached one."""
        os.kill(self.keeper_pid if self.detached else self.process.pid, signo)

    def exit_code(self, deadline=DEADLINE):
        """Waits for `pando run` to end."""
        try:
            return self.process.wait(deadline)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"pando run has not ended within {deadline:g} s") from None

    def stop(self, deadline=DEADLINE):
        """SIGTERM and wait; the exit code. Nothing may be left."""
        if self.detached:
            self.ctl("stop", check=0)
            code = 0
        else:
            if self.process.poll() is None:
                os.kill(self.process.pid, signal.SIGTERM)
            code = self.exit_code(deadline)
        self.assert_nothing_left()
        return code

    # -- what is left of it

    def family(self):
        """Every process that came from this instance and lives: {pid: command line}."""
        marker = f"PANDO_E2E={self.token}".encode()
        found = {}
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            pid = int(entry)
            stat = _stat(pid)
            if stat is None or stat[0] in "ZX":
                continue
            try:
                ours = self.seen.get(pid) == stat[2] or marker in Path(f"/proc/{pid}/environ").read_bytes()
                if ours:
                    found[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            except OSError:
                continue
        return found

    def assert_nothing_left(self, deadline=DEADLINE):
        wait_until(lambda: not self.family(), deadline, f"no process is left, but {self.family()}")
        if self.home.exists():
            left = [path.name for path in self.home.iterdir() if path.name.startswith(f"{self.name}.sock")]
            assert not left, f"files are left in the run-time folder: {left}"

    def close(self):
        """Ends what still runs and complains about what should not be there. Called by the fixture after every test."""
        if self.closed:
            return
        self.closed = True
        problems = []
        try:
            self.process.poll()
            if self.process.returncode is None or (self.detached and self.family()):
                try:
                    self.stop()
                except (AssertionError, NotRunning, OSError) as error:
                    problems.append(f"stop: {error}")
            left = {}
            try:
                wait_until(lambda: not self.family(), 20.0, "no process is left")
            except AssertionError:
                left = self.family()
            if left:
                problems.append(f"processes are left: {left}")
            for pid in left:
                kill_if_alive(pid, signal.SIGCONT)
                kill_if_alive(pid, signal.SIGKILL)
            if self.process.poll() is None:
                self.process.kill()
            self.process.wait(PATIENCE)
            for report in sorted(self.folder.glob("sanitizer*")):
                problems.append(f"{report.name}:\n{report.read_text(errors='replace')[:6000]}")
                report.rename(report.with_name(f"seen-{report.name}"))
        finally:
            for stream in (self.process.stdout, self.process.stderr, self.process.stdin):
                if stream is not None:
                    stream.close()
        assert not problems, "\n".join(problems)

    def remove_folder(self):
        if self.own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def report(self):
        """For the reader of a failed test."""
        def tail(text):
            lines = [line if len(line) <= 240 else line[:100] + "..." for line in text.splitlines()]
            return "\n".join(lines[:12] + ["..."] + lines[-40:] if len(lines) > 60 else lines)

        return (f"$ {' '.join(self.arguments)}\nexit code: {self.process.poll()}\n--- stderr\n{tail(self.log())}\n"
                f"--- stdout\n{tail(self.output())}")


def sanitizer_options(folder):
    """Reports go to files that `close` looks for, wherever the process's stderr goes. What was freed is held back up to 16 MB, so that the memory of
    a process can be judged."""
    return {
        "ASAN_OPTIONS": f"log_path={folder}/sanitizer:abort_on_error=0:detect_leaks=1:quarantine_size_mb=16",
        "UBSAN_OPTIONS": f"log_path={folder}/sanitizer:print_stacktrace=1:halt_on_error=1",
    }


def run_pando(*arguments, env=None, timeout=DEADLINE, cwd=None, prefix=(), stdin=subprocess.DEVNULL):
    """`pando ARGUMENTS` to its end, with a run-time folder that is empty unless `env` names one."""
    folder = new_folder()
    try:
        full = dict(os.environ, PANDO_DIR=str(folder / "run"), **sanitizer_options(folder))
        full.update(env or {})
        done = subprocess.run([*prefix, str(PANDO), *map(str, arguments)], env=full, cwd=cwd, stdin=stdin, capture_output=True,
                              text=True, timeout=timeout)
        for report in folder.glob("sanitizer*"):
            raise AssertionError(report.read_text(errors="replace")[:6000])
        return done
    finally:
        shutil.rmtree(folder, ignore_errors=True)
