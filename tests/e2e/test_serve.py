"""`pando serve DIR`: static files on every core with one command."""
import os
import subprocess

from pando import BUILD, connect, free_port, run_pando, wait_until


def get(port, path):
    with connect(port) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        data = b""
        while part := sock.recv(65536):
            data += part
    return data


def test_serve_shows_a_folder_on_every_core_and_nothing_outside_of_it(tmp_path):
    (tmp_path / "public").mkdir()
    (tmp_path / "public/page.txt").write_text("a page\n")
    (tmp_path / "secret.txt").write_text("a secret\n")
    port = free_port()
    environment = {**os.environ, "PANDO_DIR": str(tmp_path / "run")}
    process = subprocess.Popen([BUILD / "src/pando/pando", "serve", tmp_path / "public", f"127.0.0.1:{port}", "-w", "2"],
                               env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        def answers():
            try:
                return get(port, "/page.txt")
            except OSError:
                return b""

        assert wait_until(answers, what="it serves").endswith(b"a page\n")
        assert b"a secret" not in get(port, "/../secret.txt")
        assert b" 404 " in get(port, "/missing.txt").splitlines()[0]
    finally:
        process.terminate()
        assert process.wait(60) == 0


def test_serve_without_a_folder_says_what_it_needs():
    done = run_pando("serve")
    assert done.returncode == 2 and "which folder" in done.stderr
