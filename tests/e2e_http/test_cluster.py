# SPDX-License-Identifier: MIT
"""An app under `pando run`: every core, and a reload under load with keep-alive clients fails no request."""
import json, os, subprocess, tempfile, threading, time
import pytest
from conftest import App, Answer, BUILD, free_port
from test_http import GET, read_answer

PANDO = f"{BUILD}/src/pando/pando"
pytestmark = [pytest.mark.skipif(not os.path.exists(PANDO), reason="no pando here")]

def test_a_reload_under_load_fails_no_request(start):
    folder = tempfile.mkdtemp(prefix="pando-h-")
    env = {**os.environ, "PANDO_DIR": folder}
    app = start(argv=[PANDO, "run", "-n", "h", "-w", "2", "--cooperative", "--stable", "100ms", "--", f"{BUILD}/examples/hello/hello", "127.0.0.1:{port}"], env={"PANDO_DIR": folder})
    failures, done, stop = [], [], threading.Event()
    def client():
        while not stop.is_set():
            try:
                with app.connect() as s:
                    while not stop.is_set():
                        s.sendall(GET % b"/users/7"); answer = read_answer(s); assert answer.body == b'{"id":"7"}'; done.append(1)
                        if answer.get("connection") == "close": break
            except Exception as e: failures.append(repr(e))
    threads = [threading.Thread(target=client) for _ in range(6)]
    for t in threads: t.start()
    for _ in range(3):
        time.sleep(0.3); p = subprocess.run([PANDO, "reload", "-n", "h"], env=env, capture_output=True, timeout=60); assert p.returncode == 0, p.stderr
    stop.set()
    for t in threads: t.join()
    status = json.loads(subprocess.run([PANDO, "status", "-n", "h", "--json"], env=env, capture_output=True).stdout)
    assert status["ready"] == 2 and status["generation"] == 4
    assert len(done) > 300 and not failures, failures[:5]
