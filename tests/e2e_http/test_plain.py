# SPDX-License-Identifier: MIT
"""What sanitizers would hide, replace or count with: a stack overflow, an allocator that fails, memory over a long time, valgrind."""
import json, os, re, shutil, signal, subprocess, tempfile
import pytest
from conftest import DEADLINE, App, BUILD, eventually
from test_costs import pytestmark, sanitized  # noqa: F401  not with sanitizers
from test_http import GET

NIGHTLY = bool(os.environ.get("PANDO_NIGHTLY"))
HTTP_APP, PANDO = f"{BUILD}/tests/e2e_http/http_app", f"{BUILD}/src/pando/pando"

def test_a_stack_overflow_is_reported_by_name_and_kills(start):
    app = start("stack_bytes=65536")
    assert app.raw(GET % b"/overflow") == b""
    assert app.process.wait(DEADLINE) == -signal.SIGSEGV
    assert "pando: stack overflow in middleware overflow: raise stack_bytes" in app.output()

def test_a_worker_with_a_stack_overflow_is_replaced(start):
    folder = tempfile.mkdtemp(prefix="pando-h-"); env = {**os.environ, "PANDO_DIR": folder}
    app = start(argv=[PANDO, "run", "-n", "o", "-w", "1", "--", HTTP_APP, "127.0.0.1:{port}", "stack_bytes=65536"], env={"PANDO_DIR": folder})
    def worker():
        out = subprocess.run([PANDO, "status", "-n", "o", "--json"], env=env, capture_output=True, timeout=DEADLINE).stdout
        one = json.loads(out)["workers"][0]; return one if one["state"] == "serving" else None
    first = eventually(worker)
    app.raw(GET % b"/overflow")
    eventually(lambda: (worker() or first)["pid"] != first["pid"] and app.ask("GET", "/").status == 200)
    assert "stack overflow in middleware overflow" in app.output()
    shutil.rmtree(folder, ignore_errors=True) if app.stop()[0] == 0 else pytest.fail("a bad end")

FORM = '--XyZ\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\nhello\r\n--XyZ--\r\n'
ASKED = [("GET", p, None, {}) for p in ("/", "/none", "/slow?ms=1", "/big?bytes=70000", "/stream", "/trailers", "/work", "/wait_fd", "/events", "/signed_set", "/static/a.txt", "/static/big", "/file?path=/etc/hostname", "/injection")] + \
    [("GET", "/signed_get", None, {"Cookie": "who=me; who.sig=x"}), ("POST", "/json", '{"a":[1,2,{"b":"c"}]}', {"Content-Type": "application/json"}), ("POST", "/form", "a=1&b=2", {"Content-Type": "application/x-www-form-urlencoded"}),
     ("POST", "/upload", FORM, {"Content-Type": "multipart/form-data; boundary=XyZ"}), ("POST", "/echo", "x" * 100000, {})]

@pytest.mark.parametrize("every", [2, 5, 30])
def test_a_worker_lives_on_when_allocations_fail(start, tmp_path, every):
    (tmp_path / "a.txt").write_text("a" * 100); (tmp_path / "big").write_bytes(b"b" * 100000)
    app = start(f"static={tmp_path}", "log=2", "cors=1", "etag=1", "request_id=1", env={"LD_PRELOAD": f"{BUILD}/tests/e2e_http/libmalloc_fail.so", "MALLOC_FAIL_EVERY": str(every)})
    usual = {path: app.ask(method, path, body, head) for method, path, body, head in ASKED if "signed" not in path}  # OpenSSL is first asked in need
    held = [app.connect() for _ in range(200)]  # what libuv keeps for ever grows now: a failure in there is an abort of its own
    eventually(lambda: json.loads(app.ask("GET", "/stats").body)["connections"] > 200)
    for s in held: s.close()
    app.process.send_signal(signal.SIGUSR1)
    seen = set()
    for method, path, body, head in ASKED * 8:
        try: answer = app.ask(method, path, body, head)
        except (AssertionError, OSError, ValueError): seen.add("broken"); continue  # not even a connection, or half an answer
        assert answer.status in (usual[path].status if path in usual else 200, 503, 500) or path == "/json", (path, answer.status)  # jansson may say that a token is bad
        if path in usual and answer.status == usual[path].status and path != "/events": assert answer.body == usual[path].body, path
        seen.add(answer.status)
    app.process.send_signal(signal.SIGUSR1)
    eventually(lambda: app.ask("GET", "/work").body == b"42")
    for method, path, body, head in ASKED: assert path not in usual or app.ask(method, path, body, head).body == usual[path].body, path
    code, text = app.stop()
    assert code == 0 and int(re.search(r"failed allocations: (\d+)", text)[1]) > 5 and 503 in seen, seen

def test_memory_is_flat_over_many_requests(start):
    app, count = start(), 1000000 if NIGHTLY else 40000
    def rss(): return int([l for l in open(f"/proc/{app.process.pid}/status") if l.startswith("VmRSS")][0].split()[1])
    batch = b"".join([GET % b"/", GET % b"/none", b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", GET % b"/signed_set"] * 50)
    def load(n):
        with app.connect(DEADLINE) as s:
            for _ in range(n // 200):
                s.sendall(batch); data = b""
                while data.count(b"HTTP/1.1 ") < 200 or not data.endswith(b"\r\n\r\nset"): data += s.recv(1 << 20)
    load(10000); before = rss(); load(count)
    assert rss() - before < 512, f"{before} KB before {count} requests, {rss()} KB after"

@pytest.mark.skipif(not NIGHTLY, reason="nightly: most of a minute")
@pytest.mark.skipif(not shutil.which("valgrind"), reason="no valgrind")
def test_valgrind_has_nothing_to_say(start, tmp_path):
    (tmp_path / "a.txt").write_text("a" * 100); (tmp_path / "big").write_bytes(b"b" * 100000)
    app = start(argv=["valgrind", "--error-exitcode=9", "--leak-check=full", "--errors-for-leak-kinds=definite,indirect", "--track-fds=no", HTTP_APP, "127.0.0.1:{port}", f"static={tmp_path}", "log=2", "cors=1", "etag=1", "request_id=1"])
    for _ in range(3):
        for method, path, body, head in ASKED: app.ask(method, path, body, head)
    for data in (b"GET / HTTP/1.1\nHost: a\r\n\r\n", GET % b"/throw_after_head", GET % b"/no_memory", GET % b"/twice", b"HEAD /endless HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"): app.raw(data, half_close=True)
    s = app.connect(); s.sendall(GET % b"/endless"); s.recv(100000); s.close()
    s = app.connect(); s.sendall(GET % b"/forever"); s.close()
    code, text = app.stop()
    assert code == 0 and "ERROR SUMMARY: 0 errors" in text, text[-4000:]
