"""Kills the primary at a system call of one's choice: tests/tools/stepper.c as a test sees it.

    stepper = Stepper(folder)
    instance = pando(app("epoll_server"), port, prefix=stepper.prefix)
    stepper.let_it_start()
    stepper.arm(17)                 # the primary dies at its 17th call from now on
    ...
    killed = stepper.poll()         # None, or (17, number of the call)
"""
import select
import socket

import pytest

from pando import BUILD, DEADLINE, wait_until


class Stepper:
    def __init__(self, folder):
        path = str(folder / "stepper")
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(path)
        self.listener.listen(1)
        self.listener.settimeout(DEADLINE)
        self.prefix = [str(BUILD / "tests/tools/stepper"), path, "--"]
        self.sock = None
        self.text = b""
        self.killed = None

    def let_it_start(self, first_primary_dies_at=0):
        """Pando starts now; with a number its first primary is killed at that call, counted from its exec."""
        try:
            self.sock, _ = self.listener.accept()
        except TimeoutError:
            pytest.skip("ptrace(2) is not allowed here: the tracer has not come up")
        self.sock.settimeout(DEADLINE)
        self.next(first_primary_dies_at)

    def close(self):
        if self.sock is not None:
            self.sock.close()
        self.listener.close()

    def _line(self):
        while b"\n" not in self.text:
            part = self.sock.recv(4096)
            assert part, "the tracer has ended"
            self.text += part
        line, self.text = self.text.split(b"\n", 1)
        words = line.decode().split()
        if words[0] == "killed":
            self.killed = int(words[1]), int(words[2])
        return words

    def _command(self, text, answer):
        self.sock.sendall(text.encode() + b"\n")
        while (words := self._line())[0] != answer:
            pass
        return words

    def arm(self, number):
        """The primary is killed at the entry of its call `number`, counted from now."""
        self.killed = None
        self._command(f"arm {number}", "armed")

    def next(self, number):
        """So is the next one, counted from its exec."""
        self.killed = None
        self._command(f"next {number}", "armed")

    def run(self):
        """Nobody is killed; the calls since it was armed."""
        return int(self._command("run", "ran")[1])

    def poll(self):
        """(number, call) when the primary was killed since it was armed, else None."""
        while self.killed is None and (self.text or select.select([self.sock], [], [], 0)[0]):
            self._line()
        return self.killed

    def wait_killed(self):
        return wait_until(self.poll, what="the primary is killed")
