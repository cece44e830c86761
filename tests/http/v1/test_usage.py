"""GET /v1/usage: the tokens that a workspace's answers and embeddings use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ragsvc import query_usage
from ragsvc.http.contract.ids import parse_id
from ragsvc.http.state import RESOURCES
from ragsvc.ingestion.embedding import embed_chunks
from tests.http.conftest import Api, make_tenant, operator_of
from tests.http.support.documents import finish_document, sample_chunks
from tests.support.polling import until
from tests.support.servers.databases import owner_of

if TYPE_CHECKING:
    from ragsvc.settings.settings import Settings
    from tests.http.conftest import Client, ClientMaker, Tenant
    from tests.support.servers.model_server import ScriptedModels

QUERIES = ("how often are kettles descaled?", "what do kettles boil?", "which water?")
FIELDS = {
    "day", "operation", "model", "runs", "estimated_runs", "embedding_calls", "estimated_embedding_calls",
    "prompt_tokens", "completion_tokens",
}  # fmt: skip
# A chat model can have the same name as the embedding model.
MODEL = "all-MiniLM-L6-v2"


@pytest.fixture
async def scripted(make_client: ClientMaker, scripted_models: ScriptedModels) -> Client:
    """A client of the application with scripted models."""
    return await make_client(openai_base_url=scripted_models.url, chat_model=MODEL)


@pytest.fixture
async def chat_tenant(scripted: Client) -> Tenant:
    """A workspace with a ready document that used no tokens."""
    tenant = await make_tenant(scripted, operator_of(scripted), "asker")
    document = await tenant.upload()
    await finish_document(scripted.app[RESOURCES], tenant.uuid, parse_id("doc", document["id"]))
    return tenant


async def ignore(_count: int) -> None: ...


async def usage_of(api: Api, operation: str) -> dict[str, int]:
    """Return an operation's usage, summed over two days in case the test runs across midnight."""
    entries = [entry for entry in (await api.get("/v1/usage")).json["data"] if entry["operation"] == operation]
    assert all(set(entry) == FIELDS and entry["model"] == MODEL for entry in entries)
    return {name: sum(entry[name] for entry in entries) for name in FIELDS - {"day", "operation", "model"}}


async def wait_for_embedding_usage(api: Api, *, calls: int) -> dict[str, int]:
    """Return the embedding usage once at least `calls` calls are counted."""

    async def found() -> dict[str, int] | None:
        usage = await usage_of(api, "embeddings")
        return usage if usage["embedding_calls"] >= calls else None

    return await until(found)


def expected_usage(*, calls: int, tokens: int) -> dict[str, int]:
    """Return the usage that the API should report for embeddings."""
    usage = dict.fromkeys(FIELDS - {"day", "operation", "model"}, 0)
    return usage | {"embedding_calls": calls, "prompt_tokens": tokens}


async def search(api: Api, query: str) -> None:
    response = await api.post("/v1/search", {"query": query})
    assert response.status == 200


async def test_a_repeated_query_uses_tokens_once(chat_tenant: Tenant, tenant: Tenant) -> None:
    # Usage is written in order, so once the last query is counted, the earlier ones are too.
    for query in (QUERIES[0], QUERIES[0], QUERIES[1]):
        await search(chat_tenant.api, query)
    tokens = len(QUERIES[0]) // 4 + len(QUERIES[1]) // 4
    assert await wait_for_embedding_usage(chat_tenant.api, calls=2) == expected_usage(calls=2, tokens=tokens)
    assert (await tenant.api.get("/v1/usage")).json == {"data": []}


async def test_chat_and_embedding_usage_are_separate_even_with_equal_model_names(chat_tenant: Tenant) -> None:
    session = (await chat_tenant.api.post("/v1/chat/sessions")).json
    body = {"content": QUERIES[0], "stream": False}
    response = await chat_tenant.api.post(f"/v1/chat/sessions/{session['id']}/messages", body)
    cost = response.json["message"]["usage"]
    assert await wait_for_embedding_usage(chat_tenant.api, calls=1) == expected_usage(
        calls=1, tokens=len(QUERIES[0]) // 4
    )
    nothing = {"estimated_runs": 0, "embedding_calls": 0, "estimated_embedding_calls": 0}
    assert await usage_of(chat_tenant.api, "chat") == {"runs": 1, **nothing, **cost}


async def test_ingestion_and_queries_add_up(scripted: Client, chat_tenant: Tenant) -> None:
    chunks = sample_chunks()
    await search(chat_tenant.api, QUERIES[2])
    await embed_chunks(scripted.app[RESOURCES], chat_tenant.uuid, chunks, report=ignore)
    tokens = sum(len(chunk.embedding_input) for chunk in chunks) // 4 + len(QUERIES[2]) // 4
    assert await wait_for_embedding_usage(chat_tenant.api, calls=2) == expected_usage(calls=2, tokens=tokens)


async def test_a_search_does_not_wait_for_its_usage_to_be_written(chat_tenant: Tenant, settings: Settings) -> None:
    async with owner_of(settings) as owner, owner.transaction():
        await owner.execute("LOCK TABLE embedding_usage")
        await search(chat_tenant.api, QUERIES[0])
    assert (await wait_for_embedding_usage(chat_tenant.api, calls=1))["embedding_calls"] == 1


async def test_a_stopping_process_writes_its_pending_usage(
    make_client: ClientMaker, chat_tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as clock:
        clock.setattr(query_usage, "WRITE_EVERY_S", 3600.0)
        stopping = await make_client()
    await search(Api(stopping, chat_tenant.api.key), QUERIES[0])
    assert await usage_of(chat_tenant.api, "embeddings") == expected_usage(calls=0, tokens=0)
    await stopping.close()
    assert (await usage_of(chat_tenant.api, "embeddings"))["embedding_calls"] == 1


@pytest.mark.parametrize("days", ["first=x", "first=2026-01-02&last=2026-01-01", "first=2020-01-01&last=2026-01-01"])
async def test_invalid_periods_are_refused(tenant: Tenant, days: str) -> None:
    assert (await tenant.api.get(f"/v1/usage?{days}")).is_problem(422, "invalid_request")


async def test_days_outside_the_period_are_not_shown(chat_tenant: Tenant) -> None:
    await search(chat_tenant.api, QUERIES[0])
    await wait_for_embedding_usage(chat_tenant.api, calls=1)
    assert (await chat_tenant.api.get("/v1/usage?last=2020-01-01")).json == {"data": []}
