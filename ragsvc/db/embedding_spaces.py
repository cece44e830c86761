"""The table embedding_spaces: what vectors may be compared in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.domain.chunks import EmbeddingSpace

if TYPE_CHECKING:
    from ragsvc.db.connections.pool import Connection

CREATE_EMBEDDING_SPACE = "SELECT create_embedding_space($1, $2, $3, $4)"

SELECT_EMBEDDING_SPACE = """
SELECT id, model, dimensions, revision FROM embedding_spaces
WHERE model = $1 AND dimensions = $2 AND revision = $3
"""

SELECT_EMBEDDING_SPACES = "SELECT id, model, dimensions, revision FROM embedding_spaces ORDER BY id"


async def create_embedding_space(
    conn: Connection, *, model: str, dimensions: int, revision: int, partitions: int
) -> int:
    """Create the space and its chunk table unless they exist, and return the space's id."""
    space_id: int = await conn.fetchval(CREATE_EMBEDDING_SPACE, model, dimensions, revision, partitions)
    return space_id


async def select_embedding_space(
    conn: Connection, *, model: str, dimensions: int, revision: int
) -> EmbeddingSpace | None:
    """Return the space of this model, dimensions and revision."""
    row = await conn.fetchrow(SELECT_EMBEDDING_SPACE, model, dimensions, revision)
    return EmbeddingSpace(**row) if row else None


async def select_embedding_spaces(conn: Connection) -> list[EmbeddingSpace]:
    """Return all spaces: a deletion looks into every one."""
    return [EmbeddingSpace(**row) for row in await conn.fetch(SELECT_EMBEDDING_SPACES)]
