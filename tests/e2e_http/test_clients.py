# SPDX-License-Identifier: MIT
"""Clients that people use: curl, Node's http, Chromium, wrk, slowhttptest."""
import json, os, re, shutil, subprocess, tempfile
import pytest
from conftest import App

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
    for _ in range(8):  # the DOM is written when the page has loaded: the first event may or may not have come by then, nor, on a busy machine, anything
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
            out = run("chromium", "--headless=old", "--no-sandbox", "--disable-gpu", "--timeout=20000", f"--user-data-dir={home}", "--dump-dom", f"http://127.0.0.1:{app.port}/", timeout=120).stdout
        if b"<title>Clock</title>" in out and re.search(rb"tick \d+</h1>", out): return
    assert False, out

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
