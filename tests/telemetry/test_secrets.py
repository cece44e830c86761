"""Even at the debug level, logs contain no secrets and no text of documents, questions or answers."""

from __future__ import annotations

import asyncio
import io
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp
import orjson
from pydantic import SecretStr

from tests.http.support.processes import serving
from tests.support.polling import until
from tests.support.servers.model_server import Fail
from tests.support.servers.worker_processes import working

if TYPE_CHECKING:
    from ragsvc.settings.settings import Settings
    from tests.support.servers.model_server import ScriptedModels

ADMIN_KEY = "marked-admin-key-3141592653"
MODEL_KEY = "marked-model-key-2718281828"
WRONG_KEY = "rag_markedwrongkey1618033988"
TEXT = "zanzibarite"
QUESTION = "quizzaciously"
ANSWER = "answeringly"
ATTRIBUTE = "attributively"


class Caller:
    """A client of the running API."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session = session
        self.url = url

    async def call(self, method: str, path: str, key: str, *, status: int, **body: Any) -> Any:
        """Send a request and return the body, parsed if it is JSON."""
        headers = {"Authorization": f"Bearer {key}"}
        if isinstance(body.get("data"), str):
            headers["Content-Type"] = "application/json"
        async with self.session.request(method, self.url + path, headers=headers, **body) as response:
            content = await response.read()
            assert response.status == status, content
            return orjson.loads(content) if "json" in response.content_type else content

    async def upload(self, key: str, content: str, *, filename: str = "a.md") -> str:
        """Upload a document and return its id."""
        form = aiohttp.FormData()
        form.add_field("file", content.encode(), filename=filename)
        form.add_field("attributes", orjson.dumps({"about": ATTRIBUTE}).decode())
        document_id: str = (await self.call("POST", "/v1/documents", key, status=202, data=form))["id"]
        return document_id

    async def until_status(self, key: str, document_id: str, status: str) -> None:
        """Wait until a document has a status."""

        async def has_it() -> bool:
            return bool((await self.call("GET", f"/v1/documents/{document_id}", key, status=200))["status"] == status)

        await until(has_it, timeout_s=60, what=f"a document that is {status}")


async def test_no_process_logs_secrets_or_text(settings: Settings, scripted_models: ScriptedModels) -> None:
    scripted_models.chat_text = f"It boils {ANSWER} [1]."
    marked = scripted_models.applied_to(settings).changed(
        {
            "admin_api_key": SecretStr(ADMIN_KEY),
            "openai_api_key": SecretStr(MODEL_KEY),
            "log_level": "debug",
            "backoff_base_s": 0.1,
            "backoff_cap_s": 0.1,
        }
    )
    output = io.BytesIO()
    async with AsyncExitStack() as stack:
        for settings_class in ("IngestionSettings", "DeletionSettings"):
            await stack.enter_async_context(working(marked, settings_class, copy_output_to=output))
        api = await stack.enter_async_context(serving(marked))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        secrets = await use_everything(Caller(session, await api.started()), scripted_models)
        assert await api.stop() == 0
    logs = api.raw_log + output.getvalue()
    assert {b"request_finished", b"job_finished", b"job_failed", b"deletion_completed", b"run_finished"} <= {
        orjson.loads(line)["event"].encode() for line in logs.splitlines()
    }
    assert settings.stores.s3_secret_access_key is not None
    password = urlsplit(settings.stores.database_url.get_secret_value()).password
    for mark in (
        *(ADMIN_KEY, MODEL_KEY, WRONG_KEY, TEXT, QUESTION, ANSWER, ATTRIBUTE),
        *secrets,
        settings.stores.s3_secret_access_key.get_secret_value(),
        *([password] if password else []),
    ):
        assert mark.encode() not in logs, mark


async def use_everything(caller: Caller, models: ScriptedModels) -> list[str]:
    """Exercise the service with valid and invalid requests; return the secrets that it issued."""
    workspace = await caller.call("POST", "/v1/workspaces", ADMIN_KEY, status=201, json={"name": "acme"})
    keys = f"/v1/workspaces/{workspace['id']}/keys"
    first = await caller.call("POST", keys, ADMIN_KEY, status=201, json={"name": "a key"})
    await caller.call("GET", "/v1/workspace", first["key"], status=200)
    key = (await caller.call("POST", f"{keys}/{first['id']}/rotate", ADMIN_KEY, status=201))["key"]
    token = await make_token(caller, key)
    document_id = await caller.upload(key, f"# Kettles\n\nThe {TEXT} kettle boils.\n")
    await caller.until_status(key, document_id, "ready")
    search = {"query": f"{TEXT} {QUESTION}"}
    await caller.call("POST", "/v1/search", key, status=200, json=search)
    await ask(caller, key)
    # Invalid keys, bodies, model responses and content, and bytes that are not HTTP.
    await caller.call("GET", "/v1/workspace", WRONG_KEY, status=401)
    await caller.call("POST", "/v1/search", key, status=400, data=f'{{"query": "{QUESTION}')
    await caller.call("POST", "/v1/search", key, status=422, json={"query": QUESTION, "nonsense": QUESTION})
    models.embeddings.usual = Fail(500)
    dense = {"query": f"another {QUESTION}", "mode": "dense"}
    await caller.call("POST", "/v1/search", key, status=503, json=dense)
    models.embeddings.usual = Fail(401, message=f"Incorrect API key provided: {MODEL_KEY}")
    await caller.call("POST", "/v1/search", key, status=503, json=dense)
    models.embeddings.reset()
    models.chat.usual = Fail(401, message=f"Incorrect API key provided: {MODEL_KEY}")
    await ask(caller, key)
    poison_id = await caller.upload(key, f"%PDF-1.7 {TEXT}", filename="poison.pdf")
    await caller.until_status(key, poison_id, "failed")
    await caller.call("GET", f"/companion/{token}/s3/params?filename={TEXT}&type=text/plain", key, status=200)
    await send_invalid_http(caller.url)
    await caller.call("DELETE", f"/v1/documents/{document_id}", key, status=202)
    await until_gone(caller, key, document_id)
    return [first["key"], key, token]


async def make_token(caller: Caller, key: str) -> str:
    collection = (await caller.call("GET", "/v1/collections", key, status=200))["data"][0]
    body = {"collection_id": collection["id"], "max_bytes": 1000}
    token: str = (await caller.call("POST", "/v1/upload-tokens", key, status=201, json=body))["token"]
    return token


async def ask(caller: Caller, key: str) -> None:
    session = await caller.call("POST", "/v1/chat/sessions", key, status=201, json={"instructions": f"Be {ANSWER}."})
    body = {"content": f"How {QUESTION} does the {TEXT} kettle boil?"}
    await caller.call("POST", f"/v1/chat/sessions/{session['id']}/messages", key, status=200, json=body)


async def send_invalid_http(url: str) -> None:
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(f"GET /companion/{WRONG_KEY} HTTP/9.9.9\r\nAuthorization: Bearer {WRONG_KEY}\r\n\r\n".encode())
    assert (await reader.read()).startswith(b"HTTP/1")
    writer.close()
    await writer.wait_closed()


async def until_gone(caller: Caller, key: str, document_id: str) -> None:
    async def is_gone() -> bool:
        headers = {"Authorization": f"Bearer {key}"}
        async with caller.session.get(f"{caller.url}/v1/documents/{document_id}", headers=headers) as response:
            return response.status == 404

    await until(is_gone, timeout_s=60, what="the deletion")
