"""How an unmodified program's bind and listen become one shared port, both ways (`read`: bind for the worker; `hand`: hand it the
socket), and what must stay untouched."""
import os
import socket
import subprocess
import threading

import pytest

import programs
from pando import (NOBODY, PYTHON, Load, app, connect, free_port, free_ports, http_get, http_values, pids_answering, script, wait_listening,
                   wait_until)

# Options and environment of each way. The primary looks into workers through the keeper alone; that one can be told to refuse.
# (Left to itself where it may look, Pando reads: that is how all other tests run.)
WAYS = {
    "read": (["--debug-intercept", "read"], {}),
    "hand": (["--debug-intercept", "hand"], {}),
    "auto, keeper refused": ([], {"PANDO_DEBUG_REFUSE": "keeper"}),
}


# What a worker binds is seen only where Pando may look into it. Where it hands sockets instead, the following stay the program's own
# affair, as if Pando were not there: unix sockets, UDP, --own-port, low ports for other users, the name of who holds a port.
READING = pytest.mark.parametrize("start", ["read"], indirect=True)


@pytest.fixture(params=WAYS)
def start(pando, request):
    """Starts an instance one of the ways."""
    options, env = WAYS[request.param]

    def start_one(*command, **more):
        more["options"] = options + list(more.get("options", []))
        more["env"] = {**env, **more.get("env", {})}
        return pando(*command, **more)

    start_one.way = request.param
    return start_one


def check_port(instance, where):
    """Two workers answer at `where`, and after the death of each there are two others."""
    before = pids_answering(where, 2)
    assert before == set(instance.pids().values())
    for slot, pid in instance.pids().items():
        instance.kill(slot)
        instance.wait_replaced(slot, pid)
    assert pids_answering(where, 2).isdisjoint(before)


def test_ipv4(start):
    port = free_port()
    instance = start(app("listeners"), f"4:127.0.0.1:{port}")
    assert instance.wait_ready()["listen"] == [f"127.0.0.1:{port}"]
    check_port(instance, port)


def test_ipv6(start):
    port = free_port()
    instance = start(app("listeners"), f"6:::1:{port}")
    assert instance.wait_ready()["listen"] == [f"[::1]:{port}"]
    check_port(instance, ("::1", port))


def test_dual_stack_on_one_socket(start):
    port = free_port()
    instance = start(app("listeners"), f"6::::{port}")
    instance.wait_ready()
    check_port(instance, ("::1", port))
    check_port(instance, ("127.0.0.1", port))


def test_ipv4_and_ipv6_as_two_sockets_of_one_port(start):
    """0.0.0.0 and then :: with IPV6_V6ONLY, as asyncio does it."""
    port = free_port()
    instance = start(app("listeners"), f"4:0.0.0.0:{port}", f"6only::::{port}")
    instance.wait_ready()
    instance.wait_status(lambda status: len(status["listen"]) == 2)
    check_port(instance, ("127.0.0.1", port))
    check_port(instance, ("::1", port))


def test_asyncio_on_every_address(start):
    port = free_port()
    instance = start(PYTHON, script("asyncio_server.py"), port)
    instance.wait_ready()
    check_port(instance, ("127.0.0.1", port))
    check_port(instance, ("::1", port))


def test_two_ports(start):
    first, second = free_ports(2)
    instance = start(app("listeners"), f"4:127.0.0.1:{first}", f"4:127.0.0.1:{second}")
    instance.wait_ready()
    instance.wait_status(lambda status: len(status["listen"]) == 2)
    check_port(instance, first)
    check_port(instance, second)


def test_a_threaded_server_and_a_static_one(start):
    for program in programs.PROGRAMS:
        if program.name in ("Go net/http, static", "Node.js http") and not programs.missing(program):
            port = free_port()
            instance = start(*program.command(port), name="go" if "Go" in program.name else "node")
            instance.wait_ready()
            check_port(instance, port)


def test_a_server_in_a_child_of_the_worker(start):
    port = free_port()
    instance = start("sh", "-c", f"{app('epoll_server')} {port} & wait")
    instance.wait_ready()
    assert pids_answering(port, 2).isdisjoint(instance.pids().values())


def test_port_0_gives_every_worker_its_own_with_a_warning_once(start):
    instance = start(app("listeners"), "4:127.0.0.1:0")
    wait_until(lambda: instance.output().count("port ") == 2)
    ports = [int(line.split()[-1]) for line in instance.output().splitlines() if "port " in line]
    assert len(set(ports)) == 2
    assert {http_get(port).pid for port in ports} == set(instance.pids().values())
    instance.wait_log("port 0")
    assert sum("port 0" in line for line in instance.log().splitlines()) == 1


@READING
def test_a_unix_socket_in_c_that_removes_nothing(start, folder):
    path = str(folder / "c.sock")
    instance = start(app("listeners"), f"unix:{path}")
    assert path in " ".join(instance.wait_ready()["listen"])
    check_port(instance, path)


@READING
def test_a_unix_socket_of_asyncio_which_removes_what_it_finds(start, folder):
    path = str(folder / "py.sock")
    instance = start(PYTHON, script("unix_server.py"), path)
    instance.wait_ready()
    pids_answering(path, 2)
    for slot, pid in instance.pids().items():
        instance.kill(slot)
        instance.wait_replaced(slot, pid)
        assert http_get(path).status == 200
    pids_answering(path, 2)


@READING
def test_a_stale_unix_path_is_replaced_and_a_live_one_is_not(start, folder):
    stale, live = str(folder / "stale.sock"), str(folder / "live.sock")
    old = socket.socket(socket.AF_UNIX)
    old.bind(stale)
    old.close()
    instance = start(app("listeners"), f"unix:{stale}")
    instance.wait_ready()
    assert len(pids_answering(stale, 2)) == 2
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.bind(live)
        stranger.listen()
        other = start(app("listeners"), f"unix:{live}", name="other", workers=1)
        other.wait_log("address already in use")
        connect(live).close()


@READING
def test_a_unix_path_removed_between_bind_and_listen_of_the_first_is_made_anew(start, folder):
    """As asyncio does it, at the worst moment: what it removed had no second name yet."""
    path = folder / "app.sock"
    code = """
import os, socket, sys, time
path, folder = sys.argv[1], sys.argv[2]
def wait_for(name):
    while not os.path.exists(f"{folder}/{name}"):
        time.sleep(0.01)
first = os.environ["PANDO_WORKER"] == "0" and not os.path.exists(f"{folder}/removed")
if not first:
    wait_for("bound")
    if os.path.exists(path):
        os.remove(path)
    open(f"{folder}/removed", "w").close()
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
if first:
    open(f"{folder}/bound", "w").close()
    wait_for("removed")
listener.listen()
while True:
    client, _ = listener.accept()
    if client.recv(4096):
        client.sendall(b"HTTP/1.1 200 OK\\r\\nConnection: close\\r\\n\\r\\npid %d\\n" % os.getpid())
    client.close()
"""
    instance = start(PYTHON, "-c", code, path, folder)
    instance.wait_log("app.sock", "made anew")
    instance.wait_status(lambda status: status["ready"] == 2 and status["workers"][0]["restarts"] == 1)
    assert pids_answering(str(path), 2) == set(instance.pids().values())


@READING
def test_udp(start):
    port = free_port()
    instance = start(app("udp_echo"), port)
    wanted = set()

    def ask():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(2)
            sock.connect(("127.0.0.1", port))
            try:
                sock.send(b"?")
                wanted.add(int(sock.recv(64).split()[1]))
            except OSError:
                pass
        return len(wanted) >= 2

    wait_until(ask, what="two workers answer datagrams")
    assert wanted == set(instance.pids().values())


def test_a_client_with_a_fixed_source_port_is_untouched(start):
    port, source, target = free_ports(3)
    seen = []

    def serve(listener):
        while True:
            try:
                sock, peer = listener.accept()
            except OSError:
                return
            seen.append(peer[1])
            sock.sendall(b"from port %d\n" % peer[1])
            sock.close()

    with socket.create_server(("127.0.0.1", target)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        instance = start(app("fixed_source_port"), port, source, target)
        instance.wait_ready()
        for _ in range(10):
            answer = http_get(port)
            assert f"from port {source}\n" in answer.body
        pids_answering(port, 2)


def test_a_stranger_on_the_port_is_eaddrinuse_for_the_program_and_named_in_the_log(start):
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        instance = start(app("epoll_server"), port)
        instance.wait_log("[0]", "address already in use")
        if start.way == "read":
            line = instance.wait_log(str(port), str(os.getpid()))
            assert "python3" in line or "pytest" in line
    instance.wait_ready()
    pids_answering(port, 2)


def test_a_stranger_with_so_reuseport_cannot_slip_in(start):
    """Another process of the same user that sets SO_REUSEPORT before its bind, before and after Pando."""
    port = free_port()
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        stranger.bind(("127.0.0.1", port))
        stranger.listen()
        instance = start(app("epoll_server"), port)
        instance.wait_log("[0]", "address already in use")
    instance.wait_ready()


def test_two_pandos_on_one_port_are_told_apart(start):
    port = free_port()
    first = start(app("epoll_server"), port, name="first")
    first.wait_ready()
    second = start(app("epoll_server"), port, name="second")
    second.wait_log("[0]", "address already in use")
    assert pids_answering(port, 2) == set(first.pids().values())
    assert first.stop() == 0
    second.wait_ready()
    assert pids_answering(port, 2) == set(second.pids().values())


def test_a_worker_that_binds_its_port_twice_gets_eaddrinuse(start):
    port = free_port()
    instance = start(app("listeners"), f"4:127.0.0.1:{port}", f"4:127.0.0.1:{port}", workers=1)
    instance.wait_log("[0]", "address already in use")


def test_an_address_that_is_not_here_is_eaddrnotavail(start):
    instance = start(app("listeners"), f"4:192.0.2.1:{free_port()}", workers=1)
    instance.wait_log("[0]", "bind to", "cannot assign requested address")


@READING
def test_own_port_gives_each_worker_its_own_there_and_shares_the_rest(start):
    port = free_port()
    first, second = free_ports(2, in_a_row=True)
    instance = start(app("listeners"), f"4:127.0.0.1:{port}", f"4:127.0.0.1:{first}", options=["--own-port", first])
    instance.wait_ready()
    pids = instance.pids()
    for own, pid in ((first, pids[0]), (second, pids[1])):
        wait_listening(own)
        assert http_get(own).pid == pid
    assert pids_answering(port, 2) == set(pids.values())
    instance.kill(1)
    instance.wait_replaced(1, pids[1])
    wait_listening(second)
    assert http_get(second).pid == instance.pids()[1]


def test_a_worker_that_drops_to_another_user_before_it_binds(start):
    if os.geteuid() != 0:
        pytest.skip("only root can change its user")
    port = free_port()
    instance = start(app("drops_uid"), port)
    instance.wait_ready()
    check_port(instance, port)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_privileged_port_is_eacces_for_whom_it_is_not_allowed(start):
    lowest = int(open("/proc/sys/net/ipv4/ip_unprivileged_port_start").read())
    if lowest == 0:
        pytest.skip("every port may be bound here: ip_unprivileged_port_start is 0")
    instance = start(app("listeners"), f"4:127.0.0.1:{lowest - 1}", workers=1, uid=NOBODY)
    instance.wait_log("[0]", "bind to", "permission denied")


@READING
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may bind a low port")
def test_a_low_port_is_granted_to_a_worker_under_another_user_when_pando_may(start):
    lowest = int(open("/proc/sys/net/ipv4/ip_unprivileged_port_start").read())
    if lowest == 0:
        pytest.skip("every port may be bound here: ip_unprivileged_port_start is 0")
    port = next((port for port in range(lowest - 1, lowest - 200, -1) if not in_use(port)), None)
    instance = start(app("listeners"), f"4:127.0.0.1:{port}", options=["-u", "nobody"])
    instance.wait_ready()
    pids_answering(port, 2)


def in_use(port):
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return True
        return False


def test_name_look_ups_are_untouched(start):
    port = free_port()
    instance = start(app("dns_loop"), port)
    instance.wait_ready()
    wait_until(lambda: int(http_values(port)["lookups"]) > 20)
    assert http_values(port)["failed"] == "0"


def test_the_backlog_is_the_systems_limit_whatever_the_program_asked_for(start):
    port = free_port()
    instance = start(app("blocking_server"), port)
    instance.wait_ready()
    limit = int(open("/proc/sys/net/core/somaxconn").read())
    rows = subprocess.run(["ss", "-Hltn", f"sport = :{port}"], capture_output=True, text=True).stdout.splitlines()
    assert rows and all(int(row.split()[2]) == limit for row in rows), rows


def test_options_that_the_program_set_hold_on_the_shared_socket(start, folder):
    """TCP_NODELAY and O_NONBLOCK set before bind, as the program left them, in every worker."""
    port = free_port()
    (folder / "options.py").write_text("""
import socket, sys, os, fcntl, select
sock = socket.socket()
sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
sock.setblocking(False)
sock.bind(("127.0.0.1", int(sys.argv[1])))
sock.listen()
while True:
    select.select([sock], [], [])
    try:
        client, _ = sock.accept()
    except BlockingIOError:
        continue
    client.setblocking(True)
    client.recv(4096)
    body = "pid %d\\nnodelay %d\\nkeepalive %d\\nnonblock %d\\nname %s\\n" % (os.getpid(),
        sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY), sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        bool(fcntl.fcntl(sock, fcntl.F_GETFL) & os.O_NONBLOCK), sock.getsockname()[1])
    client.sendall(b"HTTP/1.1 200 OK\\r\\nConnection: close\\r\\n\\r\\n" + body.encode())
    client.close()
""")
    instance = start(PYTHON, folder / "options.py", port)
    instance.wait_ready()
    pids = set()
    while len(pids) < 2:
        values = http_values(port)
        pids.add(values["pid"])
        assert (values["nodelay"], values["keepalive"], values["nonblock"], values["name"]) == ("1", "1", "1", str(port))
        pids_answering(port, 1)


def test_many_workers_start_at_once_and_all_serve(start):
    port = free_port()
    instance = start(app("epoll_server"), port, workers=16)
    instance.wait_ready()
    with Load(port, clients=8) as load:
        load.wait_answered(300)
    assert not load.failures


def test_without_interception_one_worker_serves_as_it_always_did(pando):
    port = free_port()
    instance = pando(app("epoll_server"), port, workers=1, options=["--no-intercept"])
    wait_until(lambda: answers(port))
    pid = http_get(port).pid
    assert pid == instance.pids()[0]
    status = open(f"/proc/{pid}/status").read()
    assert "Seccomp:\t0" in status
    instance.kill(0)
    wait_until(lambda: answers(port) and http_get(port).pid != pid)


def answers(port):
    try:
        return http_get(port).status == 200
    except OSError:
        return False


IA32 = r"""
__asm__(".globl _start\n_start:\n"
        "movl $4, %eax\nmovl $1, %ebx\nmovl $text, %ecx\nmovl $17, %edx\nint $0x80\n"  // write(1, text, 17)
        "1: movl $29, %eax\nint $0x80\njmp 1b\n"                                       // pause()
        "text: .ascii \"hello from ia-32\\n\"\n");
"""


def runs_here(program):
    try:
        with subprocess.Popen([program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            said = process.stdout.readline()
            process.kill()
    except OSError:
        return False
    return said == b"hello from ia-32\n"


@pytest.mark.parametrize("start", ["read"], indirect=True)
def test_a_program_of_another_architecture_is_let_through(start, folder):
    """libseccomp's own default would kill it."""
    (folder / "ia32.c").write_text(IA32)
    built = subprocess.run(["gcc", "-m32", "-nostdlib", "-static", "-o", folder / "ia32", folder / "ia32.c"], capture_output=True)
    if built.returncode != 0 or not runs_here(folder / "ia32"):
        pytest.skip("this machine builds or runs no 32-bit programs")
    instance = start(folder / "ia32", workers=1)
    wait_until(lambda: "[0] hello from ia-32\n" in instance.output())
    assert instance.status()["workers"][0]["restarts"] == 0
