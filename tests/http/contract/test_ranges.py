"""Range and conditional requests are parsed, and file names are encoded safely."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragsvc.errors.requests import RangeNotSatisfiable
from ragsvc.http.contract.ranges import content_disposition, http_date, is_unchanged, parse_range, wanted_range

MODIFIED = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "served"),
    [
        ("bytes=0-0", (0, 0)),
        ("bytes=0-", (0, 99)),
        ("bytes=10-19", (10, 19)),
        ("bytes = 10 - 19", (10, 19)),
        ("bytes=90-1000", (90, 99)),
        ("bytes=-1", (99, 99)),
        ("bytes=-500", (0, 99)),
        ("bytes=20-10", None),
        ("bytes=", None),
        ("bytes=-", None),
        ("bytes=a-b", None),
        ("bytes=0-1,5-6", None),
        ("lines=0-1", None),
        ("bytes=٣-٤", None),
        ("bytes=0-" + "9" * 5000, None),
    ],
)
def test_a_range_is_served_or_ignored(text: str, served: tuple[int, int] | None) -> None:
    assert parse_range(text, 100) == served


@pytest.mark.parametrize("text", ["bytes=100-", "bytes=100-200", "bytes=-0"])
def test_a_range_outside_the_file_is_refused(text: str) -> None:
    with pytest.raises(RangeNotSatisfiable):
        parse_range(text, 100)


@settings(deadline=None)
@given(data=st.binary(min_size=1, max_size=300), first=st.integers(0, 299), length=st.integers(1, 300))
def test_a_range_returns_the_requested_bytes(data: bytes, first: int, length: int) -> None:
    wanted = data[first : first + length]
    try:
        part = parse_range(f"bytes={first}-{first + length - 1}", len(data))
    except RangeNotSatisfiable:
        assert wanted == b""
    else:
        assert part is not None
        assert data[part[0] : part[1] + 1] == wanted


@pytest.mark.parametrize(
    ("condition", "served"),
    [('"abc"', (0, 4)), ('"other"', None), ('W/"abc"', None), (http_date(MODIFIED), (0, 4)), ("yesterday", None)],
)
def test_a_range_is_served_only_from_the_version_that_the_client_has(
    condition: str, served: tuple[int, int] | None
) -> None:
    headers = {"Range": "bytes=0-4", "If-Range": condition}
    assert wanted_range(headers, size_bytes=100, etag='"abc"', modified=MODIFIED) == served


@pytest.mark.parametrize(
    ("header", "unchanged"), [('"abc"', True), ('W/"abc"', True), ('"x", "abc"', True), ("*", True), ('"x"', False)]
)
def test_an_unchanged_file_is_not_sent_again(header: str, unchanged: bool) -> None:  # noqa: FBT001
    assert is_unchanged({"If-None-Match": header}, etag='"abc"') is unchanged


@pytest.mark.parametrize(
    ("filename", "header"),
    [
        ("plain.pdf", "attachment; filename=\"plain.pdf\"; filename*=UTF-8''plain.pdf"),
        ('a"b\\c%.txt', "attachment; filename=\"a_b_c_.txt\"; filename*=UTF-8''a%22b%5Cc%25.txt"),
        (
            "Übersicht 日.pdf",
            "attachment; filename=\"_bersicht _.pdf\"; filename*=UTF-8''%C3%9Cbersicht%20%E6%97%A5.pdf",
        ),
    ],
)
def test_the_file_name_is_encoded_by_rfc_6266(filename: str, header: str) -> None:
    assert content_disposition(filename) == header


@settings(deadline=None)
@given(st.text(max_size=300))
def test_a_file_name_cannot_inject_headers(filename: str) -> None:
    filename = filename.encode("utf-8", "ignore").decode()
    header = content_disposition(filename)
    assert header.isascii()
    assert header.isprintable()
    assert header.count('"') == 2
