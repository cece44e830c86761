"""Where a search looks: which documents may be found, and how much there is of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.db.connections.pool import Connection

# A search that takes longer is given up: somebody waits for it.
SEARCH_TIMEOUT_S = 5.0

# Documents `d` that a search may find. `$1` workspace, `$2` collections or null for all, `$3` attributes they contain,
# `$4` a jsonpath predicate over the attributes with its variables `$5`.
LIVE = """
    d.workspace_id = $1 AND d.active_build IS NOT NULL AND d.status <> 'deleting'
    AND ($2::uuid[] IS NULL OR d.collection_id = ANY($2))
    AND d.collection_id <> ALL (ARRAY(
        SELECT gone.id FROM collections gone WHERE gone.workspace_id = $1 AND gone.deletion_id IS NOT NULL))
    AND ($3::jsonb IS NULL OR d.attributes @> $3)
    AND ($4::text IS NULL OR jsonb_path_match(d.attributes, $4::text::jsonpath, $5::jsonb))
"""
LIVE_DOCUMENTS = f"live AS MATERIALIZED (SELECT d.id, d.active_build FROM documents d WHERE {LIVE})"

# Of whole collections it is known how much they hold (a trigger of `documents` keeps it).
SELECT_SCOPE = """
SELECT count(DISTINCT c.id)::integer AS collections, coalesce(sum(s.chunks), 0)::integer AS chunks,
       coalesce(sum(s.tokens), 0)::bigint AS tokens
FROM collections c LEFT JOIN collection_sizes s ON s.workspace_id = c.workspace_id AND s.collection_id = c.id
WHERE c.workspace_id = $1 AND c.deletion_id IS NULL AND ($2::uuid[] IS NULL OR c.id = ANY($2))
"""
SELECT_FILTERED_SCOPE = f"""
SELECT (SELECT count(*) FROM collections c
        WHERE c.workspace_id = $1 AND c.id = ANY($2) AND c.deletion_id IS NULL)::integer AS collections,
       coalesce(sum(d.chunk_count), 0)::integer AS chunks, coalesce(sum(d.token_count), 0)::bigint AS tokens
FROM documents d WHERE {LIVE}
"""


@dataclass(frozen=True, slots=True)
class AttributeCondition:
    """What a document's attributes have to fulfil: what they contain, and a jsonpath predicate with its variables."""

    contains: dict[str, object] | None = None
    path: str | None = None
    variables: dict[str, object] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether every document fulfils it."""
        return self.contains is None and self.path is None


@dataclass(frozen=True, slots=True)
class Selection:
    """Where a search looks: the collections (None: all of the workspace's) and the attributes of documents."""

    collection_ids: tuple[UUID, ...] | None = None
    attributes: AttributeCondition = AttributeCondition()


@dataclass(frozen=True, slots=True)
class Scope:
    """How many of the selection's collections exist, and how many chunks and tokens there are to search."""

    collections: int
    chunks: int
    tokens: int

    @property
    def tokens_per_chunk(self) -> float:
        """How long a chunk is on average; never 0."""
        return max(self.tokens, 1) / max(self.chunks, 1)


async def select_scope(conn: Connection, workspace_id: UUID, selection: Selection) -> Scope:
    """Return the size of a search's scope."""
    arguments = selection_arguments(workspace_id, selection)
    if selection.attributes.is_empty:
        row = await conn.fetchrow(SELECT_SCOPE, *arguments[:2], timeout=SEARCH_TIMEOUT_S)
    else:
        row = await conn.fetchrow(SELECT_FILTERED_SCOPE, *arguments, timeout=SEARCH_TIMEOUT_S)
    return Scope(**row) if row else Scope(0, 0, 0)


def selection_arguments(workspace_id: UUID, selection: Selection) -> tuple[object, ...]:
    """Return the first five arguments of every statement of a search."""
    attributes = selection.attributes
    return workspace_id, selection.collection_ids, attributes.contains, attributes.path, attributes.variables or {}
