"""Finds chunks: how large a search's scope is, then candidates and their fusion in one statement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

from ragsvc.models.chunks import PageSpan
from ragsvc.models.search import SearchHit, SearchMode

if TYPE_CHECKING:
    from uuid import UUID

    import numpy as np
    from numpy.typing import NDArray

    from ragsvc.db.pool import Connection, Record

# A search that takes longer is given up: somebody waits for it.
SEARCH_TIMEOUT_S = 5.0
# Reciprocal rank fusion's constant (Cormack, Clarke, Büttcher 2009): how little the first places stand out.
RRF_K = 60
# Ranking reads every candidate's tsvector: 27,000 of them took 268 ms.
LEXICAL_CANDIDATES = 500
RAREST_WORDS = 2
# A word that is in more chunks than this is common; counting on would only tell how common.
COMMON_WORD_CHUNKS = 1000
MOST_WORDS = 24
# Divided by the logarithm of the length (1), then brought between 0 and 1 (32).
RANK_FORM = 1 | 32

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

SELECT_SCOPE = f"""
SELECT (SELECT count(*) FROM collections c
        WHERE c.workspace_id = $1 AND c.id = ANY($2) AND c.deletion_id IS NULL)::integer AS collections,
       coalesce(sum(d.chunk_count), 0)::integer AS chunks
FROM documents d WHERE {LIVE}
"""

# Every statement below takes the same arguments; this tells Postgres the types of those that one of them leaves out.
ARGUMENTS = """
arguments AS (
    SELECT $6::halfvec AS query_vector, $7::integer AS fetched, $8::integer AS hits, $9::float8 AS min_score,
           $10::regconfig AS config, $11::text AS words, $12::float8 AS dense_weight, $13::float8 AS lexical_weight
)"""

# `distance + 0` is the point: Postgres 18 takes an index scan in relaxed order for sorted, drops a sort by `distance`
# alone, and the scan stops after the first few rows. In the exact scan it keeps the planner from the index.
NEAREST = "SELECT chunk_id, 1 - distance AS cosine, row_number() OVER (ORDER BY distance + 0, chunk_id) AS place"

# Every vector of the scope, one probe a document. Perfect, and the fastest for small scopes.
LIVE_DOCUMENTS = f"live AS MATERIALIZED (SELECT d.id, d.active_build FROM documents d WHERE {LIVE})"
DENSE_EXACT = f"""
dense AS MATERIALIZED (
    {NEAREST} FROM (
        SELECT v.chunk_id, v.embedding <=> $6 AS distance
        FROM live JOIN {{table}} v
          ON v.workspace_id = $1 AND v.document_id = live.id AND v.build_id = live.active_build
        ORDER BY (v.embedding <=> $6) + 0, v.chunk_id LIMIT $7
    ) nearest
)"""

# The vector index, which goes on until enough rows are live. Whether one is has to be a subquery that yields a value:
# with a join or EXISTS the planner leaves the index.
DENSE_INDEXED = f"""
dense AS MATERIALIZED (
    {NEAREST} FROM (
        SELECT v.chunk_id, v.embedding <=> $6 AS distance FROM {{table}} v
        WHERE v.workspace_id = $1 AND ($2::uuid[] IS NULL OR v.collection_id = ANY($2))
          AND (SELECT d.active_build = v.build_id FROM documents d WHERE d.id = v.document_id AND {LIVE})
        ORDER BY v.embedding <=> $6 LIMIT $7
    ) nearest
)"""

# Texts `c` of live documents: in a small scope by a join, since most of what a common word finds lies outside of it; in
# a large one row by row, since the first few hundred rows are enough.
FROM_SMALL_SCOPE = "live JOIN chunk_text c ON c.document_id = live.id AND c.build_id = live.active_build WHERE true"
FROM_LARGE_SCOPE = f"""
chunk_text c
WHERE (SELECT d.active_build = c.build_id FROM documents d WHERE d.id = c.document_id AND {LIVE})
"""


def _lexical(texts: str) -> str:
    """Return the CTEs of the lexical index.

    First the chunks with all words. Where they are too few, also those with one of the rarest words; all are ranked by
    all words together, from 1 on the former and from 0 on the latter.
    """
    return rf"""
every_word AS MATERIALIZED (
    SELECT c.id, c.search FROM {texts} AND c.workspace_id = $1 AND c.search @@ plainto_tsquery($10, $11)
    LIMIT {LEXICAL_CANDIDATES}
),
words AS MATERIALIZED (
    SELECT ('''' || replace(replace(lexeme, '\', '\\'), '''', '''''') || '''')::tsquery AS word
    FROM unnest(tsvector_to_array(to_tsvector($10, $11))) AS lexeme LIMIT {MOST_WORDS}
),
any_of_them AS MATERIALIZED (SELECT string_agg(word::text, ' | ')::tsquery AS query FROM words),
counted AS MATERIALIZED (
    SELECT word, (SELECT count(*) FROM (
        SELECT FROM chunk_text c WHERE c.workspace_id = $1 AND c.search @@ word LIMIT {COMMON_WORD_CHUNKS}
    ) having_it) AS chunks
    FROM words WHERE (SELECT count(*) FROM every_word) < $7
),
rarest AS MATERIALIZED (SELECT word FROM counted WHERE chunks > 0 ORDER BY chunks, word LIMIT {RAREST_WORDS}),
some_words AS MATERIALIZED (
    SELECT found.id, found.search FROM rarest CROSS JOIN LATERAL (
        SELECT c.id, c.search FROM {texts} AND c.workspace_id = $1 AND c.search @@ rarest.word
        LIMIT {LEXICAL_CANDIDATES}
    ) found
),
ranked AS (
    SELECT matching.id, max(matching.has_all + ts_rank_cd(matching.search, any_of_them.query, {RANK_FORM})) AS rank
    FROM (SELECT id, search, 1 AS has_all FROM every_word UNION ALL SELECT id, search, 0 FROM some_words) matching,
         any_of_them
    GROUP BY matching.id
),
lexical AS MATERIALIZED (
    SELECT id AS chunk_id, rank::float8 AS rank, row_number() OVER (ORDER BY rank DESC, id) AS place
    FROM ranked ORDER BY rank DESC, id LIMIT $7
)"""


LEXICAL_SMALL = f"{LIVE_DOCUMENTS}, {_lexical(FROM_SMALL_SCOPE)}"
LEXICAL_LARGE = _lexical(FROM_LARGE_SCOPE)

FUSED = f"""
fused AS (
    SELECT coalesce(dense.chunk_id, lexical.chunk_id) AS chunk_id, dense.cosine, lexical.rank,
           coalesce($12::float8 / ({RRF_K} + dense.place), 0) + coalesce($13::float8 / ({RRF_K} + lexical.place), 0)
               AS score
    FROM dense FULL JOIN lexical ON lexical.chunk_id = dense.chunk_id
)"""
ONLY_DENSE = "fused AS (SELECT chunk_id, cosine, NULL::float8 AS rank, cosine AS score FROM dense)"
ONLY_LEXICAL = "fused AS (SELECT chunk_id, NULL::float8 AS cosine, rank, rank AS score FROM lexical)"

# A hit of the lexical index alone gets its cosine here, so that `min_score` means the same in every mode.
BEST = """
best AS (
    SELECT f.chunk_id, f.score, f.rank, coalesce(f.cosine, 1 - (v.embedding <=> $6)) AS cosine
    FROM fused f
    LEFT JOIN {table} v ON v.workspace_id = $1 AND v.chunk_id = f.chunk_id AND f.cosine IS NULL
    WHERE $9::float8 IS NULL OR coalesce(f.cosine, 1 - (v.embedding <=> $6)) >= $9
    ORDER BY f.score DESC, f.chunk_id LIMIT $8
)
SELECT best.chunk_id, c.document_id, c.build_id, f.filename, d.version, c.ordinal, best.score,
       best.cosine AS dense_score, best.rank AS lexical_score, c.content AS text, c.page_first, c.page_last,
       c.page_spans, c.heading_path, c.char_start, c.char_end, c.token_count, d.attributes
FROM best
JOIN chunk_text c ON c.workspace_id = $1 AND c.id = best.chunk_id
JOIN documents d ON d.workspace_id = $1 AND d.id = c.document_id
JOIN files f ON f.workspace_id = $1 AND f.id = d.file_id
ORDER BY best.score DESC, best.chunk_id
"""

SELECT_HITS_HYBRID_SMALL = f"WITH {ARGUMENTS}, {LEXICAL_SMALL}, {DENSE_EXACT}, {FUSED}, {BEST}"
SELECT_HITS_HYBRID_LARGE = f"WITH {ARGUMENTS}, {LEXICAL_LARGE}, {DENSE_INDEXED}, {FUSED}, {BEST}"
SELECT_HITS_DENSE_SMALL = f"WITH {ARGUMENTS}, {LIVE_DOCUMENTS}, {DENSE_EXACT}, {ONLY_DENSE}, {BEST}"
SELECT_HITS_DENSE_LARGE = f"WITH {ARGUMENTS}, {DENSE_INDEXED}, {ONLY_DENSE}, {BEST}"
SELECT_HITS_LEXICAL_SMALL = f"WITH {ARGUMENTS}, {LEXICAL_SMALL}, {ONLY_LEXICAL}, {BEST}"
SELECT_HITS_LEXICAL_LARGE = f"WITH {ARGUMENTS}, {LEXICAL_LARGE}, {ONLY_LEXICAL}, {BEST}"


@dataclass(frozen=True, slots=True)
class AttributeCondition:
    """What a document's attributes have to fulfil: what they contain, and a jsonpath predicate with its variables."""

    contains: dict[str, object] | None = None
    path: str | None = None
    variables: dict[str, object] | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """Where a search looks: the collections (None: all of the workspace's) and the attributes of documents."""

    collection_ids: tuple[UUID, ...] | None = None
    attributes: AttributeCondition = AttributeCondition()


@dataclass(frozen=True, slots=True)
class ScopeSize:
    """How many of the selection's collections exist, and how many chunks there are to search."""

    collections: int
    chunks: int


@dataclass(frozen=True, slots=True)
class Candidates:
    """How candidates are found and joined; `fetched` is how many each index gives."""

    query_vector: NDArray[np.float32] | None
    words: str
    text_search_config: str
    fetched: int
    dense_weight: float
    lexical_weight: float
    min_score: float | None


async def select_scope(conn: Connection, workspace_id: UUID, selection: Selection) -> ScopeSize:
    """Return the size of a search's scope."""
    row = await conn.fetchrow(SELECT_SCOPE, *_selection_arguments(workspace_id, selection), timeout=SEARCH_TIMEOUT_S)
    return ScopeSize(**row) if row else ScopeSize(0, 0)


async def select_hits(
    conn: Connection,
    workspace_id: UUID,
    selection: Selection,
    *,
    mode: SearchMode,
    candidates: Candidates,
    limit: int,
    table: str,
    is_small: bool,
) -> list[SearchHit]:
    """Return at most `limit` hits, best first, with texts and places.

    Their score is the cosine in dense mode, in lexical mode 0 to 1 for some of the words and 1 to 2 for all of them, in
    hybrid mode the weighted sum of reciprocal ranks. A small scope is scanned, in a large one the indexes are asked.
    """
    arguments = (
        *_selection_arguments(workspace_id, selection),
        candidates.query_vector,
        candidates.fetched,
        limit,
        candidates.min_score,
        candidates.text_search_config,
        candidates.words,
        candidates.dense_weight,
        candidates.lexical_weight,
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


def _selection_arguments(workspace_id: UUID, selection: Selection) -> tuple[object, ...]:
    attributes = selection.attributes
    return workspace_id, selection.collection_ids, attributes.contains, attributes.path, attributes.variables or {}


def _to_hit(row: Record) -> SearchHit:
    return SearchHit(
        **{
            **row,
            "page_spans": tuple(PageSpan(*span) for span in row["page_spans"] or ()),
            "heading_path": tuple(row["heading_path"]),
        }
    )
