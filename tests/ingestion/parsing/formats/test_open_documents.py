"""OpenDocument texts and EPUB books: reading order, headings and text that is not printed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.ingestion.invariants import check_long_table
from tests.ingestion.parsing.formats.office_files import make_zip, replace_entry
from tests.ingestion.parsing.formats.open_documents import make_epub, make_odf_table, make_odt, make_open_document
from tests.ingestion.support import refusal_of

if TYPE_CHECKING:
    from ragsvc.llm.token_counting import TokenCounter
    from tests.ingestion.conftest import Parse

ENCRYPTED_ODF = (
    '<manifest:manifest xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"><manifest:file-entry>'
    "<manifest:encryption-data/></manifest:file-entry></manifest:manifest>"
)
ENCRYPTED_EPUB = (
    '<encryption xmlns="urn:oasis:names:tc:opendocument:xmlns:container"'
    ' xmlns:enc="http://www.w3.org/2001/04/xmlenc#"><enc:EncryptedData><enc:CipherData>'
    '<enc:CipherReference URI="{uri}"/></enc:CipherData></enc:EncryptedData></encryption>'
)


def test_a_text_is_read_in_document_order(parse: Parse) -> None:
    parsed = parse(
        make_open_document(
            "text",
            "<text:sequence-decls><text:p>never</text:p></text:sequence-decls>"
            '<text:h text:outline-level="1">Handbook</text:h>'
            "<text:table-of-content><text:p>Handbook ... 1</text:p></text:table-of-content>"
            '<text:p>Two<text:s text:c="2"/>blanks,\n  a<text:tab/>tab<text:line-break/>and a line'
            '<text:note text:note-class="footnote"><text:note-citation>1</text:note-citation>'
            "<text:note-body><text:p>A footnote.</text:p></text:note-body></text:note>.</text:p>"
            "<text:list><text:list-item><text:p>one</text:p></text:list-item>"
            "<text:list-item><text:p>two</text:p></text:list-item></text:list>"
            "<text:section><text:p>In a <text:span>section</text:span><office:annotation><text:p>no</text:p>"
            "</office:annotation></text:p></text:section>"
            "<table:table><table:table-row><table:table-cell><text:p>a</text:p></table:table-cell>"
            "<table:table-cell><text:p>b</text:p></table:table-cell></table:table-row></table:table>"
            "<text:p><draw:frame><draw:text-box><text:p>In a box</text:p></draw:text-box></draw:frame></text:p>"
            '<text:h text:outline-level="2">Use</text:h>',
        )
    )
    assert parsed.text == (
        "Handbook\n\nTwo  blanks, a\ttab\nand a line.\n\nA footnote.\n\n- one\n- two\n\nIn a section\n\na\tb\n\n"
        "In a box\n\nUse"
    )
    assert [(heading.level, heading.title) for heading in parsed.headings] == [(1, "Handbook"), (2, "Use")]


def test_a_long_table_is_split_between_rows_with_its_header_as_context(parse: Parse, counter: TokenCounter) -> None:
    rows = [("Product", "Price"), *((f"Kettle model {number}", f"{number} euros") for number in range(1, 120))]
    text = (
        '<text:h text:outline-level="1">Prices</text:h><text:p>What everything costs.</text:p>'
        f"{make_odf_table(rows)}<text:p>Prices change in spring.</text:p>"
    )
    check_long_table(
        parse(make_open_document("text", text)), counter, first="Product\tPrice", last="Kettle model 119\t119 euros"
    )


def test_a_document_with_a_password_is_encrypted(parse: Parse) -> None:
    encrypted = make_open_document("text", "<text:p>x</text:p>", manifest=ENCRYPTED_ODF)
    assert refusal_of(parse, encrypted)[0] == "encrypted"


@pytest.mark.parametrize("content", [b"", b"<not-closed", b"<other/>"])
def test_a_damaged_text_is_corrupt(parse: Parse, content: bytes) -> None:
    assert refusal_of(parse, replace_entry(make_odt((0, "x")), "content.xml", content))[0] == "corrupt"


def test_a_document_that_declares_entities_is_refused(parse: Parse) -> None:
    lines = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10 if n else "lol"}">' for n in range(10))
    bomb = f"<!DOCTYPE x [{lines}]><x>&e9;</x>".encode()
    for kind in ("text", "spreadsheet", "presentation"):
        assert (
            refusal_of(parse, replace_entry(make_open_document(kind, ""), "content.xml", bomb))[0] == "limit_exceeded"
        )


@pytest.mark.parametrize("nav", [True, False])
def test_a_book_is_read_in_the_order_of_its_spine(parse: Parse, *, nav: bool) -> None:
    pages = ["<h1>One</h1><p>first</p>", "<p>untitled page</p>", "<h2>Three</h2><p>last</p>"]
    parsed = parse(make_epub(pages, contents=["Chapter 1", "Chapter 2", "Chapter 3"], nav=nav))
    assert parsed.text == "One\n\nfirst\n\nChapter 2\n\nuntitled page\n\nThree\n\nlast"
    assert [heading.title for heading in parsed.headings] == ["One", "Chapter 2", "Three"]
    assert parsed.media_type == "application/epub+zip"


def test_unclosed_elements_end_with_their_page(parse: Parse) -> None:
    assert parse(make_epub(["<ul><li>a<pre>  b", "<p>c  d</p>"])).text == "- a\n\n  b\n\nc d"


def test_self_closing_elements_in_a_book_do_not_hide_text(parse: Parse) -> None:
    pages = [
        '<script src="a.js"/><h1>One</h1><p>first<br/>words<img src="a.png"/></p>',
        "<title/><p><![CDATA[a < b]]></p>",
    ]
    book = make_epub(pages, contents=["<title/>", "Chapter 2"])
    assert parse(book).text == "One\n\nfirst\nwords\n\nChapter 2\n\na < b"


def test_a_book_with_encrypted_pages_is_refused_and_one_with_encrypted_fonts_is_read(parse: Parse) -> None:
    for uri, protected in (("OEBPS/page%200.xhtml", True), ("OEBPS/font.otf", False)):
        book = make_epub(["<p>words</p>"], extra={"META-INF/encryption.xml": ENCRYPTED_EPUB.format(uri=uri).encode()})
        if protected:
            assert refusal_of(parse, book)[0] == "encrypted"
        else:
            assert parse(book).text == "words"


def test_a_book_with_missing_parts_is_corrupt(parse: Parse) -> None:
    assert refusal_of(parse, make_zip({"mimetype": b"application/epub+zip"}))[0] == "corrupt"
    book = make_epub(["<p>words</p>"])
    assert refusal_of(parse, replace_entry(book, "META-INF/container.xml", b"<container/>"))[0] == "corrupt"
    assert refusal_of(parse, replace_entry(book, "OEBPS/book.opf", b"<package"))[0] == "corrupt"
