"""A document's file, text and chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from ragsvc.http.contract.ids import parse_id
from ragsvc.http.v1.document_content import LOADED_CHARS, SLICE_CHARS
from tests.http.support.documents import CUTS, TEXT, show_failure

if TYPE_CHECKING:
    from ragsvc.resources import Resources
    from tests.http.conftest import Tenant

CONTENT = bytes(range(256)) * 1000


@pytest.fixture
async def path(tenant: Tenant) -> str:
    """The path of a document with a binary file."""
    document = await tenant.upload(CONTENT, filename='Ünïcode "report".bin')
    return f"/v1/documents/{document['id']}/content"


async def test_the_file_is_served_as_an_attachment(tenant: Tenant, path: str) -> None:
    response = await tenant.api.get(path)
    assert (response.status, response.raw == CONTENT) == (200, True)
    assert response.headers["Content-Length"] == str(len(CONTENT))
    assert response.headers["Content-Disposition"] == (
        "attachment; filename=\"_n_code _report_.bin\"; filename*=UTF-8''%C3%9Cn%C3%AFcode%20%22report%22.bin"
    )
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Accept-Ranges"] == "bytes"


async def test_a_declared_charset_is_sent_with_the_file_only(tenant: Tenant) -> None:
    data = aiohttp.FormData()
    data.add_field("file", "Привет".encode("cp866"), filename="a.txt", content_type="text/plain; charset=cp866")
    document = (await tenant.api.call("POST", "/v1/documents", data=data)).json
    file = (await tenant.api.get(f"/v1/files/{document['file_id']}")).json
    assert document["mime_type"] == file["mime_type"] == "text/plain"
    content = await tenant.api.get(f"/v1/documents/{document['id']}/content")
    assert content.headers["Content-Type"] == "text/plain; charset=cp866"


async def test_html_is_never_shown_by_the_browser(tenant: Tenant) -> None:
    document = await tenant.upload(b"<script>alert(1)</script>", filename="a.html")
    response = await tenant.api.get(f"/v1/documents/{document['id']}/content")
    assert response.headers["Content-Disposition"].startswith("attachment;")
    assert "sandbox" in response.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("wanted", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=100-", 100, 255_999),
        ("bytes=-10", 255_990, 255_999),
        ("bytes=5-999999", 5, 255_999),
    ],
)
async def test_a_range_of_the_file_is_served(tenant: Tenant, path: str, wanted: str, first: int, last: int) -> None:
    response = await tenant.api.get(path, headers={"Range": wanted})
    assert response.status == 206
    assert response.headers["Content-Range"] == f"bytes {first}-{last}/256000"
    assert response.headers["Content-Length"] == str(last - first + 1)
    same = response.raw == CONTENT[first : last + 1]
    assert same, "other bytes were served"


async def test_a_range_past_the_end_is_refused(tenant: Tenant, path: str) -> None:
    response = await tenant.api.get(path, headers={"Range": "bytes=256000-"})
    assert response.is_problem(416, "range_not_satisfiable")
    assert response.headers["Content-Range"] == "bytes */256000"


async def test_a_download_is_resumed_only_from_the_same_file(tenant: Tenant, path: str) -> None:
    etag = (await tenant.api.get(path)).headers["ETag"]
    continued = await tenant.api.get(path, headers={"Range": "bytes=255990-", "If-Range": etag})
    begun_anew = await tenant.api.get(path, headers={"Range": "bytes=255990-", "If-Range": '"another"'})
    assert (continued.status, len(continued.raw)) == (206, 10)
    assert (begun_anew.status, len(begun_anew.raw)) == (200, 256_000)


async def test_a_client_that_has_the_file_gets_a_304(tenant: Tenant, path: str) -> None:
    etag = (await tenant.api.get(path)).headers["ETag"]
    response = await tenant.api.get(path, headers={"If-None-Match": etag})
    assert (response.status, response.raw, response.headers["ETag"]) == (304, b"", etag)


async def test_head_returns_the_same_headers_without_a_body(tenant: Tenant, path: str) -> None:
    response = await tenant.api.call("HEAD", path)
    assert (response.status, response.raw) == (200, b"")
    assert response.headers["Content-Length"] == str(len(CONTENT))
    assert response.headers["ETag"] == (await tenant.api.get(path)).headers["ETag"]


async def test_the_file_can_be_served_by_the_store(tenant: Tenant, path: str) -> None:
    redirect = await tenant.api.get(f"{path}?redirect=1")
    assert redirect.status == 302
    assert redirect.headers["Cache-Control"] == "no-store"
    async with aiohttp.ClientSession() as session, session.get(redirect.headers["Location"]) as response:
        assert response.status == 200
        same = await response.read() == CONTENT
        assert same, "other bytes were served"
        assert response.headers["Content-Disposition"].startswith("attachment;")


async def test_an_invalid_redirect_parameter_is_refused(tenant: Tenant, path: str) -> None:
    assert (await tenant.api.get(f"{path}?redirect=perhaps")).is_problem(422, "invalid_request")


async def test_the_canonical_text_is_sliced_by_code_points(tenant: Tenant, ready: dict[str, Any]) -> None:
    path = f"/v1/documents/{ready['id']}/text"
    whole = (await tenant.api.get(path)).json
    assert whole == {"version": 1, "start": 0, "end": len(TEXT), "length": len(TEXT), "text": TEXT}
    start = TEXT.index("😀")
    part = (await tenant.api.get(f"{path}?version=1&start={start}&end={start + 2}")).json
    assert part == {"version": 1, "start": start, "end": start + 2, "length": len(TEXT), "text": "😀 "}
    clipped = (await tenant.api.get(f"{path}?start={len(TEXT) - 1}&end=999999")).json
    assert (clipped["end"], clipped["text"]) == (len(TEXT), ".")
    assert (await tenant.api.get(f"{path}?start={len(TEXT)}")).json["text"] == ""


async def test_a_long_text_is_sent_in_slices(tenant: Tenant, ready: dict[str, Any], resources: Resources) -> None:
    # Characters of one to four bytes, and some that JSON escapes, at the borders of the slices.
    text = '😀"\\\n\x01äx' * (3 * LOADED_CHARS // 7)
    async with resources.pool.acquire() as conn:
        await conn.execute(
            "UPDATE canonical_text SET content = $2, length = $3 WHERE document_id = $1",
            *(parse_id("doc", ready["id"]), text, len(text)),
        )
    path = f"/v1/documents/{ready['id']}/text"
    whole = await tenant.api.get(path)
    assert whole.headers["Content-Type"] == "application/json; charset=utf-8"
    shown = whole.json
    same = shown.pop("text") == text
    assert (same, shown) == (True, {"version": 1, "start": 0, "end": len(text), "length": len(text)})
    ends = (SLICE_CHARS + 1, LOADED_CHARS + 1, LOADED_CHARS + 2, 2 * LOADED_CHARS + 1, len(text) - 1)
    for start, end in ((1, end) for end in ends):
        part = (await tenant.api.get(f"{path}?start={start}&end={end}")).json
        same = part["text"] == text[start:end]
        assert (same, part["start"], part["end"]) == (True, start, end)
    head = await tenant.api.call("HEAD", path)
    assert (head.status, head.raw) == (200, b"")


@pytest.mark.parametrize(
    "query", ["start=-1", "start=5&end=4", "start=x", "version=0", f"version={2**31}", "start=1000", "from=1"]
)
async def test_an_invalid_slice_is_refused(tenant: Tenant, ready: dict[str, Any], query: str) -> None:
    response = await tenant.api.get(f"/v1/documents/{ready['id']}/text?{query}")
    assert response.is_problem(422, "invalid_request")


async def test_an_unknown_version_is_not_found(tenant: Tenant, ready: dict[str, Any]) -> None:
    assert (await tenant.api.get(f"/v1/documents/{ready['id']}/text?version=2")).is_problem(404, "not_found")


async def test_the_text_of_a_failed_document_reports_the_failure(tenant: Tenant, resources: Resources) -> None:
    document = await tenant.upload()
    await show_failure(resources, tenant.uuid, parse_id("doc", document["id"]))
    response = await tenant.api.get(f"/v1/documents/{document['id']}/text")
    assert response.is_problem(409, "text_not_ready")
    assert response.json["detail"] == "The document has no text: its ingestion failed (encrypted)."


async def test_a_document_that_is_not_ready_has_no_text_and_no_chunks(tenant: Tenant) -> None:
    document = await tenant.upload()
    assert (await tenant.api.get(f"/v1/documents/{document['id']}/text")).is_problem(409, "text_not_ready")
    chunks = await tenant.api.get(f"/v1/documents/{document['id']}/chunks")
    assert chunks.json == {"data": [], "next_cursor": None}


async def test_chunks_are_listed_in_document_order_with_their_spans(tenant: Tenant, ready: dict[str, Any]) -> None:
    path = f"/v1/documents/{ready['id']}/chunks"
    first = (await tenant.api.get(f"{path}?limit=1")).json
    second = (await tenant.api.get(f"{path}?limit=1&cursor={first['next_cursor']}")).json
    assert second["next_cursor"] is None
    found = first["data"] + second["data"]
    assert found == (await tenant.api.get(path)).json["data"]
    for ordinal, (chunk, (start, end)) in enumerate(zip(found, CUTS, strict=True)):
        assert chunk["ordinal"] == ordinal
        assert chunk["text"] == TEXT[start:end]
        assert (chunk["char_start"], chunk["char_end"]) == (start, end)
        assert (chunk["page_first"], chunk["page_last"], chunk["heading_path"]) == (
            ordinal + 1,
            ordinal + 1,
            ["Kettles"],
        )
        assert len(chunk["content_hash"]) == 64


async def test_a_document_cannot_be_read_while_it_is_being_deleted(tenant: Tenant, ready: dict[str, Any]) -> None:
    path = f"/v1/documents/{ready['id']}"
    reads = (f"{path}/text", f"{path}/chunks", f"{path}/content", f"{path}/content?redirect=true")
    assert {(await tenant.api.get(read)).status for read in reads[:3]} == {200}
    assert (await tenant.api.delete(path)).status == 202
    for read in reads:
        assert (await tenant.api.get(read)).is_problem(409, "document_deleting"), read
    assert (await tenant.api.get(path)).json["status"] == "deleting"
