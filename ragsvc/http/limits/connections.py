"""The connections of a process: how many there may be, and which are cut because their client is too slow."""

from __future__ import annotations

import asyncio
import resource
import time
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import structlog
from aiohttp import web
from aiohttp.http_exceptions import ContentEncodingError, HttpProcessingError, LineTooLong

from ragsvc.errors import Overloaded, RagsvcError, RequestError, UnsupportedMediaType
from ragsvc.http.contract.problems import write_problem
from ragsvc.tasks import in_background
from ragsvc.telemetry.metrics import CONNECTIONS_CUT, CONNECTIONS_OPEN, REQUESTS_REFUSED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from aiohttp.web_request import BaseRequest

# A file that comes slower than this over CLIENT_TIMEOUT_S costs more than it is worth.
LEAST_BYTES_PER_S = 1024
LONGEST_LOOK_S = 1.0
# Files, sockets of the stores and the like, beside the clients' connections.
OTHER_FILES = 512

log = structlog.get_logger(__name__)


class Connections:
    """The open connections of a process; `watch` cuts those whose client keeps it waiting."""

    def __init__(self, *, limit: int, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._limit = limit
        self._open: set[Connection] = set()

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._open)

    async def listen(
        self, server: web.Server, *, host: str, port: int, reuse_port: bool, backlog: int
    ) -> asyncio.Server:
        """Begin to take connections and serve them by the application's server."""

        def accept() -> asyncio.Protocol:
            return _Refusal() if len(self) >= self._limit else Connection(server, self)

        loop = asyncio.get_running_loop()
        return await loop.create_server(accept, host, port, reuse_port=reuse_port, backlog=backlog)

    def add(self, connection: Connection) -> None:
        """Count a connection that was made."""
        self._open.add(connection)
        CONNECTIONS_OPEN.inc()

    def discard(self, connection: Connection) -> None:
        """Count it no more."""
        self._open.discard(connection)
        CONNECTIONS_OPEN.dec()

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[None]:
        """Look after the connections while the body lasts."""
        async with in_background(self._watch()):
            yield

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(min(LONGEST_LOOK_S, self.timeout_s / 10))
            now = time.monotonic()
            for connection in tuple(self._open):
                if (fault := connection.find_fault(now)) is not None:
                    CONNECTIONS_CUT.labels(fault).inc()
                    # Anybody may open connections and say nothing; that is counted, and no news.
                    record = log.debug if fault == "head" else log.info
                    record("slow_client_cut", waited_for=fault)
                    connection.cut()


@contextmanager
def busy_with(request: web.Request) -> Iterator[None]:
    """Say that a connection's request is being answered: from then on it is its body that may be slow."""
    connection = request.protocol
    # Tests may serve by aiohttp's own.
    if not isinstance(connection, Connection):
        yield
        return
    connection.begin(request)
    try:
        yield
    finally:
        connection.finish()


def handler_times_body(request: web.Request) -> None:
    """Leave it to the handler how long it waits for this request's body, and what it answers then."""
    if isinstance(request.protocol, Connection):
        request.protocol.judges_body = False


class Connection(web.RequestHandler):
    """aiohttp's handler of a connection, which knows since when its client is waited for."""

    def __init__(self, server: web.Server, connections: Connections) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), access_log=None)  # type: ignore[arg-type]
        self.judges_body = True
        self._connections = connections
        self._request: web.Request | None = None
        self._received_bytes = 0
        # A new connection owes a request; between requests a client may be silent (keep-alive).
        self._head_since: float | None = time.monotonic()
        self._body_since: tuple[float, int] | None = None
        self._unread_since: float | None = None
        self._unread_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._connections.add(self)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """End."""
        self._connections.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what the client sent."""
        self._received_bytes += len(data)
        if self._request is None and self._head_since is None:
            self._head_since = time.monotonic()
        super().data_received(data)

    def handle_error(
        self, request: BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answer what is no HTTP; anybody may send it, so the log has one line of it, without what was sent."""
        if not isinstance(exc, HttpProcessingError):
            return super().handle_error(request, status, exc, message)
        log.info("request_malformed", error=type(exc).__name__)
        if isinstance(exc, ContentEncodingError):
            # What aiohttp could not even begin to decode: br and zstd.
            return _Malformed(
                UnsupportedMediaType("Send the body as it is, or with Content-Encoding: gzip or deflate.")
            )
        if isinstance(exc, LineTooLong):
            return _Malformed(RequestError(f"A line of the request's head is longer than {self.max_line_size} bytes."))
        return _Malformed(RequestError("This is no request that HTTP/1.1 knows."))

    def log_exception(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - aiohttp's own signature
        """Log what aiohttp did not expect; of a body that is no body, whose sender was answered, one line as above."""
        error = kwargs.get("exc_info")
        if isinstance(error, (HttpProcessingError, web.RequestPayloadError)):
            log.info("request_malformed", error=type(error).__name__)
        else:
            super().log_exception(*args, **kwargs)

    def begin(self, request: web.Request) -> None:
        """Take note of a request whose head has come."""
        self._request = request
        self.judges_body = True
        self._head_since = self._body_since = None

    def finish(self) -> None:
        """Take note that its answer is there."""
        self._request = None
        self._body_since = None

    def find_fault(self, now: float) -> str | None:
        """Return what the client owes for too long: head, body, or to read the answer; call it now and then."""
        if self.transport is None:
            return None
        if self._request is None and self._head_since is not None and self._is_over(self._head_since, now):
            return "head"
        if self._is_body_slow(self.transport, now):
            return "body"
        return "reader" if self._is_unread(self.transport, now) else None

    def cut(self) -> None:
        """End it at once, with what would still have to be sent."""
        if self.transport is not None:
            self.transport.abort()

    def _is_over(self, since: float, now: float) -> bool:
        return now - since > self._connections.timeout_s

    def _is_body_slow(self, transport: asyncio.Transport, now: float) -> bool:
        # Not while it is us who do not read.
        is_waited_for = self._request is not None and self.judges_body and not self._request.content.is_eof()
        if not (is_waited_for and transport.is_reading()):
            self._body_since = None
        elif self._body_since is None:
            self._body_since = (now, self._received_bytes)
        elif self._is_over(self._body_since[0], now):
            since, received_bytes = self._body_since
            self._body_since = (now, self._received_bytes)
            return self._received_bytes - received_bytes < LEAST_BYTES_PER_S * (now - since)
        return False

    def _is_unread(self, transport: asyncio.Transport, now: float) -> bool:
        """Tell whether the client takes nothing, be it the last of an answer that is over for its handler."""
        unread_bytes = transport.get_write_buffer_size()
        if not unread_bytes or unread_bytes < self._unread_bytes:
            self._unread_since = None
        elif self._unread_since is None:
            self._unread_since = now
        self._unread_bytes = unread_bytes
        return self._unread_since is not None and self._is_over(self._unread_since, now)


class _Malformed(web.Response):
    """The answer to what is no HTTP, written as it is: aiohttp's own would tell its version and quote what came."""

    def __init__(self, error: RagsvcError) -> None:
        super().__init__()
        self._error = error
        self.force_close()

    async def prepare(self, request: BaseRequest) -> None:
        """Send it."""
        if request.transport is not None:
            write_problem(request.transport, self._error)

    async def write_eof(self, _data: bytes = b"") -> None:
        """Do nothing: all of it was sent."""


class _Refusal(asyncio.Protocol):
    """Answers a connection that is one too many, whatever it wants, and closes it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Refuse."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for mypy
        REQUESTS_REFUSED.labels(Overloaded.code).inc()
        write_problem(transport, Overloaded("This server has all the connections that it may have."))
        transport.close()


def raise_file_limit(connections: int) -> None:
    """Let the process have so many connections: by default a process may have 1024 files open.

    Where the hard limit is lower, that is what it gets, and a warning says so.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    got = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (got, hard))
    if got < wanted:
        log.warning("few_files_may_be_open", limit=got, wanted=wanted)
