"""`free_ports` returns ports on which a server can listen, and reserves them against other callers."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

from ragsvc.devstack.ports import EPHEMERAL_RANGE, LOOPBACK, free_ports, is_free, listens


def test_free_ports_are_distinct_and_below_those_of_outgoing_connections() -> None:
    ports = free_ports(20)
    first_ephemeral = int(EPHEMERAL_RANGE.read_text().split()[0])
    assert len(set(ports)) == 20
    assert all(20_000 <= port < first_ephemeral for port in ports)


def test_a_reserved_port_is_free_for_a_server_but_not_for_another_reservation() -> None:
    (port,) = free_ports(1)
    ask = (
        f"from ragsvc.devstack import ports; import random; random.sample = lambda _r, k: [{port}]; ports.free_ports(1)"
    )
    another = subprocess.run([sys.executable, "-c", ask], check=False, capture_output=True, text=True)  # noqa: S603
    assert "StopIteration" in another.stderr
    with socket.create_server((LOOPBACK, port)):
        assert not is_free(LOOPBACK, port)
    with socket.create_server((LOOPBACK, port), reuse_port=True):
        assert not is_free(LOOPBACK, port)


def test_a_port_with_a_listener_is_not_free() -> None:
    with socket.create_server((LOOPBACK, 0)) as server:
        port = server.getsockname()[1]
        assert not is_free(LOOPBACK, port)
        assert not is_free("0.0.0.0", port)  # noqa: S104
    assert is_free(LOOPBACK, port)


def test_a_process_listens_on_its_port_and_on_no_other() -> None:
    with socket.create_server((LOOPBACK, 0)) as server:
        port = server.getsockname()[1]
        assert listens(os.getpid(), port)
        assert not listens(os.getppid(), port)
        assert not listens(os.getpid(), port + 1)
    assert not listens(2**22 + 1, port)
