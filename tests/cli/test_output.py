"""The formatting of output for people."""

from __future__ import annotations

import pytest

from ragsvc.cli.output import clean, shorten, show, show_size, show_source, show_time


def test_terminal_control_characters_are_removed() -> None:
    assert clean("a\x1b[2J\x9b31mb\r\x00\u202ec\tö\n“ ”\u200d") == "a[2J31mbc\tö\n“ ”\u200d"


@pytest.mark.parametrize(
    ("span", "shown"),
    [
        ({"filename": "handbook.pdf", "page_first": 3, "heading_path": ["Weather"]}, "handbook.pdf, page 3"),
        ({"filename": "notes.md", "page_first": None, "heading_path": ["Setup", "Linux"]}, "notes.md, Setup > Linux"),
        ({"filename": "plain.txt", "page_first": None, "heading_path": []}, "plain.txt"),
        ({"document_id": "doc_1"}, "doc_1"),
    ],
)
def test_a_source_is_shown_by_page_or_heading(span: dict[str, object], shown: str) -> None:
    assert show_source(span) == shown


def test_sizes_are_decimal() -> None:
    assert [show_size(size) for size in (0, 999, 1000, 61_440, 5_368_709_120, 2e15)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "61.4 kB",
        "5.4 GB",
        "2000.0 TB",
    ]


def test_values_are_shown_in_readable_form() -> None:
    values = [None, True, 0.25, {}, {"a": 1}, ["b"], "\x1bc", 7]
    assert [show(value) for value in values] == ["-", "yes", "0.25", "-", '{"a":1}', '["b"]', "c", "7"]
    assert show_time("2026-01-31T12:00:00.123456Z") == "2026-01-31 12:00:00 UTC"


def test_a_long_text_becomes_one_short_line() -> None:
    assert shorten(" a\n b  c ", 10) == "a b c"
    assert shorten("abcdefghij", 5) == "abcd…"
