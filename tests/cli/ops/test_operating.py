"""Operators' commands: workspaces, keys, queues, dead letters, migrations."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import orjson
import pytest
from pydantic import SecretStr

from ragsvc.cli.client.target import READY_FILE
from ragsvc.db.connections.pool import open_pool
from ragsvc.db.jobs import try_lock
from ragsvc.settings.settings import FIELDS, Settings
from tests.cli.conftest import start_cli

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import CommandLine, Service

pytestmark = pytest.mark.xdist_group("cli-service")


def test_a_workspace_and_its_keys_are_created_and_revoked(
    operator: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = operator("workspaces", "create", "globex", "--json").json
    assert workspace["id"] in operator("workspaces", "list").out
    assert workspace in operator("workspaces", "list", "--json").json["data"]
    key = operator("keys", "create", workspace["id"], "--name", "reader", "--scope", "read", "--json").json
    assert key["scopes"] == ["read"]
    monkeypatch.setenv("RAGSVC_API_KEY", key["key"])
    assert operator("documents", "list").code == 0
    assert [one["id"] for one in operator("keys", "list", workspace["id"], "--json").json["data"]] == [key["id"]]
    assert key["key"] not in operator("keys", "list", workspace["id"]).out
    rotated = operator("keys", "rotate", workspace["id"], key["id"], "--overlap-s", "60", "--json").json
    assert rotated["scopes"] == ["read"]
    assert operator("keys", "revoke", workspace["id"], key["id"]).code == 0
    assert "(unauthorized)" in operator("documents", "list").error
    assert operator("keys", "revoke", workspace["id"], key["id"], "--json").code == 1


def test_the_dependencies_of_a_server_are_checked(
    cli: CommandLine, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in FIELDS:
        if name.upper() in service.env:
            monkeypatch.setenv(name.upper(), service.env[name.upper()])
    checked = cli("check")
    assert checked.code == 0, checked.out
    assert checked.out.splitlines()[:2] == ["postgres: ok", "roles: ok"]
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    checked = cli("check", "--json")
    assert checked.code == 1
    faults = {one["part"]: one["faults"] for one in checked.json["data"] if one["faults"]}
    assert set(faults) == {"embedding", "chat"}
    monkeypatch.setenv("EMBEDDING_DIMENSIONS", "385")
    refused = cli("check")
    assert refused.code == 1
    assert "with 385 dimensions" in refused.error


def test_a_key_can_expire(operator: CommandLine, tenant: dict[str, str]) -> None:
    made = operator("keys", "create", tenant["id"], "--name", "short", "--expires-at", "2999-12-31", "--json")
    assert made.json["expires_at"].startswith("2999-12-31T00:00:00")
    past = operator("keys", "create", tenant["id"], "--name", "short", "--expires-at", "1999-12-31")
    assert past.code == 1
    assert "expires_at" in past.error


def test_a_workspace_key_does_not_open_the_admin_api(user: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert user("workspaces", "list").code == 2  # no admin key at all
    monkeypatch.setenv("RAGSVC_ADMIN_KEY", "guessed")
    assert user("workspaces", "list").code == 1


def test_queues_are_shown_paused_and_resumed(operator: CommandLine) -> None:
    assert {one["queue"] for one in operator("queues", "list", "--json").json["data"]} == {"ingestion", "deletion"}
    assert operator("queues").out.splitlines()[0] == operator("queues", "list").out.splitlines()[0]
    assert operator("queues", "pause", "deletion", "--reason", "a test").out == "deletion: paused\n"
    assert "a test" in operator("queues", "list").out
    resumed = operator("queues", "resume", "deletion", "--json").json
    assert (resumed["paused"], resumed["reason"]) == (False, None)
    assert operator("queues", "pause", "nowhere").code == 2


@pytest.fixture
def dead(user: CommandLine, operator: CommandLine, tmp_path: Path) -> list[dict[str, Any]]:
    """Documents that failed permanently: a corrupt one and an unsupported one."""
    assert operator is user
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.7\nnothing of the kind")
    (tmp_path / "unknown.bin").write_bytes(b"\x00\x01\x02\x03" * 64)
    failed = user("upload", "--json", str(tmp_path / "broken.pdf"), str(tmp_path / "unknown.bin"))
    return [one["document"] for one in failed.json["data"]]


def test_dead_letters_are_listed_counted_and_shown(
    operator: CommandLine, dead: list[dict[str, Any]], tenant: dict[str, str]
) -> None:
    dead_letters = operator("dlq", "list", "ingestion", "--workspace", tenant["id"], "--json").json["data"]
    assert {one["document_id"] for one in dead_letters} == {one["id"] for one in dead}
    assert {one["error"]["code"] for one in dead_letters} == {one["error"]["code"] for one in dead}
    table = operator("dlq", "list", "ingestion", "--workspace", tenant["id"])
    assert all(one["id"] in table.out and one["filename"] in table.out for one in dead)
    counted = operator("dlq", "counts", "ingestion", "--json").json["counts"]
    assert all(counted[one["error"]["code"]] >= 1 for one in dead)
    assert "CODE" in operator("dlq", "counts", "ingestion").out
    for name in ("entry_id", "job_id", "document_id"):
        assert operator("dlq", "show", "ingestion", dead_letters[0][name], "--json").json == dead_letters[0]
    shown = operator("dlq", "show", "ingestion", dead_letters[0]["job_id"]).out
    assert dead_letters[0]["entry_id"] in shown
    # The traceback is printed line by line.
    assert set(dead_letters[0]["error"]["traceback"].splitlines()) <= set(shown.splitlines())


def test_a_replayed_dead_letter_is_retried(
    operator: CommandLine, dead: list[dict[str, Any]], tenant: dict[str, str]
) -> None:
    code = dead[0]["error"]["code"]
    select = ("dlq", "replay", "ingestion", "--workspace", tenant["id"], "--code", code)
    assert operator(*select, "--dry-run").out == "would replay 1 from ingestion\n"
    done = operator(*select, "--json").json
    assert done == {"matched": 1, "replayed": 1, "superseded": 0, "dry_run": False}
    again = operator("documents", "show", dead[0]["id"], "--json").json
    assert again["status"] in {"queued", "processing", "failed"}


def test_a_replay_of_all_needs_confirmation(operator: CommandLine, dead: list[dict[str, Any]]) -> None:
    looked = operator("dlq", "replay", "ingestion", "--all")
    assert looked.code == 0
    assert looked.out.endswith("from ingestion; run again with --yes to do it\n")
    assert operator("dlq", "replay", "ingestion", "--all", "--yes", "--dry-run", "--json").json["replayed"] == 0
    done = operator("dlq", "replay", "ingestion", "--all", "--yes", "--json").json
    assert done["replayed"] >= len(dead)


async def test_a_replay_waits_for_another_one(service: Service, base_settings: Settings) -> None:
    settings = base_settings.changed({"database_url": SecretStr(service.env["DATABASE_URL"])})
    async with open_pool(settings, size=1) as pool, pool.acquire() as conn:
        async with conn.transaction():
            assert await try_lock(conn, f"{service.env['QUEUE_PREFIX']}:replay:deletion")
            replay = start_cli("dlq", "replay", "deletion", "--code", "none", env=service.env)
            assert replay.stderr is not None
            said = await asyncio.to_thread(replay.stderr.readline)
            assert said.startswith("on postgresql://")
            said = await asyncio.to_thread(replay.stderr.readline)
            assert said == "another replay of deletion is running; waiting for it to end\n"
            assert replay.poll() is None
        out, _ = await asyncio.to_thread(replay.communicate, timeout=60)
    assert (replay.returncode, out) == (0, "replayed 0 of 0 from deletion, 0 superseded\n")


def test_on_a_server_dead_letters_need_no_api(
    operator: CommandLine, dead: list[dict[str, Any]], tenant: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAGSVC_URL")
    mine = ("--workspace", tenant["id"])
    letters = operator("dlq", "list", "ingestion", *mine, "--json").json["data"]
    assert {one["document_id"] for one in letters} == {one["id"] for one in dead}
    assert operator("dlq", "show", "ingestion", letters[0]["entry_id"], "--json").json == letters[0]
    assert operator("dlq", "counts", "ingestion").err.startswith("on postgresql://")
    assert operator("dlq", "replay", "ingestion", *mine, "--dry-run").out == "would replay 2 from ingestion\n"
    assert operator("dlq", "purge", "ingestion", *mine, "--json").json["discarded"] == 2
    monkeypatch.setenv("RAGSVC_URL", "http://127.0.0.1:9")
    assert operator("dlq", "counts", "ingestion").code == 3


def write_ready_file(folder: Path, content: dict[str, str]) -> None:
    """Write the ready file of a `ragsvc dev` in the folder."""
    path = folder / READY_FILE
    path.parent.mkdir()
    path.write_bytes(orjson.dumps(content))


def test_dead_letters_of_ragsvc_dev_are_found(cli: CommandLine, service: Service, tmp_path: Path) -> None:
    write_ready_file(tmp_path, {"base_url": service.url, "admin_key": service.admin_key})
    counted = cli("dlq", "counts", "deletion", "--json")
    assert counted.json == {"queue": "deletion", "counts": {}}
    assert counted.err == f"on {service.url} (from {tmp_path / READY_FILE})\n"


def test_dead_letters_are_those_of_the_service_that_was_named(
    operator: CommandLine, service: Service, tmp_path: Path, dead: list[dict[str, Any]], tenant: dict[str, str]
) -> None:
    """Neither the service of `ragsvc dev` in this folder nor DATABASE_URL is acted on instead."""
    write_ready_file(tmp_path, {"base_url": "http://127.0.0.1:9", "admin_key": "x", "database_url": "postgresql://a/b"})
    listed = operator("dlq", "list", "ingestion", "--workspace", tenant["id"], "--json")
    assert {one["document_id"] for one in listed.json["data"]} == {one["id"] for one in dead}
    assert listed.err == f"on {service.url} (from RAGSVC_URL)\n"


def test_a_database_of_another_service_is_refused(
    on_server: CommandLine, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_ready_file(tmp_path, {"base_url": "http://127.0.0.1:9", "database_url": service.env["DATABASE_URL"]})
    for command in (("jobs", "sweep"), ("storage", "audit")):
        assert "belongs to another service" in on_server(*command).error
    monkeypatch.delenv("RAGSVC_URL")
    assert on_server("jobs", "sweep").err.startswith("on postgresql://")
    password = urlsplit(service.env["DATABASE_URL"]).password
    assert password
    assert password not in on_server("jobs", "sweep").err


def test_a_login_is_checked_and_stored(
    cli: CommandLine, service: Service, tenant: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert "(unauthorized)" in cli("login", service.url, "--api-key", "wrong").error
    assert cli("documents", "list").code == 2
    stored = cli("login", service.url, "--api-key", tenant["key"], "--admin-key", service.admin_key, "--json").json
    assert stored["base_url"] == service.url
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    listed = cli("documents", "list")
    assert (listed.code, listed.err) == (0, f"on {service.url} (from ragsvc login)\n")
    assert cli("queues", "list").code == 0
    assert cli("login", "--forget").out == "the stored keys are removed\n"
    assert cli("documents", "list").code == 2
    assert "starts with http" in cli("login", "rag.example.org").error


def test_an_unknown_resource_is_named(user: CommandLine) -> None:
    document = "doc_" + "0" * 32
    assert user("documents", "show", document).error.startswith(f"documents/{document}: ")


def test_tls_to_a_plain_port_is_explained(user: CommandLine, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAGSVC_URL", service.url.replace("http://", "https://"))
    refused = user("documents", "list")
    assert refused.code == 3
    assert "is it http:// instead of https://?" in refused.error


def test_purged_dead_letters_are_gone(
    operator: CommandLine, dead: list[dict[str, Any]], tenant: dict[str, str]
) -> None:
    mine = ("--workspace", tenant["id"])
    dead_letters = operator("dlq", "list", "ingestion", *mine, "--json").json["data"]
    assert operator("dlq", "purge", "ingestion", *mine, "--since", "2999-01-01", "--json").json["matched"] == 0
    assert operator("dlq", "purge", "ingestion", *mine, "--dry-run").out == "would discard 2 from ingestion\n"
    one = operator("dlq", "purge", "ingestion", "--id", dead_letters[0]["entry_id"], "--json").json
    assert one == {"matched": 1, "discarded": 1, "refused": 0, "dry_run": False}
    assert operator("dlq", "purge", "ingestion", *mine, "--limit", "5").out == "discarded 1 of 1 from ingestion\n"
    assert operator("dlq", "list", "ingestion", *mine, "--json").json["data"] == []
    events = operator("audit", *mine, "--action", "dlq.purged", "--json").json["data"]
    assert [(event["actor"]["kind"], event["details"]["matched"]) for event in events] == [("admin", 1)]
    assert "dlq.purged" in operator("audit", "--action", "dlq.purged").out
    assert operator("documents", "show", dead[0]["id"], "--json").json["status"] == "failed"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("replay", "ingestion"), "select dead letters"),
        (("replay", "ingestion", "--all", "--code", "x"), "select dead letters"),
        (("replay", "ingestion", "--id", "nonsense"), "'nonsense' is not an id"),
        (("purge", "deletion"), "select dead letters"),
        (("list", "ingestion", "--workspace", "nonsense"), "'nonsense' is not an id"),
    ],
)
def test_dead_letters_must_be_named(operator: CommandLine, args: tuple[str, ...], message: str) -> None:
    result = operator("dlq", *args)
    assert result.code == 2
    assert message in result.error


def test_an_unknown_dead_letter_is_refused(operator: CommandLine) -> None:
    result = operator("dlq", "show", "ingestion", "job_" + "0" * 32)
    assert result.code == 1
    assert "no dead letter" in result.error


def test_a_missing_setting_is_named(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.delenv("REDIS_URL", raising=False)
    for command in (("migrate",), ("migrate", "--status"), ("jobs", "sweep"), ("serve",)):
        assert "DATABASE_URL is not set" in cli(*command).error


def test_an_unreachable_database_is_reported(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:9/none")
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:9")
    for command in (("migrate",), ("dlq", "counts", "ingestion")):
        result = cli(*command)
        assert result.code == 1
        assert "Postgres at DATABASE_URL cannot be used" in result.error


def test_migrations_are_applied_and_listed(
    cli: CommandLine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", settings.stores.database_url.get_secret_value())
    monkeypatch.setenv("REDIS_URL", settings.stores.redis_url.get_secret_value())
    for name in ("embedding_model", "embedding_dimensions", "chunk_partitions"):
        monkeypatch.setenv(name.upper(), str(settings.flat()[name]))
    assert cli("migrate").out == "nothing to do: the schema is up to date\n"
    assert cli("migrate", "--json").json == {"applied": []}
    known = cli("migrate", "--status", "--json").json["data"]
    assert known
    assert all(one["applied_at"] for one in known)
    assert all(one["name"] in cli("migrate", "--status").out for one in known)
