"""Assertions that several tests of ingestion share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ragsvc.errors import DocumentRejected

if TYPE_CHECKING:
    from tests.ingestion.conftest import Parse


def refusal_of(parse: Parse, data: bytes, filename: str = "file", **options: object) -> tuple[str, str]:
    """Parse a file that must be refused, and return the code and the detail of the refusal."""
    with pytest.raises(DocumentRejected) as refusal:
        parse(data, filename, **options)
    return refusal.value.work_code, refusal.value.detail
