"""Lexical search: finds chunks with words of the query and ranks them by BM25.

BM25 (Robertson, Zaragoza 2009) needs the number of chunks that contain a word. It is counted at query time, up to a
limit, so there are no statistics to maintain, and none that could reveal words of deleted documents.
"""

from __future__ import annotations

from ragsvc.db.search.scope import LIVE, LIVE_DOCUMENTS

# Saturation of repeated words, and normalization by chunk length: the usual values.
K1 = 1.2
B = 0.75
# Maximum number of words of a query to look up: the most frequent in the query, then the longest.
MAX_WORDS = 32
# A word that occurs in more chunks than this is common; the rest of its index entries are not read.
COMMON_WORD_CHUNKS = 1000
# Ranking reads the text search vector of every candidate. Candidates are chunks with all words, and chunks with any of
# the rarest words: as many words as occur in at most CANDIDATES_WITH_SOME chunks in total.
CANDIDATES_WITH_ALL = 500
CANDIDATES_WITH_SOME = 1000

# Texts `c` of live documents. In a small scope they are joined, since most matches of a common word are outside the
# scope. In a large scope they are checked row by row, since the first few hundred rows are enough.
FROM_SMALL_SCOPE = "live JOIN chunk_text c ON c.document_id = live.id AND c.build_id = live.active_build WHERE true"
FROM_LARGE_SCOPE = f"""
chunk_text c
WHERE (SELECT d.active_build = c.build_id FROM documents d WHERE d.id = c.document_id AND {LIVE})
"""

# The term frequency tf, for which Postgres has no function. `ts_rank` of one word is the sum of 1/i² over its
# occurrences i = 1 … tf, divided by the limit π²/6. The difference from the limit is about 1 / (tf + 1/2), which is
# solved for tf.
FREQUENCY = "(1 / (1.6449341 * (1 - ts_rank(ARRAY[1, 1, 1, 1]::float4[], candidate.search, weighed.word))) - 0.5)"

# The number of chunks with a common word is between the limit and all chunks. It is estimated as their geometric mean,
# since word frequencies span orders of magnitude.
WORDS = rf"""
words AS MATERIALIZED (
    SELECT ('''' || replace(replace(lexeme, '\', '\\'), '''', '''''') || '''')::tsquery AS word
    FROM unnest(to_tsvector($10, $11)) AS parsed (lexeme, positions, weights)
    ORDER BY cardinality(positions) DESC, length(lexeme) DESC, lexeme LIMIT {MAX_WORDS}
),
counted AS MATERIALIZED (
    SELECT word, (SELECT count(*) FROM (
        SELECT FROM chunk_text c WHERE c.workspace_id = $1 AND c.search @@ word LIMIT {COMMON_WORD_CHUNKS}
    ) matching) AS chunks
    FROM words
),
known AS (
    SELECT word, chunks, CASE WHEN chunks < {COMMON_WORD_CHUNKS} THEN chunks
                              ELSE sqrt({COMMON_WORD_CHUNKS}.0 * greatest($14, {COMMON_WORD_CHUNKS})) END AS estimate
    FROM counted WHERE chunks > 0
),
-- The scope can have fewer chunks than contain the word in the whole workspace.
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
    """Return the CTEs that rank lexical matches and the chunks of `also`, with ranks between 0 and 1.

    A rank is the BM25 score divided by the highest score that the words of the query can reach.
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
-- The concatenation makes Postgres decompress the vector once instead of once per word.
candidate AS MATERIALIZED (
    SELECT c.id, c.search || ''::tsvector AS search, {K1} * (1 - {B} + {B} * c.token_count / $15) AS length
    FROM found JOIN chunk_text c ON c.workspace_id = $1 AND c.id = found.id
),
ranked AS MATERIALIZED (
    SELECT candidate.id AS chunk_id,
           sum(weighed.weight * ({K1} + 1) * term.frequency / (term.frequency + candidate.length))
               / min(queries.best) AS rank
    FROM candidate CROSS JOIN weighed CROSS JOIN queries CROSS JOIN LATERAL (SELECT {FREQUENCY} AS frequency) term
    WHERE candidate.search @@ weighed.word GROUP BY candidate.id
),
lexical AS MATERIALIZED (SELECT chunk_id, rank FROM ranked ORDER BY rank DESC, chunk_id LIMIT $7)"""


ALSO_DENSE = "UNION SELECT chunk_id FROM dense"

LEXICAL_SMALL = f"{LIVE_DOCUMENTS}, {_lexical(FROM_SMALL_SCOPE)}"
LEXICAL_LARGE = _lexical(FROM_LARGE_SCOPE)
# These come after `dense`, and in a small scope after `live`.
LEXICAL_SMALL_OF_HYBRID = _lexical(FROM_SMALL_SCOPE, also=ALSO_DENSE)
LEXICAL_LARGE_OF_HYBRID = _lexical(FROM_LARGE_SCOPE, also=ALSO_DENSE)
