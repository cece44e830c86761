"""Chunk contexts: a table's header and, optionally, headings, which are embedded with the chunk but not part of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from ragsvc.domain.chunks import join_context

if TYPE_CHECKING:
    from ragsvc.domain.chunks import Table
    from ragsvc.ingestion.chunking.cutting import Piece
    from ragsvc.llm.token_counting import TokenCounter

# The largest share of the model's input that a context can use. Without a limit, a header of 200 columns would leave no
# space for rows.
MAX_SHARE = 0.25
PATH_SEPARATOR = " > "
# Two texts that are joined can have slightly more tokens than the sum of both.
SPARE_TOKENS = 4


@dataclass(frozen=True, slots=True)
class Context:
    """The context of a chunk, and the number of tokens that the chunk must reserve for it."""

    headings: str = ""
    header: str = ""
    reserved_tokens: int = 0

    @property
    def text(self) -> str:
        """Headings and header, each on its own line."""
        return "\n".join(filter(None, (self.headings, self.header)))


EMPTY = Context()


class Contexts:
    """Builds the contexts for the chunks of one text."""

    def __init__(self, text: str, counter: TokenCounter, *, input_tokens: int, with_headings: bool) -> None:
        self._text = text
        self._counter = counter
        self._input_tokens = input_tokens
        self._with_headings = with_headings
        self._make = lru_cache(maxsize=256)(self._choose)

    def of(self, path: tuple[str, ...], table: Table | None) -> Context:
        """Return the context for chunks under a heading path: in `table`, or in running text if that is None.

        If the context is too long, the outermost headings are dropped first, then the table's header.
        """
        header = self._text[slice(*table.header)].strip() if table and table.header else ""
        return self._make(path if self._with_headings else (), header)

    def apply(self, context: Context, piece: Piece) -> tuple[Context, int]:
        """Return the context and the tokens that it adds to the piece; an empty one if the two exceed the input."""
        if not context.text:
            return EMPTY, 0
        tokens = self._counter.count(join_context(context.text, piece.text))
        if tokens > self._input_tokens:
            return EMPTY, 0
        return context, tokens - piece.token_count

    def _choose(self, path: tuple[str, ...], header: str) -> Context:
        headings = [PATH_SEPARATOR.join(path[start:]) for start in range(len(path))]
        candidates = [Context(heading, header) for heading in [*headings, ""]]
        for candidate in [*candidates, *map(Context, headings)]:
            tokens = self._counter.count(join_context(candidate.text, "")) + SPARE_TOKENS if candidate.text else 0
            if tokens <= self._input_tokens * MAX_SHARE:
                return replace(candidate, reserved_tokens=tokens)
        return EMPTY
