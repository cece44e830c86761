"""Text splitters: by sentences and paragraphs, Markdown structure, or syntax, depending on the media type."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

from semantic_text_splitter import CodeSplitter, MarkdownSplitter, TextSplitter

from ragsvc.media_types.formats import GRAMMARS, MARKDOWN

if TYPE_CHECKING:
    from collections.abc import Callable


class Splitter(Protocol):
    """Splits a text into overlapping parts of limited length."""

    def chunk_indices(self, text: str) -> list[tuple[int, str]]:
        """Return (offset, part) for each part."""


def make_splitter(media_type: str, capacity: int, overlap: int) -> Splitter:
    """Return the splitter for a media type; parts have up to `capacity` characters and overlap by up to `overlap`."""
    if media_type == MARKDOWN:
        return MarkdownSplitter(capacity, overlap)
    load = _load_grammar(media_type)
    return CodeSplitter(load(), capacity, overlap) if load else TextSplitter(capacity, overlap)


@cache
def _load_grammar(media_type: str) -> Callable[[], object] | None:
    """Return the function that creates a pointer to the grammar; each splitter needs its own pointer."""
    entry_point = GRAMMARS.get(media_type)
    if entry_point is None:
        return None
    module, _, function = entry_point.partition(":")
    load: Callable[[], object] = getattr(import_module(module), function)
    return load
