"""Office Open XML packages: parts, and what each is related to."""

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
    """A part that another refers to; `kind` is the last word of its type."""

    id: str
    kind: str
    target: str


def iterate_relations(archive: ZipFile, part: str) -> Iterator[Relation]:
    """Yield what a part refers to inside of the package; the package itself is the part ''."""
    folder, name = posixpath.split(part)
    relations = posixpath.join(folder, "_rels", f"{name}.rels")
    if relations not in archive.NameToInfo:
        return
    for relation in read_xml(archive, relations).iterchildren(RELATION):
        if relation.get("TargetMode") != "External":
            # A target that begins with a slash is taken from the package's root.
            target = posixpath.normpath(posixpath.join("/", folder, relation.get("Target", ""))).lstrip("/")
            yield Relation(relation.get("Id", ""), posixpath.basename(relation.get("Type", "")), target)


def find_main_part(archive: ZipFile, *, default: str) -> str:
    """Return the name of the package's document."""
    kinds = {relation.kind: relation.target for relation in iterate_relations(archive, "")}
    return kinds.get("officeDocument", default)
