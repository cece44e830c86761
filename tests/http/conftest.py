"""The real application in this process, clients of it, and documents as workers leave them."""

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
    """An answer, read to its end."""

    status: int
    headers: CIMultiDictProxy[str]
    raw: bytes

    @property
    def json(self) -> Any:
        """The parsed body."""
        return orjson.loads(self.raw)

    def is_problem(self, status: int, code: str) -> bool:
        """Tell whether this is the problem, in its one shape."""
        body = self.json
        return (
            self.status == body.get("status") == status
            and body.get("code") == code
            and self.headers["Content-Type"] == "application/problem+json"
            and body["request_id"] == self.headers["X-Request-Id"]
            and {"type", "title", "detail"} <= set(body)
        )


class Api:
    """A client that always shows the same key."""

    def __init__(self, client: Client, key: str | None) -> None:
        self.client = client
        self.key = key

    @property
    def headers(self) -> dict[str, str]:
        """What authenticates."""
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}

    async def call(
        self, method: str, path: str, *, headers: dict[str, str] | None = None, **options: Any
    ) -> ApiResponse:
        """Send a request and read the answer to its end; redirects are not followed."""
        every = {**self.headers, **(headers or {})}
        async with self.client.request(method, path, headers=every, allow_redirects=False, **options) as response:
            return ApiResponse(response.status, response.headers, await response.read())

    async def get(self, path: str, **options: Any) -> ApiResponse:
        """GET."""
        return await self.call("GET", path, **options)

    async def post(self, path: str, body: object = None, **options: Any) -> ApiResponse:
        """POST a JSON body, if there is one."""
        return await self.call("POST", path, json=body, **options)

    async def patch(self, path: str, body: object) -> ApiResponse:
        """PATCH."""
        return await self.call("PATCH", path, json=body)

    async def delete(self, path: str) -> ApiResponse:
        """DELETE."""
        return await self.call("DELETE", path)


@dataclass(frozen=True, slots=True)
class Tenant:
    """A workspace made through the API, and a client with a key of it that may do everything."""

    id: str
    bucket: str
    api: Api

    @property
    def uuid(self) -> UUID:
        """The workspace's id inside."""
        return parse_id("ws", self.id)

    async def upload(self, content: bytes = b"Kettles boil water.", *, filename: str = "kettles.txt") -> dict[str, Any]:
        """Upload a document into the default collection and return it, queued."""
        answer = await self.api.call("POST", "/v1/documents", data=form(content, filename=filename))
        assert answer.status == 202, answer.raw
        document: dict[str, Any] = answer.json
        return document


class Server(TestServer):
    """Serves like `ragsvc serve`: a client's leaving does not cancel the handler, as aiohttp's test server would."""

    async def _make_runner(self, **options: Any) -> web.BaseRunner:
        return await super()._make_runner(**{**options, "handler_cancellation": False})


@pytest.fixture(scope="session")
async def settings(base_settings: Settings, template: str) -> AsyncIterator[Settings]:
    """One database for this floor's tests: each makes workspaces of its own, which must keep them apart anyway."""
    own = uuid.uuid4().hex[:12]
    async with cloned(base_settings.stores.database_url.get_secret_value(), template=template) as url:
        yield base_settings.changed(
            {
                "database_url": SecretStr(url),
                "queue_prefix": f"test-{own}",
                "s3_bucket_prefix": f"test-{own}",
                # Nothing works here, so nobody is told anything.
                "webhook_allowed_origins": "https://hooks.example.com",
            }
        )


@pytest.fixture(scope="session")
def contract() -> Contract:
    """What the API says of itself, held against every answer of these tests."""
    return Contract()


@pytest.fixture(autouse=True)
def _keep_contract(contract: Contract) -> Iterator[None]:
    yield
    assert contract.take_breaches() == []


@pytest.fixture(scope="session")
async def client(settings: Settings, contract: Contract) -> AsyncIterator[Client]:
    """The application."""
    app = create_app(settings, timing=TIMING)
    contract.watch(app)
    async with TestClient(Server(app)) as started:
        yield started


@pytest.fixture
def resources(client: Client) -> Resources:
    """What the application itself holds open."""
    return client.app[RESOURCES]


@pytest.fixture
async def serve(contract: Contract) -> AsyncIterator[Callable[..., Awaitable[Client]]]:
    """Serves an application for the length of a test."""
    async with AsyncExitStack() as stack:

        async def start(app: web.Application, **options: Any) -> Client:
            contract.watch(app)
            return await stack.enter_async_context(TestClient(Server(app), **options))

        yield start


@pytest.fixture
def make_client(settings: Settings, serve: Callable[..., Awaitable[Client]]) -> ClientMaker:
    """Starts another application on the same database, with other settings."""

    async def start(**changes: object) -> Client:
        return await serve(create_app(settings.changed(changes), timing=TIMING))

    return start


@pytest.fixture
async def own_client(base_settings: Settings, template: str, contract: Contract) -> AsyncIterator[Client]:
    """An application on a database of its own, whose workspaces and queues are nobody else's."""
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
    """The operator."""
    return operator_of(client)


@pytest.fixture
def stranger(client: Client) -> Api:
    """Somebody without a key."""
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
    """A document of the tenant with two chunks, as a worker leaves it."""
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
    """Make a workspace and a key for it."""
    workspace = (await admin.post("/v1/workspaces", {"name": name})).json
    return Tenant(workspace["id"], workspace["bucket"], Api(client, await make_key(admin, workspace["id"])))


async def make_key(admin: Api, workspace_id: str, **options: object) -> str:
    """Make a key and return its secret."""
    answer = await admin.post(f"/v1/workspaces/{workspace_id}/keys", {"name": "a key", **options})
    assert answer.status == 201, answer.raw
    return str(answer.json["key"])
