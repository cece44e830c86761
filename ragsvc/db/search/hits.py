"""Search for chunks: candidates from both indexes and their fusion, in one statement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

from ragsvc.db.search.lexical import (
    LEXICAL_LARGE,
    LEXICAL_LARGE_OF_HYBRID,
    LEXICAL_SMALL,
    LEXICAL_SMALL_OF_HYBRID,
)
from ragsvc.db.search.scope import LIVE, LIVE_DOCUMENTS, SEARCH_TIMEOUT_S, selection_arguments
from ragsvc.db.search.words import separate_query
from ragsvc.domain.chunks import PageSpan
from ragsvc.domain.search import Duplicate, SearchHit, SearchMode

if TYPE_CHECKING:
    from uuid import UUID

    import numpy as np
    from numpy.typing import NDArray

    from ragsvc.db.connections.pool import Connection, Record
    from ragsvc.db.search.scope import Scope, Selection

# Number of nearest chunks of the workspace to examine for each candidate, since some are outside the scope.
NEAR_PER_FETCHED = 8

# Maximum number of equal chunks that a hit names.
MAX_DUPLICATES = 100

# All statements below take the same arguments; this declares the types of those that a statement does not use.
ARGUMENTS = """
arguments AS (
    SELECT $6::halfvec AS query_vector, $7::integer AS fetched, $8::integer AS hits, $9::float8 AS min_score,
           $10::regconfig AS config, $11::text AS words, $12::float8 AS dense_weight, $13::float8 AS lexical_weight,
           $14::integer AS chunks, $15::float8 AS tokens_per_chunk, $16::boolean AS folds
)"""

# Scans all vectors of the scope, with one index probe per document: exact, and fastest for small scopes. Ties are
# broken by id; `+ 0` prevents the planner from using the vector index.
EXACT = """
    SELECT v.chunk_id, v.embedding <=> $6 AS distance
    FROM live JOIN {table} v ON v.workspace_id = $1 AND v.document_id = live.id AND v.build_id = live.active_build
    WHERE true"""
# The distance to a vector without length is NaN, which Postgres sorts as the largest number.
COMPARABLE = "distance < 'NaN'::float8"
FIRST = "ORDER BY distance + 0, chunk_id LIMIT $7"
DENSE_EXACT = f"""
dense AS MATERIALIZED (
    SELECT chunk_id, 1 - distance AS cosine FROM (SELECT * FROM ({EXACT}) every {FIRST}) nearest WHERE {COMPARABLE}
)"""

# The vector index returns the nearest chunks of the workspace. If enough of them are in the scope, they are the nearest
# of the scope. If not, because the scope is small or unrelated to the query, continuing along the index would be slow
# and find little, so the whole scope is scanned instead. (Filtering inside the index scan had a recall of 0.66 to 0.90
# in these cases and took longer than the scan.) `distance + 0` matters: Postgres 18 treats an index scan in relaxed
# order as sorted, so it would drop a sort by `distance` alone and stop the scan after the first few rows.
DENSE_INDEXED = f"""
near AS MATERIALIZED (
    SELECT v.chunk_id, v.document_id, v.build_id, v.embedding <=> $6 AS distance FROM {{table}} v
    WHERE v.workspace_id = $1 ORDER BY v.embedding <=> $6 LIMIT {NEAR_PER_FETCHED} * $7
),
near_live AS MATERIALIZED (
    SELECT chunk_id, distance FROM near
    WHERE (SELECT d.active_build = near.build_id FROM documents d WHERE d.id = near.document_id AND {LIVE})
        AND {COMPARABLE}
    {FIRST}
),
{LIVE_DOCUMENTS},
dense AS MATERIALIZED (
    SELECT chunk_id, 1 - distance AS cosine FROM near_live WHERE (SELECT count(*) FROM near_live) >= $7
    UNION ALL
    SELECT chunk_id, 1 - distance FROM (
        SELECT * FROM ({EXACT} AND (SELECT count(*) FROM near_live) < $7) every {FIRST}) nearest
    WHERE {COMPARABLE}
)"""

# A chunk found by only one index also gets its score from the other, so that every score is the weighted sum of the
# cosine and the lexical score. (Bruch, Gai, Ingber 2023: better than fusing ranks, which do not reflect how well a
# chunk matches; confirmed by `make eval`.) A chunk without a comparable vector counts with its lexical score alone.
FUSED = """
fused AS MATERIALIZED (
    SELECT either.chunk_id, scores.cosine, ranked.rank,
           $12 * coalesce(scores.cosine, 0) + $13 * coalesce(ranked.rank, 0) AS score
    FROM (SELECT chunk_id FROM dense UNION SELECT chunk_id FROM lexical) either
    LEFT JOIN dense USING (chunk_id)
    LEFT JOIN ranked USING (chunk_id)
    LEFT JOIN {table} v ON v.workspace_id = $1 AND v.chunk_id = either.chunk_id AND dense.cosine IS NULL
    CROSS JOIN LATERAL (
        SELECT coalesce(dense.cosine, NULLIF(1 - (v.embedding <=> $6), 'NaN')) AS cosine) scores
)"""
ONLY_DENSE = "fused AS (SELECT chunk_id, cosine, NULL::float8 AS rank, cosine AS score FROM dense)"
ONLY_LEXICAL = """
fused AS (
    SELECT lexical.chunk_id, NULLIF(1 - (v.embedding <=> $6), 'NaN') AS cosine, lexical.rank, lexical.rank AS score
    FROM lexical LEFT JOIN {table} v ON v.workspace_id = $1 AND v.chunk_id = lexical.chunk_id AND $6 IS NOT NULL
)"""

# Chunks with equal text and headings are one hit, that of the best and oldest chunk, which names some of the others.
BEST = f"""
folded AS (
    SELECT fused.*, first_value(fused.chunk_id) OVER equal_chunks AS kept
    FROM fused JOIN chunk_text c ON c.workspace_id = $1 AND c.id = fused.chunk_id
    WHERE fused.score < 'NaN'::float8 AND ($9::float8 IS NULL OR fused.cosine >= $9)
    WINDOW equal_chunks AS (PARTITION BY CASE WHEN $16 THEN c.embedding_input_hash ELSE uuid_send(c.id) END
                            ORDER BY fused.score DESC, fused.chunk_id)
),
best AS (
    SELECT one.chunk_id, one.cosine, one.rank, one.score, ARRAY(
        SELECT other.chunk_id FROM folded other WHERE other.kept = one.chunk_id AND other.chunk_id <> one.chunk_id
        ORDER BY other.chunk_id LIMIT {MAX_DUPLICATES}) AS duplicates
    FROM folded one WHERE one.chunk_id = one.kept ORDER BY one.score DESC, one.chunk_id LIMIT $8
)
SELECT best.chunk_id, c.document_id, c.build_id, f.filename, d.version, c.ordinal, best.score,
       best.cosine AS dense_score, best.rank AS lexical_score, c.content AS text, c.page_first, c.page_last,
       c.page_spans, c.heading_path, c.char_start, c.char_end, c.token_count, d.attributes,
       ARRAY(SELECT (o.id, o.document_id, g.filename) FROM chunk_text o
             JOIN documents e ON e.workspace_id = $1 AND e.id = o.document_id
             JOIN files g ON g.workspace_id = $1 AND g.id = e.file_id
             WHERE o.workspace_id = $1 AND o.id = ANY(best.duplicates) ORDER BY o.id) AS duplicates
FROM best
JOIN chunk_text c ON c.workspace_id = $1 AND c.id = best.chunk_id
JOIN documents d ON d.workspace_id = $1 AND d.id = c.document_id
JOIN files f ON f.workspace_id = $1 AND f.id = d.file_id
ORDER BY best.score DESC, best.chunk_id
"""

SELECT_HITS_HYBRID_SMALL = (
    f"WITH {ARGUMENTS}, {LIVE_DOCUMENTS}, {DENSE_EXACT}, {LEXICAL_SMALL_OF_HYBRID}, {FUSED}, {BEST}"
)
SELECT_HITS_HYBRID_LARGE = f"WITH {ARGUMENTS}, {DENSE_INDEXED}, {LEXICAL_LARGE_OF_HYBRID}, {FUSED}, {BEST}"
SELECT_HITS_DENSE_SMALL = f"WITH {ARGUMENTS}, {LIVE_DOCUMENTS}, {DENSE_EXACT}, {ONLY_DENSE}, {BEST}"
SELECT_HITS_DENSE_LARGE = f"WITH {ARGUMENTS}, {DENSE_INDEXED}, {ONLY_DENSE}, {BEST}"
SELECT_HITS_LEXICAL_SMALL = f"WITH {ARGUMENTS}, {LEXICAL_SMALL}, {ONLY_LEXICAL}, {BEST}"
SELECT_HITS_LEXICAL_LARGE = f"WITH {ARGUMENTS}, {LEXICAL_LARGE}, {ONLY_LEXICAL}, {BEST}"


@dataclass(frozen=True, slots=True)
class Candidates:
    """How candidates are found and fused; `fetched` is their number per index, and equal ones can be folded."""

    query_vector: NDArray[np.float32] | None
    words: str
    text_search_config: str
    fetched: int
    dense_weight: float
    lexical_weight: float
    min_score: float | None
    folds: bool


async def select_hits(
    conn: Connection,
    workspace_id: UUID,
    selection: Selection,
    *,
    scope: Scope,
    mode: SearchMode,
    candidates: Candidates,
    limit: int,
    table: str,
    is_small: bool,
) -> list[SearchHit]:
    """Return at most `limit` hits, best first, with their texts and spans.

    The score is the cosine in dense mode, the lexical score (0 to 1) in lexical mode, and their weighted sum in hybrid
    mode. A small scope is scanned; in a large one the indexes are used.
    """
    arguments = (
        *selection_arguments(workspace_id, selection),
        candidates.query_vector,
        candidates.fetched,
        limit,
        candidates.min_score,
        candidates.text_search_config,
        separate_query(candidates.words),
        candidates.dense_weight,
        candidates.lexical_weight,
        scope.chunks,
        scope.tokens_per_chunk,
        candidates.folds,
    )
    statement = _statement(mode, is_small=is_small).format(table=table)
    return [_to_hit(row) for row in await conn.fetch(statement, *arguments, timeout=SEARCH_TIMEOUT_S)]


def _statement(mode: SearchMode, *, is_small: bool) -> str:
    match mode:
        case SearchMode.HYBRID:
            return SELECT_HITS_HYBRID_SMALL if is_small else SELECT_HITS_HYBRID_LARGE
        case SearchMode.DENSE:
            return SELECT_HITS_DENSE_SMALL if is_small else SELECT_HITS_DENSE_LARGE
        case SearchMode.LEXICAL:
            return SELECT_HITS_LEXICAL_SMALL if is_small else SELECT_HITS_LEXICAL_LARGE
        case _:
            assert_never(mode)


def _to_hit(row: Record) -> SearchHit:
    return SearchHit(
        **{
            **row,
            "page_spans": tuple(PageSpan(*span) for span in row["page_spans"] or ()),
            "heading_path": tuple(row["heading_path"]),
            "duplicates": tuple(Duplicate(*duplicate) for duplicate in row["duplicates"]),
        }
    )
