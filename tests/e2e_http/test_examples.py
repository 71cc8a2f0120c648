# SPDX-License-Identifier: MIT
"""Every example is started and asked; the two with a database against a real one, started here."""
import glob, json, os, re, shutil, socket, subprocess, tempfile, threading, time
import pytest
from conftest import DEADLINE, App, BUILD, eventually, free_port

def test_hello(start):
    app = start(program="examples/hello/hello")
    a = app.ask("GET", "/"); assert (a.body, a.get("content-type")) == (b"<h1>Hello World</h1>", "text/html; charset=utf-8") and a.get("x-response-time")
    assert json.loads(app.ask("GET", "/users/7").body) == {"id": "7"}

def listens(port): socket.create_connection(("127.0.0.1", port)).close(); return True

def test_hello_takes_its_port_from_the_environment(start):
    port = free_port()
    p = subprocess.Popen([f"{BUILD}/examples/hello/hello"], env={**os.environ, "PORT": str(port)})
    try:
        eventually(lambda: listens(port))
        out = subprocess.run(["curl", "-s", f"http://localhost:{port}/"], capture_output=True, timeout=DEADLINE)
        assert out.stdout == b"<h1>Hello World</h1>"
    finally: p.terminate(); assert p.wait(DEADLINE) == 0

def test_json_api(start):
    app, j = start(program="examples/json_api/json_api"), {"Content-Type": "application/json"}
    a = app.ask("POST", "/notes", '{"text":"one"}', j); assert (a.status, a.get("location"), json.loads(a.body)) == (201, "/notes/1", {"id": "1", "text": "one"})
    assert json.loads(app.ask("GET", "/notes").body) == [{"id": "1", "text": "one"}]
    assert json.loads(app.ask("PUT", "/notes/1", '{"text":"two"}', j).body)["text"] == "two"
    a = app.ask("GET", "/notes/9"); assert (a.status, json.loads(a.body)) == (404, {"error": "no note 9"})
    assert app.ask("POST", "/notes", "{}", j).status == 422 and app.ask("POST", "/notes", "{", j).status == 400
    assert app.ask("DELETE", "/notes/1").status == 204 and app.ask("PATCH", "/notes/1", "x").status == 405

def test_uploads(start):
    app = start(program="examples/uploads/uploads")
    with tempfile.NamedTemporaryFile(suffix=".bin") as f:
        f.write(os.urandom(2000000)); f.flush()
        out = subprocess.run(["curl", "-s", "-F", "title=hi", "-F", f"file=@{f.name};type=image/png", f"http://127.0.0.1:{app.port}/"], capture_output=True, timeout=DEADLINE)
    got = json.loads(out.stdout); assert got["title"] == "hi" and got["files"][0]["bytes"] == 2000000 and got["files"][0]["type"] == "image/png"

def test_sse(start):
    app = start(program="examples/sse/sse")
    curl = subprocess.Popen(["curl", "-sN", "-m", str(DEADLINE), "-H", "Last-Event-ID: 5", f"http://127.0.0.1:{app.port}/ticks"], stdout=subprocess.PIPE)
    out = b"".join(curl.stdout.readline() for _ in range(5)); curl.terminate(); curl.wait(); curl.stdout.close()
    assert out == b"id: 6\nevent: tick\ndata: 6\n\nid: 7\n"

def test_serve(tmp_path, start):
    (tmp_path / "index.html").write_text("<p>home</p>"); (tmp_path / "about.html").write_text("<p>about</p>")
    app = start(argv=[f"{BUILD}/src/serve/pando-serve", str(tmp_path), "127.0.0.1:{port}"])
    assert app.ask("GET", "/").body == b"<p>home</p>" and app.ask("GET", "/about").body == b"<p>about</p>" and app.ask("GET", "/none").status == 404
    assert subprocess.run([f"{BUILD}/src/serve/pando-serve"], capture_output=True).returncode == 2
    assert b"/nonexistent" in subprocess.run([f"{BUILD}/src/serve/pando-serve", "/nonexistent"], capture_output=True).stderr

@pytest.mark.skipif(not shutil.which("redis-server"), reason="no redis-server")
def test_redis(start):
    port = free_port(); redis = subprocess.Popen(["redis-server", "--port", str(port), "--save", "", "--appendonly", "no"], stdout=subprocess.DEVNULL)
    try:
        eventually(lambda: listens(port))
        if not os.path.exists(f"{BUILD}/examples/redis/redis_counter"): pytest.skip("hiredis was not there at build time")
        app = start(argv=[f"{BUILD}/examples/redis/redis_counter", "127.0.0.1:{port}", str(port)])
        results = []
        threads = [threading.Thread(target=lambda: results.append(json.loads(app.ask("GET", "/home").body)["visits"])) for _ in range(20)]
        for t in threads: t.start()
        for t in threads: t.join()
        assert sorted(results) == list(range(1, 21))
        redis.terminate(); redis.wait(); assert app.ask("GET", "/home").status == 503 and app.ask("GET", "/home").status == 503
    finally:
        if redis.poll() is None: redis.kill()

PG = sorted(glob.glob("/usr/lib/postgresql/*/bin"))

@pytest.mark.skipif(not PG, reason="no PostgreSQL")
def test_postgres(start):
    if not os.path.exists(f"{BUILD}/examples/postgres/postgres_notes"): pytest.skip("libpq was not there at build time")
    folder = tempfile.mkdtemp(prefix="pando-pg-", dir="/tmp"); port = free_port(); as_user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    if as_user: shutil.chown(folder, "postgres")
    def pg(tool, *args, **k): return subprocess.run([*as_user, f"{PG[-1]}/{tool}", *args], capture_output=True, cwd="/", timeout=2 * DEADLINE, **k)
    assert pg("initdb", "-D", f"{folder}/db", "-A", "trust", "-U", "pando", "-N", "--locale=C").returncode == 0
    server = subprocess.Popen([*as_user, f"{PG[-1]}/postgres", "-D", f"{folder}/db", "-p", str(port), "-k", folder, "-c", "fsync=off", "-h", "127.0.0.1"], stderr=subprocess.DEVNULL, cwd="/")
    connect = f"host=127.0.0.1 port={port} user=pando dbname=postgres"
    try:
        eventually(lambda: pg("psql", connect, "-c", "CREATE TABLE notes (id serial, text text)").returncode == 0)
        app, j = start(argv=[f"{BUILD}/examples/postgres/postgres_notes", "127.0.0.1:{port}", connect]), {"Content-Type": "application/json"}
        a = app.ask("POST", "/notes", '{"text":"it\'s; DROP TABLE notes"}', j); assert (a.status, json.loads(a.body)["id"]) == (201, "1")
        assert json.loads(app.ask("GET", "/notes").body) == [{"id": "1", "text": "it's; DROP TABLE notes"}]
        over = threading.Event()
        def naps():
            while not over.is_set(): assert app.ask("GET", "/nap").body == b"slept"
        threads = [threading.Thread(target=naps) for _ in range(8)]
        for t in threads: t.start()
        at_once = "SELECT 'naps: ' || count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep(%' AND pid <> pg_backend_pid()"
        try: eventually(lambda: int(re.search(rb"naps: (\d)", pg("psql", connect, "-tc", at_once).stdout)[1]) > 1)  # not one after the other
        finally: over.set()
        for t in threads: t.join()
        s = app.connect(); s.sendall(b"GET /nap HTTP/1.1\r\nHost: a\r\n\r\n"); time.sleep(0.1); s.close()  # a client that leaves inside a query
        assert app.ask("GET", "/notes").status == 200
    finally:
        subprocess.run([*as_user, f"{PG[-1]}/pg_ctl", "-D", f"{folder}/db", "-m", "immediate", "stop"], capture_output=True, cwd="/"); server.wait(DEADLINE); shutil.rmtree(folder, ignore_errors=True)
