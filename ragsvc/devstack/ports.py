"""TCP ports on the loopback interface: which are free, which process listens, whether it responds."""

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
    """Return free ports, and reserve them against other callers until this process ends.

    They are below the kernel's range for outgoing connections, so that a restarted server finds its port free.
    """
    highest = _first_ephemeral() - 1
    candidates = iter(random.sample(range(LOWEST, highest), k=highest - LOWEST))
    return [next(port for port in candidates if _reserve(port)) for _ in range(count)]


def is_free(host: str, port: int) -> bool:
    """Return whether a server could listen on the port."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
        # A connection in TIME_WAIT does not prevent a server from listening.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError:
            return False
        return True


def _reserve(port: int) -> bool:
    """Bind the port without listening. A server with SO_REUSEADDR can still bind it; another `_reserve` cannot."""
    with socket.socket() as listener:
        try:
            listener.bind((LOOPBACK, port))
        except OSError:
            return False
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.detach()
        return True


def listens(pid: int, port: int) -> bool:
    """Return whether this process listens on the port, possibly along with others."""
    try:
        connections = psutil.Process(pid).net_connections("tcp")
    except psutil.Error:
        return False
    return any(at.status == psutil.CONN_LISTEN and at.laddr.port == port for at in connections)


async def answers(port: int, path: str) -> bool:
    """Return whether an HTTP server on the port responds to a GET with 200 within ANSWER_TIMEOUT_S."""
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {LOOPBACK}\r\nConnection: close\r\n\r\n".encode())
                return (await reader.readline()).split()[1:2] == [b"200"]
            finally:
                writer.close()
    except OSError:  # includes TimeoutError
        return False


def _first_ephemeral() -> int:
    first = int(EPHEMERAL_RANGE.read_text().split()[0]) if EPHEMERAL_RANGE.exists() else 32_768
    # If the kernel's range starts at 1024, no port is safer than another.
    return first if first > LOWEST + 1_000 else 32_768
