"""The sections of a document: the text between two headings, with its heading path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ragsvc.domain.chunks import Heading, Table


@dataclass(frozen=True, slots=True)
class Section:
    """The code points `[char_start, char_end)` under a heading; `path` ends with that heading's title."""

    char_start: int
    char_end: int
    path: tuple[str, ...] = ()
    parent: tuple[str, ...] = ()

    @property
    def length(self) -> int:
        """The number of code points."""
        return self.char_end - self.char_start


def split_sections(
    text: str, headings: Sequence[Heading], *, tiny_chars: int, tables: Sequence[Table] = ()
) -> list[Section]:
    """Split a text at its headings into sections that cover it completely.

    A heading without text of its own is merged with its first subsection. Siblings of at most `tiny_chars` are merged
    under their parent's path until they reach twice that length. A section that begins with a table (a sheet) is never
    merged with siblings.
    """
    table_starts = {table.char_start for table in tables}
    joined: list[Section] = []
    previous_is_bare = False
    for section in _iterate_sections(headings, len(text)):
        previous = joined[-1] if joined else None
        is_bare = _is_bare(text, section)
        if previous is not None and previous_is_bare and _is_below(section, previous):
            joined[-1] = Section(previous.char_start, section.char_end, section.path, section.parent)
        elif (
            previous is not None
            and _are_tiny(previous, section, tiny_chars)
            and not table_starts & {previous.char_start, section.char_start}
        ):
            joined[-1] = Section(previous.char_start, section.char_end, section.parent, section.parent)
            is_bare = False
        else:
            joined.append(section)
        previous_is_bare = is_bare
    return joined


def _iterate_sections(headings: Sequence[Heading], length: int) -> Iterator[Section]:
    if not headings or headings[0].char_start > 0:
        yield Section(0, headings[0].char_start if headings else length)
    ancestors: list[Heading] = []
    for index, heading in enumerate(headings):
        while ancestors and ancestors[-1].level >= heading.level:
            ancestors.pop()
        parent = tuple(ancestor.title for ancestor in ancestors)
        ancestors.append(heading)
        end = headings[index + 1].char_start if index + 1 < len(headings) else length
        # If two headings have the same position, as in an outline that names only pages, the last one gets the text.
        if end > heading.char_start:
            yield Section(heading.char_start, end, (*parent, heading.title), parent)


def _is_bare(text: str, section: Section) -> bool:
    if not section.path or section.path == section.parent:
        return False
    return "\n" not in text[section.char_start : section.char_end].strip()


def _is_below(section: Section, other: Section) -> bool:
    return section.parent[: len(other.path)] == other.path


def _are_tiny(first: Section, second: Section, tiny_chars: int) -> bool:
    same_parent = bool(second.path) and first.parent == second.parent and bool(first.path)
    return same_parent and second.length <= tiny_chars and first.length + second.length <= 2 * tiny_chars
