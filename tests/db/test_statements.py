"""Every statement of the SQL floor is one that the migrated schema understands."""

from __future__ import annotations

import importlib
import pkgutil
import re
from typing import TYPE_CHECKING

import ragsvc.db

if TYPE_CHECKING:
    from ragsvc.resources import Resources

# Parts of statements that db/search.py puts together; its own tests run them.
FRAGMENTS = {"ragsvc.db.search.hits.EXACT"}
STATEMENT = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b")


def statements() -> dict[str, str]:
    """Return the constants that hold whole statements, by module and name."""
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
            # One hole is allowed: the table of an embedding space.
            sql = statement.replace("{table}", resources.space.table).replace("{{", "{").replace("}}", "}")
            try:
                await conn.prepare(sql)
            except Exception as error:  # noqa: BLE001 - collected, to be shown together
                refused[name] = str(error)
    assert refused == {}


def test_no_statement_leaves_anything_behind_in_its_session() -> None:
    """Connections go back to the pool as they are, and a transaction pooler gives them to others."""
    # Migrations hold theirs on a connection of their own.
    assert {name for name, sql in statements().items() if "advisory_lock(" in sql} == {"ragsvc.db.migrations.TRY_LOCK"}
    is_kept = re.compile(r"set_config\([^()]*(?:\([^()]*\)[^()]*)*,\s*false\)")
    # Whose rows a session sees; what keeps it knows it (db/sessions.py), and nothing does behind a pooler.
    assert {name for name, sql in statements().items() if is_kept.search(sql)} == {
        "ragsvc.db.api_keys.SELECT_KEY_OWNER",
        "ragsvc.db.upload_tokens.SELECT_TOKEN_OWNER",
        "ragsvc.db.connections.sessions.ENTER_SYSTEM",
        "ragsvc.db.connections.sessions.ENTER_WORKSPACE",
    }
