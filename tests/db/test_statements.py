"""All SQL statements of the database layer are valid on the migrated schema."""

from __future__ import annotations

import importlib
import pkgutil
import re
from typing import TYPE_CHECKING

import ragsvc.db

if TYPE_CHECKING:
    from ragsvc.resources import Resources

# Fragments that db/search/hits.py combines into statements, which its own tests run.
FRAGMENTS = {"ragsvc.db.search.hits.EXACT"}
STATEMENT = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b")


def statements() -> dict[str, str]:
    """Return the constants with complete statements, by module and name."""
    found = {}
    for module in pkgutil.walk_packages(ragsvc.db.__path__, "ragsvc.db."):
        for name, value in vars(importlib.import_module(module.name)).items():
            if name.isupper() and isinstance(value, str) and STATEMENT.match(value):
                found[f"{module.name}.{name}"] = value
    return {name: statement for name, statement in found.items() if name not in FRAGMENTS}


async def test_every_statement_can_be_prepared(resources: Resources) -> None:
    found = statements()
    assert len(found) > 80
    refused = {}
    async with resources.pool.acquire() as conn:
        for name, statement in found.items():
            # The only placeholder is the table of an embedding space.
            sql = statement.replace("{table}", resources.space.table).replace("{{", "{").replace("}}", "}")
            try:
                await conn.prepare(sql)
            except Exception as error:  # noqa: BLE001 - all failures are reported together
                refused[name] = str(error)
    assert refused == {}


def test_no_statement_leaves_state_in_its_session() -> None:
    """Connections return to the pool without a reset, and a transaction pooler gives them to other clients."""
    # Migrations take their lock on a separate connection.
    assert {name for name, sql in statements().items() if "advisory_lock(" in sql} == {"ragsvc.db.migrations.TRY_LOCK"}
    session_setting = re.compile(r"set_config\([^()]*(?:\([^()]*\)[^()]*)*,\s*false\)")
    # These set the session's scope, which db/connections/sessions.py tracks; they are not used behind a pooler.
    assert {name for name, sql in statements().items() if session_setting.search(sql)} == {
        "ragsvc.db.api_keys.SELECT_KEY_OWNER",
        "ragsvc.db.upload_tokens.SELECT_TOKEN_OWNER",
        "ragsvc.db.connections.sessions.ENTER_SYSTEM",
        "ragsvc.db.connections.sessions.ENTER_WORKSPACE",
    }
