"""The same cluster as root, as an ordinary user, and as root without the right to look into another user's worker."""
import os

import pytest

from pando import (NOBODY, PYTHON, Load, app, free_port, http_get, http_values, pids_answering, reachable_by_nobody, script, wait_until)

WITHOUT_PTRACE = ["setpriv", "--bounding-set", "-sys_ptrace", "--inh-caps", "-sys_ptrace"]
# What a stock container has, and nothing beyond.
CONTAINER = ["setpriv", "--bounding-set", "-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap,+net_bind_service,"
             "+net_raw,+sys_chroot,+mknod,+audit_write,+setfcap", "--inh-caps", "-all"]
NO_CAPABILITIES = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all"]

WAYS = {
    "root": {},
    "root, -u nobody": {"options": ["-u", "nobody"]},
    "ordinary user": {"uid": NOBODY},
    "root without CAP_SYS_PTRACE, -u nobody": {"prefix": WITHOUT_PTRACE, "options": ["-u", "nobody"]},
    "root as in a stock container": {"prefix": CONTAINER},
    "root as in a stock container, -u nobody": {"prefix": CONTAINER, "options": ["-u", "nobody"]},
    "uid 0 without any capability": {"prefix": NO_CAPABILITIES},
}

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="these tests take privileges away: they need to begin as root")


@pytest.fixture(params=WAYS)
def start(pando, request):
    way = WAYS[request.param]
    if not reachable_by_nobody():
        pytest.skip("the build folder cannot be reached by uid 65534: check the modes of the folders above it")

    def start_one(*command, **more):
        more["options"] = [*way.get("options", []), *more.get("options", [])]
        return pando(*command, uid=way.get("uid"), prefix=way.get("prefix", ()), **more)

    start_one.worker_cannot_be_read = "prefix" in way and "nobody" in request.param
    start_one.worker_uid = NOBODY if "nobody" in request.param or "ordinary" in request.param else 0
    return start_one


def test_a_cluster_serves_survives_and_stops(start):
    port = free_port()
    instance = start(app("epoll_server"), port, 200)
    instance.wait_ready()
    before = pids_answering(port, 2)
    assert all(os.stat(f"/proc/{pid}").st_uid == start.worker_uid for pid in before)
    for slot, pid in instance.pids().items():
        instance.kill(slot)
        instance.wait_replaced(slot, pid)
    old = instance.primary_pid
    with Load(port, clients=4) as load:
        load.wait_answered(20)
        os.kill(old, 9)
        instance.wait_status(lambda status: status["primary_pid"] != old)
        load.wait_answered(20)
    assert not load.failures, load.failures[:3]
    instance.ctl("scale", 3, check=0)
    assert len(pids_answering(port, 3)) == 3
    assert instance.stop() == 0


def test_asyncio_with_its_two_sockets_a_port(start):
    """Whether :: wants IPv6 only must be known although the worker cannot be looked into."""
    port = free_port()
    instance = start(PYTHON, script("asyncio_server.py"), port)
    instance.wait_ready()
    for host in ("127.0.0.1", "::1"):
        assert pids_answering((host, port), 2) == set(instance.pids().values())


def test_a_unix_socket_belongs_to_the_worker_that_made_it(start):
    if start.worker_cannot_be_read:
        pytest.skip("unix sockets stay the program's own affair where Pando may not look into its workers")
    port = free_port()
    path = f"/tmp/pando-e2e-{port}.sock"
    try:
        instance = start(app("listeners"), f"unix:{path}")
        instance.wait_ready()
        assert os.stat(path).st_uid == start.worker_uid
        pids_answering(path, 2)
    finally:
        if os.path.exists(path):
            os.unlink(path)


def test_readiness_by_notify_reaches_pando_from_the_workers_user(start):
    port = free_port()
    instance = start(PYTHON, script("notify_ready.py"), port, "0.2", options=["--ready", "notify"])
    instance.wait_ready()


def test_name_look_ups_work(start):
    port = free_port()
    start(app("dns_loop"), port).wait_ready()
    wait_until(lambda: int(http_values(port)["lookups"]) > 10)
    assert http_values(port)["failed"] == "0"


def test_the_workers_get_user_group_and_supplementary_groups(start):
    port = free_port()
    start(app("says_limits"), port, workers=1).wait_ready()
    values = http_values(port)
    assert (int(values["uid"]), int(values["gid"])) == (start.worker_uid, start.worker_uid)


def test_user_and_group_can_be_given_by_number(pando):
    port = free_port()
    pando(app("says_limits"), port, workers=1, options=["-u", "12345:23456"]).wait_ready()
    values = http_values(port)
    assert (values["uid"], values["gid"]) == ("12345", "23456")


def test_an_ordinary_user_may_not_choose_another(pando):
    instance = pando(app("epoll_server"), free_port(), workers=1, uid=NOBODY, options=["-u", "root"])
    assert instance.exit_code() in (1, 2)
    assert "root" in instance.log()


def test_setuid_programs_work_below_a_worker_where_pando_has_the_privilege(pando):
    """With CAP_SYS_ADMIN no_new_privs is not needed and not set."""
    port = free_port()
    instance = pando("sh", "-c", f"grep NoNewPrivs /proc/self/status; exec {app('epoll_server')} {port}", workers=1)
    instance.wait_ready()
    wait_until(lambda: "NoNewPrivs:\t0" in instance.output(), what="the line of /proc/self/status")
    assert http_get(port).status == 200
