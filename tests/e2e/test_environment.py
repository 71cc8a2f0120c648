"""What a worker is given: environment, directory, session, cores."""
import os

from pando import PYTHON, app, free_port, http_values, pids_answering, http_get, wait_until


def by_slot(port, slots):
    """The answers of says_limits by PANDO_WORKER."""
    found = {}

    def ask():
        pids_answering(port, 1)
        values = http_values(port)
        found[values["env"]["PANDO_WORKER"]] = values
        return len(found) == slots

    wait_until(ask)
    return found


def test_workers_know_their_slot_and_number_and_nothing_of_pandos_own_contracts(pando):
    port = free_port()
    stranger = {"NOTIFY_SOCKET": "/run/systemd/notify", "LISTEN_FDS": "1", "LISTEN_PID": "1", "LISTEN_FDNAMES": "x",
                "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1", "NODE_CHANNEL_FD": "9"}
    instance = pando(app("says_limits"), port, workers=2, env=stranger)
    instance.wait_ready()
    for slot, values in by_slot(port, 2).items():
        environment = values["env"]
        assert environment["PANDO_WORKER"] == environment["NODE_APP_INSTANCE"] == slot
        assert (environment["PANDO_WORKERS"], environment["PANDO_GENERATION"]) == ("2", "1")
        assert (environment["WEB_CONCURRENCY"], environment["PYTHONUNBUFFERED"]) == ("1", "1")
        assert int(environment["GOMAXPROCS"]) >= 1
        assert environment.get("NOTIFY_SOCKET") != "/run/systemd/notify"
        for name in ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_USEC", "WATCHDOG_PID"):
            assert name not in environment, name
        assert "PANDO_E2E" in environment, "the rest of the environment is passed on"


def test_what_the_user_set_himself_is_left_as_it_is(pando):
    port = free_port()
    pando(app("says_limits"), port, workers=1, env={"GOMAXPROCS": "7", "WEB_CONCURRENCY": "5", "PYTHONUNBUFFERED": "0"}).wait_ready()
    environment = http_values(port)["env"]
    assert (environment["GOMAXPROCS"], environment["WEB_CONCURRENCY"], environment["PYTHONUNBUFFERED"]) == ("7", "5", "0")


def test_variables_and_directory_from_the_command_line(pando, folder):
    port = free_port()
    instance = pando(app("says_limits"), port, workers=1, env={"GREETING": "old"},
                     options=["-e", "GREETING=hello=world", "-e", "EMPTY=", "--env", "TWICE=1", "-e", "TWICE=2", "-C", folder])
    instance.wait_ready()
    values = http_values(port)
    assert (values["env"]["GREETING"], values["env"]["EMPTY"], values["env"]["TWICE"]) == ("hello=world", "", "2")
    assert values["directory"] == str(folder)


def test_a_relative_command_is_found_in_the_directory_that_it_runs_in(pando, folder):
    (folder / "serve.py").write_text("import http.server, sys\n"
                                     "http.server.test(http.server.SimpleHTTPRequestHandler, port=int(sys.argv[1]), bind='127.0.0.1')\n")
    port = free_port()
    instance = pando(PYTHON, "serve.py", port, workers=2, options=["-C", folder])
    instance.wait_ready()
    assert http_get(port).status == 200


def test_each_worker_is_a_session_of_its_own_without_standard_input(pando):
    port = free_port()
    instance = pando(app("says_limits"), port, workers=2)
    instance.wait_ready()
    for slot, values in by_slot(port, 2).items():
        assert values["session"] == values["pid"]
        assert os.readlink(f"/proc/{values['pid']}/fd/0") == "/dev/null"
    assert instance.keeper_pid == instance.process.pid


def test_pinned_workers_have_one_core_each(pando):
    port = free_port()
    instance = pando(app("says_limits"), port, workers=2, options=["--pin"])
    instance.wait_ready()
    cores = [os.sched_getaffinity(pid) for pid in instance.pids().values()]
    assert all(len(core) == 1 for core in cores)
    if len(os.sched_getaffinity(0)) >= 2:
        assert cores[0] != cores[1]


def signal_set(pid, name):
    return int(next(line.split()[1] for line in open(f"/proc/{pid}/status") if line.startswith(f"{name}:")), 16)


def test_workers_have_no_signal_blocked_or_ignored_that_the_caller_had_not(pando):
    """Whatever Pando does with signals for itself."""
    instance = pando(app("says_limits"), free_port(), workers=1)
    instance.wait_ready()
    pid = instance.pids()[0]
    assert signal_set(pid, "SigBlk") & ~signal_set("self", "SigBlk") == 0
    assert signal_set(pid, "SigIgn") & ~signal_set("self", "SigIgn") == 0
