"""Public ids are formatted and parsed back, and malformed ones are refused."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragsvc.domain.ids import format_id
from ragsvc.errors.requests import NotFound
from ragsvc.http.contract.ids import parse_id

SOME = UUID("018f3c2a-7b1e-7cde-8f00-abcdef012345")


@settings(deadline=None)
@given(st.uuids())
def test_an_id_survives_formatting_and_parsing(value: UUID) -> None:
    assert parse_id("doc", format_id("doc", value)) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "doc_",
        "doc",
        SOME.hex,
        f"col_{SOME.hex}",
        f"doc_{SOME}",
        f"doc_{SOME.hex.upper()}",
        f"doc_{SOME.hex}\n",
        f"DOC_{SOME.hex}",
        "doc_" + "٣" * 32,
        "doc_../../etc/passwd",
    ],
)
def test_a_malformed_id_is_not_found_like_an_unknown_one(text: str) -> None:
    with pytest.raises(NotFound):
        parse_id("doc", text)
