"""The checksum of a migration changes with its statements, not with its comments."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ragsvc.db import migrations
from ragsvc.db.connections.pool import connect
from ragsvc.db.migration_checksums import PRE_RELEASE_CHECKSUMS, checksum_migration
from ragsvc.db.migrations import migrate, migration_status
from ragsvc.errors.base import StartupRefused

if TYPE_CHECKING:
    from ragsvc.settings.settings import Settings

TABLE = "CREATE TABLE t (a text, b text DEFAULT '--');"
FILES = migrations._read_files()


@pytest.mark.parametrize(
    "same",
    [
        "-- A table.\nCREATE TABLE t (a text, b text DEFAULT '--');",
        "CREATE TABLE t (a text, -- the first column\n b text DEFAULT '--'); -- It's the end.",
        "/* It's a\ntable. */ CREATE TABLE t /* \"t\" */ (a text,\n\n  b text /* $$ */ DEFAULT '--');\n",
    ],
)
def test_comments_and_whitespace_do_not_change_the_checksum(same: str) -> None:
    assert checksum_migration(same) == checksum_migration(TABLE)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (TABLE, "CREATE TABLE t (a text, b text DEFAULT '-- ');"),
        ("SELECT '-- a'", "SELECT '-- b'"),
        ("SELECT 'it''s -- a'", "SELECT 'it''s -- b'"),
        (r"SELECT E'\' -- a'", r"SELECT E'\' -- b'"),
        ("SELECT '/* a */'", "SELECT '/* b */'"),
        ("SELECT 'a  b'", "SELECT 'a b'"),
        ('SELECT "-- a"', 'SELECT "-- b"'),
        ("DO $$ BEGIN -- a\nEND $$", "DO $$ BEGIN -- b\nEND $$"),
        ("DO $do$ SELECT $$ -- a\n$$ $do$", "DO $do$ SELECT $$ -- b\n$$ $do$"),
        ("SELECT 1 -- one\n+ 2", "SELECT 1 -- one + 2"),
        ("SELECT 'a' -- b\n, 'c'", "SELECT 'a' -- b\n, 'd'"),
        ("SELECT a - - 1", "SELECT a -- 1"),
    ],
)
def test_a_changed_statement_changes_the_checksum(one: str, other: str) -> None:
    assert checksum_migration(one) != checksum_migration(other)


def test_checksums_from_before_the_first_release_belong_to_todays_files() -> None:
    assert list(PRE_RELEASE_CHECKSUMS.values()) == [checksum_migration(sql) for _, sql in FILES[:21]]


async def test_a_changed_comment_of_an_applied_file_is_accepted(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "_read_files", lambda: [(name, f"-- New.\n{sql}") for name, sql in FILES])
    assert await migrate(settings) == []


async def test_a_changed_statement_of_an_applied_file_is_refused(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = [(name, sql.replace("name text NOT NULL", "name text")) for name, sql in FILES]
    monkeypatch.setattr(migrations, "_read_files", lambda: changed)
    with pytest.raises(StartupRefused, match=r"0001_.*was changed after it was applied"):
        await migrate(settings)


async def test_a_database_from_before_the_first_release_is_accepted(settings: Settings) -> None:
    connection = await connect(settings.stores.migration_dsn)
    for old, new in PRE_RELEASE_CHECKSUMS.items():
        await connection.execute("UPDATE schema_migrations SET checksum = $1 WHERE checksum = $2", old, new)
    stored = {row["checksum"] for row in await connection.fetch("SELECT checksum FROM schema_migrations")}
    await connection.close()
    assert set(PRE_RELEASE_CHECKSUMS) <= stored
    assert await migrate(settings) == []
    assert all(migration.applied_at for migration in await migration_status(settings))
