"""Parsing a document full of URLs connects to none of them."""

from __future__ import annotations

import io
import socket
import zipfile
from typing import TYPE_CHECKING

import docx
import pytest
from docx.opc.constants import RELATIONSHIP_TYPE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.ingestion.conftest import Parse

TEMPLATE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/attachedTemplate"


@pytest.fixture
def canary() -> Iterator[socket.socket]:
    """A server socket that must get no connection."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)  # noqa: FBT003 - signature of the standard library
        yield listening


def html(url: str) -> bytes:
    return f"""<html><head><base href="{url}"><link rel=stylesheet href="{url}"><script src="{url}"></script>
    <meta http-equiv=refresh content="0;url={url}"></head><body><img src="{url}"><iframe src="{url}"></iframe>
    <object data="{url}"></object><a href="{url}" ping="{url}">words</a></body></html>""".encode()


def xml(url: str) -> bytes:
    return f"""<?xml version="1.0"?><?xml-stylesheet href="{url}"?>
    <!DOCTYPE a SYSTEM "{url}"><a xmlns:xi="http://www.w3.org/2001/XInclude" xmlns:xsi="{url}"
    xsi:schemaLocation="{url} {url}"><xi:include href="{url}"/>words</a>""".encode()


def markdown(url: str) -> bytes:
    return f"# Words\n\n![image]({url}) <{url}> [link]: {url}\n\n<img src='{url}'>\n".encode()


def word(url: str) -> bytes:
    document = docx.Document()
    document.add_paragraph("words")
    for kind in (RELATIONSHIP_TYPE.IMAGE, RELATIONSHIP_TYPE.HYPERLINK, TEMPLATE):
        document.part.relate_to(url, kind, is_external=True)
    written = io.BytesIO()
    document.save(written)
    return written.getvalue()


def word_with_entity(url: str) -> bytes:
    """Return a Word document with an external document type definition."""
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(word(url))) as source, zipfile.ZipFile(written, "w") as target:
        for entry in source.infolist():
            content = source.read(entry)
            if entry.filename == "word/document.xml":
                head, end, body = content.partition(b"?>")
                content = head + end + f'<!DOCTYPE w SYSTEM "{url}">'.encode() + body
            target.writestr(entry, content)
    return written.getvalue()


@pytest.mark.parametrize(
    ("make", "filename"),
    [(html, "a.html"), (xml, "a.xml"), (markdown, "a.md"), (word, "a.docx"), (word_with_entity, "a.docx")],
)
def test_no_url_in_a_document_is_fetched(
    parse: Parse, canary: socket.socket, make: Callable[[str], bytes], filename: str
) -> None:
    url = f"http://127.0.0.1:{canary.getsockname()[1]}/x"
    assert "words" in parse(make(url), filename).text.lower()
    with pytest.raises(BlockingIOError):
        canary.accept()
