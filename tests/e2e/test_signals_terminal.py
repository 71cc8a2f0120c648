"""Pando in the foreground of a terminal."""
import fcntl
import os
import pty
import signal
import subprocess
import termios
import time

from pando import PANDO, app, free_port, http_get, wait_until


class Terminal:
    """A pseudo-terminal; what comes out of it collects in `text`."""

    def __init__(self):
        self.master, self.slave = pty.openpty()
        self.text = bytearray()
        os.set_blocking(self.master, False)

    def read(self):
        try:
            while part := os.read(self.master, 65536):
                self.text += part
        except (BlockingIOError, OSError):
            pass
        return self.text

    def type(self, keys):
        os.write(self.master, keys)

    def hang_up(self):
        os.close(self.master)
        self.master = -1

    def close(self):
        for fd in (self.master, self.slave):
            if fd >= 0:
                os.close(fd)


def own_terminal(slave):
    """In the child: a session of its own with this as its terminal."""
    def prepare():
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    return prepare


def start_on(terminal, pando, *command, **options):
    """`pando run` in the foreground of the terminal: the harness's process is a helper that makes it so and execs."""
    code = ("import fcntl, os, sys, termios\n"
            "os.setsid()\n"
            "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
            "os.execv(sys.argv[1], sys.argv[1:])\n")
    instance = pando(*command, prefix=["/usr/bin/python3", "-c", code], stdin=terminal.slave, stdout=terminal.slave,
                     stderr=terminal.slave, new_session=False, **options)
    os.close(terminal.slave)
    terminal.slave = -1
    instance.wait_status(lambda status: terminal.read() is not None and status["ready"] == status["wanted"])
    return instance


def ended(instance, terminal):
    def check():
        terminal.read() if terminal.master >= 0 else None
        return instance.process.poll() is not None
    wait_until(check, what="pando ends")
    return instance.process.returncode


def test_ctrl_c_stops_gracefully_and_counts_once(pando):
    """The terminal sends INT to the whole foreground group; a worker that gets it as well, or Pando counting it twice, would
    end at once."""
    terminal = Terminal()
    try:
        port = free_port()
        instance = start_on(terminal, pando, app("ends_gracefully"), port, 0, workers=2)
        terminal.type(b"\x03")
        assert ended(instance, terminal) == 0
        assert terminal.read().count(b"finished") == 2, "the workers were not told to finish"
        instance.assert_nothing_left()
    finally:
        terminal.close()


def test_one_ctrl_c_waits_for_the_stubborn_and_a_second_one_does_not(pando):
    terminal = Terminal()
    try:
        instance = start_on(terminal, pando, app("ignores_term"), free_port(), workers=2)
        terminal.type(b"\x03")
        wait_until(lambda: terminal.read().count(b"told to end") == 2)
        time.sleep(0.5)
        assert instance.process.poll() is None, "one Ctrl-C counted twice"
        terminal.type(b"\x03")
        assert ended(instance, terminal) == 0
    finally:
        terminal.close()


def test_lines_on_a_terminal_are_short(pando):
    terminal = Terminal()
    try:
        instance = start_on(terminal, pando, app("epoll_server"), free_port(), workers=2)
        wait_until(lambda: b"listening on" in terminal.read())
        first = terminal.read().splitlines()[0]
        assert first.startswith(b"pando: app: 2 workers"), first
        assert instance.status()["ready"] == 2
    finally:
        terminal.close()


def test_a_terminal_that_goes_away_stops_pando_and_does_not_reload_it(pando):
    terminal = Terminal()
    try:
        instance = start_on(terminal, pando, app("epoll_server"), free_port(), workers=2)
        terminal.hang_up()
        assert instance.exit_code() == 0
        instance.assert_nothing_left()
    finally:
        terminal.close()


def test_a_terminal_that_goes_away_under_an_interactive_shell_stops_pando(pando, folder):
    """The shell passes its HUP on: then it comes from a process and not from the kernel."""
    terminal = Terminal()
    # pando() is used for its folder, environment and clean-up; the shell starts the instance that the test is about.
    port = free_port()
    holder = pando(app("never_listens"), workers=1, name="holder", folder=folder, options=["--ready", "delay=0ms"])
    env = {**holder.env, "PS1": "$ ", "TERM": "dumb", "HISTFILE": ""}
    shell = subprocess.Popen(["bash", "--norc", "--noprofile", "-i"], stdin=terminal.slave, stdout=terminal.slave, stderr=terminal.slave,
                             env=env, preexec_fn=own_terminal(terminal.slave))
    try:
        os.close(terminal.slave)
        terminal.slave = -1
        terminal.type(f"{PANDO} run -n inshell -w 1 -- {app('epoll_server')} {port}\n".encode())

        def serves():
            terminal.read()
            try:
                return http_get(port).pid
            except OSError:
                return None

        worker = wait_until(serves)
        terminal.hang_up()
        shell.wait(60)
        wait_until(lambda: not os.path.exists(f"/proc/{worker}"), what="the worker ended with the terminal")
        wait_until(lambda: not any("inshell" in command for command in holder.family().values()), what="all of it ended")
    finally:
        terminal.close()
        if shell.poll() is None:
            shell.send_signal(signal.SIGKILL)
            shell.wait()


def test_ctrl_s_holds_up_the_output_and_not_the_service(pando):
    terminal = Terminal()
    try:
        port = free_port()
        instance = start_on(terminal, pando, "/usr/bin/python3", __file__.rsplit("/e2e/", 1)[0] + "/apps/noisy.py", port, 6000, 2000,
                            workers=2)
        # Nobody reads the terminal from here on: the same as Ctrl-S.
        time.sleep(1)
        assert http_get(port).status == 200
        pid = instance.kill(0)
        instance.wait_replaced(0, pid)
        assert instance.ctl("status").returncode == 0
        instance.signal(signal.SIGINT)
        wait_until(lambda: instance.process.poll() is not None, what="pando ends although nobody reads")
    finally:
        terminal.close()
