"""Forms are read as a stream, with parts in any order, and errors name the invalid field."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from ragsvc.errors.requests import InvalidRequest, NotFound, RequestError
from ragsvc.http.contract.bodies import Attributes, Body
from ragsvc.http.contract.filenames import clean_filename, mime_type_of
from ragsvc.http.contract.ids import CollectionId
from ragsvc.http.contract.multipart import MAX_FIELD_BYTES, FormReader
from ragsvc.media_types.formats import BY_SUFFIX, DOCX, EPUB, ODP, ODS, ODT, PPTX, RTF, XLSX

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pytest_aiohttp.plugin import AiohttpClient

    Post = Callable[..., Awaitable[dict[str, object]]]

BOUNDARY = "boundary"
DOCUMENTS = {"docx": DOCX, "epub": EPUB, "odp": ODP, "ods": ODS, "odt": ODT, "pptx": PPTX, "rtf": RTF, "xlsx": XLSX}


class SampleForm(Body):
    """The text fields of the form."""

    collection_id: CollectionId | None = None
    attributes: Attributes | None = None


async def read_form(request: web.Request) -> web.Response:
    """Read a form; respond with its content or its errors."""
    form = FormReader(request, SampleForm)
    content = bytearray()
    try:
        await form.open_file()
        async for block in form.blocks():
            content += block
        fields = form.fields()
    except InvalidRequest as error:
        return web.json_response({"fields": error.fields}, status=422)
    except NotFound:
        return web.json_response({}, status=404)
    except RequestError as error:
        return web.json_response({"detail": error.detail}, status=400)
    return web.json_response(
        {
            "content": content.decode("latin-1"),
            "filename": form.filename,
            "mime_type": form.mime_type,
            "attributes": fields.attributes,
            "collection_id": fields.collection_id.hex if fields.collection_id else None,
        }
    )


@pytest.fixture
async def post(aiohttp_client: AiohttpClient) -> Post:
    """A function that posts a form and returns the response of `read_form`."""
    app = web.Application()
    app.router.add_post("/form", read_form)
    client = await aiohttp_client(app)

    async def send(data: aiohttp.FormData | bytes, *, boundary: str = BOUNDARY) -> dict[str, object]:
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"} if isinstance(data, bytes) else {}
        response = await client.post("/form", data=data, headers=headers)
        return {"status": response.status, **await response.json()}

    return send


def part(name: str, content: bytes, *, filename: str | None = None, extra: str = "") -> bytes:
    """Return one part of a form in wire format."""
    named = f'; filename="{filename}"' if filename is not None else ""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{named}\r\n{extra}\r\n'
    return head.encode() + content + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()
FILE = part("file", b"content", filename="a.txt", extra="Content-Type: text/plain\r\n")
ATTRIBUTES = part("attributes", b'{"year": 2026}')


@pytest.mark.parametrize("parts", [[ATTRIBUTES, FILE], [FILE, ATTRIBUTES]], ids=["before", "after"])
async def test_fields_can_precede_or_follow_the_file(post: Post, parts: list[bytes]) -> None:
    assert await post(b"".join(parts) + END) == {
        "status": 200,
        "content": "content",
        "filename": "a.txt",
        "mime_type": "text/plain",
        "attributes": {"year": 2026},
        "collection_id": None,
    }


async def test_a_large_file_is_read_unchanged(post: Post) -> None:
    content = bytes(range(256)) * 20_000 + b"\r\n--boundar\r\n--bound"
    data = aiohttp.FormData()
    data.add_field("file", io.BytesIO(content), filename="a.bin")
    response = await post(data)
    same = response["content"] == content.decode("latin-1")
    assert same, "the file was changed on the way"


@pytest.mark.parametrize(
    ("parts", "field"),
    [
        ([], "file"),
        ([ATTRIBUTES], "file"),
        ([FILE, FILE], "file"),
        ([ATTRIBUTES, ATTRIBUTES, FILE], "attributes"),
        ([FILE, ATTRIBUTES, ATTRIBUTES], "attributes"),
        ([part("unknown", b"1"), FILE], "unknown"),
        ([FILE, part("unknown", b"1")], "unknown"),
        ([part("", b"1"), FILE], "form"),
        ([part("attributes", b"{"), FILE], "attributes"),
        ([FILE, part("attributes", b"[]")], "attributes"),
        ([FILE, part("attributes", b'{"a": "\\u0000"}')], "attributes.a"),
        ([FILE, part("attributes", b'{"a": 98765432109876543210987}')], "attributes"),
        ([part("attributes", b'{"a": -9223372036854775809}'), FILE], "attributes"),
        ([part("attributes", b'{"a": ' + b"[" * 500 + b"]" * 500 + b"}"), FILE], "attributes"),
        ([part("collection_id", b"nonsense"), FILE], "collection_id"),
        ([part("collection_id", b"\xff\xfe"), FILE], "collection_id"),
        ([part("attributes", b" " * (MAX_FIELD_BYTES + 1)), FILE], "attributes"),
    ],
)
async def test_an_invalid_field_is_named_before_and_after_the_file(post: Post, parts: list[bytes], field: str) -> None:
    response = await post(b"".join(parts) + END)
    assert response["status"] == 422
    assert isinstance(response["fields"], dict)
    assert list(response["fields"]) == [field]


async def test_an_unknown_collection_after_the_file_is_not_found(post: Post) -> None:
    assert (await post(FILE + part("collection_id", b"col_of_nobody") + END))["status"] == 404


@pytest.mark.parametrize(
    "raw",
    [
        b"no form at all",
        FILE,
        FILE[:-20],
        b"--other\r\n\r\n--other--\r\n",
        f"--{BOUNDARY}\r\nContent-Type: multipart/mixed; boundary=inner\r\n\r\n--inner--\r\n".encode() + END,
        f"--{BOUNDARY}\r\nno header\r\n\r\n".encode() + END,
    ],
    ids=["text", "no end", "cut", "other boundary", "nested", "bad header"],
)
async def test_a_malformed_form_is_refused(post: Post, raw: bytes) -> None:
    response = await post(raw)
    assert response["status"] == 400
    assert "malformed" in str(response["detail"])


@pytest.mark.parametrize("boundary", ['""', "x" * 71])
async def test_a_form_without_a_usable_boundary_is_refused(post: Post, boundary: str) -> None:
    assert (await post(FILE + END, boundary=boundary))["status"] in {400, 422}


@pytest.mark.parametrize(
    ("declared", "filename", "mime_type"),
    [
        ("text/html; charset=utf-8", "a.txt", "text/html; charset=utf-8"),
        ('TEXT/Plain; format=flowed; Charset="CP866"', "a.bin", "text/plain; charset=cp866"),
        ("application/octet-stream; charset=shift_jis", "notes.md", "text/markdown; charset=shift_jis"),
        ("text/plain; charset=base64", "a.txt", "text/plain"),
        ("text/plain; charset=none-such", "a.txt", "text/plain"),
        ("text/plain; charset=utf 8", "a.txt", "text/plain"),
        ("text/plain; charset*=utf-8''%FF", "a.txt", "text/plain"),
        ("TEXT/Plain", "a.bin", "text/plain"),
        ("application/octet-stream", "a.pdf", "application/pdf"),
        ("application/octet-stream", "notes.md", "text/markdown"),
        ("nonsense", "a.unknown", "application/octet-stream"),
        ("a/b\tc", "a.unknown", "application/octet-stream"),
    ],
)
async def test_the_declared_type_and_charset_take_precedence_over_the_file_name(
    post: Post, declared: str, filename: str, mime_type: str
) -> None:
    file = part("file", b"x", filename=filename, extra=f"Content-Type: {declared}\r\n")
    assert (await post(file + END))["mime_type"] == mime_type


@pytest.mark.parametrize(
    ("filename", "mime_type"),
    [
        *((f"a.{name}", media_type) for name, media_type in DOCUMENTS.items()),
        *((f"a{suffix}", None) for suffix in BY_SUFFIX),
        ("A.DOCX", DOCX),
        ("a.xhtml", "application/xhtml+xml"),
        ("a.yml", "application/yaml"),
        ("a.log", "text/plain"),
        ("a.none", "application/octet-stream"),
    ],
)
def test_every_supported_extension_has_a_media_type(filename: str, mime_type: str | None) -> None:
    found = mime_type_of("", filename)
    assert found == mime_type if mime_type else found != "application/octet-stream"


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("a%20b%22c%22.txt", 'a b"c".txt'),
        ("..%2F..%2F%C3%9C.txt", "\u00dc.txt"),
        ("100%.txt", "100%.txt"),
        ("%ff.txt", "%ff.txt"),
        ("日本.txt", "日本.txt"),
    ],
)
async def test_a_percent_encoded_file_name_is_decoded(post: Post, sent: str, shown: str) -> None:
    assert (await post(part("file", b"x", filename=sent) + END))["filename"] == shown


@pytest.mark.parametrize(
    ("offered", "shown"),
    [
        ("report.pdf", "report.pdf"),
        ("../../etc/passwd", "passwd"),
        ("C:\\temp\\a.doc", "a.doc"),
        ("a\x00b\r\nc\x1b[2J.txt", "abc[2J.txt"),
        ("photo\u202egnp.exe", "photognp.exe"),
        ("  spaced.txt  ", "spaced.txt"),
        ("e\u0301.txt", "\u00e9.txt"),
        ("\ud800.txt", ".txt"),
        ("", "unnamed"),
        ("/", "unnamed"),
        ("..", "unnamed"),
        ("\x07", "unnamed"),
        ("\u0645\u06cc\u200c\u062e.txt", "\u0645\u06cc\u200c\u062e.txt"),
        ("\U0001f469\u200d\U0001f4bb.txt", "\U0001f469\u200d\U0001f4bb.txt"),
        ("\u200d a \u200c\u200db\u200d\u202e\u200e", "a b"),
        ("\u200d.\u200c", "unnamed"),
        ("x" * 254 + "\u200dy", "x" * 254),
        ("x" * 254 + " y", "x" * 254),
        ("x" * 300 + ".pdf", "x" * 251 + ".pdf"),
        ("x." + "y" * 300, "x." + "y" * 253),
    ],
)
def test_a_hostile_file_name_is_cleaned(offered: str, shown: str) -> None:
    assert clean_filename(offered) == shown


@settings(deadline=None)
@given(st.text(max_size=400) | st.text(st.sampled_from(" .ab\u200c\u200d\u202e\u0301/\n"), max_size=400))
def test_any_file_name_becomes_a_single_line_without_a_path(offered: str) -> None:
    name = clean_filename(offered)
    assert 1 <= len(name) <= 255
    assert not {"/", "\\", "\x00", "\r", "\n"} & set(name)
    assert name not in {".", ".."}
    assert clean_filename(name) == name
