"""The failure classes and codes of the exceptions that the libraries raise."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import aiohttp
import asyncpg
import httpx2
import openai
import pytest
import redis.exceptions
from aiohttp.client_reqrep import ConnectionKey
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ReadTimeoutError,
)

from ragsvc.domain.ids import new_id
from ragsvc.errors.work import DocumentErrorCode, DocumentRejected, WorkError
from ragsvc.jobs.retry_policy import FailureClass, classify
from ragsvc.llm.errors import translate
from ragsvc.storage.errors import translated
from ragsvc.telemetry.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Mapping

PERMANENT, TRANSIENT, UNKNOWN, OUTAGE = FailureClass
MODEL_SERVER = ConnectionKey(
    "models.example", 80, is_ssl=False, ssl=True, proxy=None, proxy_auth=None, proxy_headers_hash=None
)
REQUEST = httpx2.Request("POST", "http://models.example/v1/embeddings")


def from_model(status: int, *, code: str | None = None, headers: Mapping[str, str] | None = None) -> WorkError:
    """Return the error for an HTTP response of a model server."""
    response = httpx2.Response(status, request=REQUEST, headers=headers, json={"error": {"code": code}})
    client = openai.OpenAI(api_key="k", base_url="http://models.example/v1")
    with client:
        return translate(client._make_status_error_from_response(response), purpose="embedding")


def from_model_connection(cause: Exception) -> WorkError:
    """Return the error for a connection failure of a model server, as the client's transport raises it."""
    timeout = httpx2.ConnectTimeout(str(cause))
    timeout.__cause__ = cause
    error = openai.APITimeoutError(request=REQUEST)
    error.__cause__ = timeout
    return translate(error, purpose="embedding")


def from_store(error: Exception) -> WorkError:
    """Return the error for an exception of the store's client."""
    with pytest.raises(WorkError) as raised, translated():
        raise error
    return raised.value


def from_s3_response(status: int, code: str) -> WorkError:
    """Return the error for an error response of the store."""
    response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return from_store(ClientError(response, "GetObject"))  # type: ignore[arg-type]  # a real response has more fields


MODEL = [
    *((from_model(status), PERMANENT, "embedding_rejected") for status in (400, 422)),
    *((from_model(status), OUTAGE, "embedding_unauthorized") for status in (401, 403)),
    (from_model(404), OUTAGE, "embedding_model_not_found"),
    (from_model(402), OUTAGE, "embedding_quota"),
    (from_model(429, code="insufficient_quota"), OUTAGE, "embedding_quota"),
    *((from_model(status), TRANSIENT, "embedding_unavailable") for status in (408, 409, 425, 429, 500, 502, 503, 529)),
    (from_model_connection(aiohttp.SocketTimeoutError("silent")), TRANSIENT, "embedding_unavailable"),
    (from_model_connection(aiohttp.ServerDisconnectedError()), TRANSIENT, "embedding_unavailable"),
    (
        from_model_connection(
            aiohttp.ClientConnectorError(MODEL_SERVER, ConnectionRefusedError(errno.ECONNREFUSED, "no"))
        ),
        OUTAGE,
        "embedding_unreachable",
    ),
    (from_model_connection(aiohttp.ConnectionTimeoutError("silent")), OUTAGE, "embedding_unreachable"),
]

STORE = [
    *((from_s3_response(404, code), PERMANENT, "object_missing") for code in ("NoSuchKey", "NoSuchBucket", "404")),
    (from_s3_response(403, "AccessDenied"), PERMANENT, "storage_rejected"),
    *(
        (from_s3_response(403, code), OUTAGE, "storage_unauthorized")
        for code in ("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken")
    ),
    *((from_s3_response(status, "InternalError"), TRANSIENT, "storage_unavailable") for status in (500, 502, 503, 504)),
    (from_s3_response(503, "SlowDown"), TRANSIENT, "storage_unavailable"),
    (from_s3_response(400, "RequestTimeout"), TRANSIENT, "storage_unavailable"),
    *(
        (from_store(error(endpoint_url="http://s3.example")), TRANSIENT, "storage_unavailable")
        for error in (ReadTimeoutError, ConnectionClosedError)
    ),
    (from_store(aiohttp.ClientPayloadError("cut off")), TRANSIENT, "storage_unavailable"),
    *(
        (from_store(error(endpoint_url="http://s3.example")), OUTAGE, "storage_unreachable")
        for error in (EndpointConnectionError, ConnectTimeoutError)
    ),
]

POSTGRES = [
    *(
        (error("as Postgres says"), TRANSIENT, "database_unavailable")
        for error in (
            asyncpg.SerializationError,  # 40001
            asyncpg.DeadlockDetectedError,  # 40P01
            asyncpg.LockNotAvailableError,  # 55P03
            asyncpg.QueryCanceledError,  # 57014
            asyncpg.AdminShutdownError,  # 57P01
            asyncpg.CrashShutdownError,  # 57P02
            asyncpg.CannotConnectNowError,  # 57P03
            asyncpg.ConnectionDoesNotExistError,  # 08003
            asyncpg.ConnectionFailureError,  # 08006
            asyncpg.TooManyConnectionsError,  # 53300
            asyncpg.DiskFullError,  # 53100
            asyncpg.InterfaceError,
            asyncpg.InternalClientError,
            ConnectionResetError,
            ConnectionRefusedError,
        )
    ),
    (OSError(errno.EHOSTUNREACH, "no route"), TRANSIENT, "database_unavailable"),
    *(
        (error("as Postgres says"), UNKNOWN, "internal")
        for error in (asyncpg.UniqueViolationError, asyncpg.UndefinedColumnError, asyncpg.CheckViolationError)
    ),
]

REDIS = [
    *(
        (error("as Redis says"), OUTAGE, "redis_unavailable")
        for error in (
            redis.exceptions.ConnectionError,
            redis.exceptions.TimeoutError,
            redis.exceptions.BusyLoadingError,
            redis.exceptions.ReadOnlyError,
            redis.exceptions.OutOfMemoryError,
            redis.exceptions.MasterDownError,
        )
    ),
    (redis.exceptions.ResponseError("unknown command"), UNKNOWN, "internal"),
]

OURS = [
    *(
        (DocumentRejected(code, "the content"), PERMANENT, code)
        for code in DocumentErrorCode
        if not code.startswith("embedding")
    ),
    (TimeoutError(), TRANSIENT, "timeout"),
    (OSError(errno.ENOSPC, "no space left on device"), TRANSIENT, "worker_exhausted"),
    (OSError(errno.EMFILE, "too many open files"), TRANSIENT, "worker_exhausted"),
    (MemoryError(), TRANSIENT, "worker_exhausted"),
    (KeyError("a bug"), UNKNOWN, "internal"),
]


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        pytest.param(error, kind, code, id=f"{name}-{number}-{type(error).__name__}-{code}")
        for name, table in (
            *(("model", MODEL), ("store", STORE), ("postgres", POSTGRES)),
            *(("redis", REDIS), ("ours", OURS)),
        )
        for number, (error, kind, code) in enumerate(table)
    ],
)
def test_every_exception_has_a_failure_class_and_a_code(error: BaseException, kind: FailureClass, code: str) -> None:
    failure = classify(error)
    assert (failure.kind, failure.code) == (kind, code)


def test_the_retry_after_of_a_response_is_part_of_the_failure() -> None:
    assert classify(from_model(429, headers={"Retry-After": "7"})).retry_after_s == 7
    assert classify(from_model(429, headers={"Retry-After-Ms": "250"})).retry_after_s == 0.25


@pytest.mark.parametrize(
    "secret",
    [
        "postgresql://rag:hunter2@db.example/ragsvc",
        "Authorization: Bearer sk-abcdefghijkl",
        "the key sk-abcdefghijklmnop was refused",
        "rag-0123456789abcdef is revoked",
        "https://s3.example/b/k?X-Amz-Signature=deadbeef",
        "connect(password=hunter2)",
    ],
)
def test_secrets_are_redacted(secret: str) -> None:
    redacted = redact(f"it failed: {secret}")
    assert not any(part in redacted for part in ("hunter2", "abcdefghijkl", "0123456789abcdef", "deadbeef"))
    assert "***" in redacted


@pytest.mark.parametrize(
    "error",
    [
        from_store(ReadTimeoutError(endpoint_url="http://store.internal:9000/bucket")),
        TimeoutError("db.internal"),
        redis.exceptions.ConnectionError("Error 111 connecting to redis.internal:6379"),
        OSError(errno.ENOSPC, "No space left on device", "/var/internal"),
        asyncpg.CannotConnectNowError("db.internal"),
        KeyError("internal"),
    ],
    ids=str,
)
def test_tenants_see_no_names_of_internal_servers(error: Exception) -> None:
    message = classify(error).message_for_tenants(new_id())
    assert message.endswith((".", ")"))
    assert "internal" not in message
