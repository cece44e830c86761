"""Cursors lead to the next page, and malformed ones are refused."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ragsvc.http.contract.paging import PageQuery, encode_cursor, page_by_id
from ragsvc.http.v1.admin_dlq import DeadLettersQuery
from ragsvc.http.v1.document_content import ChunksQuery


@dataclass
class Row:
    """A row of a list."""

    id: UUID


@settings(deadline=None)
@given(st.uuids())
def test_an_id_cursor_survives_encoding_and_decoding(position: UUID) -> None:
    assert PageQuery.model_validate({"cursor": encode_cursor(position)}).cursor == position


@settings(deadline=None)
@given(st.integers(0, 2**31))
def test_an_ordinal_cursor_survives_encoding_and_decoding(position: int) -> None:
    assert ChunksQuery.model_validate({"cursor": encode_cursor(position)}).cursor == position


@settings(deadline=None)
@given(st.datetimes(timezones=st.just(UTC)).filter(lambda moment: moment.year >= 1970), st.uuids())
def test_a_time_cursor_survives_encoding_and_decoding(moment: datetime, row_id: UUID) -> None:
    position = (moment, row_id)
    assert DeadLettersQuery.model_validate({"cursor": encode_cursor(position)}).cursor == position


def test_a_cursor_beyond_the_last_representable_time_is_clamped() -> None:
    position = DeadLettersQuery.model_validate({"cursor": "_" * 32}).cursor
    assert position == (datetime.max.replace(tzinfo=UTC), UUID(int=2**128 - 1))


@pytest.mark.parametrize("cursor", ["", "x", "not a cursor", "é" * 22, "A" * 23, encode_cursor(7)])
def test_a_made_up_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(ValidationError):
        PageQuery.model_validate({"cursor": cursor})


def test_a_cursor_of_another_list_is_refused() -> None:
    with pytest.raises(ValidationError):
        ChunksQuery.model_validate({"cursor": encode_cursor(uuid4())})


@pytest.mark.parametrize("limit", ["0", "101", "-1", "", "x", "1e1", "1.5"])
def test_a_limit_out_of_bounds_is_refused(limit: str) -> None:
    with pytest.raises(ValidationError):
        PageQuery.model_validate({"limit": limit})


def test_the_last_page_has_no_cursor() -> None:
    rows = [Row(uuid4()) for _ in range(3)]
    assert page_by_id(rows, 3, lambda row: row.id) == {"data": [row.id for row in rows], "next_cursor": None}


def test_a_page_that_is_not_the_last_has_a_cursor_to_the_next_row() -> None:
    rows = [Row(uuid4()) for _ in range(3)]
    page = page_by_id(rows, 2, lambda row: row.id)
    assert page["data"] == [rows[0].id, rows[1].id]
    assert page["next_cursor"] == encode_cursor(rows[1].id)
