"""Detects XML entity expansion attacks. We expand no entities, but consumers of the stored file might."""

from __future__ import annotations

import re
from graphlib import CycleError, TopologicalSorter

from ragsvc.errors.work import DocumentErrorCode, DocumentRejected

_DECLARATION = re.compile(r"<!ENTITY\s+([\w:.-]+)\s+(?:\"([^\"]*)\"|'([^']*)')")
_REFERENCE = re.compile(r"&([\w:.-]+);")


def refuse_entity_expansion(text: str, *, max_chars: int) -> None:
    """Refuse XML that declares an entity whose expansion exceeds `max_chars`.

    Raises:
        DocumentRejected: `limit_exceeded`.
    """
    if _largest_expansion(text) > max_chars:
        raise DocumentRejected(
            DocumentErrorCode.LIMIT_EXCEEDED, f"the XML's entities expand to more than {max_chars:,} characters"
        )


def _largest_expansion(text: str) -> float:
    values = {match[1]: match[2] or match[3] or "" for match in _DECLARATION.finditer(text)}
    references = {name: _REFERENCE.findall(value) for name, value in values.items()}
    # Floats overflow to infinity, whereas integers would gain a digit with every entity and exhaust memory.
    sizes: dict[str, float] = {}
    try:
        for name in TopologicalSorter(references).static_order():
            sizes[name] = float(len(values.get(name, ""))) + sum(sizes[other] for other in references.get(name, ()))
    except CycleError:
        return float("inf")
    return max(sizes.values(), default=0)
