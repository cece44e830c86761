"""PDF: exact page spans, the outline as headings, and damaged files."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.ingestion.parsing.formats.pdf_files import Entry, append_update, make_pdf
from tests.ingestion.support import refusal_of

if TYPE_CHECKING:
    from ragsvc.ingestion.parsing.limits import ParseLimits
    from tests.ingestion.conftest import Parse


def test_page_spans_are_exact(parse: Parse) -> None:
    parsed = parse(make_pdf([["First page", "second line"], [], ["Third: naïve café"]]))
    texts = [parsed.text[page.char_start : page.char_end] for page in parsed.pages]
    assert texts == ["First page\nsecond line", "", "Third: naïve café"]
    assert [page.page for page in parsed.pages] == [1, 2, 3]
    assert parsed.text == "First page\nsecond line\nThird: naïve café"


def test_a_word_hyphenated_at_the_end_of_a_line_is_joined(parse: Parse) -> None:
    assert "a hyphenated word" in parse(make_pdf([["This is a hyphen-", "ated word in a line"]])).text


FORM = (
    "/FT /Tx /T (name) /TU (Full name) /V (Ada Lovelace)",
    "/FT /Tx /T (street) /V (12 Kettle Street\\rLondon)",
    "/FT /Tx /T (alarm) /V (Off)",
    "/FT /Tx /T (empty)",
    "/FT /Tx /T (blank) /V ( )",
    "/FT /Tx /T (pin) /Ff 8192 /V (1234)",
    "/FT /Tx /T (computed) /F 2 /V (never shown)",
    "/FT /Ch /Ff 131072 /T (colour) /Opt [[(r) (Red)] [(b) (Blue)]] /V (b)",
    "/FT /Ch /Ff 393216 /T (other) /Opt [(Red)] /V (Mauve)",
    "/FT /Ch /Ff 2097152 /T (sizes) /Opt [(S) (M) (L)] /V [(S) (L)]",
    "/FT /Btn /T (agree) /V /Yes /AS /Yes /AP << /N << /Yes 3 0 R /Off 3 0 R >> >>",
    "/FT /Btn /T (newsletter) /V /Off /AS /Off /AP << /N << /Yes 3 0 R /Off 3 0 R >> >>",
    "/FT /Btn /Ff 65536 /T (send) /V (pushed)",
)
FILLED = (
    "Full name: Ada Lovelace\nstreet: 12 Kettle Street\nLondon\nalarm: Off\ncolour: Blue\nother: Mauve\nsizes: S, L"
    "\nagree: Yes"
)


def test_form_values_are_part_of_their_page(parse: Parse) -> None:
    parsed = parse(make_pdf([["Terms"], ["Application"]], fields=FORM))
    assert [parsed.text[page.char_start : page.char_end] for page in parsed.pages] == [
        "Terms",
        f"Application\n{FILLED}",
    ]


def test_a_page_with_only_a_form_has_text(parse: Parse) -> None:
    parsed = parse(make_pdf([["Terms"], []], fields=FORM))
    assert parsed.text[parsed.pages[1].char_start : parsed.pages[1].char_end] == FILLED
    assert parsed.warnings == ()


def test_form_values_beyond_the_text_limit_are_refused(parse: Parse, limits: ParseLimits) -> None:
    fields = tuple(f"/FT /Tx /T (f{number}) /V ({'word ' * 100})" for number in range(5))
    data = make_pdf([["Words"]], fields=fields)
    assert refusal_of(parse, data, limits=replace(limits, max_text_chars=1000))[0] == "limit_exceeded"


def test_outline_headings_are_at_their_printed_titles(parse: Parse) -> None:
    pages = [["Preface words", "1 Setup", "Install it.", "1.1 Linux", "Use apt."], ["2 Usage", "Run it."]]
    outline = (Entry("Setup", 0, (Entry("Linux", 0),)), Entry("Usage", 1), Entry("Not printed", 1))
    parsed = parse(make_pdf(pages, outline=outline))
    found = [(heading.level, heading.title, parsed.text[heading.char_start :][:7]) for heading in parsed.headings]
    assert found == [
        (1, "Setup", "1 Setup"),
        (2, "Linux", "1.1 Lin"),
        (1, "Usage", "2 Usage"),
        (1, "Not printed", "2 Usage"),
    ]


def test_outline_entries_out_of_order_are_skipped(parse: Parse) -> None:
    outline = (Entry("Second", 1), Entry("First", 0), Entry("Third", 2))
    parsed = parse(make_pdf([["First"], ["Second"], ["Third"]], outline=outline))
    starts = [heading.char_start for heading in parsed.headings]
    assert starts == sorted(starts)
    assert [heading.title for heading in parsed.headings] == ["Second", "Third"]


def test_pages_without_text_are_counted_and_listed(parse: Parse) -> None:
    parsed = parse(make_pdf([["Words"], [], ["More"], []]))
    (warning,) = parsed.warnings
    assert (warning.code, warning.pages) == ("pages_without_text", (2, 4))
    assert warning.message.startswith("2 of 4 pages contain no text")


def test_page_labels_that_differ_from_page_numbers_are_listed(parse: Parse) -> None:
    data = make_pdf([["a"], ["b"], ["c"], ["d"]], labels="0 << /S /r >> 2 << /S /D >>")
    parsed = parse(data)
    (warning,) = parsed.warnings
    assert (warning.code, warning.pages) == ("page_labels_differ", (1, 3))
    assert "page 1 is 'i', page 3 is '1'" in warning.message
    assert [page.page for page in parsed.pages] == [1, 2, 3, 4]
    assert parse(make_pdf([["a"], ["b"]], labels="0 << /S /D >>")).warnings == ()


def test_a_file_with_a_user_password_is_encrypted(parse: Parse) -> None:
    assert refusal_of(parse, make_pdf([["Secret"]], user_password="open sesame"))[0] == "encrypted"


def test_an_empty_user_password_opens_the_file(parse: Parse) -> None:
    data = make_pdf([["Not so secret"]], user_password="")
    assert b"Not so secret" not in data
    assert parse(data).text == "Not so secret"


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9, 0.97])
def test_a_truncated_file_is_corrupt(parse: Parse, share: float) -> None:
    whole = make_pdf([[f"Line {line} of page {page}" for line in range(40)] for page in range(20)])
    assert refusal_of(parse, whole[: int(len(whole) * share)])[0] == "corrupt"


def test_a_complete_file_without_a_cross_reference_table_is_read(parse: Parse) -> None:
    whole = make_pdf([["Kettles boil"]])
    table, trailer, start = whole.index(b"xref\n"), whole.index(b"trailer"), whole.index(b"startxref")
    without = whole[:table] + whole[trailer:start] + b"%%EOF\n"
    assert b"xref" not in without
    assert parse(without).text == "Kettles boil"
    # pdfium cannot read a file without a trailer, and a file without an end marker may be incomplete.
    assert refusal_of(parse, whole[:table] + b"%%EOF\n")[0] == "corrupt"
    assert refusal_of(parse, without.removesuffix(b"%%EOF\n"))[0] == "corrupt"


def test_a_truncated_linearized_file_is_corrupt(parse: Parse) -> None:
    whole = make_pdf([["Hello"]])
    declared = whole.replace(b"%\xe2\xe3\xcf\xd3", b"%/Linearized 1 /L 99999999")
    assert refusal_of(parse, declared)[0] == "corrupt"


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8, 0.9])
def test_a_file_truncated_within_an_update_is_corrupt(parse: Parse, share: float) -> None:
    first = make_pdf([["Older words"]])
    whole = append_update(first, content=b"BT /F1 11 Tf 60 740 Td (Newer words) Tj ET")
    assert parse(whole).text == "Newer words"
    cut = int(len(first) + (len(whole) - len(first)) * share)
    assert first in whole[:cut]
    assert refusal_of(parse, whole[:cut])[0] == "corrupt"


def test_bytes_after_the_end_are_ignored(parse: Parse) -> None:
    for tail in (b"\n" * 3000 + b"<!-- appended by a web server -->", b"\0" * 512, bytes(range(256)), b"7 0 objects"):
        assert parse(make_pdf([["Hello"]], tail=tail)).text == "Hello"


def test_more_pages_than_the_limit_are_refused(parse: Parse, limits: ParseLimits) -> None:
    data = make_pdf([["Page"]] * 4)
    assert len(parse(data, limits=replace(limits, max_pages=4)).pages) == 4
    assert refusal_of(parse, data, limits=replace(limits, max_pages=3))[0] == "limit_exceeded"


def test_more_text_than_the_limit_is_refused(parse: Parse, limits: ParseLimits) -> None:
    data = make_pdf([["A line of words"] * 40] * 3)
    code, detail = refusal_of(parse, data, limits=replace(limits, max_text_chars=1000))
    assert code == "limit_exceeded"
    assert "page 2" in detail
