"""`ragsvc storage audit` lists orphans, and removes them with --fix."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from ragsvc.domain.ids import new_id
from ragsvc.settings.settings import load_settings
from ragsvc.storage.store import open_storage

if TYPE_CHECKING:
    from tests.cli.conftest import CommandLine

pytestmark = pytest.mark.xdist_group("cli-service")


async def begin_upload(bucket: str, key: str) -> None:
    async with open_storage(load_settings()) as storage:
        await storage.create_multipart(bucket, key, mime_type="a/b")


def test_orphans_are_listed_and_removed_only_on_request(on_server: CommandLine) -> None:
    workspace = on_server("workspaces", "create", "audited", "--json").json
    key = f"objects/{new_id().hex}"
    asyncio.run(begin_upload(workspace["bucket"], key))

    def audit(*options: str) -> list[dict[str, object]]:
        result = on_server("storage", "audit", "--json", *options)
        assert result.code == 0, result.err
        return [one for one in result.json["data"] if one["workspace_id"] == workspace["id"]]

    assert audit() == []  # younger than the time-to-live
    (found,) = audit("--older-than-s", "0")
    assert (found["kind"], found["object_key"], found["bucket"]) == ("multipart", key, workspace["bucket"])
    assert key in on_server("storage", "audit", "--older-than-s", "0").out
    (fixed,) = audit("--older-than-s", "0", "--fix")
    assert fixed == found
    assert audit("--older-than-s", "0") == []


def test_a_wrong_setting_is_reported_in_one_line(cli: CommandLine) -> None:
    assert "DATABASE_URL is not set" in cli("storage", "audit").error
