"""The words that the glossary replaced do not return in names."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

import pytest

from tests.support.servers.servers import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# A singular also covers its plural. `docs/glossary.md` lists the words to use instead.
WORDS = """
bell board desk door face floor keeper place placed placing pulse remembered ring room rang rung shall stay tell
told whoever
"""
REPLACED = frozenset(WORDS.split())
# Names that are allowed because a library's name contains one of the words.
FOREIGN = frozenset({"HuggingFaceCounter"})
WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
FILES = sorted(path for folder in ("ragsvc", "tests") for path in (ROOT / folder).rglob("*.py"))


def words_of(name: str) -> set[str]:
    words = {word.lower() for word in WORD.findall(name)}
    return words | {word.removesuffix("s") for word in words}


def iterate_names(path: Path) -> Iterator[str]:
    """Yield the name of a module and the names that it defines."""
    yield path.stem
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.arg(arg=name):
                yield name
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name


def test_replaced_words_do_not_return_in_names() -> None:
    found = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in FILES
        for name in iterate_names(path)
        if name not in FOREIGN and words_of(name) & REPLACED
    }
    assert found == set()


@pytest.mark.parametrize("name", ["find_place", "PLACES", "Bell", "test_it_is_told", "_keeper"])
def test_a_replaced_word_is_noticed(name: str) -> None:
    assert words_of(name) & REPLACED
