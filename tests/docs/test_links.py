"""Every link in a page leads somewhere, and every command that a page names exists."""

from __future__ import annotations

import re

import pytest

from ragsvc.cli.app import COMMANDS
from tests.docs.pages import PAGES, anchors_of, links_of, name_of, read_page
from tests.support.servers.servers import ROOT

NAMES = [name_of(page) for page in PAGES]
README_MAX_BYTES = 6000
RELATIVE = [(name, link) for name in NAMES for link in links_of(name) if "://" not in link]


@pytest.mark.parametrize(("name", "link"), RELATIVE)
def test_a_relative_link_leads_to_a_file_and_an_anchor(name: str, link: str) -> None:
    path, _hash, anchor = link.partition("#")
    target = ((ROOT / name).parent / path).resolve() if path else ROOT / name
    assert target.is_relative_to(ROOT)
    assert target.exists()
    if anchor:
        assert anchor in anchors_of(target.relative_to(ROOT).as_posix())


@pytest.mark.parametrize("name", NAMES)
def test_an_external_link_uses_https(name: str) -> None:
    external = [link for link in links_of(name) if "://" in link]
    assert [link for link in external if not link.startswith("https://")] == []


@pytest.mark.parametrize("name", NAMES)
def test_make_targets_and_commands_exist(name: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    text = read_page(name)
    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", text, flags=re.MULTILINE)) - targets == set()
    assert set(re.findall(r"(?:`|^|\$ )ragsvc ([a-z-]+)", text, flags=re.MULTILINE)) - set(COMMANDS) == set()


def test_every_page_of_docs_is_in_the_index() -> None:
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert pages - set(links_of("docs/README.md")) == set()


def test_the_readme_is_short() -> None:
    assert len(read_page("README.md").encode()) <= README_MAX_BYTES
