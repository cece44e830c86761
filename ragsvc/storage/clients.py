"""Opens the store clients of a process according to its settings."""

from __future__ import annotations

import base64
import functools
import hashlib
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aioboto3
import aiohttp
import stamina
from botocore.config import Config

from ragsvc.errors.work import OutageFailure, TransientFailure
from ragsvc.shares import Shares
from ragsvc.storage.calls import share_calls, watch_calls

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from types_aiobotocore_s3.client import S3Client

    from ragsvc.settings.settings import Settings

CONNECT_TIMEOUT_S = 3

# Lifetime of presigned URLs: long enough to start a transfer, too short to be passed around.
PRESIGN_EXPIRES_S = 900
# Lifetime of URLs presigned for our own use: a slow client can take hours to send a part.
OWN_URL_S = 24 * 3600
TRIES = 3
# Connections of the SDK's client. Its calls are short: files and parts use a session without a limit.
MAX_CALLS = 64


@dataclass(frozen=True, slots=True)
class Clients:
    """The SDK's client, a client that presigns public URLs, and an HTTP session for streaming to presigned URLs."""

    sdk: S3Client
    presigner: S3Client
    http: aiohttp.ClientSession


class StoreCalls:
    """Base class with the clients and settings that all store calls use."""

    def __init__(self, clients: Clients, settings: Settings) -> None:
        self._client = clients.sdk
        self._presigner = clients.presigner
        self._http = clients.http
        self._settings = settings

    @property
    def _encryption(self) -> dict[str, Any]:
        """The encryption parameters of a new object; they also apply to its parts."""
        parameters = {
            "ServerSideEncryption": self._settings.stores.s3_sse,
            "SSEKMSKeyId": self._settings.stores.s3_sse_kms_key_id,
        }
        return {name: value for name, value in parameters.items() if value is not None}


def trying_again() -> AsyncIterator[stamina.Attempt]:
    """Return attempts at a call made without the SDK, which has its own."""
    return stamina.retry_context(
        on=(TransientFailure, OutageFailure), attempts=TRIES, timeout=None, wait_initial=0.1, wait_max=2.0
    )


@asynccontextmanager
async def open_clients(settings: Settings) -> AsyncIterator[Clients]:
    """Open the clients; they connect on first use."""
    secret = settings.stores.s3_secret_access_key
    arguments: dict[str, Any] = {
        "region_name": settings.stores.s3_region,
        "aws_access_key_id": settings.stores.s3_access_key_id,
        "aws_secret_access_key": secret.get_secret_value() if secret else None,
        "config": _configure(settings),
    }
    endpoint = settings.stores.s3_endpoint_url
    public = settings.stores.s3_public_endpoint_url or endpoint
    async with AsyncExitStack() as stack:
        sdk = await stack.enter_async_context(_session().client("s3", endpoint_url=endpoint, **arguments))
        presigner = sdk
        if public != endpoint:
            presigner = await stack.enter_async_context(_session().client("s3", endpoint_url=public, **arguments))
        watch_calls(sdk)
        share_calls(sdk, Shares("store_calls", MAX_CALLS, max_wait_s=settings.stores.s3_timeout_s))
        # Some stores require Content-MD5 here, which newer SDKs replaced with other checksums.
        sdk.meta.events.register("before-sign.s3.DeleteObjects", _add_content_md5)
        # No total timeout, since a part takes as long as its client needs; `sock_read` covers a silent store.
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=settings.stores.s3_timeout_s
        )
        # No connection limit either: slow clients would make others wait for a connection.
        connector = aiohttp.TCPConnector(limit=0)
        http = await stack.enter_async_context(
            aiohttp.ClientSession(timeout=timeout, connector=connector, auto_decompress=False)
        )
        yield Clients(sdk, presigner, http)


def _configure(settings: Settings) -> Config:
    return Config(
        signature_version="s3v4",
        s3={"addressing_style": settings.stores.s3_addressing_style},
        retries={"mode": "standard", "max_attempts": 3},
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=settings.stores.s3_timeout_s,
        max_pool_connections=MAX_CALLS,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )


@functools.cache
def _session() -> aioboto3.Session:
    # Loading the service model takes 0.1 s; a session does it once.
    return aioboto3.Session()


def _add_content_md5(request: Any, **_context: object) -> None:  # noqa: ANN401 - botocore's AWSRequest has no type
    digest = hashlib.md5(request.body, usedforsecurity=False).digest()
    request.headers["Content-MD5"] = base64.b64encode(digest).decode()
