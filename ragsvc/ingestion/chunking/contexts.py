"""What is embedded before a chunk's text, and never stored with it: a table's header, the headings if asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from ragsvc.domain.chunks import join_context

if TYPE_CHECKING:
    from ragsvc.domain.chunks import Table
    from ragsvc.ingestion.chunking.cutting import Piece
    from ragsvc.llm.token_counting import TokenCounter

# The most of a model's input that a context may take: a header of 200 columns leaves no row room beside it.
MAX_SHARE = 0.25
PATH_SEPARATOR = " > "
# Tokens are not quite additive where two texts meet.
SPARE_TOKENS = 4


@dataclass(frozen=True, slots=True)
class Context:
    """What stands before a chunk, and how many tokens the chunk has to leave free for it."""

    headings: str = ""
    header: str = ""
    reserved_tokens: int = 0

    @property
    def text(self) -> str:
        """Both, on lines of their own."""
        return "\n".join(filter(None, (self.headings, self.header)))


EMPTY = Context()


class Contexts:
    """Makes the contexts of one text's chunks."""

    def __init__(self, text: str, counter: TokenCounter, *, input_tokens: int, with_headings: bool) -> None:
        self._text = text
        self._counter = counter
        self._input_tokens = input_tokens
        self._with_headings = with_headings
        self._make = lru_cache(maxsize=256)(self._choose)

    def of(self, path: tuple[str, ...], table: Table | None) -> Context:
        """Return the context of chunks below a heading, of a table or not.

        One that is too long gives up its outermost headings first, then the table's header.
        """
        header = self._text[slice(*table.header)].strip() if table and table.header else ""
        return self._make(path if self._with_headings else (), header)

    def apply(self, context: Context, piece: Piece) -> tuple[Context, int]:
        """Return the context of this piece and the tokens that it adds; none where both together are too long."""
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
