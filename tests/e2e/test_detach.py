"""`pando run -d`: back when it is up, or when it will not come up, with the reason."""
import os
import signal

import pytest

from pando import NOBODY, NotRunning, app, free_port, http_get, pids_answering, wait_until


def test_detach_returns_when_all_workers_are_ready(pando, folder):
    port = free_port()
    instance = pando("sh", "-c", f"sleep 0.5; echo hello; exec {app('epoll_server')} {port}", workers=2, detach=True,
                     options=["--log-file", folder / "app.log"])
    assert instance.process.returncode == 0
    assert instance.status()["ready"] == 2
    pids_answering(port, 2)
    wait_until(lambda: "[0] hello\n" in (folder / "app.log").read_text(), what="the worker's line is in the log")
    assert os.getsid(instance.keeper_pid) != os.getsid(0)
    assert instance.stop() == 0


def test_detach_says_where_it_went(pando, folder):
    instance = pando(app("epoll_server"), free_port(), workers=1, detach=True, options=["--log-file", folder / "app.log"])
    said = instance.output() + instance.log()
    assert str(folder / "app.log") in said
    for fd in range(3):
        target = os.readlink(f"/proc/{instance.keeper_pid}/fd/{fd}")
        assert "std" not in target and "pipe" not in target, f"descriptor {fd} still holds the caller's {target}"


def test_detach_ends_with_1_and_the_last_lines_when_it_does_not_come_up(pando, folder):
    instance = pando(app("exits_at_once"), 3, 2, workers=2, detach=True, options=["--log-file", folder / "app.log", "--ready-timeout", "1h"])
    assert instance.process.returncode == 1
    assert "last words 2 of 2" in instance.log()
    wait_until(lambda: not instance.family(), what="a failed detached run leaves nothing behind")
    with pytest.raises(NotRunning):
        instance.status()


@pytest.mark.parametrize("command, code", [("/no/such/program", 127), ("/etc/passwd", 126)])
def test_detach_gives_the_shells_code_for_a_command_that_cannot_run(pando, command, code):
    instance = pando(command, workers=1, detach=True, options=["--log-file", "/dev/null"])
    assert instance.process.returncode == code
    assert command in instance.log()


def test_a_detached_instance_survives_the_death_of_its_primary_and_its_terminal(pando, folder):
    port = free_port()
    instance = pando(app("epoll_server"), port, workers=2, detach=True, options=["--log-file", folder / "app.log"])
    old = instance.primary_pid
    os.kill(instance.keeper_pid, signal.SIGHUP)
    os.kill(old, signal.SIGKILL)
    instance.wait_status(lambda status: status["primary_pid"] != old)
    assert http_get(port).status == 200


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_the_log_of_an_ordinary_user_goes_to_his_state_folder_by_default(pando):
    port = free_port()
    instance = pando("sh", "-c", f"echo hello; exec {app('epoll_server')} {port}", workers=1, detach=True, uid=NOBODY,
                     env={"XDG_STATE_HOME": None, "HOME": None})
    if instance.process.returncode != 0:  # without a home there is no such folder, and that is said
        assert "log" in instance.log().lower()
    state = instance.folder / "state"
    state.mkdir()
    os.chown(state, NOBODY, NOBODY)
    other = pando("sh", "-c", f"echo hello; exec {app('epoll_server')} {free_port()}", workers=1, detach=True, uid=NOBODY, name="other",
                  folder=instance.folder, env={"XDG_STATE_HOME": str(state)})
    assert other.process.returncode == 0, other.log()
    wait_until(lambda: any("[0] hello" in file.read_text() for file in (state / "pando").glob("other*")))
