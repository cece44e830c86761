"""TCP ports on the loopback interface: which are free, who listens on one, whether it answers."""

from __future__ import annotations

import asyncio
import random
import socket
from pathlib import Path

import psutil

LOOPBACK = "127.0.0.1"
LOWEST = 20_000
ANSWER_TIMEOUT_S = 2.0
EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_ports(count: int) -> list[int]:
    """Return ports that nobody has, and keep them from all others who look here until this process ends.

    They lie below the range the kernel takes for outgoing connections: a server that is restarted finds its port free.
    """
    highest = _first_ephemeral() - 1
    candidates = iter(random.sample(range(LOWEST, highest), k=highest - LOWEST))
    return [next(port for port in candidates if _reserve(port)) for _ in range(count)]


def is_free(host: str, port: int) -> bool:
    """Tell whether a server could listen there."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
        # What a closed connection leaves in TIME_WAIT does not hinder a server.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError:
            return False
        return True


def _reserve(port: int) -> bool:
    """Bind the port without listening: servers, which set SO_REUSEADDR, still can, and another's `_reserve` cannot."""
    with socket.socket() as listener:
        try:
            listener.bind((LOOPBACK, port))
        except OSError:
            return False
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.detach()
        return True


def listens(pid: int, port: int) -> bool:
    """Tell whether this very process listens on the port, which it may share with others."""
    try:
        connections = psutil.Process(pid).net_connections("tcp")
    except psutil.Error:
        return False
    return any(at.status == psutil.CONN_LISTEN and at.laddr.port == port for at in connections)


async def answers(port: int, path: str) -> bool:
    """Tell whether an HTTP server there answers a GET with 200 within ANSWER_TIMEOUT_S."""
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {LOOPBACK}\r\nConnection: close\r\n\r\n".encode())
                return (await reader.readline()).split()[1:2] == [b"200"]
            finally:
                writer.close()
    except OSError:  # TimeoutError is one
        return False


def _first_ephemeral() -> int:
    first = int(EPHEMERAL_RANGE.read_text().split()[0]) if EPHEMERAL_RANGE.exists() else 32_768
    # A machine may hand out everything from 1024 on; then no port is safer than another.
    return first if first > LOWEST + 1_000 else 32_768
