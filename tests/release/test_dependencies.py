"""Every package that ragsvc imports is declared, so that an installed wheel has it."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement

from tests.support.servers.servers import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
OPTIONAL = PROJECT["project"]["optional-dependencies"]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(requirements: Iterable[str]) -> set[str]:
    return {canonical(Requirement(text).name) for text in requirements}


def imports_of(path: Path) -> Iterator[str]:
    """Yield the top-level packages that a module imports, except those that only a type checker imports."""
    pending: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while pending:
        node = pending.pop()
        match node:
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                pending.extend(node.orelse)
            case ast.Import():
                yield from (alias.name.partition(".")[0] for alias in node.names)
            case ast.ImportFrom(module=str() as module, level=0):
                yield module.partition(".")[0]
            case _:
                pending.extend(ast.iter_child_nodes(node))


def third_party_imports() -> dict[str, set[str]]:
    """Return the modules that import each third-party package, by package."""
    found: dict[str, set[str]] = {}
    for path in (ROOT / "ragsvc").rglob("*.py"):
        for name in imports_of(path):
            if name not in sys.stdlib_module_names and name != "ragsvc":
                found.setdefault(name, set()).add(path.relative_to(ROOT).as_posix())
    return found


def test_every_import_is_declared() -> None:
    required = declared(PROJECT["project"]["dependencies"])
    distributions = packages_distributions()
    extras = {
        "devstack": ("ragsvc/devstack/", declared(OPTIONAL["devstack"])),
        "otel": ("ragsvc/telemetry/opentelemetry.py", declared(OPTIONAL["otel"])),
    }
    undeclared = {}
    for package, modules in third_party_imports().items():
        names = {canonical(name) for name in distributions.get(package, ())}
        # A package of an extra may be imported only where the extra is used.
        prefixes = [prefix for prefix, extra in extras.values() if names & extra]
        outside = {module for module in modules if not any(module.startswith(prefix) for prefix in prefixes)}
        if not names & required and outside:
            undeclared[package] = outside
    assert undeclared == {}


def test_the_projects_metadata_is_complete() -> None:
    project = PROJECT["project"]
    assert project["version"] == "0.1.0"
    assert {"authors", "classifiers", "description", "keywords", "license", "readme", "urls"} <= project.keys()
