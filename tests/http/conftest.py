"""Fixtures for the API's tests: the real application in this process, its clients and ready documents."""

from __future__ import annotations

import uuid
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from aiohttp.test_utils import TestClient, TestServer
from pydantic import SecretStr

from ragsvc.http.app import create_app
from ragsvc.http.contract.ids import parse_id
from ragsvc.http.sse import StreamTiming
from ragsvc.http.state import RESOURCES
from tests.http.contract.fuzzing_contract import Contract
from tests.http.support.documents import finish_document, form
from tests.support.servers.databases import cloned

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from uuid import UUID

    from aiohttp import web
    from multidict import CIMultiDictProxy

    from ragsvc.resources import Resources
    from ragsvc.settings.settings import Settings

    Client = TestClient[web.Request, web.Application]
    ClientMaker = Callable[..., Awaitable[Client]]

TIMING = StreamTiming(ping_s=0.2, check_s=0.05, write_timeout_s=2.0)


@dataclass(frozen=True, slots=True)
class ApiResponse:
    """A response whose body has been read."""

    status: int
    headers: CIMultiDictProxy[str]
    raw: bytes

    @property
    def json(self) -> Any:
        """The parsed body."""
        return orjson.loads(self.raw)

    def is_problem(self, status: int, code: str) -> bool:
        """Return whether this is a complete problem document with this status and code."""
        body = self.json
        return (
            self.status == body.get("status") == status
            and body.get("code") == code
            and self.headers["Content-Type"] == "application/problem+json"
            and body["request_id"] == self.headers["X-Request-Id"]
            and {"type", "title", "detail"} <= set(body)
        )


class Api:
    """A client that sends the same key with every request."""

    def __init__(self, client: Client, key: str | None) -> None:
        self.client = client
        self.key = key

    @property
    def headers(self) -> dict[str, str]:
        """The Authorization header."""
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}

    async def call(
        self, method: str, path: str, *, headers: dict[str, str] | None = None, **options: Any
    ) -> ApiResponse:
        """Send a request and read the whole response; redirects are not followed."""
        every = {**self.headers, **(headers or {})}
        async with self.client.request(method, path, headers=every, allow_redirects=False, **options) as response:
            return ApiResponse(response.status, response.headers, await response.read())

    async def get(self, path: str, **options: Any) -> ApiResponse:
        """Send a GET request."""
        return await self.call("GET", path, **options)

    async def post(self, path: str, body: object = None, **options: Any) -> ApiResponse:
        """Send a POST request, with a JSON body if one is given."""
        return await self.call("POST", path, json=body, **options)

    async def patch(self, path: str, body: object) -> ApiResponse:
        """Send a PATCH request with a JSON body."""
        return await self.call("PATCH", path, json=body)

    async def delete(self, path: str) -> ApiResponse:
        """Send a DELETE request."""
        return await self.call("DELETE", path)


@dataclass(frozen=True, slots=True)
class Tenant:
    """A workspace created through the API, and a client with a key that has every scope."""

    id: str
    bucket: str
    api: Api

    @property
    def uuid(self) -> UUID:
        """The workspace's UUID."""
        return parse_id("ws", self.id)

    async def upload(self, content: bytes = b"Kettles boil water.", *, filename: str = "kettles.txt") -> dict[str, Any]:
        """Upload a document to the default collection and return it; it is only queued."""
        response = await self.api.call("POST", "/v1/documents", data=form(content, filename=filename))
        assert response.status == 202, response.raw
        document: dict[str, Any] = response.json
        return document


class Server(TestServer):
    """Serves like `ragsvc serve`: a disconnect does not cancel the handler, as it would with aiohttp's test server."""

    async def _make_runner(self, **options: Any) -> web.BaseRunner:
        return await super()._make_runner(**{**options, "handler_cancellation": False})


@pytest.fixture(scope="session")
async def settings(base_settings: Settings, template: str) -> AsyncIterator[Settings]:
    """One database for all of the API's tests; each test creates its own workspaces, so that it is isolated."""
    own = uuid.uuid4().hex[:12]
    async with cloned(base_settings.stores.database_url.get_secret_value(), template=template) as url:
        yield base_settings.changed(
            {
                "database_url": SecretStr(url),
                # The model of the OpenAPI examples, which tests send as they are.
                "chat_models": "gpt-5-mini",
                "queue_prefix": f"test-{own}",
                "s3_bucket_prefix": f"test-{own}",
                # No worker runs here, so nothing is delivered.
                "webhook_allowed_origins": "https://hooks.example.com",
            }
        )


@pytest.fixture(scope="session")
def contract() -> Contract:
    """Checks every response of these tests against the OpenAPI document."""
    return Contract()


@pytest.fixture(autouse=True)
def _check_contract(contract: Contract) -> Iterator[None]:
    yield
    assert contract.take_breaches() == []


@pytest.fixture(scope="session")
async def client(settings: Settings, contract: Contract) -> AsyncIterator[Client]:
    """A client of the application that most tests share."""
    app = create_app(settings, timing=TIMING)
    contract.watch(app)
    async with TestClient(Server(app)) as started:
        yield started


@pytest.fixture
def resources(client: Client) -> Resources:
    """The application's own resources."""
    return client.app[RESOURCES]


@pytest.fixture
async def serve(contract: Contract) -> AsyncIterator[Callable[..., Awaitable[Client]]]:
    """Serves an application for the duration of a test."""
    async with AsyncExitStack() as stack:

        async def start(app: web.Application, **options: Any) -> Client:
            contract.watch(app)
            return await stack.enter_async_context(TestClient(Server(app), **options))

        yield start


@pytest.fixture
def make_client(settings: Settings, serve: Callable[..., Awaitable[Client]]) -> ClientMaker:
    """Starts another application on the same database with changed settings."""

    async def start(**changes: object) -> Client:
        return await serve(create_app(settings.changed(changes), timing=TIMING))

    return start


@pytest.fixture
async def own_client(base_settings: Settings, template: str, contract: Contract) -> AsyncIterator[Client]:
    """An application on its own database, so that no other test uses its workspaces and queues."""
    own = uuid.uuid4().hex[:12]
    async with cloned(base_settings.stores.database_url.get_secret_value(), template=template) as url:
        changes = {
            "database_url": SecretStr(url),
            "queue_prefix": f"test-{own}",
            "s3_bucket_prefix": f"test-{own}",
            "webhook_allowed_origins": "https://hooks.example.com",
        }
        app = create_app(base_settings.changed(changes), timing=TIMING)
        contract.watch(app)
        async with TestClient(Server(app)) as started:
            yield started


@pytest.fixture
def admin(client: Client) -> Api:
    """A client with the admin key."""
    return operator_of(client)


@pytest.fixture
def stranger(client: Client) -> Api:
    """A client without a key."""
    return Api(client, None)


@pytest.fixture
async def tenant(client: Client, admin: Api) -> Tenant:
    """A workspace."""
    return await make_tenant(client, admin, "acme")


@pytest.fixture
async def other(client: Client, admin: Api) -> Tenant:
    """Another workspace."""
    return await make_tenant(client, admin, "globex")


@pytest.fixture
async def ready(tenant: Tenant, resources: Resources) -> dict[str, Any]:
    """A ready document of the tenant, with two chunks."""
    document = await tenant.upload()
    await finish_document(resources, tenant.uuid, parse_id("doc", document["id"]))
    shown: dict[str, Any] = (await tenant.api.get(f"/v1/documents/{document['id']}")).json
    return shown


def operator_of(client: Client) -> Api:
    """Return a client with the admin key."""
    admin_key = client.app[RESOURCES].settings.api.admin_api_key
    assert admin_key is not None
    return Api(client, admin_key.get_secret_value())


async def make_tenant(client: Client, admin: Api, name: str) -> Tenant:
    """Create a workspace and a key for it."""
    workspace = (await admin.post("/v1/workspaces", {"name": name})).json
    return Tenant(workspace["id"], workspace["bucket"], Api(client, await make_key(admin, workspace["id"])))


async def make_key(admin: Api, workspace_id: str, **options: object) -> str:
    """Create a key and return its secret."""
    response = await admin.post(f"/v1/workspaces/{workspace_id}/keys", {"name": "a key", **options})
    assert response.status == 201, response.raw
    return str(response.json["key"])
