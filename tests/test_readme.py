"""What README promises to explain."""

from __future__ import annotations

from pathlib import Path

import pytest

from ragsvc.errors import DocumentErrorCode
from ragsvc.jobs.retry_policy import DRIVER_ERROR_KINDS

README = (Path(__file__).parent.parent / "README.md").read_text()
REASONS = README.partition("### Why a document fails")[2].partition("\n## ")[0]


@pytest.mark.parametrize("code", [*DocumentErrorCode, *(code for _fits, _kind, code in DRIVER_ERROR_KINDS)])
def test_every_reason_that_a_document_fails_for_is_explained(code: str) -> None:
    assert f"`{code}`" in REASONS
