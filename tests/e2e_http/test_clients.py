# SPDX-License-Identifier: MIT
"""Clients that people use: curl, Node's http, Chromium, wrk, slowhttptest."""
import json, os, re, select, shutil, signal, subprocess, tempfile
import pytest
from conftest import DEADLINE, App, eventually

def run(*argv, timeout=60, **k): return subprocess.run(argv, capture_output=True, timeout=timeout, **k)

def test_curl(app):
    url = f"http://127.0.0.1:{app.port}"
    assert run("curl", "-s", url + "/", url + "/stream", url + "/trailers").stdout == b"okpartpartpartbody"
    with tempfile.NamedTemporaryFile() as f:
        f.write(b"x" * 900000); f.flush()
        assert len(run("curl", "-s", "--data-binary", "@" + f.name, url + "/echo").stdout) == 900000  # with Expect: 100-continue
        assert len(run("curl", "-s", "-H", "Transfer-Encoding: chunked", "--data-binary", "@" + f.name, url + "/echo").stdout) == 900000
        assert run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--data-binary", "@" + f.name, url + "/echo?limit=10").stdout == b"413"
    assert b"103" in run("curl", "-si", url + "/early_hints").stdout and run("curl", "-sI", url + "/").stdout.startswith(b"HTTP/1.1 200 OK\r\n")
    assert run("curl", "-s", "--http1.0", url + "/stream").stdout == b"partpartpart"

NODE = """
const http = require('http'), agent = new http.Agent({ keepAlive: true, maxSockets: 4 })
const ask = (method, path, body) => new Promise((ok, no) => {
  const r = http.request({ port: process.argv[1], agent, method, path, headers: body && path === '/echo' ? { 'Transfer-Encoding': 'chunked', Trailer: 'X-Check' } : {} }, res => {
    let d = ''; res.on('data', c => d += c); res.on('end', () => ok([res.statusCode, d, res.trailers, res.headers['x-check']])) })
  r.on('error', no); if (body) { r.write(body); r.addTrailers({ 'X-Check': 'sum' }) } r.end() })
;(async () => {
  const out = []
  for (let i = 0; i < 200; i++) out.push(ask('GET', '/'))
  const all = await Promise.all(out)
  console.log(JSON.stringify([all.every(x => x[1] === 'ok'), await ask('POST', '/echo', 'hello'), await ask('GET', '/trailers'), await ask('HEAD', '/'), await ask('DELETE', '/')]))
  agent.destroy() })()
"""

@pytest.mark.skipif(not shutil.which("node"), reason="no node")
def test_node(app):
    got = json.loads(run("node", "-e", NODE, str(app.port)).stdout)
    assert [x[:3] if isinstance(x, list) else x for x in got] == [True, [200, "hello", {}], [200, "body", {"x-sum": "42"}], [200, "", {}], [405, "Method Not Allowed", {}]]
    assert got[1][3] == "sum"  # its trailer came

@pytest.mark.skipif(not shutil.which("chromium"), reason="no chromium")
@pytest.mark.skipif(not os.environ.get("PANDO_NIGHTLY"), reason="nightly: a browser needs most of a minute to start on a busy machine")
def test_chromium_shows_a_page_fed_by_events(start):
    app = start(program="examples/sse/sse")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home, Chromium(home) as browser:
        target = browser.call("Target.createTarget", {"url": f"http://127.0.0.1:{app.port}/"})["targetId"]
        page = browser.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        def shown(what): return browser.call("Runtime.evaluate", {"expression": what}, page)["result"].get("value")
        eventually(lambda: shown("document.title") == "Clock")
        first = eventually(lambda: re.fullmatch(r"tick (\d+)", shown("document.getElementById('tick').textContent")))
        eventually(lambda: int(re.fullmatch(r"tick (\d+)", shown("document.getElementById('tick').textContent"))[1]) > int(first[1]))

class Chromium:
    """Without a window, asked by its DevTools protocol: messages end in NUL, they go in by descriptor 3 and come out of 4."""
    def __init__(self, home):
        theirs, self.to = os.pipe(); self.come, theirs_too = os.pipe(); self.data, self.last = b"", 0
        words = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", f"--user-data-dir={home}", "about:blank"]
        self.process = subprocess.Popen(["bash", "-c", f'exec "$@" 3<&{theirs} 4>&{theirs_too}', "bash", *words], pass_fds=(theirs, theirs_too), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        os.close(theirs); os.close(theirs_too)
    def call(self, method, params, session=None):
        self.last += 1
        os.write(self.to, json.dumps({"id": self.last, "method": method, "params": params, **({"sessionId": session} if session else {})}).encode() + b"\0")
        while True:
            while b"\0" not in self.data:
                assert select.select([self.come], [], [], 2 * DEADLINE)[0], "chromium says nothing"
                more = os.read(self.come, 65536); assert more, "chromium has ended"; self.data += more
            one, _, self.data = self.data.partition(b"\0"); answer = json.loads(one)
            if answer.get("id") == self.last: assert "result" in answer, answer; return answer["result"]
    def __enter__(self): return self
    def __exit__(self, *_):
        try: os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError: pass
        self.process.wait(); os.close(self.to); os.close(self.come)

@pytest.mark.skipif(not shutil.which("wrk"), reason="no wrk")
def test_wrk(app):
    out = run("wrk", "-t1", "-c16", "-d2", "--timeout", "30", f"http://127.0.0.1:{app.port}/").stdout.decode()
    assert "Socket errors" not in out and "Non-2xx" not in out and int(re.search(r"(\d+) requests in", out)[1]) > 100

@pytest.mark.skipif(not shutil.which("slowhttptest"), reason="no slowhttptest")
@pytest.mark.parametrize("mode", ["-H", "-B", "-X"], ids=["slow-headers", "slow-bodies", "slow-readers"])
def test_slowhttptest(start, mode):
    app = start("headers_timeout_ms=3000", "stall_timeout_ms=3000", "max_connections=400")
    p = subprocess.Popen(["slowhttptest", mode, "-c", "200", "-r", "200", "-i", "1", "-l", "6", "-p", "3", "-u", f"http://127.0.0.1:{app.port}/"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        import time
        for _ in range(8): assert app.ask("GET", "/").status == 200; time.sleep(0.5)  # others are served meanwhile
    finally: p.terminate(); p.wait(60)
