# SPDX-License-Identifier: MIT
"""What a request of examples/hello costs, counted: system calls, allocations. Not with sanitizers, which allocate and trap by themselves."""
import os, re, resource, shutil, signal, subprocess, time
import pytest
from conftest import App, BUILD, eventually
from test_http import GET, read_answer

HELLO = f"{BUILD}/examples/hello/hello"
sanitized = b"__asan_init" in open(HELLO, "rb").read()
pytestmark = pytest.mark.skipif(sanitized, reason="counts need a build without sanitizers")

def load(app, n=1000, connections=16):
    held = [app.connect() for _ in range(connections)]
    for _ in range(n // connections):
        for s in held: s.sendall(GET % b"/")
        for s in held: read_answer(s)
    return held

@pytest.mark.skipif(not shutil.which("strace"), reason="no strace")
def test_two_system_calls_a_request_and_no_epoll_ctl(start):
    app = start(program="examples/hello/hello")
    held = load(app, 160)
    out = f"/tmp/pando-strace-{app.port}"
    trace = subprocess.Popen(["strace", "-f", "-c", "-o", out, "-p", str(app.process.pid)], stderr=subprocess.PIPE)
    eventually(lambda: "TracerPid:\t0" not in open(f"/proc/{app.process.pid}/status").read())
    for _ in range(200):
        for s in held: s.sendall(GET % b"/")
        for s in held: read_answer(s)
    trace.send_signal(signal.SIGINT); trace.wait()
    calls = {line.split()[-1]: int(line.split()[3]) for line in open(out) if re.match(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+\d+", line)}
    os.unlink(out)
    waits = calls.pop("epoll_wait", 0) + calls.pop("epoll_pwait", 0)
    requests = 200 * len(held)
    assert calls.get("sendto", 0) == requests and abs(calls.get("recvfrom", 0) - requests) <= 2
    assert calls.get("epoll_ctl", 0) == 0 and calls.get("brk", 0) == 0 and calls.get("mmap", 0) == 0
    others = sum(calls.values()) - calls["sendto"] - calls["recvfrom"] - calls.get("total", 0)
    assert others <= 5, calls
    assert waits <= requests

def test_no_allocation_on_the_hot_path(start):
    counts = []
    for n in (1600, 16000):
        app = start(program="examples/hello/hello", env={"LD_PRELOAD": f"{BUILD}/tests/e2e_http/libmalloc_count.so"})
        for s in load(app, n): s.close()
        _, text = app.stop()
        counts.append(int(re.search(r"allocations: (\d+)", text)[1]))
    assert abs(counts[1] - counts[0]) <= 40, counts  # 14,400 more requests

def test_an_idle_connection_costs_less_than_2_kb(start):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = 10000 if os.environ.get("PANDO_NIGHTLY") and hard > 10500 else 900
    if count > 900: resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 10500), hard))
    app = start(program="examples/hello/hello")
    def rss(): return int([l for l in open(f"/proc/{app.process.pid}/status") if l.startswith("VmRSS")][0].split()[1]) * 1024
    for s in load(app, 160): s.close()
    before = rss(); held = [app.connect() for _ in range(count)]
    for s in held: s.sendall(GET % b"/")
    for s in held: read_answer(s)
    assert (rss() - before) / count < 2048
    for s in held: s.close()
