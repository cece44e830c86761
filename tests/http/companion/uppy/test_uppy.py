"""Uploads with a token from pages that use the unmodified @uppy/core and @uppy/aws-s3 from npm."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from ragsvc.http.state import RESOURCES
from tests.http.companion.uppy.installed import PACKAGES, install_uppy
from tests.http.conftest import make_tenant, operator_of
from tests.http.support.uploads import MIB, content_of, make_token

if TYPE_CHECKING:
    from tests.http.conftest import ClientMaker, Tenant

PAGE = "https://app.example"
SCRIPT = Path(__file__).with_name("upload.mjs")
CONTENT = content_of(20 * MIB)
UPLOAD_S = 120

pytestmark = pytest.mark.xdist_group("uppy")


# The newest version runs by default, older ones in the chaos suite.
NEWEST, *OLDER = sorted(PACKAGES, reverse=True)


@pytest.fixture(
    params=[NEWEST, *(pytest.param(major, marks=pytest.mark.chaos) for major in OLDER)],
    ids=lambda major: f"uppy-{major}",
)
def major(request: pytest.FixtureRequest) -> int:
    """A major version of Uppy, installed if necessary."""
    number: int = request.param
    install_uppy(number)
    return number


@pytest.fixture
async def tenant(make_client: ClientMaker) -> Tenant:
    """A workspace in an application that allows the page's origin."""
    client = await make_client(cors_allowed_origins=PAGE)
    return await make_tenant(client, operator_of(client), "acme")


async def upload(tenant: Tenant, major: int, content: bytes, folder: Path, **task: object) -> dict[str, Any]:
    """Run the page and return its output; `task` has the options of upload.mjs."""
    file = folder / "content"
    file.write_bytes(content)
    token = await make_token(tenant.api)
    base = {"modules": str(install_uppy(major)), "major": major, "origin": PAGE, "companionUrl": token["companion_url"]}
    process = await asyncio.create_subprocess_exec(
        "node",
        str(SCRIPT),
        json.dumps({**base, "file": str(file), "name": "kettles.txt", **task}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), UPLOAD_S)
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, err.decode()
    output: dict[str, Any] = json.loads(out.splitlines()[-1])
    return {**output, "err": err.decode()}


async def content_of_document(tenant: Tenant, url: str) -> bytes:
    """Return the content of the document at the URL that Uppy received."""
    return (await tenant.api.get(f"{urlsplit(url).path}/content")).raw


async def is_store_empty(tenant: Tenant) -> bool:
    """Return whether the store holds no objects and no unfinished uploads of the workspace."""
    storage = tenant.api.client.app[RESOURCES].storage
    return not await storage.list_multiparts(tenant.bucket) and not await storage.count_objects(tenant.bucket)


@pytest.mark.parametrize("says_size", [False, True])
async def test_a_large_file_is_sent_in_parts(tenant: Tenant, major: int, tmp_path: Path, *, says_size: bool) -> None:
    output = await upload(tenant, major, CONTENT, tmp_path, multipart=True, saysSize=says_size)
    assert output["failed"] == [], output
    assert sorted(output["parts"]) == [1, 2, 3, 4]
    (url,) = output["successful"]
    stored = await content_of_document(tenant, url)
    assert hashlib.sha256(stored).digest() == hashlib.sha256(CONTENT).digest()
    (document,) = (await tenant.api.get("/v1/documents")).json["data"]
    assert (document["filename"], document["size_bytes"]) == ("kettles.txt", len(CONTENT))


async def test_uppy_sends_a_small_file_in_one_request(tenant: Tenant, major: int, tmp_path: Path) -> None:
    output = await upload(tenant, major, b"Kettles boil water.", tmp_path)
    # Uppy requests the form once and posts the file to it; there is no completion request.
    assert (output["failed"], output["calls"], len(output["successful"])) == ([], 1, 1), output
    (document,) = (await tenant.api.get("/v1/documents")).json["data"]
    assert (document["filename"], document["mime_type"]) == ("kettles.txt", "text/plain")
    assert (await tenant.api.get(f"/v1/documents/{document['id']}/content")).raw == b"Kettles boil water."


async def test_a_cancelled_upload_leaves_nothing_behind(tenant: Tenant, major: int, tmp_path: Path) -> None:
    output = await upload(tenant, major, CONTENT, tmp_path, multipart=True, cancelAfter=2)
    assert output["successful"] == [], output
    assert await is_store_empty(tenant)
    assert (await tenant.api.get("/v1/documents")).json["data"] == []
    statuses = [one["status"] for one in (await tenant.api.get("/v1/uploads")).json["data"]]
    assert statuses == ["aborted"]


async def test_a_retry_succeeds_after_the_response_to_a_completion_is_lost(tenant: Tenant, tmp_path: Path) -> None:
    # Uppy 5 restarts an upload whose completion fails, so only the newest version is tested.
    output = await upload(tenant, max(PACKAGES), CONTENT, tmp_path, multipart=True, failCompletion=True, retries=True)
    assert (output["failedFirst"], output["failed"], len(output["successful"])) == (1, [], 1), output
    assert sorted(output["parts"]) == [1, 2, 3, 4]
    assert await content_of_document(tenant, output["successful"][0]) == CONTENT
    assert len((await tenant.api.get("/v1/documents")).json["data"]) == 1


async def test_a_page_of_another_origin_cannot_upload(tenant: Tenant, tmp_path: Path) -> None:
    output = await upload(tenant, max(PACKAGES), b"Kettles.", tmp_path, origin="https://evil.example")
    assert (output["successful"], len(output["failed"])) == ([], 1), output
    assert "CORS" in output["failed"][0]
    assert (await tenant.api.get("/v1/documents")).json["data"] == []
