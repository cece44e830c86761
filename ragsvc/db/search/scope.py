"""The scope of a search: which documents it can find, and their size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.db.connections.pool import Connection

# Time limit of a search; short, because a user is waiting.
SEARCH_TIMEOUT_S = 5.0
# Time limit for finding the documents that match a filter.
FILTER_TIMEOUT_S = 2.0

# Condition for documents `d` that a search can find. `$1` is the workspace, `$2` the collections or null for all, `$3`
# the attributes to contain, `$4` a jsonpath predicate on the attributes, and `$5` its variables.
LIVE = """
    d.workspace_id = $1 AND d.active_build IS NOT NULL AND d.status <> 'deleting'
    AND NOT EXISTS (SELECT FROM workspaces deleted WHERE deleted.id = $1 AND deleted.deletion_id IS NOT NULL)
    AND ($2::uuid[] IS NULL OR d.collection_id = ANY($2))
    AND d.collection_id <> ALL (ARRAY(
        SELECT deleted.id FROM collections deleted WHERE deleted.workspace_id = $1 AND deleted.deletion_id IS NOT NULL))
    AND ($3::jsonb IS NULL OR d.attributes @> $3)
    AND ($4::text IS NULL OR jsonb_path_match(d.attributes, $4::text::jsonpath, $5::jsonb))
"""
LIVE_DOCUMENTS = f"live AS MATERIALIZED (SELECT d.id, d.active_build FROM documents d WHERE {LIVE})"

# The sizes of whole collections are maintained by a trigger on `documents`.
SELECT_SCOPE = """
SELECT count(DISTINCT c.id)::integer AS collections, coalesce(sum(s.chunks), 0)::integer AS chunks,
       coalesce(sum(s.tokens), 0)::bigint AS tokens
FROM collections c LEFT JOIN collection_sizes s ON s.workspace_id = c.workspace_id AND s.collection_id = c.id
WHERE c.workspace_id = $1 AND c.deletion_id IS NULL AND ($2::uuid[] IS NULL OR c.id = ANY($2))
  AND NOT EXISTS (SELECT FROM workspaces deleted WHERE deleted.id = $1 AND deleted.deletion_id IS NOT NULL)
"""
SELECT_FILTERED_SCOPE = f"""
SELECT (SELECT count(*) FROM collections c
        WHERE c.workspace_id = $1 AND c.id = ANY($2) AND c.deletion_id IS NULL)::integer AS collections,
       coalesce(sum(d.chunk_count), 0)::integer AS chunks, coalesce(sum(d.token_count), 0)::bigint AS tokens
FROM documents d WHERE {LIVE}
"""


# The documents to which a predicate is applied, counted up to a limit.
COUNT_FILTERED = """
SELECT count(*) FROM (
    SELECT FROM documents d WHERE d.workspace_id = $1 AND ($2::uuid[] IS NULL OR d.collection_id = ANY($2))
        AND ($3::jsonb IS NULL OR d.attributes @> $3)
    LIMIT $4) applied
"""


@dataclass(frozen=True, slots=True)
class AttributeCondition:
    """A condition on attributes: what they must contain, and a jsonpath predicate with its variables."""

    contains: dict[str, object] | None = None
    path: str | None = None
    variables: dict[str, object] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether all documents match."""
        return self.contains is None and self.path is None


@dataclass(frozen=True, slots=True)
class Selection:
    """The documents to search, by collection (None: all in the workspace) and attributes."""

    collection_ids: tuple[UUID, ...] | None = None
    attributes: AttributeCondition = AttributeCondition()


@dataclass(frozen=True, slots=True)
class Scope:
    """The number of selected collections that exist, and of the chunks and tokens to search."""

    collections: int
    chunks: int
    tokens: int

    @property
    def tokens_per_chunk(self) -> float:
        """The average length of a chunk in tokens; never 0."""
        return max(self.tokens, 1) / max(self.chunks, 1)


async def select_scope(conn: Connection, workspace_id: UUID, selection: Selection) -> Scope:
    """Return the size of a selection."""
    arguments = selection_arguments(workspace_id, selection)
    if selection.attributes.is_empty:
        row = await conn.fetchrow(SELECT_SCOPE, *arguments[:2], timeout=SEARCH_TIMEOUT_S)
    else:
        row = await conn.fetchrow(SELECT_FILTERED_SCOPE, *arguments, timeout=FILTER_TIMEOUT_S)
    return Scope(**row) if row else Scope(0, 0, 0)


async def count_filtered(conn: Connection, workspace_id: UUID, selection: Selection, *, limit: int) -> int:
    """Return the number of documents to which the selection's predicate is applied, at most `limit`."""
    count: int = await conn.fetchval(
        COUNT_FILTERED,
        workspace_id,
        selection.collection_ids,
        selection.attributes.contains,
        limit,
        timeout=FILTER_TIMEOUT_S,
    )
    return count


def selection_arguments(workspace_id: UUID, selection: Selection) -> tuple[object, ...]:
    """Return the first five arguments of all search statements."""
    attributes = selection.attributes
    return workspace_id, selection.collection_ids, attributes.contains, attributes.path, attributes.variables or {}
