# SPDX-License-Identifier: MIT
"""App: a server under test on a free port, with raw sockets to talk to it. PANDO_BUILD names the Meson build folder."""
import os, re, socket, subprocess, time
import pytest

BUILD = os.environ.get("PANDO_BUILD", os.path.join(os.path.dirname(__file__), "..", "..", "build"))

def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0)); return s.getsockname()[1]

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
        for _ in range(200):
            if self.process.poll() is not None: raise RuntimeError(self.output())
            try: socket.create_connection(("127.0.0.1", self.port), 1).close(); break
            except OSError: time.sleep(0.03)
        else: raise RuntimeError("did not listen: " + self.output())
    def output(self):
        self.log.flush(); return open(self.log.name).read()
    def connect(self, timeout=5):
        s = socket.create_connection(("127.0.0.1", self.port), timeout); s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1); return s
    def raw(self, data, timeout=5, half_close=False):
        """Sends it all, reads until the server closes."""
        with self.connect(timeout) as s:
            try: s.sendall(data)
            except OSError: pass
            if half_close: s.shutdown(socket.SHUT_WR)
            return read_all(s)
    def ask(self, method, path, body=None, headers=None, timeout=5):
        if isinstance(body, str): body = body.encode()
        head = {"Host": "test", "Connection": "close", **(headers or {})}
        if body is not None and "Transfer-Encoding" not in head: head.setdefault("Content-Length", str(len(body)))
        text = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in head.items()) + "\r\n"
        return Answer(self.raw(text.encode("latin1") + (body or b""), timeout), head_only=method == "HEAD")
    def stop(self):
        """Ends it; a sanitizer's complaint or a bad exit fails the test."""
        if self.process.poll() is None: self.process.terminate()
        try: code = self.process.wait(15)
        finally:
            if self.process.poll() is None: self.process.kill(); self.process.wait()
        text = self.output(); self.log.close(); os.unlink(self.log.name)
        assert "ERROR: AddressSanitizer" not in text and "runtime error" not in text and "LeakSanitizer" not in text, text
        return code, text

def read_all(s):
    data = b""
    try:
        while chunk := s.recv(65536): data += chunk
    except ConnectionResetError: pass
    return data

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
