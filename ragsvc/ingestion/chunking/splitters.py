"""The splitter of each type of text: by sentences and paragraphs, by Markdown, or by a language's syntax."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

from semantic_text_splitter import CodeSplitter, MarkdownSplitter, TextSplitter

from ragsvc.media_types.formats import GRAMMARS, MARKDOWN

if TYPE_CHECKING:
    from collections.abc import Callable


class Splitter(Protocol):
    """Cuts a text into overlapping parts of at most so many characters, and says where each begins."""

    def chunk_indices(self, text: str) -> list[tuple[int, str]]: ...


def make_splitter(media_type: str, capacity: int, overlap: int) -> Splitter:
    """Return the splitter for a type; code of a language without a grammar is text."""
    if media_type == MARKDOWN:
        return MarkdownSplitter(capacity, overlap)
    load = _load_grammar(media_type)
    return CodeSplitter(load(), capacity, overlap) if load else TextSplitter(capacity, overlap)


@cache
def _load_grammar(media_type: str) -> Callable[[], object] | None:
    """Return what makes the grammar's pointer: each holds for one splitter."""
    entry_point = GRAMMARS.get(media_type)
    if entry_point is None:
        return None
    module, _, function = entry_point.partition(":")
    load: Callable[[], object] = getattr(import_module(module), function)
    return load
