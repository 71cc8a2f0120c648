"""`pando upgrade` and USR2: another program takes over, keeper and primary, and nobody notices; one that is no good changes nothing."""
import concurrent.futures
import os
import shutil
import signal

import pytest

from pando import BUILD, PANDO, Load, app, count, free_port, pids_answering, wait_until

KEEPER = PANDO.parent / "pando-keeper"
TOOLS = BUILD / "tests/tools"


def install(folder, program=PANDO, keeper=KEEPER):
    """A `pando` in a folder of its own, its keeper beside it; what was there before is replaced as a package manager does it."""
    folder.mkdir(exist_ok=True)
    for name, source in (("pando", program), ("pando-keeper", keeper)):
        shutil.copy(source, folder / f"{name}.new")
        os.rename(folder / f"{name}.new", folder / name)
    return folder / "pando"


def bad(folder, name, mode, real):
    """A `pando` or `pando-keeper` that is no good in this way; see bad_pando.c."""
    shutil.copy(TOOLS / "bad_pando", folder / name)
    (folder / f"{name}.mode").write_text(f"{mode} {real}\n")


def running_inode(pid):
    return os.stat(f"/proc/{pid}/exe").st_ino


@pytest.mark.limit(900)
def test_upgrades_under_load_fail_no_request(pando, folder):
    port = free_port()
    program = install(folder / "new")
    instance = pando(app("epoll_server"), port, workers=3)
    before = instance.wait_ready()
    workers = instance.pids()
    with Load(port, clients=8, pause=0.001) as load:
        for number in range(count(50)):
            instance.ctl("upgrade", program if number % 2 == 0 else PANDO, check=0)
            status = instance.status()
            assert status["primary_pid"] != before["primary_pid"] and status["ready"] == 3
            before = status
            load.wait_answered(20)
    assert not load.failures, load.failures[:5]
    assert instance.pids() == workers
    assert before["keeper_pid"] == instance.process.pid
    assert sum(worker["restarts"] for worker in before["workers"]) == 0
    print(f"{count(50)} upgrades, {load.answered} answers, none failed, slowest {load.slowest_s * 1000:.0f} ms")
    # The keeper is still the parent of all: it replaces, counts exit codes, and ends everything.
    instance.wait_replaced(0, instance.kill(0))
    assert instance.workers()[0]["last_exit"] == "signal KILL"
    assert instance.stop() == 0


def test_usr2_takes_what_is_now_at_the_path_from_which_it_was_started(pando, folder):
    port = free_port()
    program = install(folder / "there")
    instance = pando(app("epoll_server"), port, workers=2)
    instance.wait_ready()
    instance.ctl("upgrade", program, check=0)
    assert running_inode(instance.primary_pid) == os.stat(program).st_ino
    install(folder / "there")  # the next version
    assert running_inode(instance.primary_pid) != os.stat(program).st_ino
    assert running_inode(instance.keeper_pid) != os.stat(folder / "there/pando-keeper").st_ino
    workers = instance.pids()
    instance.signal(signal.SIGUSR2)
    instance.wait_status(lambda status: running_inode(status["primary_pid"]) == os.stat(program).st_ino, what="the new program runs")
    assert running_inode(instance.keeper_pid) == os.stat(folder / "there/pando-keeper").st_ino
    assert instance.pids() == workers


def test_a_worker_that_died_and_one_that_starts_go_through_an_upgrade(pando):
    port = free_port()
    instance = pando(app("epoll_server"), port, workers=2)
    instance.wait_ready()
    for _ in range(count(50)):
        victim = instance.kill(0)
        instance.ctl("upgrade", check=0)
        instance.wait_replaced(0, victim)
        instance.wait_ready(2)
    assert len(pids_answering(port, 2)) == 2


# How the new version is no good -> what is said about it
def missing(folder):
    return folder / "nowhere/pando", ["No such file"]


def not_executable(folder):
    program = install(folder / "new")
    program.chmod(0o644)
    return program, ["Permission denied"]


def not_a_program(folder):
    program = install(folder / "new")
    program.write_bytes(b"\x7fELF nonsense")
    program.chmod(0o755)
    return program, ["it cannot take over"]


def a_folder(folder):
    install(folder / "new")
    return folder / "new", ["Permission denied"]


def without_a_keeper(folder):
    program = install(folder / "new")
    (folder / "new/pando-keeper").unlink()
    return program, ["pando-keeper", "No such file"]


def of_another_record(folder):
    return install(folder / "new", program=TOOLS / "pando-other-record"), ["record is not of the version", "99"]


def of_another_channel(folder):
    return install(folder / "new", program=TOOLS / "pando-other-channel"), ["another version (99)"]


def of_another_keeper_state(folder):
    return install(folder / "new", keeper=TOOLS / "pando-keeper-other-state"), ["state of the running keeper is not of this version (99)"]


def something_else(folder):
    return install(folder / "new", program="/bin/true"), ["it cannot take over", "another version"]


def dies_when_asked(folder):
    program = install(folder / "new")
    bad(folder / "new", "pando", "dies-asked", PANDO)
    return program, ["signal ABRT"]


def hangs_when_asked(folder):
    program = install(folder / "new")
    bad(folder / "new", "pando", "hangs-asked", PANDO)
    return program, ["within 5 s"]


def dies_at_start(folder):
    program = install(folder / "new")
    bad(folder / "new", "pando", "dies", PANDO)
    return program, ["killed by signal ABRT", "the old Pando is back"]


def ends_at_start(folder):
    program = install(folder / "new")
    bad(folder / "new", "pando", "exits", PANDO)
    return program, ["ended with code 3", "the old Pando is back"]


def hangs_at_start(folder):
    program = install(folder / "new")
    bad(folder / "new", "pando", "hangs", PANDO)
    return program, ["the old Pando is back"]


NO_GOOD = [missing, not_executable, not_a_program, a_folder, without_a_keeper, of_another_record, of_another_channel, of_another_keeper_state,
           something_else, dies_when_asked, hangs_when_asked, dies_at_start, ends_at_start, hangs_at_start]


@pytest.mark.parametrize("how", NO_GOOD, ids=lambda how: how.__name__)
def test_a_new_version_that_is_no_good_is_refused_with_the_reason_and_the_old_one_serves_on(pando, folder, how):
    port = free_port()
    program, reasons = how(folder)
    instance = pando(app("epoll_server"), port, workers=2)
    before = instance.wait_ready()
    workers = instance.pids()
    old_program, old_keeper = running_inode(before["primary_pid"]), running_inode(before["keeper_pid"])
    with Load(port, clients=4, pause=0.002) as load:
        load.wait_answered(5)
        done = instance.ctl("upgrade", program)
        assert done.returncode == 4, done.stdout + done.stderr
        for reason in reasons:
            assert reason in done.stderr, done.stderr
        load.wait_answered(20)
    assert not load.failures, load.failures[:5]
    after = instance.status()
    assert instance.pids() == workers
    assert after["keeper_pid"] == instance.process.pid and after["ready"] == 2
    assert running_inode(after["primary_pid"]) == old_program
    assert running_inode(after["keeper_pid"]) == old_keeper
    instance.wait_replaced(0, instance.kill(0))
    instance.ctl("upgrade", check=0)  # a good one is taken


def test_a_new_keeper_that_dies_at_once_leaves_the_old_program_in_charge(pando, folder):
    port = free_port()
    program = install(folder / "new")
    bad(folder / "new", "pando-keeper", "dies", KEEPER)
    instance = pando(app("epoll_server"), port, workers=2)
    instance.wait_ready()
    workers = instance.pids()
    with Load(port, clients=4, pause=0.002) as load:
        assert instance.ctl("upgrade", program).returncode == 4
        status = wait_until(lambda: (now := instance.try_status()) and now["degraded"] and now, what="another keeper is there")
        load.wait_answered(20)
    assert not load.failures, load.failures[:5]
    assert {worker["slot"]: worker["pid"] for worker in status["workers"]} == workers
    victim = instance.kill(0)
    wait_until(lambda: (now := instance.try_status()) and now["ready"] == 2 and victim not in instance.pids().values(), what="replaced")
    instance.ctl("stop", check=0)
    instance.assert_nothing_left()


def test_two_upgrades_at_once_are_one(pando):
    instance = pando(app("epoll_server"), free_port(), workers=2)
    instance.wait_ready()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        codes = [done.returncode for done in pool.map(lambda _: instance.ctl("upgrade"), range(4))]
    assert 0 in codes and set(codes) <= {0, 1}, codes
    assert instance.wait_ready()["ready"] == 2
    wait_until(lambda: len(instance.family()) == 4)


def test_upgrade_is_refused_while_the_instance_stops(pando):
    port = free_port()
    instance = pando(app("ignores_term"), port, workers=1, options=["--kill-timeout", "60s"])
    instance.wait_ready()
    instance.signal(signal.SIGTERM)
    instance.wait_log("stopping")
    done = instance.ctl("upgrade")
    assert done.returncode == 1 and "being stopped" in done.stderr
    instance.ctl("stop", "--now", check=0)
