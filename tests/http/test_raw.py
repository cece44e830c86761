"""Malformed and unusual requests get a valid problem response."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import orjson
import pytest
import structlog

if TYPE_CHECKING:
    from tests.http.conftest import Tenant

DEADLINE_S = 10.0
FORM = b"Content-Type: multipart/form-data; boundary=b\r\n"


async def exchange(tenant: Tenant, request: bytes, *, headers: bytes = b"", body: bytes = b"") -> tuple[int, bytes]:
    """Send bytes; return the status and the body of the response."""
    client = tenant.api.client
    reader, writer = await asyncio.open_connection(client.host, client.port)
    key = f"Authorization: Bearer {tenant.api.key}\r\nConnection: close\r\nHost: x\r\n".encode()
    length = b"Content-Length: %d\r\n" % len(body)
    writer.write(request + b" HTTP/1.1\r\n" + key + headers + length + b"\r\n" + body)
    async with asyncio.timeout(DEADLINE_S):
        response = await reader.read()
    writer.close()
    head, _, rest = response.partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]), rest


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET /v1/\xff\xfe", {400, 404}),
        (b"GET /v1/documents/%ff%00", {404}),
        (b"GET /v1/documents/doc_%F0%9F%98%80", {404}),
        (b"GET /v1/documents?%ff=%fe", {422}),
        (b"GET /v1/documents?\xff=1", {400, 422}),
        (b"GET /v1/documents?status=%ed%a0%80", {422}),
        (b"GET /v1/documents?cursor=" + b"A" * 7000, {422}),
        (b"GET /v1//documents", {404}),
        (b"GET /v1/documents/../workspace", {404}),
        (b"GET //v1/documents", {401, 404}),
        (b"OPTIONS /v1/documents", {405}),
        (b"TRACE /v1/documents", {405}),
        (b"OPTIONS *", {404, 405}),
    ],
)
async def test_an_unusual_request_gets_a_problem(tenant: Tenant, request_line: bytes, status: set[int]) -> None:
    with structlog.testing.capture_logs() as logs:
        got, body = await exchange(tenant, request_line)
    assert got in status
    assert got == 400 or orjson.loads(body)["status"] == got
    assert [entry for entry in logs if entry["log_level"] == "error"] == []


# aiohttp warns about a header that it cannot parse, and ignores it.
@pytest.mark.filterwarnings("ignore::aiohttp.multipart.BadContentDispositionHeader")
@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (FORM, b'--b\r\nContent-Disposition: form-data; name="\xff\xfe"\r\n\r\n1\r\n--b--\r\n'),
        (FORM, b'--b\r\nContent-Disposition: form-data; name="a%ff\x01"\r\n\r\n1\r\n--b--\r\n'),
        (FORM, b"--b\r\nContent-Disposition: \xff\r\n\r\n1\r\n--b--\r\n"),
        (FORM, b'--b\r\nContent-Disposition: form-data; name="file"; filename="a\x01b"\r\n\r\n1\r\n--b--\r\n'),
        (FORM, b"--b\r\n\r\n1\r\n--b--\r\n"),
        (FORM, b"--b--\r\n"),
        (FORM, b""),
        (b"Content-Type: multipart/form-data\r\n", b"--b--\r\n"),
        (b"Content-Type: application/json\r\n", b"\xff\xfe"),
        (b"Content-Type: application/json; charset=utf-16\r\n", b"{}"),
        (b"Content-Type: \xff\r\n", b"{}"),
        (b"Content-Type: application/json\r\nContent-Encoding: gzip\r\n", b"not gzip"),
        (b"", b"{}"),
        (b"Content-Type: application/json\r\nX-Request-Id: \xff\xfe\r\n", b"{"),
    ],
)
async def test_an_unusual_body_gets_a_problem(tenant: Tenant, headers: bytes, body: bytes) -> None:
    with structlog.testing.capture_logs() as logs:
        got, response = await exchange(tenant, b"POST /v1/documents", headers=headers, body=body)
    assert got in {400, 415, 422}
    assert orjson.loads(response)["status"] == got
    assert [entry for entry in logs if entry["log_level"] == "error"] == []


@pytest.mark.parametrize("filename", [b"\xff\xfe.txt", b"%00%0d%0a.txt", b"x" * 5000, b"\xe2\x80\xae.txt", b"'\\\\'"])
async def test_an_unusual_file_name_is_cleaned(tenant: Tenant, filename: bytes) -> None:
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="' + filename + b'"\r\n\r\n'
    status, response = await exchange(tenant, b"POST /v1/documents", headers=FORM, body=head + b"content\r\n--b--\r\n")
    assert status == 202
    document = orjson.loads(response)
    assert 1 <= len(document["filename"]) <= 255
    assert document["filename"].isprintable()
    served = await tenant.api.get(f"/v1/documents/{document['id']}/content")
    assert (served.status, served.raw) == (200, b"content")
