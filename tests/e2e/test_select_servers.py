"""Servers that wait in select and then accept on a blocking listener (TRAPS 10): nobody waits behind a process stuck in accept."""
import pytest

from pando import ask_again, app, connect, free_port, http_get, pids_answering, script

SERVERS = {"C": lambda port: [app("select_server"), port], "Perl": lambda port: ["perl", script("select_server.pl"), port]}
CLIENTS = 60


@pytest.mark.parametrize("workers", [2, 4])
@pytest.mark.parametrize("language", SERVERS)
def test_sixty_keep_alive_clients_of_a_select_server_are_all_answered(pando, language, workers):
    port = free_port()
    pando(*SERVERS[language](port), workers=workers).wait_ready()
    clients = []
    try:
        for _ in range(CLIENTS):
            sock = connect(port)
            sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            clients.append(sock)
        pids = set()
        for sock in clients:
            answer = sock.recv(4096)
            assert answer.startswith(b"HTTP/1.1 200"), answer
            pids.add(answer.split()[-1])
        # All of them again and again, with strangers coming in between: each wakes the processes, one gets it.
        for number in range(8):
            http_get(port)
            for sock in clients:
                assert ask_again(sock).status == 200, f"round {number}: it waits for ever"
        assert len(pids) >= 2, "only one process served"
    finally:
        for sock in clients:
            sock.close()


def test_a_select_server_that_is_killed_is_replaced_and_the_others_serve_on(pando):
    port = free_port()
    instance = pando(app("select_server"), port, workers=4)
    instance.wait_ready()
    pids_answering(port, 2)
    for slot, pid in instance.pids().items():
        instance.kill(slot)
        for _ in range(20):
            assert http_get(port).status == 200
        instance.wait_replaced(slot, pid)
    pids_answering(port, 2)
