"""Every response has the request id, errors have one shape, and unexpected ones are logged once."""

from __future__ import annotations

import asyncio
import gzip
from typing import TYPE_CHECKING

import pytest
import structlog
from aiohttp import web

from ragsvc.errors.work import OutageFailure, ProviderRejected
from ragsvc.http.app import create_app
from ragsvc.http.auth import Access
from ragsvc.http.contract.operations import operation
from tests.http.conftest import Api, operator_of
from tests.support.polling import until

if TYPE_CHECKING:
    from pytest_aiohttp.plugin import AiohttpClient

    from ragsvc.settings.settings import Settings
    from tests.http.conftest import ClientMaker, Tenant

ERRORS = {
    "unknown": RuntimeError("the secret detail"),
    "outage": OutageFailure("embedding_unreachable", "the models cannot be reached"),
    "rejected": ProviderRejected("embedding_rejected", "the model refused the text"),
    "database": ConnectionRefusedError("postgres is unavailable"),
}


@operation("Fail", Access.PUBLIC, responses={200: None})
async def fail(request: web.Request) -> web.Response:
    """Raise the error that the path names."""
    raise ERRORS[request.match_info["name"]]


@operation("Start a response and fail", Access.PUBLIC, responses={200: None})
async def fail_late(request: web.Request) -> web.StreamResponse:
    """Raise after the status has been sent."""
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"the beginning")
    raise ERRORS["unknown"]


@pytest.fixture
async def failing(settings: Settings, aiohttp_client: AiohttpClient) -> Api:
    """An application with routes that fail."""
    app = create_app(settings)
    app.router.add_get("/fail/{name}", fail)
    app.router.add_get("/fail-late", fail_late)
    return Api(await aiohttp_client(app), None)


async def test_a_request_gets_an_id(stranger: Api) -> None:
    responses = [await stranger.get("/healthz") for _ in range(2)]
    ids = {response.headers["X-Request-Id"] for response in responses}
    assert len(ids) == 2
    assert all(name.startswith("req_") for name in ids)


async def test_a_valid_id_in_the_request_is_used(tenant: Tenant) -> None:
    response = await tenant.api.get("/v1/documents/doc_x", headers={"X-Request-Id": "abc-1.2:3"})
    assert response.is_problem(404, "not_found")
    assert response.headers["X-Request-Id"] == "abc-1.2:3"


@pytest.mark.parametrize("offered", ["", "a b", "x" * 129, "<script>", "\x80"])
async def test_an_invalid_id_is_replaced(stranger: Api, offered: str) -> None:
    response = await stranger.get("/healthz", headers={"X-Request-Id": offered})
    assert response.headers["X-Request-Id"].startswith("req_")


async def test_an_unknown_route_is_not_found(tenant: Tenant, stranger: Api) -> None:
    assert (await tenant.api.get("/v1/nothing")).is_problem(404, "not_found")
    assert (await stranger.get("/nothing")).is_problem(404, "not_found")


async def test_a_wrong_method_gets_a_405_with_the_allowed_ones(tenant: Tenant) -> None:
    response = await tenant.api.call("PUT", "/v1/collections")
    assert response.is_problem(405, "method_not_allowed")
    assert response.headers["Allow"] == "GET,HEAD,POST"


async def test_an_unexpected_error_reveals_nothing_and_is_logged_once(failing: Api) -> None:
    with structlog.testing.capture_logs() as logs:
        response = await failing.get("/fail/unknown")
    assert response.is_problem(500, "internal")
    assert b"secret" not in response.raw
    failures = [entry for entry in logs if entry["log_level"] == "error"]
    assert [entry["event"] for entry in failures] == ["request_failed"]
    assert str(failures[0]["exc_info"]) == "the secret detail"


async def test_a_request_is_logged_with_its_outcome(failing: Api) -> None:
    with structlog.testing.capture_logs() as logs:
        await failing.get("/fail/unknown?token=secret")
    finished = next(entry for entry in logs if entry["event"] == "request_finished")
    assert (finished["method"], finished["route"], finished["status"]) == ("GET", "/fail/{name}", 500)
    assert finished["duration_ms"] > 0
    assert (finished["code"], finished["client"]) == ("internal", "127.0.0.1")
    assert "secret" not in str(finished)


async def test_an_error_after_the_status_closes_the_connection(failing: Api) -> None:
    with structlog.testing.capture_logs() as logs, pytest.raises(Exception, match=r"payload|disconnected|reset"):
        await failing.get("/fail-late")
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["response_failed"]


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [("outage", 503, "unavailable"), ("rejected", 502, "provider_refused"), ("database", 503, "unavailable")],
)
async def test_a_failing_provider_is_not_an_internal_error(failing: Api, name: str, status: int, code: str) -> None:
    response = await failing.get(f"/fail/{name}")
    assert response.is_problem(status, code)
    assert ("Retry-After" in response.headers) is (status == 503)


async def test_responses_have_no_server_header_and_forbid_sniffing(stranger: Api) -> None:
    response = await stranger.get("/healthz")
    assert "Server" not in response.headers
    assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_a_body_over_the_limit_is_refused(make_client: ClientMaker) -> None:
    admin = operator_of(await make_client(max_json_body_bytes=1000))
    assert (await admin.post("/v1/workspaces", {"name": "x" * 900})).status == 422
    assert (await admin.post("/v1/workspaces", {"name": "x" * 2000})).is_problem(413, "too_large")


async def test_the_limit_applies_to_the_decompressed_body(make_client: ClientMaker) -> None:
    admin = operator_of(await make_client(max_json_body_bytes=1000))
    bomb = gzip.compress(b'{"name": "' + b"x" * 100_000 + b'"}')
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    assert len(bomb) < 1000
    assert (await admin.call("POST", "/v1/workspaces", data=bomb, headers=headers)).is_problem(413, "too_large")


async def test_a_client_that_disconnects_while_sending_its_body_logs_no_error(tenant: Tenant) -> None:
    client = tenant.api.client
    with structlog.testing.capture_logs() as logs:
        reader, writer = await asyncio.open_connection(client.host, client.port)
        head = f"POST /v1/collections HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {tenant.api.key}\r\n"
        writer.write(f"{head}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{".encode())
        await writer.drain()
        writer.close()
        assert await reader.read() == b""
        finished = await until(lambda: [entry for entry in logs if entry["event"] == "request_finished"])
    assert [entry["status"] for entry in finished] == [499]
    assert [entry for entry in logs if entry["log_level"] in {"error", "warning"}] == []
