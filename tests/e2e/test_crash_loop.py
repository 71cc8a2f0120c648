"""A program that will not stay up: Pando never gives up, says what the program said, and leaves the healthy alone."""
import time

import pytest

from pando import DEADLINE, app, count, free_port, http_get, run_pando, wait_until


def last_exit(status, slot=0):
    return status["workers"][slot]["last_exit"] or ""


def test_a_crash_loop_is_named_in_status_and_log_with_the_last_lines_that_the_worker_wrote(pando):
    instance = pando(app("exits_at_once"), 3, 5, workers=1)
    status = instance.wait_status(lambda status: status["workers"][0]["restarts"] >= 4, what="four restarts")
    assert status["ready"] == 0
    assert "3" in last_exit(instance.wait_status(lambda status: status["workers"][0]["state"] == "backoff"))
    assert instance.process.poll() is None, "Pando gave up"
    line = instance.wait_log("crash")
    assert "loop" in line.lower()
    wait_until(lambda: "last words 5 of 5" in instance.log()[instance.log().index(line):],
               what="the log repeats what the program said last")
    text = instance.ctl("status", check=0).stdout
    assert "backoff" in text or "crash" in text


def test_a_program_that_exits_with_0_at_once_is_in_a_crash_loop_too(pando):
    instance = pando(app("exits_at_once"), 0, 1, workers=2)
    instance.wait_status(lambda status: all(worker["restarts"] >= 2 for worker in status["workers"]))
    status = instance.wait_status(lambda status: status["workers"][0]["state"] == "backoff")
    assert "0" in last_exit(status)
    instance.wait_log("crash")


def test_the_waits_between_restarts_grow_from_nothing(pando):
    instance = pando(app("exits_at_once"), 1, workers=1)
    started = time.monotonic()
    instance.wait_status(lambda status: status["workers"][0]["restarts"] >= 5, what="five restarts")
    took = time.monotonic() - started
    assert took > 0.3, f"five restarts in {took:.2f} s: there was no waiting (50 + 100 + 200 ms at least)"


def test_healthy_workers_are_untouched_by_a_crash_looping_one(pando):
    port = free_port()
    instance = pando("sh", "-c", f'[ "$PANDO_WORKER" = 1 ] && exit 9; exec {app("epoll_server")} {port}', workers=3)
    status = instance.wait_status(lambda status: status["workers"][1]["restarts"] >= 4 and status["ready"] == 2)
    pids = {worker["slot"]: worker["pid"] for worker in status["workers"]}
    instance.wait_status(lambda status: status["workers"][1]["restarts"] >= 5)
    for _ in range(50):
        assert http_get(port).pid in (pids[0], pids[2])
    assert [worker["restarts"] for worker in instance.status()["workers"]][::2] == [0, 0]


def test_a_crash_loop_ends_by_itself_when_its_cause_goes(pando, folder):
    port = free_port()
    cause = folder / "config"
    instance = pando("sh", "-c", f'[ -e {cause} ] || exit 4; exec {app("epoll_server")} {port}', workers=2)
    instance.wait_status(lambda status: all(worker["restarts"] >= 3 for worker in status["workers"]))
    cause.touch()
    instance.wait_ready()
    assert http_get(port).status == 200


def test_fail_fast_ends_with_code_1_when_no_worker_was_ever_ready(pando):
    instance = pando(app("exits_at_once"), 3, 2, workers=2, options=["--fail-fast"])
    assert instance.exit_code() == 1
    assert "last words 2 of 2" in instance.log()
    instance.assert_nothing_left()


def test_fail_fast_does_not_end_an_instance_that_was_ready_once(pando):
    port = free_port()
    instance = pando(app("epoll_server"), port, workers=2, options=["--fail-fast"])
    first = instance.wait_ready()
    for worker in first["workers"]:
        instance.kill(worker["slot"])
    instance.wait_status(lambda status: status["ready"] == 2 and all(worker["restarts"] == 1 for worker in status["workers"]))


def test_a_server_that_crashes_after_serving_a_while_is_restarted_and_the_log_says_by_which_signal(pando):
    port = free_port()
    instance = pando(app("crash_after_ready"), port, 300, workers=2)
    instance.wait_ready()
    instance.wait_log("SEGV")
    instance.wait_status(lambda status: sum(worker["restarts"] for worker in status["workers"]) >= 2)
    end = time.monotonic() + DEADLINE
    answered = 0
    while answered < count(200):
        assert time.monotonic() < end
        try:
            answered += http_get(port).status == 200
        except (ConnectionResetError, BrokenPipeError):
            pass  # inside one that crashed


@pytest.mark.parametrize("what, code, word", [
    ("missing", 127, "not found"), ("nowhere-on-the-path", 127, "not found"), ("not-executable", 126, "permission denied"),
    ("folder", 126, "directory"), ("bad-interpreter", 127, ""), ("not-a-program", 126, "")])
def test_a_command_that_cannot_run_at_all_ends_pando_with_the_shells_code(folder, what, code, word):
    (folder / "not-executable").write_text("#!/bin/sh\nexit 0\n")
    (folder / "folder").mkdir()
    for name, text in (("bad-interpreter", "#!/no/such/interpreter\n"), ("not-a-program", "\x7fELF rubbish")):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    command = what if what == "nowhere-on-the-path" else str(folder / what)
    done = run_pando("run", "-w", "2", "--", command)
    assert done.returncode == code, done.stderr
    assert command in done.stderr and word in done.stderr.lower()


def test_a_program_that_goes_into_the_background_is_told_from_a_crash(pando):
    port = free_port()
    instance = pando(app("daemonises"), port, workers=1)
    instance.wait_log("background")
    instance.stop()


def test_a_program_that_never_listens_is_warned_about_and_kept_running(pando):
    instance = pando(app("never_listens"), workers=1, options=["--ready-timeout", "300ms"])
    instance.wait_log("listen", "300ms")
    pid = instance.pids()[0]
    time.sleep(1)
    assert instance.pids()[0] == pid
    assert instance.workers()[0]["restarts"] == 0
