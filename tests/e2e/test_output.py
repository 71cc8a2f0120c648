"""What workers print: whole lines, each with its worker's slot, never at the price of the service."""
import json
import os
import re
import subprocess
import threading
import time

import pytest

from pando import (DEADLINE, PYTHON, app, count, free_port, http_get, kill_if_alive, pids_answering, run_pando, script, wait_until)

LONGEST = 65536


def noisy(port, lines, longest=2000):
    return [PYTHON, script("noisy.py"), port, lines, longest]


def written_by(pid):
    return int(next(line.split()[1] for line in open(f"/proc/{pid}/io") if line.startswith("wchar")))


def check_lines(text, stream, slot, lines):
    """Every line of a noisy worker is there, once, in order and whole."""
    found = re.findall(rf"^\[{slot}\] {stream} (\d+) (\d+) (x*)$", text, re.M)
    assert [int(number) for number, _, _ in found] == list(range(lines)), f"{len(found)} of {lines} lines of {stream} from [{slot}]"
    for number, length, filling in found:
        assert len(f"{stream} {number} {length} ") + len(filling) + 1 == int(length), f"line {number} of {stream} is torn"


def test_both_streams_come_out_apart_with_the_slot_in_front(pando):
    port = free_port()
    instance = pando(*noisy(port, 500), workers=2)
    wait_until(lambda: instance.output().count("out done") == 2 and instance.log().count("err done") == 2, what="all is printed")
    for slot in range(2):
        check_lines(instance.output(), "out", slot, 500)
        check_lines(instance.log(), "err", slot, 500)
    assert " err " not in instance.output()
    assert not re.search(r"^\[\d\] out", instance.log(), re.M)


def test_lines_of_up_to_64_kib_are_neither_torn_nor_lost(pando):
    port = free_port()
    instance = pando(*noisy(port, 60, LONGEST), workers=2)
    wait_until(lambda: instance.output().count("out done") == 2 and instance.log().count("err done") == 2, what="all is printed")
    for slot in range(2):
        check_lines(instance.output(), "out", slot, 60)
        check_lines(instance.log(), "err", slot, 60)


def test_a_line_longer_than_that_comes_out_in_pieces_and_the_next_one_is_whole(pando):
    instance = pando("sh", "-c", "head -c 300000 /dev/zero | tr '\\0' y; echo; echo after; sleep 1000", workers=1)
    wait_until(lambda: "[0] after\n" in instance.output())
    assert instance.output().count("y") == 300000


def test_the_last_words_without_a_newline_are_printed(pando):
    instance = pando("sh", "-c", "printf 'last words'; exec sleep 0.2", workers=1)
    wait_until(lambda: re.search(r"^\[0\] last words$", instance.output(), re.M))


def test_bytes_that_are_no_utf_8_pass_through_untouched(pando):
    instance = pando("sh", "-c", r"printf '\377\376caf\351 \000 end\n'; exec sleep 1000", workers=1)
    wait_until(lambda: b"end\n" in instance.stdout_path.read_bytes())
    assert b"[0] \xff\xfecaf\xe9 \0 end\n" in instance.stdout_path.read_bytes()


def test_json_format_gives_one_object_a_line_for_workers_and_pando_alike(pando):
    port = free_port()
    instance = pando("sh", "-c", f'echo "he said \\"hi\\""; printf "\\377\\n" >&2; exec {app("epoll_server")} {port}', workers=2,
                     options=["--log-format", "json"])
    instance.wait_ready()
    instance.wait_replaced(1, instance.kill(1))
    wait_until(lambda: instance.output().count("he said") == 3)
    objects = [json.loads(line) for line in instance.output().splitlines()]
    assert {entry["slot"] for entry in objects if 'he said "hi"' in entry.values()} == {0, 1}
    own = [json.loads(line) for line in instance.log().splitlines()]
    assert any("KILL" in str(entry.get("message")) for entry in own)


def test_a_reader_that_stalls_costs_lines_and_not_the_service(pando):
    port = free_port()
    instance = pando(*noisy(port, 20000), workers=2, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    instance.wait_ready()
    for pid in instance.pids().values():  # far more than all buffers on the way hold
        wait_until(lambda: written_by(pid) > 12_000_000, what="the workers have printed")
    pids = pids_answering(port, 2)
    slot, pid = next(iter(instance.pids().items()))
    instance.wait_replaced(slot, instance.kill(slot))
    assert instance.ctl("status").returncode == 0
    assert pid in pids and http_get(port).status == 200
    # The workers themselves come to the end of what they have to say.
    captured = {}

    def drain(name, stream):
        captured[name] = b""
        while part := os.read(stream.fileno(), 1 << 20):
            captured[name] += part

    threads = [threading.Thread(target=drain, args=pair, daemon=True)
               for pair in (("out", instance.process.stdout), ("err", instance.process.stderr))]
    for thread in threads:
        thread.start()
    wait_until(lambda: b"lost" in captured.get("err", b"") or b"lost" in captured.get("out", b""), what="the lost lines are counted")
    assert instance.stop() == 0
    for thread in threads:
        thread.join(30)
    lines = captured["out"].decode().splitlines()
    torn = [line[:60] for line in lines if not re.fullmatch(r"\[\d\] out done|pando: .*|\[\d\] out (\d+) (\d+) x*", line)]
    torn += [line[:60] for line in lines if " out " in line and line[-1] == "x" and len(line.split("] ", 1)[1]) + 1 != int(line.split()[3])]
    assert not torn, f"lines are torn: {torn[:3]}"


def test_a_reader_that_goes_away_costs_the_output_and_not_the_service(pando):
    port = free_port()
    instance = pando(*noisy(port, 3000), workers=2, stdout=subprocess.PIPE)
    instance.process.stdout.readline()
    instance.process.stdout.close()
    instance.wait_ready()
    pids_answering(port, 2)
    slot = next(iter(instance.pids()))
    instance.wait_replaced(slot, instance.kill(slot))
    assert instance.process.poll() is None


def test_a_program_that_prints_before_it_dies_at_once_is_heard(pando):
    instance = pando(app("exits_at_once"), 5, 20, workers=1)
    wait_until(lambda: re.findall(r"^\[0\] last words (\d+) of 20$", instance.log(), re.M)[:20] == [str(n) for n in range(1, 21)])


def test_logs_shows_the_last_lines_and_follows(pando):
    port = free_port()
    instance = pando("sh", "-c", f"for i in $(seq 1500); do echo line $i; done; (while sleep 0.2; do echo tick; done) & "
                     f"exec {app('epoll_server')} {port}", workers=1)
    instance.wait_ready()
    wait_until(lambda: "line 1500" in instance.output())
    shown = instance.ctl("logs", check=0).stdout
    assert "[0] line 1500\n" in shown
    assert shown.count("\n") <= 1000
    follower = subprocess.Popen([str(word) for word in (instance.arguments[0], "logs", "-f", "-n", "app")], env=instance.env,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    seen = b""
    try:
        end = time.monotonic() + DEADLINE
        while seen.count(b"tick") < shown.count("tick") + 5:
            assert time.monotonic() < end, seen[-500:]
            seen += os.read(follower.stdout.fileno(), 65536)
        assert instance.stop() == 0
        follower.wait(DEADLINE)  # the instance's end is the end of following it
    finally:
        kill_if_alive(follower.pid, 9)
        follower.wait()
        follower.stdout.close()


def test_a_follower_that_stalls_costs_only_itself(pando):
    port = free_port()
    instance = pando(*noisy(port, 20000), workers=1)
    followers = [subprocess.Popen([instance.arguments[0], "logs", "-f", "-n", "app"], env=instance.env, stdout=subprocess.PIPE,
                                  stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                 for _ in range(3) if instance.wait_ready()]
    try:
        wait_until(lambda: "out done" in instance.output() and "err done" in instance.log(), what="all is printed")
        check_lines(instance.output(), "out", 0, 20000)
        assert instance.status()["ready"] == 1
    finally:
        for follower in followers:
            follower.kill()
            follower.wait()
            follower.stdout.close()


def test_a_log_file_gets_everything_and_is_rotated_at_10_mb(pando, folder):
    port = free_port()
    path = folder / "app.log"
    lines = 8000  # of about 1 KB on average, on each stream: 16 MB
    instance = pando(*noisy(port, lines), workers=1, options=["--log-file", path])

    def written():
        return b"".join(file.read_bytes() for file in folder.glob("app.log*"))

    wait_until(lambda: b"out done" in written() and b"err done" in written(), what="all is in the file", pause=0.1)
    assert instance.stop() == 0
    files = sorted(folder.glob("app.log*"))
    assert len(files) == 2, files
    for file in files:
        assert file.stat().st_size <= 10 * 1000 * 1000 + 700000, (file, file.stat().st_size)
    text = b"".join(file.read_bytes() for file in reversed(files)).decode(errors="replace")
    check_lines(text, "out", 0, lines)


def test_a_full_disk_for_the_log_is_said_and_survived(pando):
    port = free_port()
    instance = pando(*noisy(port, 200), workers=2, options=["--log-file", "/dev/full"])
    instance.wait_ready()
    pids_answering(port, 2)
    instance.wait_replaced(0, instance.kill(0))
    assert instance.status()["ready"] >= 1


def test_a_log_file_that_cannot_be_opened_is_an_error_at_the_start():
    done = run_pando("run", "-w", "1", "--log-file", "/no/such/folder/x.log", "--", app("never_listens"))
    assert done.returncode in (1, 2)
    assert "/no/such/folder/x.log" in done.stderr and "no such" in done.stderr.lower()


@pytest.mark.parametrize("children", [count(100)])
def test_output_of_many_short_lived_workers_arrives_whole(pando, children):
    """Each of them ends right after its last line: what is still in the pipe then belongs to it."""
    instance = pando("sh", "-c", "echo start $$; echo end $$", workers=8)
    wait_until(lambda: instance.output().count("end") >= children, 2 * DEADLINE)
    assert instance.stop() == 0
    started = re.findall(r"^\[\d\] start (\d+)$", instance.output(), re.M)
    ended = re.findall(r"^\[\d\] end (\d+)$", instance.output(), re.M)
    assert len(set(started) ^ set(ended)) <= 8  # those that the stop cut short
