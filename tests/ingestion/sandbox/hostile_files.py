"""Hostile files, and the expected outcome of each."""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.ingestion.parsing.formats.office_files import (
    make_docx,
    make_ole2,
    make_pptx,
    make_xlsx,
    make_zip,
    read_entry,
    replace_entry,
)
from tests.ingestion.parsing.formats.open_documents import make_epub, make_odt, make_open_document
from tests.ingestion.parsing.formats.pdf_files import make_pdf

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 1024 * 1024
READY = "ready"
WORD_BODY, SHEET = "word/document.xml", "xl/worksheets/sheet1.xml"
# A "billion laughs" attack: ten to the tenth copies of "lol".
ENTITIES = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10 if n else "lol"}">' for n in range(11))
CELLS = (
    '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>{}</sheetData></worksheet>'
)


@dataclass(frozen=True, slots=True)
class Hostile:
    """A file's name, a function that makes it, and the accepted error codes, or `ready` if it must be ingested."""

    filename: str
    make: Callable[[], bytes]
    codes: tuple[str, ...]


def make_xml() -> bytes:
    """Return XML that would expand to ten billion words."""
    return f"<?xml version='1.0'?><!DOCTYPE x [{ENTITIES}]><x>&e10;</x>".encode()


def make_entity_bomb(package: bytes, name: str, root: str) -> bytes:
    """Return the package with a part that would expand to ten billion words."""
    return replace_entry(package, name, f"<!DOCTYPE x [{ENTITIES}]><{root}>&e10;</{root}>".encode())


def make_deep_docx() -> bytes:
    """Return a Word document nested 100,000 levels deep."""
    body = read_entry(make_docx("x"), WORD_BODY)
    deep = body.replace(b"<w:body>", b"<w:body>" + b"<w:sdt>" * 100_000)
    return replace_entry(make_docx("x"), WORD_BODY, deep)


def make_overlapping() -> bytes:
    """Return an archive whose entries share the same compressed bytes."""
    archive = bytearray(make_zip({f"word/{number}.xml": bytes(900_000) for number in range(50)}))
    at = archive.find(b"PK\x01\x02")
    while at >= 0:
        archive[at + 42 : at + 46] = bytes(4)
        at = archive.find(b"PK\x01\x02", at + 4)
    return bytes(archive)


def make_docx_with_false_size() -> bytes:
    """Return a Word document whose body is much larger than the directory declares."""
    package = make_docx("Hello " * 300_000)
    at = package.index(WORD_BODY.encode(), package.index(b"PK\x01\x02")) - 46
    return package[: at + 24] + (100).to_bytes(4, "little") + package[at + 28 :]


def make_docx_with_pictures() -> bytes:
    """Return a Word document with 24 MiB of pictures, which need not be unpacked."""
    picture = random.Random(1).randbytes(12 * MIB)  # noqa: S311 - incompressible test data
    package = replace_entry(make_docx("Words with pictures."), "word/media/image1.png", picture)
    return replace_entry(package, "word/media/image2.png", picture[::-1])


def make_sparse_xlsx() -> bytes:
    """Return a workbook with cells in opposite corners of its sheet."""
    rows = '<row r="1"><c r="A1"><v>1</v></c></row><row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'
    return replace_entry(make_xlsx({"S": [["x"]]}), SHEET, CELLS.format(rows).encode())


def make_wide_xlsx() -> bytes:
    """Return a workbook with one row of a million cells."""
    row = "<row>" + "<c><v>1</v></c>" * 1_000_000 + "</row>"
    return replace_entry(make_xlsx({"S": [["x"]]}), SHEET, CELLS.format(row).encode())


def make_wide_ods() -> bytes:
    """Return a spreadsheet with a cell that is repeated a billion times."""
    cell = '<table:table-cell table:number-columns-repeated="999999999"><text:p>x</text:p></table:table-cell>'
    return make_open_document(
        "spreadsheet", f'<table:table table:name="S"><table:table-row>{cell}</table:table-row></table:table>'
    )


def make_raw_pdf(*objects: bytes) -> bytes:
    """Return a PDF of these objects, numbered from 1; the first is the catalog."""
    written = bytearray(b"%PDF-1.7\n")
    offsets = []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(written))
        written += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(written)
    written += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    written += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    return bytes(written + b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start))


def make_flate_pdf() -> bytes:
    """Return a PDF of a few kilobytes whose page, deflated twice, unpacks to a gigabyte."""
    packer = zlib.compressobj(9)
    block = b"BT (x) Tj ET ".ljust(64, b" ") * 16_384
    once = b"".join(packer.compress(block) for _ in range(1024)) + packer.flush()
    twice = zlib.compress(once, 9)
    stream = b"<< /Length %d /Filter [/FlateDecode /FlateDecode] >>\nstream\n%s\nendstream" % (len(twice), twice)
    return make_raw_pdf(
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Count 1 /Kids [3 0 R] >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents 4 0 R >>",
        stream,
    )


def make_form_pdf() -> bytes:
    """Return a PDF whose page draws nested forms: ten copies at each of twelve levels."""
    forms = []
    for level in range(12):
        number = 5 + level
        last = level == 11
        content = b"BT /F1 9 Tf (ha) Tj ET" if last else b"/X Do " * 10
        resources = b"/Font << /F1 4 0 R >>" if last else b"/XObject << /X %d 0 R >>" % (number + 1)
        forms.append(
            b"<< /Type /XObject /Subtype /Form /BBox [0 0 600 800] /Resources << %s >> /Length %d >>"
            b"\nstream\n%s\nendstream" % (resources, len(content), content)
        )
    content = b"/X Do"
    return make_raw_pdf(
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Count 1 /Kids [3 0 R] >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Resources << /XObject << /X 5 0 R >> >>"
        b" /Contents %d 0 R >>" % (5 + len(forms)),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        *forms,
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content),
    )


def make_pdf_with_false_page_count() -> bytes:
    """Return a PDF that claims to have a billion pages."""
    return make_raw_pdf(
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Count 1000000000 /Kids [3 0 R 2 0 R] >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] >>",
    )


def make_deep_epub() -> bytes:
    """Return a book with a page that is nested too deep."""
    return make_epub(["<div>" * 100_000 + "x"])


HOSTILE = {
    "picture": Hostile("a.pdf", lambda: b"\x89PNG\r\n\x1a\n" + bytes(1000), ("unsupported_type",)),
    "zip in a zip": Hostile("a.docx", lambda: make_zip({"a.zip": make_zip({"b": bytes(10)})}), ("unsupported_type",)),
    "pdf with a password": Hostile("a.pdf", lambda: make_pdf([["x"]], user_password="secret"), ("encrypted",)),
    "docx with a password": Hostile("a.docx", lambda: make_ole2("EncryptedPackage"), ("encrypted",)),
    "truncated pdf": Hostile("a.pdf", lambda: make_pdf([["line"] * 40] * 30)[:20_000], ("corrupt",)),
    "truncated docx": Hostile("a.docx", lambda: make_docx("Hello")[:-300], ("corrupt",)),
    "truncated xlsx": Hostile("a.xlsx", lambda: make_xlsx({"S": [["x"]]})[:-300], ("corrupt",)),
    "invalid xls": Hostile("a.xls", lambda: make_ole2("Workbook"), ("corrupt",)),
    "zip bomb": Hostile(
        "a.docx",
        lambda: replace_entry(make_docx("x"), WORD_BODY, b"<a>" + b" " * 40_000_000),
        ("limit_exceeded",),
    ),
    "overlapping zip bomb": Hostile("a.docx", make_overlapping, ("limit_exceeded",)),
    "zip with a false size": Hostile("a.docx", make_docx_with_false_size, ("corrupt",)),
    "entities in docx": Hostile(
        "a.docx", lambda: make_entity_bomb(make_docx("x"), WORD_BODY, "w"), ("limit_exceeded",)
    ),
    "entities in pptx": Hostile(
        "a.pptx", lambda: make_entity_bomb(make_pptx(("x", ["y"])), "ppt/slides/slide1.xml", "p"), ("limit_exceeded",)
    ),
    "entities in odt": Hostile(
        "a.odt", lambda: make_entity_bomb(make_odt((0, "x")), "content.xml", "o"), ("limit_exceeded",)
    ),
    "entities in epub": Hostile(
        "a.epub", lambda: make_entity_bomb(make_epub(["x"]), "OEBPS/book.opf", "package"), ("limit_exceeded",)
    ),
    "entities in xlsx": Hostile(
        "a.xlsx", lambda: make_entity_bomb(make_xlsx({"S": [["x"]]}), SHEET, "worksheet"), ("limit_exceeded",)
    ),
    "entities in xml": Hostile("a.xml", make_xml, ("limit_exceeded",)),
    "circular entities": Hostile(
        "a.xml", lambda: b'<!DOCTYPE x [<!ENTITY a "&b;"><!ENTITY b "&a;">]><x>&a;</x>', ("limit_exceeded",)
    ),
    "harmless entities": Hostile(
        "a.xml", lambda: b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY co "Kettle Works">]><x>&co;</x>', (READY,)
    ),
    "deep docx": Hostile("a.docx", make_deep_docx, ("limit_exceeded",)),
    "deep html": Hostile("a.html", lambda: b"<html>" + b"<div>" * 500_000, ("limit_exceeded",)),
    "deep page in epub": Hostile("a.epub", make_deep_epub, ("limit_exceeded",)),
    "deep json": Hostile("a.json", lambda: b"[" * 20_000, (READY,)),
    "deep code": Hostile("a.py", lambda: b"(" * 100_000, (READY,)),
    "deep rtf": Hostile("a.rtf", lambda: b"{\\rtf1 " + b"{" * 200_000 + b"words", (READY,)),
    "pictures in docx": Hostile("a.docx", make_docx_with_pictures, (READY,)),
    "cells far apart": Hostile("a.xlsx", make_sparse_xlsx, ("limit_exceeded",)),
    "a million columns": Hostile("a.xlsx", make_wide_xlsx, ("limit_exceeded",)),
    "a billion cells": Hostile("a.ods", make_wide_ods, ("limit_exceeded",)),
    "a quote of a million": Hostile("a.csv", lambda: b'a,b\n"' + b'"' * 1_000_000, (READY,)),
    "a word of two megabytes": Hostile("a.txt", lambda: b"a" * 2_000_000, (READY,)),
    "pdf bomb": Hostile("a.pdf", make_flate_pdf, ("parser_crash", "parser_timeout", "limit_exceeded")),
    "pdf of forms": Hostile("a.pdf", make_form_pdf, ("parser_timeout", "parser_crash", "no_text", READY)),
    "pdf of a billion pages": Hostile(
        "a.pdf", make_pdf_with_false_page_count, ("limit_exceeded", "corrupt", "no_text")
    ),
    "too many pages": Hostile("a.pdf", lambda: make_pdf([["x"]] * 301), ("limit_exceeded",)),
    "scan": Hostile("a.pdf", lambda: make_pdf([[], []]), ("no_text",)),
    "memory": Hostile("a.txt", lambda: b"word " * 6_000_000 + "😀".encode(), ("parser_crash",)),
    "html named docx": Hostile("a.docx", lambda: b"<!doctype html><p>Words", (READY,)),
    "pdf named txt": Hostile("a.txt", lambda: make_pdf([["Words"]]), (READY,)),
    "latin-1": Hostile("a.txt", lambda: "Die Straße führt größtenteils über Österreich.".encode("latin-1"), (READY,)),
    "shift-jis": Hostile("a.txt", lambda: ("これは日本語のテキストです。" * 5).encode("shift_jis"), (READY,)),
}
