"""Office Open XML packages: the relationships between parts."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ragsvc.ingestion.parsing.containers.xml_parts import read_xml

if TYPE_CHECKING:
    from collections.abc import Iterator
    from zipfile import ZipFile

RELATION = "{http://schemas.openxmlformats.org/package/2006/relationships}Relationship"
RELATION_ID = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"


@dataclass(frozen=True, slots=True)
class Relation:
    """A relationship to another part; `kind` is the last path segment of its type."""

    id: str
    kind: str
    target: str


def iterate_relations(archive: ZipFile, part: str) -> Iterator[Relation]:
    """Yield the relationships of a part to parts of the same package; the part '' is the package itself."""
    folder, name = posixpath.split(part)
    relations = posixpath.join(folder, "_rels", f"{name}.rels")
    if relations not in archive.NameToInfo:
        return
    for relation in read_xml(archive, relations).iterchildren(RELATION):
        if relation.get("TargetMode") != "External":
            # Targets that begin with a slash are relative to the root of the package.
            target = posixpath.normpath(posixpath.join("/", folder, relation.get("Target", ""))).lstrip("/")
            yield Relation(relation.get("Id", ""), posixpath.basename(relation.get("Type", "")), target)


def find_main_part(archive: ZipFile, *, default: str) -> str:
    """Return the name of the package's main part, or `default` if the package does not specify it."""
    kinds = {relation.kind: relation.target for relation in iterate_relations(archive, "")}
    return kinds.get("officeDocument", default)
