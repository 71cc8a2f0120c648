# SPDX-License-Identifier: MIT
"""The life of connections: keep-alive, pipelining, bodies both ways, back-pressure, time-outs, closing, clients that misbehave."""
import json, os, resource, signal, socket, subprocess, threading, time
import pytest
from conftest import DEADLINE, App, Answer, eventually, read_all

GET = b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n"

def answers(data, count, head_only=()):
    out, at = [], 0
    for i in range(count):
        out.append(first_answer(data, at, i in head_only)); at = len(data) - out[-1].left
    assert at == len(data)
    return out

def first_answer(data, at, head_only):
    """Parsed from a window that grows as needed: thousands of answers are not copied thousands of times."""
    size = 1024
    while True:
        window = data[at:at + size]; whole = at + size >= len(data)
        try: answer = Answer(window, head_only)
        except (AssertionError, ValueError):
            if whole: raise
        else:
            if whole or answer.rest: answer.left = len(data) - at - len(window) + len(answer.rest); return answer
        size *= 8

def read_answer(s):
    data = b""
    while True:
        chunk = s.recv(65536)
        if not chunk: raise EOFError(data)
        data += chunk
        try: return Answer(data)
        except (AssertionError, ValueError): continue

def test_a_connection_serves_many_requests(app):
    with app.connect() as s:
        for _ in range(50):
            s.sendall(GET % b"/"); assert read_answer(s).body == b"ok"

def test_pipelined_requests_are_answered_in_order(app):
    paths = [b"/", b"/slow?ms=30", b"/none", b"/", b"/work", b"/stream", b"/"]
    data = app.raw(b"".join(GET % p for p in paths) + b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert [a.body for a in answers(data, 8)] == [b"ok", b"slow", b"Not Found", b"ok", b"42", b"partpartpart", b"ok", b"ok"]

def test_pipelined_answers_leave_in_one_write(app):
    before = json.loads(app.ask("GET", "/stats").body)
    with app.connect() as s:
        s.sendall(GET % b"/" * 100)
        data = b""
        while data.count(b"HTTP/1.1") < 100 or not data.endswith(b"ok"): data += s.recv(65536)
    after = json.loads(app.ask("GET", "/stats").body)
    assert after["writes"] - before["writes"] <= 4 and after["reads"] - before["reads"] <= 6

def test_thousands_of_pipelined_requests_with_bodies(app):
    one = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n0123456789"
    two = b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n"
    with app.connect(DEADLINE) as s:
        sender = threading.Thread(target=lambda: s.sendall((one + two) * 3000 + b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")); sender.start()
        data = read_all(s); sender.join()
    assert [a.body for a in answers(data, 6001)] == [b"0123456789", b"abcde"] * 3000 + [b"ok"]

def test_the_answer_does_not_depend_on_how_the_bytes_arrive(app):
    request = b"POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n3\r\nabc\r\n0\r\nX-Check: t\r\n\r\n"
    for cut in range(1, len(request)):
        with app.connect() as s:
            s.sendall(request[:cut]); time.sleep(0.002); s.sendall(request[cut:])
            answer = Answer(read_all(s))
            assert (answer.status, answer.body, answer.get("x-check")) == (200, b"helloabc", "t"), cut

def test_a_client_that_vanishes_at_each_byte_harms_nobody(app):
    request = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nX: y\r\n\r\nhello"
    for cut in range(len(request)):
        for how in ("close", "reset", "half"):
            s = app.connect(); s.sendall(request[:cut])
            if how == "reset": s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            if how == "half": s.shutdown(socket.SHUT_WR); read_all(s)
            s.close()
    assert app.ask("GET", "/").status == 200
    assert eventually(lambda: json.loads(app.ask("GET", "/stats").body)["connections"] <= 3)

def test_a_half_closed_client_still_gets_its_answer(app):
    assert Answer(app.raw(GET % b"/slow?ms=50", half_close=True)).body == b"slow"

def test_http_10(app):
    data = app.raw(b"GET / HTTP/1.0\r\n\r\n"); answer = Answer(data)
    assert answer.body == b"ok" and answer.get("connection") == "close"
    with app.connect() as s:
        s.sendall(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"); assert read_answer(s).get("connection") == "keep-alive"
        s.sendall(b"GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"); data = read_all(s)
    answer = Answer(data)
    assert answer.body == b"partpartpart" and "transfer-encoding" not in answer.fields and answer.get("connection") == "close"
    assert b" 100 " not in app.raw(b"POST /echo HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx")
    assert b" 103 " not in app.raw(b"GET /early_hints HTTP/1.0\r\n\r\n")

def test_head_has_the_head_of_get(app):
    for path in ("/", "/none", "/big?bytes=100000"):
        get, head = app.ask("GET", path), app.ask("HEAD", path)
        assert head.status == get.status and head.body == b"" and head.rest == b""
    assert app.ask("HEAD", "/big?bytes=100000").get("content-length") == "100000"

def test_head_of_an_answer_that_never_ends_is_an_answer(app):
    with app.connect() as s:
        s.sendall(b"HEAD /endless HTTP/1.1\r\nHost: a\r\n\r\n" * 3 + GET % b"/")
        data = b""
        while not data.endswith(b"ok"): data += s.recv(65536)
    assert [(a.status, a.body) for a in answers(data, 4, head_only=(0, 1, 2))] == [(200, b"")] * 3 + [(200, b"ok")]

def test_every_answer_has_a_date(app):
    for path in ("/", "/none", "/stream", "/no_memory", "/" + "a" * 9000): assert app.ask("GET", path).get("date").endswith(" GMT")

def test_100_continue_comes_when_the_handler_reads(app):
    with app.connect() as s:
        s.sendall(b"POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        assert s.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        s.sendall(b"hello"); assert read_answer(s).body == b"hello"
        s.sendall(GET % b"/"); assert read_answer(s).body == b"ok"

def test_a_final_answer_without_100_ends_the_connection(app):
    answer = Answer(app.raw(b"POST /unread HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"))
    assert answer.status == 200 and answer.get("connection") == "close" and answer.rest == b""

def test_early_hints(app):
    with app.connect() as s:
        s.sendall(b"GET /early_hints HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); data = read_all(s)
    first = Answer(data)
    assert first.status == 103 and first.get("link") == "</a.css>; rel=preload"
    assert Answer(first.rest).body == b"after hints"

def test_trailers_both_ways(app):
    assert Answer(app.raw(b"GET /trailers HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).trailers == {"x-sum": "42"}

def test_an_unread_body_is_read_away(app):
    with app.connect() as s:
        for size in (5, 100000):
            s.sendall(b"POST /unread HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size); assert read_answer(s).body == b"unread"
        s.sendall(b"POST /unread HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"); assert read_answer(s).body == b"unread"
        s.sendall(GET % b"/"); assert read_answer(s).body == b"ok"

def test_an_unread_body_that_is_too_long_ends_the_connection(app):
    answer = Answer(app.raw(b"POST /unread HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n" + b"x" * 900000 + GET % b"/"))
    assert answer.body == b"unread" and answer.rest == b""

def test_body_over_the_limit(app):
    with app.connect() as s:  # by length: refused before it comes
        s.sendall(b"POST /echo?limit=10 HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n"); answer = Answer(read_all(s))
    assert answer.status == 413 and answer.get("connection") == "close"
    answer = Answer(app.raw(b"POST /echo?limit=10 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n01234567890\r\n0\r\n\r\n"))
    assert answer.status == 413
    assert app.ask("POST", "/echo?limit=10", "0123456789").body == b"0123456789"

def test_large_bodies_stream_both_ways(start):
    app = start("max_body_bytes=100000000")
    body = os.urandom(1 << 20) * 20
    with app.connect(DEADLINE) as s:
        def send():
            s.sendall(b"POST /pipe HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)); s.sendall(body)
        t = threading.Thread(target=send); t.start(); answer = Answer(read_all(s)); t.join()
    assert answer.body == body
    rss = int([l for l in open(f"/proc/{app.process.pid}/status") if l.startswith("VmRSS")][0].split()[1])
    assert rss < 150000  # 20 MB went through; the sanitizers' own memory is in this

def test_a_reader_that_stalls_stops_the_writer(start):
    app = start()
    with app.connect() as s:
        s.sendall(GET % b"/endless")
        eventually(lambda: ticks_in(app, 0.5) <= 2)  # every buffer is full: it waits, it does not spin
        assert app.ask("GET", "/").status == 200
    eventually(lambda: app.ask("GET", "/cancelled").body == b"1")  # its handler was told

def cpu(app):
    fields = open(f"/proc/{app.process.pid}/stat").read().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])

def ticks_in(app, seconds):
    before = cpu(app); time.sleep(seconds); return cpu(app) - before

def test_a_large_answer_to_a_slow_reader_is_whole(app):
    with app.connect(DEADLINE) as s:
        s.sendall(b"GET /big?bytes=5000000 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        data = b""
        while chunk := s.recv(300000): data += chunk; time.sleep(0.002)
    assert Answer(data).body == b"b" * 5000000

def test_slow_head_is_408_and_nothing_when_no_byte_came(start):
    app = start("headers_timeout_ms=400")
    with app.connect() as s:
        s.sendall(b"GET / HT"); assert Answer(read_all(s)).status == 408
    with app.connect() as s: assert read_all(s) == b""
    with app.connect() as s:  # a byte now and then does not help
        try:
            for c in b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"aaa": s.send(bytes([c])); time.sleep(0.05)
        except OSError: pass
        assert Answer(read_all(s)).status == 408

def test_slow_body_is_408(start):
    app = start("stall_timeout_ms=400")
    with app.connect() as s:
        s.sendall(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc"); answer = Answer(read_all(s))
    assert answer.status == 408 and answer.get("connection") == "close"

def test_a_body_that_takes_too_long_altogether_is_408(start):
    app = start("request_timeout_ms=600")
    with app.connect() as s:
        s.sendall(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
        try:
            for _ in range(30): s.send(b"x" * 100); time.sleep(0.05)
        except OSError: pass
        assert Answer(read_all(s)).status == 408

def test_a_slow_reader_is_let_go(start):
    app = start("stall_timeout_ms=400")
    with app.connect() as s:
        s.sendall(GET % b"/endless")
        eventually(lambda: app.ask("GET", "/cancelled").body == b"1")

def test_keep_alive_ends(start):
    app = start("keep_alive_timeout_ms=300")
    with app.connect() as s:
        begin = time.time(); s.sendall(GET % b"/"); read_answer(s); assert s.recv(1) == b""
        assert time.time() - begin > 1.0  # with the hidden second

def test_a_handler_that_never_returns_is_503_and_is_cancelled(start):
    app = start("handler_timeout_ms=300")
    answer = Answer(app.raw(GET % b"/forever"))
    assert answer.status == 503 and answer.get("connection") == "close"
    assert app.ask("GET", "/cancelled").body == b"1"

def test_the_last_request_of_a_socket_says_close(start):
    app = start("max_requests_per_socket=3")
    data = app.raw(GET % b"/" * 5)
    got = answers(data, 3)
    assert [a.get("connection") for a in got] == [None, None, "close"]

def test_connections_over_the_limit_are_dropped(start):
    app = start("max_connections=5", "keep_alive_timeout_ms=120000")
    def hold():
        s = app.connect(); s.sendall(GET % b"/"); assert read_answer(s).body == b"ok"; return s
    held = [eventually(hold) for _ in range(5)]  # the connection that waited for the start may still be one of them
    try: assert app.raw(GET % b"/") == b""
    except ConnectionError: pass
    for s in held: s.close()
    eventually(lambda: app.ask("GET", "/").status == 200)

def test_out_of_descriptors_does_not_spin_and_recovers(start):
    app = start("files=40")
    held = []
    for _ in range(80):
        s = socket.socket(); s.settimeout(DEADLINE); s.connect(("127.0.0.1", app.port)); held.append(s)
    eventually(lambda: ticks_in(app, 1) < 20)  # of 100
    for s in held: s.close()
    eventually(lambda: app.ask("GET", "/").status == 200)
    assert json.loads(app.ask("GET", "/stats").body)["accept_failures"] > 0

def test_upgrade_hands_the_socket_over(app):
    data = app.raw(b"GET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: echo\r\n\r\nearly ")
    first = Answer(data)
    assert first.status == 101 and first.get("connection") == "Upgrade" and first.rest == b"early bye"
    assert app.ask("GET", "/upgrade").body == b"no upgrade"

def refuses(app):
    try: app.connect().close()
    except ConnectionRefusedError: return True

def test_graceful_stop_finishes_what_is_active_and_closes_what_is_idle(start):
    app = start()
    idle, half, busy = app.connect(), app.connect(), app.connect()
    for s in idle, half: s.sendall(GET % b"/"); read_answer(s)
    half.sendall(b"GET / HTTP/1.1\r\n")
    busy.sendall(GET % b"/slow?ms=3000"); eventually(lambda: json.loads(app.ask("GET", "/stats").body)["connections"] >= 4); app.ask("GET", "/")
    begin = time.time(); app.process.send_signal(signal.SIGTERM)
    eventually(lambda: refuses(app))
    try: idle.sendall(GET % b"/"); answer = read_answer(idle); assert answer.body == b"ok" and answer.get("connection") == "close"
    except (EOFError, OSError): assert time.time() - begin > 1  # one that comes within a second is answered
    half.sendall(b"Host: a\r\n\r\n"); answer = read_answer(half)  # and one that was under way however late it ends
    assert answer.body == b"ok" and answer.get("connection") == "close"
    answer = read_answer(busy); assert answer.body == b"slow" and answer.get("connection") == "close"
    assert app.process.wait(DEADLINE) == 0

def test_a_second_stop_does_not_wait_for_a_handler(start):
    app = start()
    with app.connect() as s:
        s.sendall(GET % b"/forever"); eventually(lambda: json.loads(app.ask("GET", "/stats").body)["requests"] >= 2)
        app.process.send_signal(signal.SIGTERM); eventually(lambda: refuses(app))
        assert app.process.poll() is None
        app.process.send_signal(signal.SIGTERM)
        assert read_all(s) == b"" and app.process.wait(DEADLINE) == 0

def test_a_stop_under_load_fails_no_request(start):
    app = start()
    failures, done, stop = [], [], threading.Event()
    def client():
        while not stop.is_set():
            try: s = app.connect()
            except OSError: return
            try:
                while True:
                    s.sendall(GET % b"/"); answer = read_answer(s); done.append(1)
                    if answer.get("connection") == "close": break
            except (EOFError, OSError) as e: failures.append(e); return
            finally: s.close()
    threads = [threading.Thread(target=client) for _ in range(8)]
    for t in threads: t.start()
    eventually(lambda: len(done) > 100 or failures); app.process.send_signal(signal.SIGTERM); app.process.wait(DEADLINE); stop.set()
    for t in threads: t.join()
    assert len(done) > 100 and not failures

def test_ten_thousand_idle_connections(start):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 60000), hard))
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 10500: pytest.skip("not enough descriptors")
    app = start("headers_timeout_ms=300000", "keep_alive_timeout_ms=300000")
    held = []
    try:
        for i in range(10000):
            s = socket.socket(); s.connect(("127.0.0.1", app.port)); held.append(s)
        for s in held[:200]: s.sendall(GET % b"/")
        for s in held[:200]: assert read_answer(s).body == b"ok"
        stats = json.loads(app.ask("GET", "/stats").body)
        assert stats["connections"] >= 10000 and stats["connection_bytes"] <= 2048
    finally:
        for s in held: s.close()

def test_unix_addresses_and_stale_sockets(tmp_path):
    from conftest import BUILD
    path = str(tmp_path / "s.sock")
    for _ in range(2):
        p = subprocess.Popen([f"{BUILD}/tests/e2e_http/http_app", f"unix:{path}"])
        def connects():
            s = socket.socket(socket.AF_UNIX); s.connect(path); return s
        s = eventually(connects); s.sendall(GET % b"/"); assert read_answer(s).body == b"ok"; s.close()
        p.kill(); p.wait()  # leaves the path behind
    assert os.path.exists(path)

def test_memory_is_flat(app):
    def rss(): return int([l for l in open(f"/proc/{app.process.pid}/status") if l.startswith("VmRSS")][0].split()[1])
    def load(n):
        with app.connect(DEADLINE) as s:
            for _ in range(n // 100):
                s.sendall(b"".join([GET % b"/", GET % b"/none", b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", GET % b"/slow?ms=0"] * 25))
                data = b""
                while data.count(b"HTTP/1.1 ") < 100 or not data.endswith(b"slow"): data += s.recv(65536)
    load(4000); before = rss(); load(8000)
    assert rss() - before < 4000

def test_a_client_that_leaves_inside_a_file_does_not_kill_the_server(start, tmp_path):
    (tmp_path / "big").write_bytes(b"x" * 30000000); app = start(f"static={tmp_path}")
    for _ in range(20):
        s = app.connect(); s.sendall(GET % b"/static/big"); s.recv(1000); s.close()
    assert app.ask("GET", "/").status == 200 and app.process.poll() is None
    (tmp_path / "shrinks").write_bytes(b"x" * 30000000)  # and one whose file shrinks while it is sent sees it break
    s = app.connect(); s.sendall(GET % b"/static/shrinks"); s.recv(1000); os.truncate(tmp_path / "shrinks", 10); data = read_all(s)
    assert len(data) < 30000000 and app.ask("GET", "/").status == 200
