"""Questions and the passages that answer them, derived from the pages; none is written by hand."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from tests.eval.pages import read_page

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from tests.eval.pages import Page, Section

# These questions are removed from the pages, so that their answers must be found by content.
FAQS = (
    "usr/share/doc/debian/FAQ/*.en.html",
    "usr/share/doc/python3.[0-9]*[0-9]/html/faq/*.html",
    "usr/share/doc/sqlite3/faq.html",
    "usr/share/doc/git-doc/gitfaq.html",
)
# Sections of these pages are queried by title and name, and compete with the answers of the FAQs.
MANUALS = (
    "usr/share/debian-reference/ch0[1259].en.html",
    "usr/share/developers-reference/*.html",
    "usr/share/doc/git-doc/git-[bcrs]*.html",
    "usr/share/doc/python3.[0-9]*[0-9]/html/howto/*.html",
    "usr/share/doc/python3.[0-9]*[0-9]/html/tutorial/*.html",
    "usr/share/doc/python3.[0-9]*[0-9]/html/library/[cj]*.html",
    "usr/share/doc/sqlite3/c3ref/*.html",
    "usr/share/doc/sqlite3/rescode.html",
    "usr/share/doc/sqlite3/[abfhiqtw]*.html",
)
LEFT_OUT = re.compile(r"index|/search\.html|history|changes|testing|bugs|windowfunctions")
LARGEST_PAGE_CHARS = 70_000
SHORTEST_ANSWER_CHARS = 80
SHORTEST_SECTION_CHARS = 200
# Enough per kind for a confidence interval of a few points.
MOST_OF_A_KIND = 300
NAME = re.compile(r"\b(?:sqlite3_[a-z0-9_]+|SQLITE_[A-Z_]+|git-[a-z-]+)\b")
WORDS = re.compile(r"[A-Za-z]{3,}")
SEVERAL_WORDS = 3


class Kind(StrEnum):
    """The kind of a query."""

    QUESTION = "question"
    TITLE = "title"
    NAME = "name"


class Split(StrEnum):
    """The use of a query: choosing defaults, or reporting results."""

    DEV = "dev"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class Question:
    """A query, and the span of the document that answers it, in code points."""

    kind: Kind
    query: str
    filename: str
    char_start: int
    char_end: int

    @property
    def split(self) -> Split:
        """The split, chosen by a hash of the query so that it is the same in every run."""
        is_odd = hashlib.sha256(self.query.lower().encode()).digest()[0] % 2
        return Split.TEST if is_odd else Split.DEV

    def is_answered_by(self, filename: str, char_start: int, char_end: int) -> bool:
        """Return whether a chunk covers at least half of the passage, or the passage at least half of the chunk."""
        shared = min(self.char_end, char_end) - max(self.char_start, char_start)
        return filename == self.filename and shared * 2 >= min(self.char_end - self.char_start, char_end - char_start)


@dataclass(frozen=True, slots=True)
class Corpus:
    """The uploaded pages and their questions."""

    pages: tuple[Page, ...]
    questions: tuple[Question, ...]


def make_corpus(unpacked: Path) -> Corpus:
    """Return the pages of the unpacked packages and their questions, in a stable order."""
    faqs = [*_read(_find(unpacked, FAQS), unpacked, hides_questions=True)]
    manuals = [*_read(_find(unpacked, MANUALS) - _find(unpacked, FAQS), unpacked, hides_questions=False)]
    questions = [*_ask_faqs(faqs), *_ask_titles(manuals), *_ask_names(manuals)]
    return Corpus((*faqs, *manuals), tuple(_draw(questions)))


def _find(unpacked: Path, patterns: Iterable[str]) -> set[Path]:
    return {path for pattern in patterns for path in unpacked.glob(pattern)}


def _read(paths: set[Path], unpacked: Path, *, hides_questions: bool) -> Iterator[Page]:
    for path in sorted(paths):
        name = path.relative_to(unpacked / "usr/share").as_posix()
        if LEFT_OUT.search(name):
            continue
        page = read_page(path, filename=name.replace("/", "_"), hides_questions=hides_questions)
        if page.sections and page.sections[-1].char_end <= LARGEST_PAGE_CHARS:
            yield page


def _ask_faqs(pages: Iterable[Page]) -> Iterator[Question]:
    for page in pages:
        for section in page.sections:
            if section.title.endswith("?") and len(section.text) >= SHORTEST_ANSWER_CHARS:
                yield _ask(Kind.QUESTION, section.title, page, section)


def _ask_titles(pages: Sequence[Page]) -> Iterator[Question]:
    """Yield queries for sections with a unique title; this leaves out generic titles, which are not unique."""
    seen = Counter(section.title.lower() for page in pages for section in page.sections)
    for page in pages:
        for section in page.sections:
            is_specific = len(WORDS.findall(section.title)) >= SEVERAL_WORDS and seen[section.title.lower()] == 1
            if is_specific and len(section.text) >= SHORTEST_SECTION_CHARS and not NAME.search(section.title):
                yield _ask(Kind.TITLE, section.title, page, section)


def _ask_names(pages: Sequence[Page]) -> Iterator[Question]:
    """Yield a query for each section that is about one name: its title contains it, or it documents that function."""
    for page in pages:
        for section in page.sections:
            found = NAME.findall(section.title) or (
                NAME.findall(section.text.partition(";")[0]) if "c3ref" in page.filename else []
            )
            if len(set(found)) == 1 and len(section.text) >= SHORTEST_ANSWER_CHARS:
                yield _ask(Kind.NAME, found[0], page, section)


def _ask(kind: Kind, query: str, page: Page, section: Section) -> Question:
    return Question(kind, query, page.filename, section.char_start, section.char_end)


def _draw(questions: Iterable[Question]) -> Iterator[Question]:
    """Yield at most MOST_OF_A_KIND questions of each kind, without repeating a query within a kind."""
    drawn: dict[tuple[Kind, str], Question] = {}
    for question in questions:
        drawn.setdefault((question.kind, question.query.lower()), question)
    counts: Counter[Kind] = Counter()
    for question in sorted(drawn.values(), key=lambda one: hashlib.md5(one.query.encode()).digest()):  # noqa: S324
        counts[question.kind] += 1
        if counts[question.kind] <= MOST_OF_A_KIND:
            yield question
