# SPDX-License-Identifier: MIT
"""`make install` into an empty place: what is there, what it exports, and that programs build against it and nothing else."""
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = Path(os.environ.get("PANDO_BUILD", ROOT / "build")).resolve()
HEADERS = sorted(path.name for path in (ROOT / "include/pando").glob("*.h"))
STANDALONE = [name for name in HEADERS if name not in ("ctx.h", "router.h", "middleware.h")]  # those are included by app.h


def run(*command, **more):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300, **more)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    """The folder that stands for /. Programs find the library by pkg-config, as they would without the folder in front."""
    root = tmp_path_factory.mktemp("root")
    run("/usr/bin/meson", "install", "-C", BUILD, "--no-rebuild", "--destdir", root)
    package = next(root.rglob("pando.pc"))
    prefix = re.search(r"^prefix=(.*)$", package.read_text(), re.M)[1]
    return Installed(root, root / prefix.lstrip("/"), package.parent)


class Installed:
    def __init__(self, root, prefix, packages):
        self.root, self.prefix = root, prefix
        self.lib = packages.parent
        self.env = {**os.environ, "PKG_CONFIG_PATH": str(packages), "PKG_CONFIG_SYSROOT_DIR": str(root), "LD_LIBRARY_PATH": str(self.lib)}
        self.env.pop("PANDO_KEEPER", None)

    def flags(self, *packages, static=False):
        out = run("pkg-config", *(["--static"] if static else []), "--cflags", "--libs", *packages, env=self.env)
        # The sysroot is put in front of what other packages say as well.
        return [word.replace(f"{self.root}/usr/include", "/usr/include").replace(f"{self.root}/usr/lib/", "/usr/lib/") for word in out.split()]

    def build(self, sources, out, *packages):
        return run("cc", "-Wall", "-Wextra", "-Werror", *sources, "-o", out, *self.flags("pando", *packages))


def test_what_is_installed(installed):
    names = {str(path.relative_to(installed.prefix)) for path in installed.prefix.rglob("*") if not path.is_dir()}
    wanted = {"bin/pando", "bin/pando-keeper", "bin/pando-serve", "share/man/man1/pando.1", "share/man/man3/pando_cluster.3",
              "share/man/man3/pando_fork.3", *(f"include/pando/{name}" for name in HEADERS)}
    assert wanted <= names, sorted(wanted - names)
    verbs = re.findall(r"^  (\S+) ", run(installed.prefix / "bin/pando", "--help"), re.M)
    assert len(verbs) > 5
    for verb in verbs:
        assert f"share/man/man1/pando-{verb}.1" in names


def test_the_library_has_a_soname_and_its_links(installed):
    libraries = sorted(path.name for path in installed.lib.glob("libpando*"))
    assert libraries == ["libpando.a", "libpando.so", "libpando.so.0", "libpando.so.0.1.0"]
    assert "[libpando.so.0]" in re.search(r"SONAME.*", run("readelf", "-d", installed.lib / "libpando.so"))[0]
    assert os.readlink(installed.lib / "libpando.so") == "libpando.so.0"


def defined(output):
    return [line.split()[-1] for line in output.splitlines() if len(line.split()) == 3 and line.split()[1] not in "Uu"]


def test_only_pando_names_are_exported(installed):
    shared = defined(run("nm", "-D", "--defined-only", installed.lib / "libpando.so"))
    static = defined(run("nm", "-g", "--defined-only", installed.lib / "libpando.a"))
    for names in (shared, static):
        assert len(names) > 200 and "pando_fork" in names and "pando_get" not in names
        assert [name for name in names if not name.startswith("pando_")] == []
    assert sorted(shared) == sorted(static)


def test_every_function_of_the_headers_is_exported_and_has_a_page(installed):
    exported = set(defined(run("nm", "-D", "--defined-only", installed.lib / "libpando.so")))
    declared = set()
    for name in HEADERS:
        text = (ROOT / "include/pando" / name).read_text()
        declared |= set(re.findall(r"^PANDO_API (?:__attribute__\(\(\w+\)\) )?[^(;]*?\b(pando_\w+)\(", text, re.M))
    assert len(declared) > 150
    assert declared == exported
    pages = {path.stem for path in (installed.prefix / "share/man/man3").glob("*.3")}
    assert declared - pages == set()


@pytest.mark.parametrize("page", ["man1/pando.1", "man1/pando-run.1", "man1/pando-stop.1", "man3/pando_cluster.3", "man3/pando_worker.3",
                                  "man3/pando_http.3", "man3/pando_app.3"])
def test_manual_pages_are_well_formed(installed, page):
    done = subprocess.run(["groff", "-man", "-Tutf8", "-ww", installed.prefix / "share/man" / page], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert len(done.stdout.splitlines()) > 20


@pytest.mark.parametrize("header", STANDALONE)
@pytest.mark.parametrize("compiler, language, standard", [("cc", "c", "c11"), ("cc", "c", "gnu17"), ("c++", "c++", "c++11"), ("c++", "c++", "c++20")])
def test_each_header_compiles_alone(installed, tmp_path, header, compiler, language, standard):
    source = tmp_path / ("x.c" if language == "c" else "x.cc")
    source.write_text(f"#include <pando/{header}>\nint main() {{ return 0; }}\n")
    run(compiler, f"-std={standard}", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", source, *installed.flags("pando"))


CPP = """
#include <pando/pando.h>
#include <cstdio>
PANDO_WORKER_UNFILTERED;
static void on_worker_exit(pando_cluster *cluster, pando_worker *, int code, int, void *) {
    std::printf("%d %d\\n", code, static_cast<int>(pando_worker_count(cluster)));
}
int main(int argc, char **argv) {
    if (pando_is_worker()) return 5;
    pando_cluster *cluster = pando_cluster_new(argc, argv);
    pando_on_exit(cluster, on_worker_exit, nullptr);
    pando_fork(cluster, nullptr);
    int code = pando_cluster_run(cluster);
    pando_cluster_free(cluster);
    return code;
}
"""


def test_a_cpp_program_uses_it(installed, tmp_path):
    (tmp_path / "x.cc").write_text(CPP)
    run("c++", "-Wall", "-Wextra", "-Werror", tmp_path / "x.cc", "-o", tmp_path / "x", *installed.flags("pando"))
    assert run(tmp_path / "x", env=installed.env) == "5 0\n"


EXAMPLES = {"cluster": (["cluster.c"], []), "hello": (["hello/app.c", "hello/server.c"], []), "json_api": (["json_api/json_api.c"], ["jansson"]),
            "sse": (["sse/sse.c"], []), "uploads": (["uploads/uploads.c"], ["jansson"]), "redis_counter": (["redis/redis_counter.c"], ["hiredis", "libuv"]),
            "postgres_notes": (["postgres/postgres_notes.c"], ["libpq", "jansson"])}


def test_all_examples_are_known_here():
    used = {source for sources, _ in EXAMPLES.values() for source in sources}
    there = {str(path.relative_to(ROOT / "examples")) for path in (ROOT / "examples").rglob("*.c")}
    assert there - used == {"hello_server/main.c"}  # that one knows nothing of Pando


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_build_against_it(installed, tmp_path, name):
    sources, packages = EXAMPLES[name]
    for package in packages:
        if subprocess.run(["pkg-config", "--exists", package]).returncode != 0:
            pytest.skip(f"{package} is not installed here")
    installed.build([ROOT / "examples" / source for source in sources], tmp_path / name, *packages)


def wait_until(condition, what):
    end = time.monotonic() + 60
    while not (value := condition()):
        assert time.monotonic() < end, f"not within a minute: {what}"
        time.sleep(0.02)
    return value


def ask(port):
    try:
        with socket.create_connection(("127.0.0.1", port), 10) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return b"".join(iter(lambda: sock.recv(4096), b""))
    except (ConnectionRefusedError, ConnectionResetError):
        return None


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def workers_in(log):
    return [int(pid) for pid in re.findall(r"Created Worker \| pid = (\d+)", log.read_text())]


def is_gone(pid):
    return not Path(f"/proc/{pid}").exists()


def check_cluster(program, installed, tmp_path):
    """The note's second step: a cluster that never dies."""
    port, log = free_port(), tmp_path / "log"
    with log.open("w") as out:
        process = subprocess.Popen([program, str(port)], stdout=out, stderr=subprocess.STDOUT, env=installed.env)
    try:
        wait_until(lambda: ask(port), "an answer")
        assert ask(port).endswith(b"hello world\n")
        for number in range(3):
            count = len(workers_in(log))
            os.kill(wait_until(lambda: workers_in(log), "a worker")[-1], signal.SIGKILL)
            wait_until(lambda: log.read_text().count("[ERROR] Worker Died") == number + 1, "the death is told")
            wait_until(lambda: len(workers_in(log)) > count, "another worker")
        wait_until(lambda: ask(port), "an answer after three deaths")
    finally:
        process.kill()
        process.wait(60)
    for pid in workers_in(log):
        wait_until(lambda: is_gone(pid), f"{pid} ends with its primary")
    wait_until(lambda: ask(port) is None, "the port is free")


def test_the_cluster_example_never_dies(installed, tmp_path):
    installed.build([ROOT / "examples/cluster.c"], tmp_path / "cluster")
    check_cluster(tmp_path / "cluster", installed, tmp_path)


def test_the_static_library_stays_out_of_the_programs_names(installed, tmp_path):
    """The program has functions that Pando has inside, too, and the keeper is found without the shared library."""
    (tmp_path / "names.c").write_text("int buf_append(void) { return 1; }\nint pool_fork(void) { return 2; }\nint watch_open(void) { return 3; }\n")
    flags = [word for word in installed.flags("pando", static=True) if word != "-lpando"]
    run("cc", ROOT / "examples/cluster.c", tmp_path / "names.c", "-o", tmp_path / "cluster", installed.lib / "libpando.a", *flags)
    assert "libpando" not in run("ldd", tmp_path / "cluster")
    os.symlink(installed.prefix / "bin/pando-keeper", tmp_path / "pando-keeper")
    check_cluster(tmp_path / "cluster", installed, tmp_path)


GUIDE = """#include <pando/app.h>
#include <assert.h>
#include <poll.h>
#include <libpq-fe.h>
void show_user(pando_ctx *), show_file(pando_ctx *), posts(pando_ctx *), require_login(pando_ctx *), change_note(pando_ctx *);
void piece(pando_app *, pando_ctx *, PGconn *, const char *);
"""


def test_the_code_of_the_guide_compiles_and_its_first_program_serves(installed, tmp_path):
    hello, middleware, *pieces = re.findall(r"^```c\n(.*?)^```$", (ROOT / "docs/app.md").read_text(), re.M | re.S)
    (tmp_path / "hello.c").write_text(hello)
    installed.build([tmp_path / "hello.c"], tmp_path / "hello")
    port = free_port()
    process = subprocess.Popen([tmp_path / "hello", f"127.0.0.1:{port}"], env=installed.env)
    try:
        assert wait_until(lambda: ask(port), "an answer").endswith(b"<h1>Hello World</h1>")
    finally:
        process.terminate()
        assert process.wait(60) == 0
    if subprocess.run(["pkg-config", "--exists", "libpq"]).returncode != 0:
        pytest.skip("libpq is not installed here")
    assert len(pieces) == 3
    for piece in pieces:
        (tmp_path / "piece.c").write_text(f"{GUIDE}{middleware}pando_handler seen = timing;\n"
                                          f"void piece(pando_app *app, pando_ctx *ctx, PGconn *db, const char *id) {{\n(void)app, (void)ctx, (void)db, (void)id;\n{piece}}}\n")
        run("cc", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", tmp_path / "piece.c", *installed.flags("pando", "libpq"))
