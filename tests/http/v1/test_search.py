"""POST /v1/search over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ragsvc.devstack.ports import free_ports
from ragsvc.domain.ids import format_id, new_id
from ragsvc.http.contract.ids import parse_id
from tests.http.conftest import Api
from tests.http.support.documents import finish_document

if TYPE_CHECKING:
    from ragsvc.resources import Resources
    from tests.http.conftest import ClientMaker, Tenant


async def test_hits_have_the_documented_fields(tenant: Tenant, ready: dict[str, Any]) -> None:
    response = await tenant.api.post("/v1/search", {"query": "descale the kettle"})
    assert response.status == 200
    hit = response.json["data"][0]
    assert set(hit) == {
        "chunk_id", "document_id", "filename", "version", "ordinal", "score", "scores", "text", "page_first",
        "page_last", "heading_path", "char_start", "char_end", "attributes", "duplicates",
    }  # fmt: skip
    assert hit["document_id"] == ready["id"]
    assert hit["chunk_id"].startswith("chunk_")
    assert set(hit["scores"]) == {"dense", "lexical", "reranked"}
    assert response.json["degraded"] == []
    assert (hit["filename"], hit["version"]) == ("kettles.txt", 1)


@pytest.mark.parametrize("mode", ["hybrid", "dense", "lexical"])
async def test_every_mode_finds_words(tenant: Tenant, ready: dict[str, Any], mode: str) -> None:
    response = await tenant.api.post("/v1/search", {"query": "descale", "mode": mode, "limit": 2})
    assert ready["id"] in {hit["document_id"] for hit in response.json["data"]}


@pytest.mark.usefixtures("ready")
async def test_filters_restrict_the_hits(tenant: Tenant, ready: dict[str, Any]) -> None:
    await tenant.api.patch(f"/v1/documents/{ready['id']}", {"attributes": {"lang": "en", "year": 2024}})
    inside = {
        "type": "and",
        "filters": [
            {"type": "eq", "key": "lang", "value": "en"},
            {"type": "or", "filters": [{"type": "gte", "key": "year", "value": 2024.0}]},
            {"type": "nin", "key": "lang", "value": ["de", 7, True]},
        ],
    }
    assert (await tenant.api.post("/v1/search", {"query": "kettles", "filters": inside})).json["data"]
    outside = {"type": "eq", "key": "lang", "value": "de"}
    assert (await tenant.api.post("/v1/search", {"query": "kettles", "filters": outside})).json["data"] == []


def nested(depth: int) -> dict[str, Any]:
    """Return a filter that is nested `depth` levels deep."""
    condition: dict[str, Any] = {"type": "eq", "key": "k", "value": 1}
    for _ in range(depth - 1):
        condition = {"type": "and", "filters": [condition]}
    return condition


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"query": ""},
        {"query": "  "},
        {"query": "a\0b"},
        {"query": "x" * 4001},
        {"query": "x", "limit": 0},
        {"query": "x", "limit": 101},
        {"query": "x", "limit": "10"},
        {"query": "x", "mode": "magic"},
        {"query": "x", "min_score": 2},
        {"query": "x", "collection_ids": []},
        {"query": "x", "collection_ids": ["default"]},
        {"query": "x", "surprise": 1},
        {"query": "x", "filters": {}},
        {"query": "x", "filters": {"type": "eq", "key": "k"}},
        {"query": "x", "filters": {"type": "eq", "key": "", "value": 1}},
        {"query": "x", "filters": {"type": "eq", "key": "k", "value": [1]}},
        {"query": "x", "filters": {"type": "eq", "key": "k", "value": None}},
        {"query": "x", "filters": {"type": "gt", "key": "k", "value": True}},
        {"query": "x", "filters": {"type": "in", "key": "k", "value": []}},
        {"query": "x", "filters": {"type": "like", "key": "k", "value": "x"}},
        {"query": "x", "filters": {"type": "and", "filters": []}},
        {"query": "x", "filters": nested(9)},
        {"query": "x", "filters": nested(300)},
        {"query": "x", "filters": {"type": "or", "filters": [{"type": "eq", "key": "k", "value": 1}] * 65}},
    ],
)
async def test_an_invalid_search_is_refused(tenant: Tenant, body: dict[str, Any]) -> None:
    response = await tenant.api.post("/v1/search", body)
    assert response.is_problem(422, "invalid_request")
    assert response.json["errors"]


async def test_an_unknown_collection_is_not_found(tenant: Tenant, other: Tenant) -> None:
    theirs = (await other.api.get("/v1/collections")).json["data"][0]["id"]
    for collection_id in (format_id("col", new_id()), theirs, "col_zzz"):
        response = await tenant.api.post("/v1/search", {"query": "x", "collection_ids": [collection_id]})
        assert response.is_problem(404, "not_found")


async def test_a_hybrid_search_does_without_the_embedding_model(
    make_client: ClientMaker, tenant: Tenant, ready: dict[str, Any]
) -> None:
    client = await make_client(openai_base_url=f"http://127.0.0.1:{free_ports(1)[0]}/v1")
    api = Api(client, tenant.api.key)
    response = await api.post("/v1/search", {"query": "descale"})
    assert response.json["degraded"] == ["dense"]
    (hit,) = response.json["data"]
    assert (hit["document_id"], hit["scores"]["dense"], hit["score"]) == (ready["id"], None, hit["scores"]["lexical"])
    lexical = (await api.post("/v1/search", {"query": "descale", "mode": "lexical"})).json
    assert (lexical["data"], lexical["degraded"]) == ([hit], [])
    # Without vectors, neither the dense order nor a minimum similarity can be computed.
    for body in ({"mode": "dense"}, {"min_score": 0.1}):
        refused = await api.post("/v1/search", {"query": "descale", **body})
        assert refused.is_problem(503, "unavailable")
        assert "Retry-After" in refused.headers


async def test_equal_chunks_are_folded_unless_the_client_objects(
    tenant: Tenant, ready: dict[str, Any], resources: Resources
) -> None:
    copy = await tenant.upload(filename="copy.txt")
    await finish_document(resources, tenant.uuid, parse_id("doc", copy["id"]))
    search = {"query": "descale", "mode": "lexical"}
    (hit,) = (await tenant.api.post("/v1/search", search)).json["data"]
    (duplicate,) = hit["duplicates"]
    assert (hit["document_id"], duplicate["document_id"]) == (ready["id"], copy["id"])
    assert duplicate["filename"] == "copy.txt"
    assert duplicate["chunk_id"].startswith("chunk_")
    hits = (await tenant.api.post("/v1/search", {**search, "fold_duplicates": False})).json["data"]
    assert {hit["document_id"] for hit in hits} == {ready["id"], copy["id"]}
    assert [hit["duplicates"] for hit in hits] == [[], []]


async def test_a_search_needs_a_key(stranger: Api) -> None:
    assert (await stranger.post("/v1/search", {"query": "x"})).is_problem(401, "unauthorized")
