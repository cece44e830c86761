"""The table embedding_spaces, one row per set of comparable vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.domain.documents import EmbeddingSpace

if TYPE_CHECKING:
    from ragsvc.db.connections.pool import Connection

CREATE_EMBEDDING_SPACE = "SELECT create_embedding_space($1, $2, $3, $4)"

SELECT_EMBEDDING_SPACE = """
SELECT id, model, dimensions, revision FROM embedding_spaces
WHERE model = $1 AND dimensions = $2 AND revision = $3
"""

SELECT_EMBEDDING_SPACES = "SELECT id, model, dimensions, revision FROM embedding_spaces ORDER BY id"

SELECT_SPACE_IN_USE = """
SELECT id, model, dimensions, revision FROM embedding_spaces e
WHERE EXISTS (SELECT FROM documents d WHERE d.space_id = e.id AND d.active_build IS NOT NULL)
ORDER BY id DESC LIMIT 1
"""

# One index range per other space; a document that is being deleted no longer counts.
COUNT_DOCUMENTS_OF_OTHER_SPACES = """
SELECT count(*) FROM (
    SELECT FROM documents d
    WHERE d.space_id = ANY (ARRAY(SELECT id FROM embedding_spaces WHERE id <> $1))
      AND d.active_build IS NOT NULL AND d.status <> 'deleting'
    LIMIT $2) others
"""


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


async def select_space_in_use(conn: Connection) -> EmbeddingSpace | None:
    """Return the newest space that has documents."""
    row = await conn.fetchrow(SELECT_SPACE_IN_USE)
    return EmbeddingSpace(**row) if row else None


async def count_documents_of_other_spaces(conn: Connection, space_id: int, *, limit: int) -> int:
    """Return how many documents have their vectors in another space; counts to `limit`."""
    count: int = await conn.fetchval(COUNT_DOCUMENTS_OF_OTHER_SPACES, space_id, limit)
    return count


async def select_embedding_spaces(conn: Connection) -> list[EmbeddingSpace]:
    """Return all spaces."""
    return [EmbeddingSpace(**row) for row in await conn.fetch(SELECT_EMBEDDING_SPACES)]
