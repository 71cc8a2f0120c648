"""systemd as Pando sees it: a datagram socket for sd_notify(3), sockets that are passed on, and a store for descriptors.

    with Supervisor(folder) as supervisor:
        instance = supervisor.start(pando, app("epoll_server"), port, sockets=[("web.socket", listener)])
        supervisor.wait("READY=1")
        supervisor.kill(instance)                          # as KillMode=mixed does when the main process was killed
        supervisor.start(pando, ..., sockets=supervisor.stored())
"""
import array
import os
import signal
import socket
import threading
import uuid

from pando import PYTHON, kill_if_alive, wait_until

# Runs Pando with descriptors from 3 on, and says that they are for it: what systemd does between fork and exec.
PASS_ON = """
import fcntl, os, sys
fds = [int(fd) for fd in sys.argv[1].split(',') if fd]
high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 200 + len(fds)) for fd in fds]
for number, fd in enumerate(high):
    os.dup2(fd, 3 + number)
for fd in high:
    os.close(fd)
os.environ['LISTEN_PID'] = str(os.getpid() + int(sys.argv[2]))
os.execvp(sys.argv[3], sys.argv[3:])
"""


class Supervisor:
    """Takes every message at once, so that nobody ever waits for room in its queue."""

    def __init__(self, folder, abstract=False, silent=False):
        self.folder = folder
        self.messages = []  # each a list of its lines
        self.store = {}     # FDNAME -> descriptors, ours
        self._lock = threading.Lock()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        name = f"pando-e2e-{uuid.uuid4().hex}"
        self.address = f"@{name}" if abstract else f"{folder}/{name}"
        self._socket.bind("\0" + name if abstract else self.address)
        if not abstract:
            os.chmod(self.address, 0o666)
        self._socket.settimeout(0.1)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._receive, daemon=True)
        if not silent:
            self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join(10)
        self._socket.close()
        for fds in self.store.values():
            for fd in fds:
                os.close(fd)

    def begin(self):
        """From now on messages are taken (for silent=True)."""
        self._thread.start()

    def _receive(self):
        while not self._ending.is_set():
            try:
                data, ancillary, _, _ = self._socket.recvmsg(4096, 4096)
            except TimeoutError:
                continue
            fds = array.array("i")
            for level, kind, payload in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    fds.frombytes(payload[:len(payload) - len(payload) % fds.itemsize])
            with self._lock:
                self._take(data.decode().split("\n"), list(fds))

    def _take(self, lines, fds):
        self.messages.append(lines)
        values = dict(line.partition("=")[::2] for line in lines)
        if values.get("FDSTORE") == "1":
            assert values["FDPOLL"] == "0", "a socket that is shut down for a moment would be thrown out"
            self.store.setdefault(values["FDNAME"], []).extend(fds)
        elif values.get("FDSTOREREMOVE") == "1":
            for fd in self.store.pop(values["FDNAME"], []):
                os.close(fd)
        else:
            for fd in fds:
                os.close(fd)

    # -- what was said

    def said(self, start=""):
        """All lines so far that begin so, in order."""
        with self._lock:
            return [line for message in self.messages for line in message if line.startswith(start)]

    def wait(self, line, count=1):
        """Until a line (or its beginning) has come so often."""
        wait_until(lambda: len(self.said(line)) >= count, what=f"{count} times {line}, not {self.said()[-30:]}")

    def stored(self, number=None):
        """(name, descriptor) of all that is in the store; waits until there are `number`."""
        def look():
            with self._lock:
                found = [(name, fd) for name, fds in self.store.items() for fd in fds]
            return found if number is None or len(found) == number else None

        return wait_until(look, what=f"{number} descriptors are stored, not {sorted(self.store)}") if number else look()

    # -- starting and ending

    def start(self, pando, *command, sockets=(), env=None, not_for_us=False, **options):
        """An instance whose supervisor this is. `sockets`: (name, socket or descriptor), passed on in that order."""
        fds = [fd if isinstance(fd, int) else fd.fileno() for _, fd in sockets]
        environment = {"NOTIFY_SOCKET": self.address, **(env or {})}
        if sockets:
            environment.update(LISTEN_FDS=str(len(fds)), LISTEN_FDNAMES=":".join(name for name, _ in sockets))
        prefix = (PYTHON, "-c", PASS_ON, ",".join(map(str, fds)), "1" if not_for_us else "0")
        return pando(*command, env=environment, prefix=prefix, pass_fds=fds, folder=self.folder, **options)

    def kill(self, instance):
        """SIGKILL to the main process, then, as KillMode=mixed has it, to all that are left."""
        os.kill(instance.process.pid, signal.SIGKILL)
        instance.process.wait(10)
        for pid in instance.family():
            kill_if_alive(pid, signal.SIGKILL)
        wait_until(lambda: not instance.family(), what="all are gone")
