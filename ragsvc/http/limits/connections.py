"""Limits how many connections a process accepts, and closes those whose client is too slow."""

from __future__ import annotations

import asyncio
import resource
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import structlog
from aiohttp import web
from aiohttp.http_exceptions import ContentEncodingError, HttpProcessingError, LineTooLong

from ragsvc.errors.requests import Overloaded, RequestError, UnsupportedMediaType
from ragsvc.http.contract.problems import write_problem
from ragsvc.shares import Shares
from ragsvc.tasks import in_background
from ragsvc.telemetry.metrics import CONNECTIONS_CUT, CONNECTIONS_OPEN, REQUESTS_REFUSED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from aiohttp.web_request import BaseRequest

    from ragsvc.errors.base import RagsvcError

# If a body arrives more slowly than this, on average over CLIENT_TIMEOUT_S, the connection is closed.
MIN_BYTES_PER_S = 1024
MAX_CHECK_INTERVAL_S = 1.0
# An idle connection is closed after this time. Most clients and load balancers close theirs earlier.
KEEP_ALIVE_S = 75.0
# File descriptors that are needed for files, and for connections to Postgres, Redis and S3.
OTHER_FILES = 512
# The kernel of a slow reader acknowledges in steps of up to 1/16 of its buffer, so a steady reader can seem silent.
READER_PATIENCE = 4
# The offset of `tcpi_bytes_acked`, an unsigned 64-bit number, in Linux's `struct tcp_info`.
BYTES_ACKED_OFFSET = 120

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# The connections that authenticated requests use; those without a request belong to nobody.
CONNECTIONS = web.AppKey("connections", Shares)

log = structlog.get_logger(__name__)


class Connections:
    """The open connections of a process; `watch` closes those whose client is too slow."""

    def __init__(self, *, limit: int, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._limit = limit
        self._open: set[Connection] = set()

    def __len__(self) -> int:
        """Return the number of open connections."""
        return len(self._open)

    async def listen(
        self, server: web.Server, *, host: str, port: int, reuse_port: bool, backlog: int
    ) -> asyncio.Server:
        """Start to accept connections, and serve them with the application's server."""

        def accept() -> asyncio.Protocol:
            if len(self) >= self._limit and not self._close_longest_idle():
                return _Refusal()
            return Connection(server, self)

        loop = asyncio.get_running_loop()
        return await loop.create_server(accept, host, port, reuse_port=reuse_port, backlog=backlog)

    def _close_longest_idle(self) -> bool:
        """Close the connection that has been without a request for the longest time; return whether there was one."""
        idle = (one for one in self._open if one.is_idle)
        longest = min(idle, key=lambda one: one.idle_since or 0, default=None)
        if longest is None:
            return False
        CONNECTIONS_CUT.labels("idle").inc()
        longest.cut()
        # It counts until the transport has closed; by then, the new connection has taken its place.
        self.discard(longest)
        return True

    def add(self, connection: Connection) -> None:
        """Add a new connection."""
        self._open.add(connection)
        CONNECTIONS_OPEN.inc()

    def discard(self, connection: Connection) -> None:
        """Remove a closed connection; idempotent."""
        if connection in self._open:
            self._open.discard(connection)
            CONNECTIONS_OPEN.dec()

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[None]:
        """Close slow connections in the background while the context is open."""
        async with in_background(self._watch()):
            yield

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(min(MAX_CHECK_INTERVAL_S, self.timeout_s / 10))
            now = time.monotonic()
            for connection in tuple(self._open):
                if (fault := connection.find_fault(now)) is not None:
                    CONNECTIONS_CUT.labels(fault).inc()
                    # Anyone can open connections and send nothing, so count that, but log it at debug level only.
                    record = log.debug if fault == "head" else log.info
                    record("slow_client_cut", waited_for=fault)
                    connection.cut()


@contextmanager
def handling(request: web.Request) -> Iterator[None]:
    """Mark the connection as handling this request: from now on, its body is timed instead of its head."""
    connection = request.protocol
    # Tests can serve over aiohttp's own connections.
    if not isinstance(connection, Connection):
        yield
        return
    connection.begin(request)
    try:
        yield
    finally:
        connection.finish()


@web.middleware
async def hold_connection(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Count the request's connection as one of the caller's workspace, which gets at most 75 % of MAX_CONNECTIONS.

    Raises:
        Overloaded: the workspace uses too many connections.
    """
    share = request.app[CONNECTIONS].try_take()
    if share is None:
        raise Overloaded("This workspace has reached its limit of connections.")
    try:
        return await handler(request)
    finally:
        share.release()


def handler_times_body(request: web.Request) -> None:
    """Let the handler enforce the time limit of this request's body: it can send an error before closing."""
    if isinstance(request.protocol, Connection):
        request.protocol.times_body = False


class Connection(web.RequestHandler):
    """An aiohttp connection that records how long it has been waiting for its client."""

    def __init__(self, server: web.Server, connections: Connections) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]
            keepalive_timeout=KEEP_ALIVE_S,
        )
        # When the connection was last without a request; None while it has one.
        self.idle_since: float | None = time.monotonic()
        self.times_body = True
        self._connections = connections
        self._request: web.Request | None = None
        self._received_bytes = 0
        # The client of a new connection must send a request; between requests it can be silent (keep-alive).
        self._head_since: float | None = time.monotonic()
        self._body_since: tuple[float, int] | None = None
        self._unread_since: float | None = None
        self._taken_bytes = 0

    @property
    def is_idle(self) -> bool:
        """Whether the connection has no request, and its last response has left the process."""
        return self.idle_since is not None and self.transport is not None and not self.transport.get_write_buffer_size()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register the connection."""
        self._connections.add(self)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Remove the connection."""
        self._connections.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count the bytes that the client sent, and start timing the next request head."""
        self._received_bytes += len(data)
        if self._request is None and self._head_since is None:
            self._head_since = time.monotonic()
        super().data_received(data)

    def handle_error(
        self, request: BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Respond to bytes that are not HTTP. Anyone can send them, so only one line is logged, without the bytes."""
        if not isinstance(exc, HttpProcessingError):
            return super().handle_error(request, status, exc, message)
        log.info("request_malformed", error=type(exc).__name__)
        if isinstance(exc, ContentEncodingError):
            # An encoding that aiohttp cannot decode, such as br or zstd.
            return _Malformed(
                UnsupportedMediaType("Send the body uncompressed, or with Content-Encoding: gzip or deflate.")
            )
        if isinstance(exc, LineTooLong):
            return _Malformed(RequestError(f"A line of the request's head is longer than {self.max_line_size} bytes."))
        return _Malformed(RequestError("This is not a valid HTTP/1.1 request."))

    def log_exception(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - aiohttp's own signature
        """Log an unexpected error; a malformed body has already been answered, so it gets one line and no traceback."""
        error = kwargs.get("exc_info")
        if isinstance(error, (HttpProcessingError, web.RequestPayloadError)):
            log.info("request_malformed", error=type(error).__name__)
        else:
            super().log_exception(*args, **kwargs)

    def begin(self, request: web.Request) -> None:
        """Record that the head of a request has arrived."""
        self._request = request
        self.idle_since = None
        self.times_body = True
        self._head_since = self._body_since = None

    def finish(self) -> None:
        """Record that the request has been handled."""
        self._request = None
        self.idle_since = time.monotonic()
        self._body_since = None

    def find_fault(self, now: float) -> str | None:
        """Return `head` or `body` if the client sends it too slowly, `reader` if it does not read, else None."""
        if self.transport is None:
            return None
        if self._request is None and self._head_since is not None and self._is_over(self._head_since, now):
            return "head"
        if self._is_body_slow(self.transport, now):
            return "body"
        return "reader" if self._is_unread(self.transport, now) else None

    def cut(self) -> None:
        """Close the connection at once and discard unsent data."""
        if self.transport is not None:
            self.transport.abort()

    def _is_over(self, since: float, now: float, *, times: int = 1) -> bool:
        return now - since > times * self._connections.timeout_s

    def _is_body_slow(self, transport: asyncio.Transport, now: float) -> bool:
        # Do not count the time during which the server itself has paused reading.
        is_waited_for = self._request is not None and self.times_body and not self._request.content.is_eof()
        if not (is_waited_for and transport.is_reading()):
            self._body_since = None
        elif self._body_since is None:
            self._body_since = (now, self._received_bytes)
        elif self._is_over(self._body_since[0], now):
            since, received_bytes = self._body_since
            self._body_since = (now, self._received_bytes)
            return self._received_bytes - received_bytes < MIN_BYTES_PER_S * (now - since)
        return False

    def _is_unread(self, transport: asyncio.Transport, now: float) -> bool:
        """Return whether the client has stopped reading, even if the handler has already finished."""
        unread_bytes = transport.get_write_buffer_size()
        # What the buffers of the kernel take or hide says nothing about the reader, but its acknowledgements do.
        acked_bytes = _read_acked_bytes(transport)
        taken_bytes = -unread_bytes if acked_bytes is None else acked_bytes
        if not unread_bytes or taken_bytes > self._taken_bytes:
            self._unread_since = None
        elif self._unread_since is None:
            self._unread_since = now
        self._taken_bytes = taken_bytes
        return self._unread_since is not None and self._is_over(self._unread_since, now, times=READER_PATIENCE)


def _read_acked_bytes(transport: asyncio.Transport) -> int | None:
    """Return how many bytes the client's system has acknowledged; None if this system does not count them."""
    connected = transport.get_extra_info("socket")
    try:
        info = connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, BYTES_ACKED_OFFSET + 8)
        return int(struct.unpack_from("Q", info, BYTES_ACKED_OFFSET)[0])
    except (AttributeError, OSError, struct.error):
        return None


class _Malformed(web.Response):
    """The response to bytes that are not HTTP; aiohttp's own would reveal its version and quote the bytes."""

    def __init__(self, error: RagsvcError) -> None:
        super().__init__()
        self._error = error
        self.force_close()

    async def prepare(self, request: BaseRequest) -> None:
        """Write the response to the transport."""
        if request.transport is not None:
            write_problem(request.transport, self._error)

    async def write_eof(self, _data: bytes = b"") -> None:
        """Do nothing: `prepare` has written everything."""


class _Refusal(asyncio.Protocol):
    """Responds 503 to a connection over the limit, without waiting for a request, and closes it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the response and close the connection."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for mypy
        REQUESTS_REFUSED.labels(Overloaded.code).inc()
        write_problem(transport, Overloaded("This server has reached its limit of connections."))
        transport.close()


def raise_file_limit(connections: int) -> None:
    """Raise the limit of open files (1024 by default on Linux) to fit this many connections.

    If the hard limit is lower, use that and log a warning.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    got = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (got, hard))
    if got < wanted:
        log.warning("file_limit_too_low", limit=got, wanted=wanted)
