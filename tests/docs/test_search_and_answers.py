"""The page about search and answers quotes the service correctly."""

from __future__ import annotations

from ragsvc.abstention import NO_ANSWER_TEXT
from tests.docs.pages import read_page


def test_the_abstention_is_quoted() -> None:
    assert f'"{NO_ANSWER_TEXT}"' in read_page("docs/search-and-answers.md")
