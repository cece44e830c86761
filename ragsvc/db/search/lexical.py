"""The lexical part of a search: which chunks have the words of a query, ranked by BM25.

BM25 (Robertson, Zaragoza 2009) needs to know in how many chunks a word is. That is counted at the query, up to a limit:
nothing is kept that would have to be kept right, and nothing that would remember the words of a deleted document.
"""

from __future__ import annotations

from ragsvc.db.search.scope import LIVE, LIVE_DOCUMENTS

# How soon repetitions of a word stop to count, and how much a chunk's length does: the usual values.
K1 = 1.2
B = 0.75
# So many words of a query are looked up: those said most often, then the longest.
MOST_WORDS = 32
# A word in more chunks is common, and its index entries are not read any further.
COMMON_WORD_CHUNKS = 1000
# Ranking reads the text-search vector of every candidate. Those with all words are taken first, then those with some,
# by the rarest words that together have no more.
CANDIDATES_WITH_ALL = 500
CANDIDATES_WITH_SOME = 1000

# Texts `c` of live documents: in a small scope by a join, since most of what a common word finds lies outside of it; in
# a large one row by row, since the first few hundred rows are enough.
FROM_SMALL_SCOPE = "live JOIN chunk_text c ON c.document_id = live.id AND c.build_id = live.active_build WHERE true"
FROM_LARGE_SCOPE = f"""
chunk_text c
WHERE (SELECT d.active_build = c.build_id FROM documents d WHERE d.id = c.document_id AND {LIVE})
"""

# `ts_rank` of one word is the sum of 1/i² over its occurrences i = 1 … tf, divided by its limit π²/6. What is left to
# the limit is nearly 1 / (tf + 1/2), so it tells tf: there is no function that counts.
OCCURRENCES = "(1 / (1.6449341 * (1 - ts_rank(ARRAY[1, 1, 1, 1]::float4[], candidate.search, weighed.word))) - 0.5)"

# A common word is in between the limit and all chunks; frequencies of words being what they are, the geometric mean of
# both is as good a guess as any.
WORDS = rf"""
words AS MATERIALIZED (
    SELECT ('''' || replace(replace(lexeme, '\', '\\'), '''', '''''') || '''')::tsquery AS word
    FROM unnest(to_tsvector($10, $11)) AS said (lexeme, positions, weights)
    ORDER BY cardinality(positions) DESC, length(lexeme) DESC, lexeme LIMIT {MOST_WORDS}
),
counted AS MATERIALIZED (
    SELECT word, (SELECT count(*) FROM (
        SELECT FROM chunk_text c WHERE c.workspace_id = $1 AND c.search @@ word LIMIT {COMMON_WORD_CHUNKS}
    ) having_it) AS chunks
    FROM words
),
known AS (
    SELECT word, chunks, CASE WHEN chunks < {COMMON_WORD_CHUNKS} THEN chunks
                              ELSE sqrt({COMMON_WORD_CHUNKS}.0 * greatest($14, {COMMON_WORD_CHUNKS})) END AS estimate
    FROM counted WHERE chunks > 0
),
-- A scope may be smaller than what has the word in the whole workspace.
weighed AS MATERIALIZED (
    SELECT word, ln(1 + (greatest($14, 2 * max(estimate) OVER ()) - estimate + 0.5) / (estimate + 0.5)) AS weight,
           row_number() OVER rarest = 1 OR sum(chunks) OVER rarest <= {CANDIDATES_WITH_SOME} AS is_rare
    FROM known WINDOW rarest AS (ORDER BY chunks, word)
),
queries AS MATERIALIZED (
    SELECT string_agg(word::text, ' & ')::tsquery AS every_word,
           string_agg(word::text, ' | ') FILTER (WHERE is_rare)::tsquery AS rare_words,
           sum(weight) * ({K1} + 1) AS best
    FROM weighed
)"""


def _lexical(texts: str, *, also: str = "") -> str:
    """Return the CTEs that rank what is found, and chunks that were found otherwise; a rank is between 0 and 1.

    It is BM25 divided by the most that the query's words can give: how much of what is asked is said.
    """
    return f"""
{WORDS},
found AS (
    (SELECT c.id FROM {texts} AND c.workspace_id = $1 AND c.search @@ (SELECT every_word FROM queries)
     LIMIT {CANDIDATES_WITH_ALL})
    UNION
    (SELECT c.id FROM {texts} AND c.workspace_id = $1 AND c.search @@ (SELECT rare_words FROM queries)
     LIMIT {CANDIDATES_WITH_SOME})
    {also}
),
-- Put together with nothing, so that it is unpacked once and not for every word.
candidate AS MATERIALIZED (
    SELECT c.id, c.search || ''::tsvector AS search, {K1} * (1 - {B} + {B} * c.token_count / $15) AS length
    FROM found JOIN chunk_text c ON c.workspace_id = $1 AND c.id = found.id
),
ranked AS MATERIALIZED (
    SELECT candidate.id AS chunk_id,
           sum(weighed.weight * ({K1} + 1) * said.times / (said.times + candidate.length)) / min(queries.best) AS rank
    FROM candidate CROSS JOIN weighed CROSS JOIN queries CROSS JOIN LATERAL (SELECT {OCCURRENCES} AS times) said
    WHERE candidate.search @@ weighed.word GROUP BY candidate.id
),
lexical AS MATERIALIZED (SELECT chunk_id, rank FROM ranked ORDER BY rank DESC, chunk_id LIMIT $7)"""


ALSO_DENSE = "UNION SELECT chunk_id FROM dense"

LEXICAL_SMALL = f"{LIVE_DOCUMENTS}, {_lexical(FROM_SMALL_SCOPE)}"
LEXICAL_LARGE = _lexical(FROM_LARGE_SCOPE)
# Behind `dense`, and in a small scope behind `live`.
LEXICAL_SMALL_OF_HYBRID = _lexical(FROM_SMALL_SCOPE, also=ALSO_DENSE)
LEXICAL_LARGE_OF_HYBRID = _lexical(FROM_LARGE_SCOPE, also=ALSO_DENSE)
