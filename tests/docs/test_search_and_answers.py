"""The page about search and answers quotes the service correctly."""

from __future__ import annotations

from ragsvc.answering.prompt import NOTHING_FOUND
from tests.docs.pages import read_page


def test_the_abstention_is_quoted() -> None:
    assert f'"{NOTHING_FOUND}"' in read_page("docs/search-and-answers.md")
