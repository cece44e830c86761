"""What an XML file's own entities would expand to: nothing here expands them, but whoever reads the file next might."""

from __future__ import annotations

import re
from graphlib import CycleError, TopologicalSorter

from ragsvc.errors import DocumentErrorCode, DocumentRejected

_DECLARATION = re.compile(r"<!ENTITY\s+([\w:.-]+)\s+(?:\"([^\"]*)\"|'([^']*)')")
_REFERENCE = re.compile(r"&([\w:.-]+);")


def refuse_entity_expansion(text: str, *, max_chars: int) -> None:
    """Refuse XML in which an entity expands to more than a document may have.

    Raises:
        DocumentRejected: `limit_exceeded`.
    """
    if _largest_expansion(text) > max_chars:
        raise DocumentRejected(
            DocumentErrorCode.LIMIT_EXCEEDED, f"the entities of the XML expand to more than {max_chars:,} characters"
        )


def _largest_expansion(text: str) -> float:
    values = {match[1]: match[2] or match[3] or "" for match in _DECLARATION.finditer(text)}
    references = {name: _REFERENCE.findall(value) for name, value in values.items()}
    # Floats end at infinity: whole numbers grow by a digit with every entity, and fill the memory.
    sizes: dict[str, float] = {}
    try:
        for name in TopologicalSorter(references).static_order():
            sizes[name] = float(len(values.get(name, ""))) + sum(sizes[other] for other in references.get(name, ()))
    except CycleError:
        return float("inf")
    return max(sizes.values(), default=0)
