"""The type of a file is detected from its content, and each kind of refusal has its code."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from ragsvc.ingestion.parsing.containers.zip_archives import MAX_ENTRIES
from ragsvc.media_types.formats import CSV, DOCX, HTML, JSON, MARKDOWN, PDF, PHP, PLAIN_TEXT, RTF, XML
from tests.ingestion.parsing.formats.office_files import make_docx, make_ole2, make_zip
from tests.ingestion.parsing.formats.pdf_files import make_pdf
from tests.ingestion.support import refusal_of

if TYPE_CHECKING:
    from ragsvc.ingestion.parsing.limits import ParseLimits
    from tests.ingestion.conftest import Parse


@pytest.mark.parametrize(
    ("data", "filename", "mime_type", "media_type"),
    [
        (make_pdf([["Hello page"]]), "notes.txt", "text/plain", PDF),
        (b"junk before the header\n" + make_pdf([["Hello page"]]), "a.pdf", "", PDF),
        (b"<!DOCTYPE html><p>Hello page", "report.docx", DOCX, HTML),
        (b"\xef\xbb\xbf <!-- made by hand -->\n<HTML><p>Hello page", "a.txt", "", HTML),
        ("<html><p>Hello page".encode("utf-16"), "a", "", HTML),
        (b"<?xml version='1.0'?><!DOCTYPE html><html><p>Hello page</p></html>", "a", "", HTML),
        (b"<p>Hello page</p>", "a.html", "", HTML),
        (b"<p>Hello page</p>", "a", "text/html; charset=utf-8", HTML),
        (b"<p>Hello page</p>", "a.txt", "text/plain", PLAIN_TEXT),
        (b"Hello page, 1 < 2", "a.html", "text/html", PLAIN_TEXT),
        (b"junk before the header\n" + make_pdf([["Hello page"]]), "a.pdf", "text/plain", PDF),
        (b"junk before the header\n" + make_pdf([["Hello page"]]), "a", "", PDF),
        (b"{\\rtf1 Hello page}", "a.txt", "text/plain", RTF),
        (make_docx("Hello page"), "a.pdf", "application/pdf", DOCX),
        (b"# Hello page", "a.md", "", MARKDOWN),
        (b"# Hello page", "a", "text/markdown", MARKDOWN),
        (b"# Hello page", "a.txt", "", PLAIN_TEXT),
        (b"<div align=center>Hello page</div>\n\n# Title", "README.md", "", MARKDOWN),
        (b"name,page\nHello page,1\n", "a.csv", "text/csv", CSV),
        (b'{"Hello page": 1}', "a.json", "application/json", JSON),
        (b"<?xml version='1.0'?><note>Hello page</note>", "a.xml", "text/xml", XML),
        (b"<?xml version='1.0'?><note>Hello page</note>", "a.txt", "", XML),
        (b"name;Hello page\n", "a", "text/csv; charset=utf-8", CSV),
        (b"<html><?php echo 'Hello page' ?></html>", "a.php", "", PHP),
        (b"<html>Hello page</html>", "a.php", "", HTML),
        (b"def hello(): 'Hello page'\n", "a.py", "application/octet-stream", "text/x-python"),
        ("Hello page".encode("utf-16-le"), "a.txt", "", PLAIN_TEXT),
    ],
)
def test_content_decides_the_type(parse: Parse, data: bytes, filename: str, mime_type: str, media_type: str) -> None:
    parsed = parse(data, filename, mime_type=mime_type)
    assert parsed.media_type == media_type
    assert "Hello page" in parsed.text


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "image/png"),
        (b"\xff\xd8\xff\xe0" + bytes(100), "image/jpeg"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><text>x</text></svg>", "image/svg+xml"),
        (b"\x1f\x8b\x08\x00" + bytes(20), "application/gzip"),
        (b"\x7fELF\x02\x01\x01" + bytes(100), "application/x-elf"),
        (make_ole2("WordDocument"), "application/msword"),
        (make_ole2("PowerPoint Document"), "application/vnd.ms-powerpoint"),
        (make_ole2("Whatever"), "application/x-ole-storage"),
        (make_zip({"mimetype": b"application/vnd.oasis.opendocument.graphics"}), "opendocument.graphics"),
        (make_zip({"a.txt": b"Hello"}), "application/zip"),
    ],
)
def test_the_type_of_an_unsupported_file_is_named(parse: Parse, data: bytes, named: str) -> None:
    code, detail = refusal_of(parse, data, "report.txt", mime_type="text/plain")
    assert code == "unsupported_type"
    assert named in detail


def test_random_bytes_are_not_text(parse: Parse) -> None:
    for seed in range(30):
        junk = random.Random(seed).randbytes(400 + seed * 37)  # noqa: S311 - reproducible
        assert refusal_of(parse, junk, "notes.txt", mime_type="text/plain")[0] == "unsupported_type"


@pytest.mark.parametrize(
    "text",
    [
        "ID3 tags are read",
        "A PDF begins with %PDF-1.4",
        'HEAD = b"\n%PDF-1.7 and so on"',
        "GIF8 is a word",
        "RIFF is one",
    ],
)
def test_text_about_a_format_is_text(parse: Parse, text: str) -> None:
    assert parse(text.encode(), "a.txt").text == text


@pytest.mark.parametrize("filename", ["a.md", "a.txt", "a.yaml", "a.py"])
@pytest.mark.parametrize(
    "text", ["The header:\n```\n%PDF-1.7\n```\nand é.", "GIF89a is a format.", "%!PS\nis how it begins", "BZh91AY&SY"]
)
def test_text_can_begin_with_the_signature_of_a_format(parse: Parse, text: str, filename: str) -> None:
    assert parse(text.encode(), filename).text == text
    assert parse(text.encode(), "a", mime_type="text/plain; charset=utf-8").text == text


def test_the_type_of_a_binary_file_that_claims_to_be_text_is_named(parse: Parse) -> None:
    picture = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\xff\xff\xff\x00\x00\x00;"
    assert "image/gif" in refusal_of(parse, picture, "a.txt", mime_type="text/plain")[1]
    assert "application/postscript" in refusal_of(parse, b"%!PS\nshowpage\n", "a.ps")[1]


def test_a_stray_nul_does_not_make_a_text_binary(parse: Parse) -> None:
    assert parse(b"one\0two " * 3 + b"and plain words after that. " * 20).text.startswith("onetwo")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty_file"),
        (b" \n\t \r\n", "no_text"),
        ("\ufeff \u200b".encode(), "no_text"),
        (b"<html><script>alert(1)</script></html>", "no_text"),
        (make_docx(), "no_text"),
        (make_pdf([[], []]), "no_text"),
        (make_ole2("EncryptedPackage"), "encrypted"),
        (b"PK\x03\x04 and then nothing of a zip archive", "corrupt"),
        (make_docx("Hello")[:-200], "corrupt"),
        (b"%PDF-1.7\nnothing of a PDF", "corrupt"),
    ],
)
def test_each_refusal_has_its_code(parse: Parse, data: bytes, code: str) -> None:
    assert refusal_of(parse, data)[0] == code


def test_pages_without_text_are_reported_as_scanned(parse: Parse) -> None:
    assert "2 pages" in refusal_of(parse, make_pdf([[], []]))[1]


class TestZipBombs:
    """Archives whose directory exceeds a limit are not unpacked."""

    def test_an_extreme_compression_ratio_is_refused(self, parse: Parse) -> None:
        bomb = make_zip({"[Content_Types].xml": b"x", "word/document.xml": bytes(20_000_000)})
        assert refusal_of(parse, bomb)[0] == "limit_exceeded"

    def test_more_than_the_expanded_size_limit_is_refused(self, parse: Parse, limits: ParseLimits) -> None:
        content = random.Random(1).randbytes(50_000)  # noqa: S311 - incompressible data
        archive = make_zip({f"{number}": content for number in range(5)})
        small = replace(limits, max_expanded_bytes=200_000)
        assert refusal_of(parse, archive, limits=small)[0] == "limit_exceeded"

    def test_too_many_entries_are_refused(self, parse: Parse) -> None:
        archive = make_zip({str(number): b"" for number in range(MAX_ENTRIES + 1)})
        assert refusal_of(parse, archive)[0] == "limit_exceeded"

    def test_overlapping_entries_are_refused(self, parse: Parse) -> None:
        archive = bytearray(make_zip({f"{number}.xml": bytes(500_000) for number in range(10)}))
        offset = 42  # of the local header offset within a directory entry
        for at in [match.start() for match in re.finditer(b"PK\x01\x02", archive)]:
            archive[at + offset : at + offset + 4] = bytes(4)
        assert refusal_of(parse, bytes(archive)) == ("limit_exceeded", "entries of the archive overlap")

    def test_an_entry_is_not_unpacked_beyond_its_declared_size(self, parse: Parse) -> None:
        package = make_docx("Hello " * 200_000)
        size = len(b"Hello " * 200_000)
        # The directory declares a tiny body.
        at = package.index(b"word/document.xml", package.index(b"PK\x01\x02")) - 46
        lying = package[: at + 24] + (100).to_bytes(4, "little") + package[at + 28 :]
        assert size > 1_000_000
        assert refusal_of(parse, lying)[0] == "corrupt"

    def test_a_directory_with_invalid_offsets_is_corrupt(self, parse: Parse) -> None:
        package = bytearray(make_docx("Hello"))
        end = package.rindex(b"PK\x05\x06")
        package[end + 16 : end + 20] = (0x7FFFFFFF).to_bytes(4, "little")
        package[end + 12 : end + 16] = (0x7FFFFFFF).to_bytes(4, "little")
        assert refusal_of(parse, bytes(package))[0] == "corrupt"

    def test_an_archive_with_a_password_is_encrypted(self, parse: Parse) -> None:
        archive = bytearray(make_zip({"a.txt": b"Hello"}))
        directory = archive.index(b"PK\x01\x02")
        archive[6] |= 1
        archive[directory + 8] |= 1
        assert refusal_of(parse, bytes(archive))[0] == "encrypted"

    @pytest.mark.parametrize(
        ("offset", "value", "code"),
        [(6, 99, "corrupt"), (8, 0x20, "corrupt"), (8, 0x40, "encrypted"), (10, 9, "corrupt")],
        ids=["version", "patched", "certificate", "method"],
    )
    def test_an_unsupported_kind_of_archive_is_refused(self, parse: Parse, offset: int, value: int, code: str) -> None:
        archive = bytearray(make_docx("Hello"))
        archive[archive.index(b"PK\x01\x02") + offset] = value
        assert refusal_of(parse, bytes(archive))[0] == code


def test_text_beyond_the_limits_is_refused(parse: Parse, limits: ParseLimits) -> None:
    small = replace(limits, max_text_chars=100)
    assert parse(b"x" * 100, limits=small).text == "x" * 100
    assert refusal_of(parse, b"x" * 101, limits=small)[0] == "limit_exceeded"
    assert refusal_of(parse, b"x" * 401, limits=small)[0] == "limit_exceeded"
