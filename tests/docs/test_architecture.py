"""The architecture page agrees with import-linter's contract."""

from __future__ import annotations

import re
import tomllib

from tests.docs.pages import rows_of, section_of
from tests.support.servers.servers import ROOT

PAGE = "docs/architecture.md"


def layers() -> list[set[str]]:
    """Return the layers of import-linter's contract, the highest first."""
    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = configuration["tool"]["importlinter"]["contracts"]
    (contract,) = (one for one in contracts if one["type"] == "layers" and one["containers"] == ["ragsvc"])
    return [{part.strip() for part in layer.split("|")} for layer in contract["layers"]]


def test_the_table_of_layers_is_the_contract() -> None:
    shown = [set(re.findall(r"`(\w+)`", packages)) for _layer, packages in rows_of(section_of(PAGE, "Layers"))]
    assert shown == layers()


def test_every_package_is_described() -> None:
    packages = {path.parent.name for path in (ROOT / "ragsvc").glob("*/__init__.py")}
    described = {name.strip("`") for name, _content in rows_of(section_of(PAGE, "Packages"))}
    assert described == packages
