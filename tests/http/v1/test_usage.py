"""GET /v1/usage: what answers and embeddings cost a workspace."""

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
# A chat model may have the embedding model's name.
MODEL = "all-MiniLM-L6-v2"


@pytest.fixture
async def scripted(make_client: ClientMaker, scripted_models: ScriptedModels) -> Client:
    """The application with scripted models."""
    return await make_client(openai_base_url=scripted_models.url, chat_model=MODEL)


@pytest.fixture
async def asker(scripted: Client) -> Tenant:
    """A workspace with a ready document, which cost nothing."""
    tenant = await make_tenant(scripted, operator_of(scripted), "asker")
    document = await tenant.upload()
    await finish_document(scripted.app[RESOURCES], tenant.uuid, parse_id("doc", document["id"]))
    return tenant


async def ignore(_count: int) -> None: ...


async def spent(api: Api, operation: str) -> dict[str, int]:
    """Return what an operation cost, field by field; of two days where it has just been midnight."""
    entries = [entry for entry in (await api.get("/v1/usage")).json["data"] if entry["operation"] == operation]
    assert all(set(entry) == FIELDS and entry["model"] == MODEL for entry in entries)
    return {name: sum(entry[name] for entry in entries) for name in FIELDS - {"day", "operation", "model"}}


async def embedded(api: Api, *, calls: int) -> dict[str, int]:
    """Return what embeddings cost, once so many calls are counted."""

    async def found() -> dict[str, int] | None:
        usage = await spent(api, "embeddings")
        return usage if usage["embedding_calls"] >= calls else None

    return await until(found)


def embeddings(*, calls: int, tokens: int) -> dict[str, int]:
    """Return what embeddings cost, as the server told it."""
    told = dict.fromkeys(FIELDS - {"day", "operation", "model"}, 0)
    return told | {"embedding_calls": calls, "prompt_tokens": tokens}


async def search(api: Api, query: str) -> None:
    answer = await api.post("/v1/search", {"query": query})
    assert answer.status == 200


async def test_a_query_costs_once_and_its_repetition_nothing(asker: Tenant, tenant: Tenant) -> None:
    # The last is written after what was noted before it.
    for query in (QUERIES[0], QUERIES[0], QUERIES[1]):
        await search(asker.api, query)
    tokens = len(QUERIES[0]) // 4 + len(QUERIES[1]) // 4
    assert await embedded(asker.api, calls=2) == embeddings(calls=2, tokens=tokens)
    assert (await tenant.api.get("/v1/usage")).json == {"data": []}


async def test_answers_and_their_queries_are_told_apart_whatever_the_models_are_called(asker: Tenant) -> None:
    session = (await asker.api.post("/v1/chat/sessions")).json
    body = {"content": QUERIES[0], "stream": False}
    answer = await asker.api.post(f"/v1/chat/sessions/{session['id']}/messages", body)
    cost = answer.json["message"]["usage"]
    assert await embedded(asker.api, calls=1) == embeddings(calls=1, tokens=len(QUERIES[0]) // 4)
    nothing = {"estimated_runs": 0, "embedding_calls": 0, "estimated_embedding_calls": 0}
    assert await spent(asker.api, "chat") == {"runs": 1, **nothing, **cost}


async def test_ingestion_and_queries_add_up(scripted: Client, asker: Tenant) -> None:
    chunks = sample_chunks()
    await search(asker.api, QUERIES[2])
    await embed_chunks(scripted.app[RESOURCES], asker.uuid, chunks, report=ignore)
    tokens = sum(len(chunk.embedding_input) for chunk in chunks) // 4 + len(QUERIES[2]) // 4
    assert await embedded(asker.api, calls=2) == embeddings(calls=2, tokens=tokens)


async def test_no_search_waits_for_its_count(asker: Tenant, settings: Settings) -> None:
    async with owner_of(settings) as owner, owner.transaction():
        await owner.execute("LOCK TABLE embedding_usage")
        await search(asker.api, QUERIES[0])
    assert (await embedded(asker.api, calls=1))["embedding_calls"] == 1


async def test_a_process_that_stops_writes_what_it_has_counted(
    make_client: ClientMaker, asker: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as clock:
        clock.setattr(query_usage, "WRITE_EVERY_S", 3600.0)
        stopping = await make_client()
    await search(Api(stopping, asker.api.key), QUERIES[0])
    assert await spent(asker.api, "embeddings") == embeddings(calls=0, tokens=0)
    await stopping.close()
    assert (await spent(asker.api, "embeddings"))["embedding_calls"] == 1


@pytest.mark.parametrize("days", ["first=x", "first=2026-01-02&last=2026-01-01", "first=2020-01-01&last=2026-01-01"])
async def test_days_that_make_no_sense_are_refused(tenant: Tenant, days: str) -> None:
    assert (await tenant.api.get(f"/v1/usage?{days}")).is_problem(422, "invalid_request")


async def test_other_days_are_not_told(asker: Tenant) -> None:
    await search(asker.api, QUERIES[0])
    await embedded(asker.api, calls=1)
    assert (await asker.api.get("/v1/usage?last=2020-01-01")).json == {"data": []}
