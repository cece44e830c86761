"""The project's Markdown pages, and what tests look for in them."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from tests.support.servers.servers import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGES = (
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "deploy").glob("*.md")),
)
# `[text](target)` and `![text](target)`.
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE_BLOCK = re.compile(r"^```.*?^```$", flags=re.MULTILINE | re.DOTALL)
CODE_SPAN = re.compile(r"`[^`\n]+`")
HEADING = re.compile(r"^#+ (.+)$", flags=re.MULTILINE)


def name_of(page: Path) -> str:
    """Return a page's path within the repository."""
    return page.relative_to(ROOT).as_posix()


@cache
def read_page(name: str) -> str:
    """Return the text of a page, by its path within the repository."""
    return (ROOT / name).read_text(encoding="utf-8")


def section_of(name: str, heading: str) -> str:
    """Return the text between a second-level heading and the next one."""
    _before, found, rest = read_page(name).partition(f"\n## {heading}\n")
    assert found, f"{name} has no section {heading!r}"
    return rest.partition("\n## ")[0]


def links_of(name: str) -> list[str]:
    """Return the targets of a page's links."""
    return LINK.findall(CODE_SPAN.sub("", CODE_BLOCK.sub("", read_page(name))))


def anchors_of(name: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub generates them."""
    headings = HEADING.findall(CODE_BLOCK.sub("", read_page(name)))
    return {re.sub(r"[^\w\- ]", "", re.sub(LINK, "", heading).lower()).replace(" ", "-") for heading in headings}


def rows_of(text: str) -> Iterator[list[str]]:
    """Yield the cells of every row of the tables in a text, without header and separator rows."""
    lines = text.splitlines()
    for previous, line in zip(["", *lines], lines, strict=False):
        is_head = line.startswith("|") and not previous.startswith("|")
        if line.startswith("| ") and not is_head:
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def blocks_of(name: str, *languages: str) -> list[str]:
    """Return the code blocks of a page in these languages, in order."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", read_page(name), flags=re.MULTILINE | re.DOTALL)
    return [code for language, code in found if language in languages]
