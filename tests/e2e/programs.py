"""The real programs that Pando is tested against, each started as its own documentation says, and the table of them."""
import contextlib
import fcntl
import os
import platform
import re
import shutil
import signal
import subprocess
from collections import namedtuple

from pando import APPS, BUILD, PYTHON, ROOT, app, script

TABLE = ROOT / "docs/compatibility.md"
NODE = APPS / "node"

# name: as in the table. command: port -> arguments. version: a command whose first line names the version (None: it is ours).
# workers: how many to start. shown: the command line for the table.
Program = namedtuple("Program", "name shown command version workers", defaults=(None, 2))


def node(file):
    return lambda port: ["node", str(NODE / file), str(port)]


def go(port):
    return [build_once("hello_go", ["go", "build", "-o"], "hello.go"), str(port)]


def java(port):
    """Compiled when there is a compiler, so that four virtual machines do not each compile it."""
    if shutil.which("javac") is None:
        return ["java", script("HelloServer.java"), str(port)]
    classes = build_once("java", ["javac", "-d"], "HelloServer.java")
    return ["java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp", classes, "HelloServer", str(port)]


@contextlib.contextmanager
def unlimited():
    """A compiler's time, minutes on a busy machine, is not the test's."""
    left, again = signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, left, again)


def build_once(target, compiler, source):
    """Compiles a test server into the build folder when it is older than its source; side by side tests wait for each other."""
    folder = BUILD / "tests/apps"
    path = folder / target
    with open(folder / f"{target}.lock", "w") as lock, unlimited():
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = folder / f"{target}.stamp"
        if not stamp.exists() or stamp.stat().st_mtime < (APPS / source).stat().st_mtime:
            env = dict(os.environ, CGO_ENABLED="0", GOCACHE=str(folder / "go-cache"), GOPATH=str(folder / "go-path"), GO111MODULE="off",
                       GOFLAGS="")
            done = subprocess.run([*compiler, str(path), script(source)], env=env, capture_output=True, text=True, timeout=1800)
            assert done.returncode == 0, f"{compiler[0]}: {done.stderr}"
            stamp.touch()
    return str(path)


PROGRAMS = [
    Program("Node.js http", "node node_http.js PORT", node("node_http.js"), ["node", "--version"]),
    Program("Koa", "node koa_app.js PORT", node("koa_app.js"), ["node", "-p", f"require('{NODE}/node_modules/koa/package').version"]),
    Program("Express", "node express_app.js PORT", node("express_app.js"),
            ["node", "-p", f"require('{NODE}/node_modules/express/package').version"]),
    Program("Python http.server", "python3 http_server.py PORT", lambda port: [PYTHON, script("http_server.py"), str(port)],
            [PYTHON, "--version"]),
    Program("Python asyncio", "python3 asyncio_server.py PORT", lambda port: [PYTHON, script("asyncio_server.py"), str(port)],
            [PYTHON, "--version"]),
    Program("uvicorn", "python3 -m uvicorn --port PORT uvicorn_app:app",
            lambda port: [PYTHON, "-m", "uvicorn", "--log-level", "warning", "--app-dir", str(APPS), "--port", str(port),
                          "uvicorn_app:app"],
            [PYTHON, "-c", "import uvicorn; print(uvicorn.__version__)"]),
    Program("Ruby WEBrick", "ruby webrick_server.rb PORT", lambda port: ["ruby", script("webrick_server.rb"), str(port)],
            ["ruby", "--version"]),
    Program("Ruby TCPServer", "ruby tcp_server.rb PORT", lambda port: ["ruby", script("tcp_server.rb"), str(port)],
            ["ruby", "--version"]),
    Program("PHP built-in server", "php -S 127.0.0.1:PORT router.php",
            lambda port: ["php", "-S", f"127.0.0.1:{port}", script("router.php")], ["php", "--version"]),
    Program("Go net/http, static", "hello_go PORT", go, ["go", "version"]),
    Program("Java com.sun.net.httpserver", "java HelloServer PORT", java, ["java", "--version"]),
    Program("Perl, blocking accept", "perl perl_server.pl PORT", lambda port: ["perl", script("perl_server.pl"), str(port)],
            ["perl", "-e", "print substr($^V, 1)"]),
    Program("C, blocking accept", "blocking_server PORT", lambda port: [app("blocking_server"), str(port)]),
    Program("C, epoll", "epoll_server PORT", lambda port: [app("epoll_server"), str(port)]),
    Program("C, select then blocking accept", "select_server PORT", lambda port: [app("select_server"), str(port)], workers=4),
    Program("Perl, select then blocking accept", "perl select_server.pl PORT",
            lambda port: ["perl", script("select_server.pl"), str(port)], ["perl", "-e", "print substr($^V, 1)"], 4),
]


def missing(program):
    """Why this program cannot be run here, or None. A machine without an interpreter skips its tests and says so."""
    first = program.command(1)[0] if program.name != "Go net/http, static" else "go"
    if shutil.which(first) is None:
        return f"{first} is not installed: tools/deps.sh test"
    if program.name in ("Koa", "Express") and not (NODE / "node_modules/.package-lock.json").exists():
        return "tests/apps/node/node_modules is missing: tools/deps.sh test"
    if program.name == "uvicorn" and subprocess.run(program.version, capture_output=True).returncode != 0:
        return "uvicorn is not installed: tools/deps.sh test"
    return None


def version(program):
    if program.version is None:
        return "-"
    done = subprocess.run(program.version, capture_output=True, text=True, timeout=120)
    found = re.search(r"\d+(\.\d+)+", done.stdout)
    return found.group(0) if found else "?"


def table_names():
    """The programs named in docs/compatibility.md, in its order."""
    rows = [line for line in TABLE.read_text().splitlines() if line.startswith("| ")]
    return [row.split("|")[1].strip() for row in rows[1:]]


def write_table(tested):
    """Writes docs/compatibility.md from what test_compatibility recorded."""
    lines = [
        "# What runs under Pando",
        "",
        "Written by `PANDO_WRITE_DOCS=1` from what `tests/e2e/test_compatibility.py` saw; `make test` runs it again and checks the list.",
        "Each program is started unmodified as `pando run -w N -- COMMAND`. *Answers from*: how many processes were seen answering on",
        "the one port. *Killed*: each worker in turn with `kill -9` under requests; a successor served in its place, and the port never",
        f"refused a connection. Seen on Linux {platform.release().split('-')[0]}, {platform.machine()}.",
        "",
        "| Program | Version | Command | Workers | Answers from | Killed |",
        "|---|---|---|---|---|---|",
    ]
    for program in PROGRAMS:
        seen = tested[program.name]
        lines.append(f"| {program.name} | {seen['version']} | `{program.shown}` | {seen['workers']} | {seen['pids']} processes "
                     f"| {seen['killed']}, all replaced |")
    lines += [
        "",
        "The last two wait in `select` for clients and listener alike and then `accept` on a *blocking* listener. Pulling from one",
        "shared queue would leave one of them stuck in `accept` while its clients wait; Pando recognises such servers and gives each",
        "worker a socket of its own.",
        "",
    ]
    TABLE.write_text("\n".join(lines))
