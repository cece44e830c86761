"""Every protection in the threat model is proven by a test."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from tests.support.servers.servers import ROOT

PAGE = (ROOT / "deploy" / "threat-model.md").read_text(encoding="utf-8")
TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| threat |")]


@cache
def functions_of(module: str) -> frozenset[str]:
    tree = ast.parse((ROOT / module).read_text(encoding="utf-8"))
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(function.name for function in functions)


@pytest.mark.parametrize(("module", "name"), sorted(set(TEST.findall(PAGE))))
def test_a_named_test_exists(module: str, name: str) -> None:
    assert name in functions_of(module)


def test_every_threat_names_a_test() -> None:
    assert len(ROWS) > 30
    assert [row for row in ROWS if not TEST.search(row.split(" | ")[2])] == []


def test_the_runbook_links_to_it() -> None:
    assert "](threat-model.md)" in (ROOT / "deploy" / "README.md").read_text(encoding="utf-8")
