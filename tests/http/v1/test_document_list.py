"""GET /v1/documents: filters, order and count."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.http.conftest import Tenant


async def test_documents_are_listed_by_name_time_and_attributes(tenant: Tenant, ready: dict[str, Any]) -> None:
    await tenant.api.patch(f"/v1/documents/{ready['id']}", {"attributes": {"team": "kitchen", "year": 2024}})
    second = await tenant.upload(b"Toasters toast.", filename="Toast_50%.txt")
    third = await tenant.upload(b"Pans fry.", filename="toasted.txt")

    async def ids(**query: str) -> list[str]:
        response = await tenant.api.client.get("/v1/documents", params=query, headers=tenant.api.headers)
        assert response.status == 200, await response.text()
        return [document["id"] for document in (await response.json())["data"]]

    assert await ids(filename_contains="TOAST") == [third["id"], second["id"]]
    assert await ids(filename_contains="t_5") == [second["id"]]
    assert await ids(filename_contains="%.") == [second["id"]]
    assert await ids(sort="created_at") == [ready["id"], second["id"], third["id"]]
    assert await ids(created_from=second["created_at"]) == [third["id"], second["id"]]
    assert await ids(created_until=second["created_at"]) == [ready["id"]]
    assert await ids(filters='{"type": "eq", "key": "team", "value": "kitchen"}') == [ready["id"]]
    assert await ids(filters='{"type": "gt", "key": "year", "value": 2024}') == []
    counted = (await tenant.api.get("/v1/documents?limit=1&count=true&sort=created_at")).json
    assert (counted["total"], [document["id"] for document in counted["data"]]) == (3, [ready["id"]])
    rest = (await tenant.api.get(f"/v1/documents?sort=created_at&cursor={counted['next_cursor']}")).json
    assert [document["id"] for document in rest["data"]] == [second["id"], third["id"]]
    assert "total" not in rest


@pytest.mark.parametrize(
    "query", ["filters={", "filters=[]", "filters={}", "sort=size", "filename_contains=", "count=2"]
)
async def test_an_invalid_list_is_refused(tenant: Tenant, query: str) -> None:
    assert (await tenant.api.get(f"/v1/documents?{query}")).is_problem(422, "invalid_request")
