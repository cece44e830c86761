"""Word documents: paragraphs, lists and tables in document order; headings by style."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import docx
import pytest
from docx.enum.style import WD_STYLE_TYPE
from docx.oxml import OxmlElement, parse_xml
from docx.oxml.ns import nsdecls, qn

from tests.ingestion.invariants import check_long_table
from tests.ingestion.parsing.formats.office_files import make_docx, make_strict, read_entry, replace_entry, save
from tests.ingestion.support import refusal_of

if TYPE_CHECKING:
    from ragsvc.llm.token_counting import TokenCounter
    from tests.ingestion.conftest import Parse

BODY = "word/document.xml"


def test_a_document_is_read_in_document_order(parse: Parse) -> None:
    document = docx.Document()
    document.add_heading("Handbook", 0)
    document.add_heading("Setup", 1)
    document.add_paragraph("Install it.")
    document.add_paragraph("first", style="List Bullet")
    document.add_paragraph("second", style="List Number")
    table = document.add_table(rows=2, cols=2)
    for cell, text in zip(
        (cell for row in table.rows for cell in row.cells), ("Name", "Age", "Ada", "36"), strict=True
    ):
        cell.text = text
    table.cell(1, 0).add_paragraph("Lovelace")
    document.add_heading("Use", 2)
    document.add_paragraph("Run\tit\nnow.")
    parsed = parse(save(document))
    assert parsed.text == (
        "Handbook\n\nSetup\n\nInstall it.\n\n- first\n- second\nName\tAge\nAda Lovelace\t36\n\nUse\n\nRun\tit\nnow."
    )
    assert [(heading.level, heading.title) for heading in parsed.headings] == [
        (1, "Handbook"),
        (1, "Setup"),
        (2, "Use"),
    ]
    for heading in parsed.headings:
        assert parsed.text[heading.char_start :].startswith(heading.title)


def test_a_long_table_is_split_between_rows_with_its_header_as_context(parse: Parse, counter: TokenCounter) -> None:
    document = docx.Document()
    document.add_heading("Prices", 1)
    document.add_paragraph("What everything costs.")
    table = document.add_table(rows=120, cols=2)
    for number, row in enumerate(table.rows):
        row.cells[0].text = f"Kettle model {number}" if number else "Product"
        row.cells[1].text = f"{number} euros" if number else "Price"
    document.add_paragraph("Prices change in spring.")
    parsed = parse(save(document))
    check_long_table(parsed, counter, first="Product\tPrice", last="Kettle model 119\t119 euros")


def test_adjacent_tables_are_separate(parse: Parse) -> None:
    document = docx.Document()
    document.add_paragraph("Tables.")
    for name in ("Name", "Place"):
        table = document.add_table(rows=2, cols=2)
        for cell, text in zip(table._cells, (name, "Age", "Ada", "36"), strict=True):
            cell.text = text
    parsed = parse(save(document))
    assert [parsed.text[slice(*table.header)] for table in parsed.tables if table.header] == ["Name\tAge", "Place\tAge"]


def test_a_style_based_on_a_heading_style_is_a_heading(parse: Parse) -> None:
    document = docx.Document()
    style = document.styles.add_style("Chapter", WD_STYLE_TYPE.PARAGRAPH)
    style.base_style = document.styles["Heading 2"]
    document.add_paragraph("By style", style="Chapter")
    outlined = document.add_paragraph("By outline level")
    level = OxmlElement("w:outlineLvl")
    level.set(qn("w:val"), "2")
    outlined._p.get_or_add_pPr().append(level)
    parsed = parse(save(document))
    assert [(heading.level, heading.title) for heading in parsed.headings] == [(2, "By style"), (3, "By outline level")]


def test_content_controls_insertions_and_text_boxes_are_read_and_deletions_are_not(parse: Parse) -> None:
    document = docx.Document()
    body = document.element.body
    for inner in (
        "<w:sdt><w:sdtContent><w:p><w:r><w:t>In a control</w:t></w:r></w:p></w:sdtContent></w:sdt>",
        "<w:p><w:ins><w:r><w:t>Inserted</w:t></w:r></w:ins><w:del><w:r><w:delText>Deleted</w:delText></w:r></w:del></w:p>",
        "<w:p><w:hyperlink><w:r><w:t>Linked</w:t></w:r></w:hyperlink><w:r><w:noBreakHyphen/><w:t>on</w:t></w:r></w:p>",
        "<w:p><w:r><w:pict><w:txbxContent><w:p><w:r><w:t>Boxed</w:t></w:r></w:p></w:txbxContent></w:pict></w:r></w:p>",
    ):
        element = parse_xml(re.sub(r"^<(w:\w+)", rf"<\1 {nsdecls('w')}", inner))
        body.insert(len(body) - 1, element)
    assert parse(save(document)).text == "In a control\n\nInserted\n\nLinked-on\n\nBoxed"


def test_a_table_of_contents_is_skipped(parse: Parse) -> None:
    document = docx.Document()
    document.styles.add_style("toc 1", WD_STYLE_TYPE.PARAGRAPH)
    document.add_paragraph("Setup ........ 3", style="toc 1")
    document.add_paragraph("Words.")
    assert parse(save(document)).text == "Words."


@pytest.mark.parametrize("damage", [b"", b"<not-closed", b"<w:document/>"])
def test_a_damaged_body_is_corrupt(parse: Parse, damage: bytes) -> None:
    assert refusal_of(parse, replace_entry(make_docx("Hello"), BODY, damage))[0] == "corrupt"


def test_a_document_that_declares_entities_is_refused(parse: Parse) -> None:
    package = make_docx("Hello")
    lines = b"".join(b'<!ENTITY e%d "%s">' % (n, b"&e%d;" % (n - 1) * 10 if n else b"lol") for n in range(10))
    body = read_entry(package, BODY)
    start = body.index(b"<w:document")
    bomb = body[:start] + b"<!DOCTYPE w:document [" + lines + b"]>" + body[start:].replace(b"Hello", b"&e9;")
    assert refusal_of(parse, replace_entry(package, BODY, bomb))[0] == "limit_exceeded"


def test_xml_that_is_nested_too_deep_is_refused(parse: Parse) -> None:
    package = make_docx("Hello")
    body = read_entry(package, BODY)
    deep = body.replace(b"<w:body>", b"<w:body>" + b"<w:sdt>" * 5000).replace(
        b"</w:body>", b"</w:sdt>" * 5000 + b"</w:body>"
    )
    assert refusal_of(parse, replace_entry(package, BODY, deep))[0] == "limit_exceeded"


def test_footnotes_follow_the_body(parse: Parse) -> None:
    package = make_docx("Body text")
    types = read_entry(package, "[Content_Types].xml").replace(
        b"</Types>",
        b'<Override PartName="/word/footnotes.xml" ContentType='
        b'"application/vnd.openxmlformats-officedocument.wordprocessingml.footnotes+xml"/></Types>',
    )
    relations = read_entry(package, "word/_rels/document.xml.rels").replace(
        b"</Relationships>",
        b'<Relationship Id="rId99" Target="footnotes.xml" Type='
        b'"http://schemas.openxmlformats.org/officeDocument/2006/relationships/footnotes"/></Relationships>',
    )
    notes = (
        f"<w:footnotes {nsdecls('w')}><w:footnote><w:p><w:r><w:t>A note</w:t></w:r></w:p></w:footnote></w:footnotes>"
    ).encode()
    for name, content in (
        ("[Content_Types].xml", types),
        ("word/_rels/document.xml.rels", relations),
        ("word/footnotes.xml", notes),
    ):
        package = replace_entry(package, name, content)
    assert parse(package).text == "Body text\n\nA note"


def test_a_strict_document_is_read_like_any_other(parse: Parse) -> None:
    words = 'It says <w xmlns="http://purl.oclc.org/ooxml/wordprocessingml/main">.'
    strict = make_strict(make_docx(("Heading 1", "Setup"), words, ("List Bullet", "first")))
    assert b"http://schemas.openxmlformats.org/wordprocessingml" not in read_entry(strict, BODY)
    parsed = parse(strict)
    assert parsed.text == f"Setup\n\n{words}\n\n- first"
    assert [(heading.level, heading.title) for heading in parsed.headings] == [(1, "Setup")]


def test_a_document_with_macros_is_read_like_any_other(parse: Parse) -> None:
    package = make_docx("Hello")
    types = read_entry(package, "[Content_Types].xml").replace(
        b"application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml",
        b"application/vnd.ms-word.document.macroEnabled.main+xml",
    )
    assert parse(replace_entry(package, "[Content_Types].xml", types), "a.docm").text == "Hello"


def test_a_dangling_relationship_is_ignored(parse: Parse) -> None:
    package = make_docx("Hello")
    name = "word/_rels/document.xml.rels"
    stray = b'<Relationship Id="rId77" Type="http://a/hyperlink" Target="#place"/></Relationships>'
    assert (
        parse(replace_entry(package, name, read_entry(package, name).replace(b"</Relationships>", stray))).text
        == "Hello"
    )
