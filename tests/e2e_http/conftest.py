# SPDX-License-Identifier: MIT
"""App: a server under test on a free port, with raw sockets to talk to it. PANDO_BUILD names the Meson build folder."""
import os, random, re, socket, subprocess, time
import pytest

BUILD = os.environ.get("PANDO_BUILD", os.path.join(os.path.dirname(__file__), "..", "..", "build"))

PATIENCE = 30  # seconds of a client; a sanitized server on a busy machine may be slow
DEADLINE = 60  # for what only must happen

def free_port():
    """From below the ephemeral range: no outgoing connection takes it before the server does."""
    for _ in range(1000):
        with socket.socket() as s:
            port = random.randrange(20000, 30000)
            try: s.bind(("0.0.0.0", port)); return port
            except OSError: continue
    raise RuntimeError("no free port between 20000 and 29999")

def eventually(check):
    """The first true value of check(); what the other side breaks off, or answers in part, is tried again."""
    end = time.monotonic() + DEADLINE
    while True:
        try:
            if value := check(): return value
            last = "it is false"
        except (OSError, EOFError, AssertionError) as e: last = repr(e)
        if time.monotonic() > end: raise AssertionError(f"not within {DEADLINE} s: {last}")
        time.sleep(0.02)

class Answer:
    """One answer, parsed strictly from the front of `data`; `rest` is what follows it."""
    def __init__(self, data, head_only=False):
        assert b"\r\n\r\n" in data, data[:200]
        head, _, rest = data.partition(b"\r\n\r\n")
        lines = head.decode("latin1").split("\r\n")
        m = re.fullmatch(r"HTTP/1\.1 (\d{3}) ?(.*)", lines[0]); assert m, lines[0]
        self.status, self.reason, self.fields = int(m[1]), m[2], {}
        for line in lines[1:]:
            name, colon, value = line.partition(":"); assert colon, line
            self.fields.setdefault(name.lower(), []).append(value.strip())
        self.trailers, self.raw_head = {}, head
        if head_only or self.status < 200 or self.status in (204, 304): self.body, self.rest = b"", rest
        elif "content-length" in self.fields:
            n = int(self.fields["content-length"][0]); assert len(rest) >= n, f"{len(rest)} of {n} bytes"
            self.body, self.rest = rest[:n], rest[n:]
        elif "chunked" in self.fields.get("transfer-encoding", []):
            self.body = b""
            while True:
                size, _, rest = rest.partition(b"\r\n"); n = int(size, 16)
                if not n: break
                self.body += rest[:n]; assert rest[n:n + 2] == b"\r\n"; rest = rest[n + 2:]
            while not rest.startswith(b"\r\n"):
                line, _, rest = rest.partition(b"\r\n"); name, _, value = line.decode().partition(":"); self.trailers[name.lower()] = value.strip()
            self.rest = rest[2:]
        else: self.body, self.rest = rest, b""
    def get(self, name): return self.fields.get(name.lower(), [None])[0]

class App:
    def __init__(self, *options, program="tests/e2e_http/http_app", argv=None, env=None):
        self.port = free_port()
        argv = argv or [os.path.join(BUILD, program), f"127.0.0.1:{self.port}", *options]
        self.log = open(f"/tmp/pando-e2e-{self.port}.log", "w+")
        self.process = subprocess.Popen([str(a).replace("{port}", str(self.port)) for a in argv], stdout=self.log, stderr=self.log, env={**os.environ, **(env or {})})
        end = time.monotonic() + DEADLINE
        while True:
            if self.process.poll() is not None: raise RuntimeError(self.output())
            try: socket.create_connection(("127.0.0.1", self.port), PATIENCE).close(); break
            except OSError: time.sleep(0.03)
            if time.monotonic() > end: raise RuntimeError("did not listen: " + self.output())
    def output(self):
        self.log.flush(); return open(self.log.name).read()
    def connect(self, timeout=PATIENCE):
        s = socket.create_connection(("127.0.0.1", self.port), timeout); s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1); return s
    def raw(self, data, timeout=PATIENCE, half_close=False):
        """Sends it all, reads until the server closes."""
        with self.connect(timeout) as s:
            try: s.sendall(data)
            except OSError: pass
            if half_close: s.shutdown(socket.SHUT_WR)
            return read_all(s)
    def ask(self, method, path, body=None, headers=None, timeout=PATIENCE):
        if isinstance(body, str): body = body.encode()
        head = {"Host": "test", "Connection": "close", **(headers or {})}
        if body is not None and "Transfer-Encoding" not in head: head.setdefault("Content-Length", str(len(body)))
        text = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in head.items()) + "\r\n"
        return Answer(self.raw(text.encode("latin1") + (body or b""), timeout), head_only=method == "HEAD")
    def stop(self):
        """Ends it; a sanitizer's complaint or a bad exit fails the test."""
        if self.process.poll() is None: self.process.terminate()
        try: code = self.process.wait(DEADLINE)
        finally:
            if self.process.poll() is None: self.process.kill(); self.process.wait()
        text = self.output(); self.log.close(); os.unlink(self.log.name)
        assert "ERROR: AddressSanitizer" not in text and "runtime error" not in text and "LeakSanitizer" not in text, text
        return code, text

def read_all(s):
    chunks = []
    try:
        while chunk := s.recv(1 << 20): chunks.append(chunk)
    except ConnectionResetError: pass
    return b"".join(chunks)

@pytest.fixture
def start():
    apps = []
    def make(*options, **more):
        apps.append(App(*options, **more)); return apps[-1]
    yield make
    for app in apps: app.stop() if not app.log.closed else None

@pytest.fixture(scope="module")
def app():
    one = App(); yield one
    code, text = one.stop(); assert code == 0, text
