"""The built-in answerer: quotes the sentences of the sources that best match the question, and generates nothing."""

from __future__ import annotations

import html
import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ragsvc.abstention import choose_no_answer_text
from ragsvc.devstack.model_server.follow_ups import restate
from ragsvc.devstack.model_server.words import SHORTEST_WORDS, WORD, content_words
from ragsvc.languages import detect_language
from ragsvc.sentences import MAX_SENTENCE_CHARS, find_sentences

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence
    from typing import TypeAlias

    import numpy as np
    from numpy.typing import NDArray

    # Maps texts to unit vectors, shape (texts, dimensions).
    Embed: TypeAlias = Callable[[Sequence[str]], Awaitable[NDArray[np.float32]]]

NAME = "ragsvc-extractive-v1"
LABEL = "built-in extractive answerer: quotes sources, does not generate; set OPENAI_BASE_URL for a model"
# The thresholds are calibrated for these languages alone; None is a text that shows no language, such as a code.
RANKED_LANGUAGES = frozenset({"en", None})
# Only the sentences with the largest word overlap are compared by embedding; more would take too long.
CANDIDATES = 32
QUOTES = 3
COSINE_WEIGHT = 0.7
# Weight of a source's title for each of its sentences; a higher one would make any question on the subject match.
TITLE_WEIGHT = 0.3
FITS = 0.34
# A further quote must score nearly as well as the best one.
NEARLY_AS_GOOD = 0.85
SAME_WORDS = 0.7

# The format of sources in answering/prompt.py, which escapes `<source` and `<|` in their text with a backslash.
_ESCAPED = re.compile(r"<\\(?=\s*/?\s*source|\|)", re.IGNORECASE)
# The format in which answering/condensing.py asks for a standalone question.
_CONVERSATION = re.compile(r"<conversation>\n(.*?)\n</conversation>\n", re.DOTALL)
_ASKED_BEFORE = re.compile(r"^user: (.*)$", re.MULTILINE)
_SOURCE = re.compile(r'<source n="(\d+)"(?: title="([^"]*)")?>\n(.*?)\n?</source>', re.DOTALL)
_PAGE = re.compile(r", page \d+(?=,|$)")
_QUESTION = re.compile(r"^Question:[ \t]*", re.MULTILINE)
# A question about a quantity can only be answered by a sentence that contains one.
_ASKS_QUANTITY = re.compile(
    r"\bhow (?:many|much|old|tall|high|far|heavy|large|fast)\b|\bwhat (?:year|price)\b", re.IGNORECASE
)
_NAMES_QUANTITY = re.compile(
    r"\b\d|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|dozen|twenty|thirty|forty|fifty|sixty|seventy"
    r"|eighty|ninety|hundred|thousand|million|billion|half|both|all|none|no|free|once|twice|single|unlimited|double)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of source `n`, with its content words and those of the title above it."""

    n: int
    text: str
    words: frozenset[str]
    title: str
    title_words: frozenset[str]

    @property
    def all_words(self) -> frozenset[str]:
        """Its words and its titles' words: a sentence below `Kettle 300 > Cleaning` might not name the kettle."""
        return self.words | self.title_words


def read_prompt(message: str) -> tuple[str, list[Sentence]]:
    """Return the question and the sentences of the sources in a chat message."""
    sources = list(_SOURCE.finditer(message))
    rest = message[sources[-1].end() :] if sources else message
    asked = _QUESTION.search(rest)
    question = (rest[asked.end() :] if asked else rest).strip()
    return question, [sentence for source in sources for sentence in _read_source(source)]


def _read_source(source: re.Match[str]) -> Iterator[Sentence]:
    """Yield the sentences of a source, except those that only repeat its title."""
    title = _PAGE.sub("", html.unescape(source[2] or ""))
    title_words = content_words(title)
    for text in split_text(_ESCAPED.sub("<", source[3])):
        words = content_words(text)
        if not words <= title_words:
            yield Sentence(int(source[1]), text, words, title, title_words)


def split_text(text: str) -> Iterator[str]:
    """Yield the sentences, list items and rows that a citation can quote, with white space collapsed."""
    for start, end in find_sentences(text):
        sentence = " ".join(text[start:end].split())
        if end - start <= MAX_SENTENCE_CHARS and len(WORD.findall(sentence)) >= SHORTEST_WORDS:
            yield sentence


async def answer(message: str, embed: Embed, *, before: Sequence[str] = (), no_answer_text: str | None = None) -> str:
    """Return up to QUOTES sentences, each with the `[n]` of its source, or the abstention.

    The abstention is `no_answer_text`, by default the one in the question's language. `before` are the earlier
    questions, oldest first. If the message asks to condense a follow-up, return the standalone question.
    """
    if conversation := _CONVERSATION.match(message):
        question = read_prompt(message[conversation.end() :])[0]
        return restate(question, _ASKED_BEFORE.findall(conversation[1])) if _is_ranked(question) else question
    question, sentences = read_prompt(message)
    quotes = await _find_quotes(question, sentences, embed=embed, before=before) if _is_ranked(question) else []
    return " ".join(map(_cite, quotes)) or no_answer_text or choose_no_answer_text(question)


async def _find_quotes(
    last_question: str, sentences: Sequence[Sentence], *, embed: Embed, before: Sequence[str]
) -> list[Sentence]:
    """Return the sentences that answer the question; none if none fits."""
    wants_quantity = _ASKS_QUANTITY.search(last_question) is not None
    question = restate(last_question, before)
    asked = content_words(question)
    weights = _word_weights(sentences)
    overlaps = {
        sentence: _overlap(asked, sentence.all_words, weights=weights)
        for sentence in sentences
        if (not wants_quantity or _NAMES_QUANTITY.search(sentence.text)) and _is_ranked(sentence.text)
    }
    candidates = sorted(overlaps, key=lambda sentence: -overlaps[sentence])[:CANDIDATES]
    if not question or not candidates:
        return []
    cosines = await _compare(question, candidates, embed=embed)
    scores = {
        sentence: COSINE_WEIGHT * cosines[sentence] + (1 - COSINE_WEIGHT) * overlaps[sentence]
        for sentence in candidates
    }
    return _choose(scores)


def _is_ranked(text: str) -> bool:
    return detect_language(text) in RANKED_LANGUAGES


async def _compare(question: str, sentences: Sequence[Sentence], *, embed: Embed) -> dict[Sentence, float]:
    """Return the similarity of each sentence to the question, -1 to 1.

    A title that shares words with the question is weighted in; any other only says what else the document covers.
    """
    asked = content_words(question)
    titles = {sentence.title for sentence in sentences if asked & sentence.title_words}
    texts = list(dict.fromkeys([question, *(sentence.text for sentence in sentences), *titles]))
    vectors = dict(zip(texts, await embed(texts), strict=True))

    def compare(sentence: Sentence) -> float:
        vector = vectors[sentence.text]
        if sentence.title in titles:
            vector = (1 - TITLE_WEIGHT) * vector + TITLE_WEIGHT * vectors[sentence.title]
        return float(vector @ vectors[question]) / math.sqrt(vector @ vector)

    return {sentence: compare(sentence) for sentence in sentences}


def _choose(scores: dict[Sentence, float]) -> list[Sentence]:
    """Return the best matching sentences, without near-duplicates."""
    ranked = sorted(scores, key=lambda sentence: -scores[sentence])
    threshold = max(FITS, NEARLY_AS_GOOD * scores[ranked[0]])
    quotes: list[Sentence] = []
    for sentence in ranked:
        if scores[sentence] < threshold or len(quotes) == QUOTES:
            break
        if all(_likeness(sentence.words, quote.words) < SAME_WORDS for quote in quotes):
            quotes.append(sentence)
    return quotes


def _cite(quote: Sentence) -> str:
    text = quote.text.rstrip(".\u3002")
    return f"{text} [{quote.n}]" if text.endswith(("!", "?", "\uff01", "\uff1f")) else f"{text} [{quote.n}]."


def _word_weights(sentences: Sequence[Sentence]) -> dict[str, float]:
    """Return a weight for each word: the fewer sentences contain it, the higher."""
    having = Counter(word for sentence in sentences for word in sentence.all_words)
    return {word: math.log(1 + len(sentences) / times) for word, times in having.items()}


def _overlap(asked: frozenset[str], words: frozenset[str], *, weights: dict[str, float]) -> float:
    """Return the weighted share of the question's words that the sentence contains, 0 to 1."""
    # A word missing from all sources counts like the rarest one, since its absence is significant.
    unknown = max(weights.values(), default=1.0)
    total = sum(weights.get(word, unknown) for word in asked)
    return sum(weights[word] for word in asked & words) / total if total else 0.0


def _likeness(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / (len(one | other) or 1)
