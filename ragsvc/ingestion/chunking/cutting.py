"""Cuts text into pieces with a limited number of tokens: between paragraphs, sentences, syntax nodes or rows."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ragsvc.ingestion.chunking.splitters import make_splitter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ragsvc.domain.chunks import ParsedText
    from ragsvc.llm.token_counting import TokenCounter

# The number of characters per chunk is derived from the token density of a block. Counting tokens dominates the run
# time, so the density of a long block is estimated from a few samples.
BLOCK_CHARS_PER_TOKEN = 64
LONG_CHARS_PER_TOKEN = 12
SAMPLES = 8
SAMPLE_SHARE = 8
SAMPLE_MIN_CHARS = 256
# A token counts for at most this many characters: otherwise long white space or a long unknown word would count as a
# single token.
MAX_CHARS_PER_TOKEN = 32
# Text without white space (base64, minified code, tables of numbers) is cut into runs of this many characters per
# token of a chunk, because the splitter and the tokenizers take time that grows with the square of a run's length.
RUN_CHARS_PER_TOKEN = 4
# Aim below the limit, since tokens are not distributed evenly.
FILL = 0.95
TYPICAL_TOKENS_PER_CHAR = 0.25
BREAKS = ("\n\n", "\n", ". ", "。", " ")
WORD = re.compile(r"\S+")
WHITE_SPACE = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class Piece:
    """A chunk without its anchors."""

    char_start: int
    text: str
    token_count: int

    @property
    def char_end(self) -> int:
        """The offset after the last code point."""
        return self.char_start + len(self.text)


class Cutter:
    """Cuts one text. The splitter measures in characters, which is ten times faster; tokens are counted afterwards."""

    def __init__(self, parsed: ParsedText, counter: TokenCounter, *, max_tokens: int, overlap_tokens: int) -> None:
        self._text = parsed.text
        self._media_type = parsed.media_type
        self._counter = counter
        self._max_tokens = max_tokens
        self._overlap_tokens = min(overlap_tokens, max_tokens - 1)

    def cut(self, start: int, end: int) -> Iterator[Piece]:
        """Yield the pieces of running text; neighbours overlap."""
        for block_start, block_end in self._iterate_blocks(start, end):
            yield from self._cut_block(block_start, self._text[block_start:block_end])

    def cut_rows(self, row_starts: Sequence[int], end: int) -> Iterator[Piece]:
        """Yield pieces of whole rows without overlap; a row that is too long for one piece is cut like text."""
        boundaries = [*row_starts, end]
        tokens_per_char = TYPICAL_TOKENS_PER_CHAR
        first = 0
        while first < len(row_starts):
            capacity = int(self._max_tokens * FILL / tokens_per_char)
            last = max(bisect_right(boundaries, boundaries[first] + capacity, lo=first) - 1, first + 1)
            piece = self._measure(boundaries[first], self._text[boundaries[first] : boundaries[last]])
            if piece is not None:
                # Rows are similar: use the density of this piece for the next one.
                tokens_per_char = self._density(piece)
                fits = self._size(piece) <= self._max_tokens
                if not fits and last > first + 1:
                    continue
                yield from [piece] if fits else self.cut(boundaries[first], boundaries[last])
            first = last

    def _cut_block(self, start: int, block: str) -> Iterator[Piece]:
        density = self._sample_density(block)
        if density * len(block) <= self._max_tokens:
            whole = self._measure(start, block)
            if whole is None:
                return
            if self._size(whole) <= self._max_tokens:
                yield whole
                return
            density = self._density(whole)
        while block:
            for offset, text in self._split(block, density):
                piece = self._measure(start + offset, text)
                if piece is not None and self._size(piece) > self._max_tokens and len(piece.text) > 1:
                    # This piece is denser than the block's average: cut the rest again with its density.
                    density = self._density(piece)
                    start, block = start + offset, block[offset:]
                    break
                if piece is not None:
                    yield piece
            else:
                return

    def _sample_density(self, block: str) -> float:
        """Return an estimate of the tokens per character of a long block; 0 if the whole block should be counted."""
        if len(block) <= self._max_tokens * LONG_CHARS_PER_TOKEN:
            return 0
        step = len(block) // SAMPLES
        width = max(step // SAMPLE_SHARE, SAMPLE_MIN_CHARS)
        # Leave out the words cut at both ends of a sample: a partial word counts as several tokens.
        samples = (block[at : at + width] for at in range(0, len(block), step))
        sample = self._measure(0, " ".join(s.partition(" ")[2].rpartition(" ")[0] or s for s in samples))
        return self._density(sample) if sample else 0

    def _split(self, text: str, tokens_per_char: float) -> list[tuple[int, str]]:
        capacity = max(int(self._max_tokens * FILL / tokens_per_char), 1)
        overlap = min(int(self._overlap_tokens / tokens_per_char), capacity - 1)
        return make_splitter(self._media_type, capacity, overlap).chunk_indices(text)

    def _measure(self, start: int, text: str) -> Piece | None:
        stripped = text.strip()
        if not stripped:
            return None
        start += len(text) - len(text.lstrip())
        return Piece(char_start=start, text=stripped, token_count=self._counter.count(stripped))

    def _density(self, piece: Piece) -> float:
        return self._size(piece) / len(piece.text)

    def _size(self, piece: Piece) -> int:
        return max(piece.token_count, -(-len(piece.text) // MAX_CHARS_PER_TOKEN))

    def _iterate_blocks(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield spans of bounded length that cover a section, cut at breaks; long runs are cut anywhere."""
        max_run = self._max_tokens * RUN_CHARS_PER_TOKEN
        max_block = self._max_tokens * BLOCK_CHARS_PER_TOKEN
        for run_start, run_end in iterate_runs(self._text, start, end, min_chars=max_run):
            for cut in range(run_start + max_run, run_end, max_run):
                yield from self._iterate_bounded(start, cut, max_block)
                start = cut
        yield from self._iterate_bounded(start, end, max_block)

    def _iterate_bounded(self, start: int, end: int, max_block: int) -> Iterator[tuple[int, int]]:
        while end - start > max_block:
            cut = _find_break(self._text, start + max_block // 2, start + max_block)
            yield start, cut
            start = cut
        yield start, end


def iterate_runs(text: str, start: int, end: int, *, min_chars: int) -> Iterator[tuple[int, int]]:
    """Yield the spans of at least `min_chars` characters that consist only of white space or contain none.

    Every such run contains at least one of the characters at intervals of `min_chars`. It is therefore enough to probe
    those characters and measure the run around each of them.
    """
    while start + min_chars <= end:
        probe = start + min_chars - 1
        kind = WHITE_SPACE if text[probe].isspace() else WORD
        run_start = probe + 1 - _match_length(kind, text[start : probe + 1][::-1])
        run_end = probe + _match_length(kind, text, probe, end)
        if run_end - run_start >= min_chars:
            yield run_start, run_end
        start = run_end


def _match_length(pattern: re.Pattern[str], text: str, *bounds: int) -> int:
    match = pattern.match(text, *bounds)
    return match.end() - match.start() if match else 0


def _find_break(text: str, start: int, end: int) -> int:
    for separator in BREAKS:
        found = text.rfind(separator, start, end)
        if found >= 0:
            return found + len(separator)
    return end
