"""The command line: what is wrong is named, what to do is said, and the exit code is the one that DESIGN.md section 7 gives."""
import json
import os
import re

import pytest

from pando import PANDO, app, free_port, http_get, run_pando, wait_until

VERBS = ["run", "status", "scale", "restart", "stop", "info", "logs", "torture", "unit"]


@pytest.mark.parametrize("arguments, named", [
    (["run", "--no-such-option", "--", "true"], "--no-such-option"),
    (["run", "-Z", "--", "true"], "-Z"),
    (["run", "-w", "0x", "--", "true"], "0x"),
    (["run", "-w", "-3", "--", "true"], "-3"),
    (["run", "-w", "100000", "--", "true"], "100000"),
    (["run", "-w", "", "--", "true"], "workers"),
    (["run", "-w", "2"], "command"),
    (["run"], "command"),
    (["run", "-w"], "workers"),
    (["run", "-n", "../evil", "--", "true"], "../evil"),
    (["run", "-n", "x" * 200, "--", "true"], "x" * 60),
    (["run", "--ready", "smoke-signal", "--", "true"], "smoke-signal"),
    (["run", "--ready", "fd=x", "--", "true"], "fd=x"),
    (["run", "--ready-timeout", "soon", "--", "true"], "soon"),
    (["run", "--kill-timeout", "3 parsecs", "--", "true"], "3 parsecs"),
    (["run", "--stop-signal", "NOSUCH", "--", "true"], "NOSUCH"),
    (["run", "--log-format", "xml", "--", "true"], "xml"),
    (["run", "--own-port", "70000", "--", "true"], "70000"),
    (["run", "-e", "=x", "--", "true"], "=x"),
    (["run", "-C", "/no/such/folder", "--", "true"], "/no/such/folder"),
    (["run", "-u", "no-such-user-here", "--", "true"], "no-such-user-here"),
    (["run", "-d=yes", "--", "true"], "="),
    (["dance"], "dance"),
    (["sttaus"], "status"),
    (["status", "--colour"], "--colour"),
    (["status", "-n"], "-n"),
    (["scale"], "scale"),
    (["scale", "many"], "many"),
    (["scale", "0"], "0"),
    (["scale", "100000"], "100000"),
    (["restart", "first"], "first"),
    (["restart", "-1"], "-1"),
    (["stop", "--later"], "--later"),
    (["logs", "-n", "../evil"], "../evil"),
], ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "")
def test_what_is_wrong_on_the_command_line_is_named_and_ends_with_code_2(arguments, named):
    done = run_pando(*arguments)
    assert done.returncode == 2, done.stderr
    assert named in done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("pando")


def test_a_misspelt_option_is_answered_with_the_nearest_one():
    assert "--workers" in run_pando("run", "--worker", "2", "true").stderr
    assert "--kill-timeout" in run_pando("run", "--kill-timeuot", "2s", "true").stderr


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself_with_an_example(verb):
    for option in ("--help", "-h"):
        done = run_pando(verb, option)
        assert done.returncode == 0, done.stderr
        assert run_pando("help", verb).stdout == done.stdout
        assert f"pando {verb}" in done.stdout
        assert "xample" in done.stdout, "there is no example"
        assert done.stderr == ""


def test_help_of_all_lists_the_verbs_and_version_says_the_version():
    done = run_pando("--help")
    assert done.returncode == 0
    for verb in VERBS:
        assert re.search(rf"^\s+(pando )?{verb}\b", done.stdout, re.M), verb
    assert re.search(r"\d+\.\d+\.\d+", run_pando("--version").stdout)


def test_pando_alone_is_a_usage_error_that_shows_the_way():
    done = run_pando()
    assert done.returncode == 2
    assert "pando run" in done.stdout + done.stderr


def test_help_of_run_lists_every_option_of_the_design():
    text = run_pando("run", "--help").stdout
    for option in ("--workers", "--instances", "--name", "--detach", "--env", "--directory", "--user", "--ready", "--ready-timeout",
                   "--kill-timeout", "--stop-signal", "--fail-fast", "--own-port", "--pin", "--no-intercept", "--log-format", "--log-file"):
        assert option in text, option
    assert "--debug-intercept" not in text
    assert all(len(line) <= 120 for line in text.splitlines())


@pytest.mark.parametrize("verb", [["scale", "2"], ["restart"], ["stop"], ["logs"], ["status", "-n", "app"], ["restart", "-n", "app"]])
def test_without_an_instance_every_verb_ends_with_code_3_and_says_so(verb):
    done = run_pando(*verb)
    assert done.returncode == 3, done.stderr
    assert done.stderr.startswith("pando")


def test_status_without_an_instance_ends_with_code_3_also_as_json():
    for arguments in (["status"], ["status", "--json"]):
        done = run_pando(*arguments)
        assert done.returncode == 3
    assert json.loads(run_pando("status", "--json").stdout or "[]") == []


def test_options_end_at_the_command_whose_own_options_are_its_own(pando):
    port = free_port()
    instance = pando("sh", "-c", f'echo "$@"; exec {app("epoll_server")} {port}', "sh", "-w", "9", "--help", "--", "-n", "x", workers=1)
    instance.wait_ready()
    wait_until(lambda: "[0] -w 9 --help -- -n x\n" in instance.output(), what="the arguments as they arrived")


@pytest.mark.parametrize("options", [["-w2"], ["--workers=2"], ["-i", "2"], ["--instances", "2"], ["-w", "1", "-w", "2"]])
def test_the_number_of_workers_can_be_written_in_all_the_usual_ways(pando, options):
    instance = pando(app("epoll_server"), free_port(), workers=None, options=options)
    assert instance.wait_ready()["wanted"] == 2


@pytest.mark.parametrize("word", ["auto", "max", "0", None])
def test_auto_is_the_number_of_cores_that_this_process_may_use(pando, word):
    cores = len(os.sched_getaffinity(0))
    one = sorted(os.sched_getaffinity(0))[0]
    options = [] if word is None else ["-w", word]
    instance = pando(app("epoll_server"), free_port(), workers=None, options=options)
    assert 1 <= instance.wait_ready()["wanted"] <= cores
    pinned = pando(app("epoll_server"), free_port(), workers=None, options=options, prefix=["taskset", "-c", one], name="pinned")
    assert pinned.wait_ready()["wanted"] == 1


@pytest.mark.parametrize("command, name", [
    (["sh", "-c", "exec sleep 1000"], "sh"), ([app("never_listens")] if PANDO.exists() else [], "never_listens")])
def test_the_name_is_the_commands_base_name_by_default(pando, command, name):
    instance = pando(*command, workers=1, name=None)
    instance.name = name
    assert instance.wait_status(lambda status: True)["name"] == name


def test_the_name_is_that_of_the_script_where_the_command_is_an_interpreter(pando, folder):
    (folder / "shop.v2.py").write_text("import time\ntime.sleep(1000)\n")
    instance = pando("/usr/bin/python3", "-u", str(folder / "shop.v2.py"), workers=1, name=None)
    instance.name = "shop.v2"
    assert instance.wait_status(lambda status: True)["name"] == "shop.v2"


def test_with_two_instances_a_verb_needs_a_name_and_status_shows_both(pando, folder):
    ports = free_port(), free_port()
    one = pando(app("epoll_server"), ports[0], workers=1, name="one", folder=folder)
    two = pando(app("epoll_server"), ports[1], workers=2, name="two", folder=folder)
    one.wait_ready(), two.wait_ready()
    for verb in (["stop"], ["scale", "2"], ["restart"], ["logs"]):
        done = one.ctl(*verb, name=False)
        assert done.returncode == 2, (verb, done.stderr)
        assert "one" in done.stderr and "two" in done.stderr
    both = json.loads(one.ctl("status", "--json", name=False, check=0).stdout)
    assert [status["name"] for status in both] == ["one", "two"]
    text = one.ctl("status", name=False, check=0).stdout
    assert "NAME" in text and "SLOT" in text and "one" in text and "two" in text
    two.ctl("stop", check=0)
    assert one.ctl("scale", 2, name=False).returncode == 0  # exactly one is left: no name is needed
    assert [http_get(ports[0]).status] == [200]


def test_status_for_people_has_the_columns_that_the_documentation_shows(pando):
    port = free_port()
    instance = pando(app("epoll_server"), port, workers=2)
    instance.wait_ready()
    lines = instance.ctl("status", check=0).stdout.splitlines()
    assert lines[0].split() == ["NAME", "GENERATION", "WORKERS", "READY", "UPTIME", "LISTEN"]
    assert lines[1].split()[:4] == ["app", "1", "2", "2"] and lines[1].endswith(f"127.0.0.1:{port}")
    slots = next(index for index, line in enumerate(lines) if line.startswith("SLOT"))
    steered = ["QUEUE", "OPEN", "TOTAL", "RESCUED", "WEIGHT"] if instance.status()["mode"] == "slot" else []
    assert lines[slots].split() == ["SLOT", "PID", "STATE", "UPTIME", "RESTARTS", "CPU", "RSS", "LAST", "EXIT", *steered]
    assert lines[slots + 1].split()[:3] == ["0", str(instance.pids()[0]), "serving"]


def test_the_first_lines_say_how_many_workers_why_and_where(pando):
    port = free_port()
    instance = pando(app("epoll_server"), port, workers=2)
    instance.wait_ready()
    assert "2 workers" in instance.wait_log("workers", "app.sock")
    instance.wait_log("listening on", f"127.0.0.1:{port}")


def test_info_shows_where_the_number_of_cores_came_from_and_every_feature_with_its_cost():
    done = run_pando("info")
    assert done.returncode == 0, done.stderr
    for word in ("affinity", "quota", "cpuset", "seccomp", "kernel"):
        assert word in done.stdout.lower(), word
    parsed = json.loads(run_pando("info", "--json").stdout)
    assert parsed["features"] and all({"name", "state", "detail"} <= set(feature) for feature in parsed["features"])
    assert parsed["cpus"]


def test_every_json_answer_is_json(pando):
    instance = pando(app("epoll_server"), free_port(), workers=1)
    instance.wait_ready()
    for verb in (["status"], ["info"], ["logs"], ["scale", "2"], ["restart", "0"], ["stop"]):
        done = instance.ctl(*verb, "--json")
        assert done.returncode == 0, (verb, done.stderr)
        for text in ([done.stdout] if verb[0] != "logs" else done.stdout.splitlines()):
            json.loads(text)
