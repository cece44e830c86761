"""The table embedding_spaces, one row per set of comparable vectors."""

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
    """Create a space and its table of vectors unless they exist, and return the id of the space."""
    space_id: int = await conn.fetchval(CREATE_EMBEDDING_SPACE, model, dimensions, revision, partitions)
    return space_id


async def select_embedding_space(
    conn: Connection, *, model: str, dimensions: int, revision: int
) -> EmbeddingSpace | None:
    """Return the space with this model, dimensions and revision."""
    row = await conn.fetchrow(SELECT_EMBEDDING_SPACE, model, dimensions, revision)
    return EmbeddingSpace(**row) if row else None


async def select_embedding_spaces(conn: Connection) -> list[EmbeddingSpace]:
    """Return all spaces."""
    return [EmbeddingSpace(**row) for row in await conn.fetch(SELECT_EMBEDDING_SPACES)]
